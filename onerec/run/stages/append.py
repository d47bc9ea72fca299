"""Appending new items to a tokenized catalogue: `onerec tokenize CONFIG --append`.

The items table has gained rows since the semantic IDs were made. The saved encoder and quantizer give the new items IDs.
Published IDs stay, even if the rows of the table have changed places.
"""

import time
from typing import Any

import numpy as np

from onerec.data.split import rows_of
from onerec.errors import UserError
from onerec.run.artefact import STAGE_FILE, Artefact
from onerec.run.run import Run
from onerec.run.stages.semantic_ids import ENCODER_FOLDER, IDS_FOLDER, SemanticIdsStage
from tokenizer.append import append_items, in_order_of
from tokenizer.item_encoder import ItemEncoder
from tokenizer.semantic_ids import SemanticIds

COMPARED_OLD_ITEMS = 50_000  # old items that new ones are compared with to find the most similar, an even sample


def append_new_items(run: Run) -> dict[str, Any] | None:
    """Give new items IDs, and mark the stage as done for the dataset as it is now.

    The artefact's rows follow the order of the items table, as the generator needs them. If no item is new, for example because
    only events were added, the IDs stay as they are.

    Returns:
        the report of `tokenizer.append.append_items`, or None if no item is new.

    Raises:
        UserError: there are no finished IDs made with this config, or an item that has an ID is missing from the table.
        TokenizerError: the content of the new items cannot be used.
    """
    stage = run.artefact(SemanticIdsStage.name)
    if stage.done:
        return None
    ids = _published(run, stage)
    started = time.perf_counter()
    encoder = ItemEncoder.load(stage.folder / ENCODER_FOLDER)
    report = None
    new_rows = np.flatnonzero(~run.item_ids.is_in(ids.item_ids.implode()).to_numpy())
    if len(new_rows):
        run.say(f"semantic IDs: reading the content of {len(new_rows):,} new items")
        new_ids = run.item_ids.gather(new_rows)
        vectors_MD = encoder.encode_new(run.dataset.items, run.dataset.folder, new_rows)
        sample = np.linspace(0, len(ids.item_ids) - 1, min(len(ids.item_ids), COMPARED_OLD_ITEMS)).astype(np.int64)
        ids = append_items(ids, new_ids, vectors_MD, old_sample=(sample, encoder.vectors_ND[sample]))
        report = ids.quality["appended"][-1]
        behaviour_MD = np.zeros((len(new_rows), encoder.behaviour_ND.shape[1]), dtype=np.float32)
        encoder.vectors_ND = np.concatenate([encoder.vectors_ND, vectors_MD])
        encoder.behaviour_ND = np.concatenate([encoder.behaviour_ND, behaviour_MD])
    # The encoder keeps a row per item too. Both take the order of the table.
    rows_N = rows_of(run.item_ids, ids.item_ids)
    encoder.vectors_ND, encoder.behaviour_ND = encoder.vectors_ND[rows_N], encoder.behaviour_ND[rows_N]
    ids = in_order_of(ids, run.item_ids)
    seconds = stage.seconds_on_file + time.perf_counter() - started
    run.hold()
    written = stage.begin()
    ids.save(written / IDS_FOLDER)
    encoder.save(written / ENCODER_FOLDER)
    run.keep_config()
    stage.finish(seconds)
    return report


def _published(run: Run, stage: Artefact) -> SemanticIds:
    """The IDs on disk. Raises UserError unless this config made them and all of their items are still in the table."""
    if not (stage.folder / IDS_FOLDER).is_dir() or not (stage.folder / STAGE_FILE).is_file():
        raise UserError(f"{stage.folder}: no semantic IDs to append to; run `onerec tokenize` without --append first")
    if not stage.same_recipe:
        raise UserError(
            f"{stage.folder}: these semantic IDs were made with another tokenizer section or seed, or not to the end; "
            "--append keeps the tokenizer as it was: use that config, or tokenize again without --append"
        )
    ids, table = SemanticIds.load(stage.folder / IDS_FOLDER), run.dataset.folder / "items.parquet"
    if ids.item_ids.dtype != run.item_ids.dtype:
        raise UserError(
            f"{table}: item ids are {run.item_ids.dtype} now, they were {ids.item_ids.dtype} when tokenized"
        )
    lost = ids.item_ids.filter(~ids.item_ids.is_in(run.item_ids.implode()))
    if len(lost):
        raise UserError(
            f"{table}: item {lost[0]!r} has a semantic ID but no row any more ({len(lost)} such items); put the row back (it "
            "needs no events), or tokenize again without --append"
        )
    return ids
