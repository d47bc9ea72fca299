"""One vector per item from content and training behaviour, the input of a quantizer."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
from pydantic import Field

from tokenizer.behaviour.alignment import Aligner, AlignmentSpec, pairs_from_behaviour
from tokenizer.behaviour.co_occurrence import collaborative_vectors, fill_cold
from tokenizer.common.files import replacing_folder
from tokenizer.common.settings import Length, Settings, Width
from tokenizer.common.vectors import normalise_rows
from tokenizer.content.encoder import ContentEncoder, ContentSection, ContentSpec
from tokenizer.content.fitted_state import below
from tokenizer.errors import TokenizerError
from tokenizer.quantizers.spec import QuantizerSpec

DESCRIPTION_FILE = "encoder.json"
ARRAYS_FILE = "encoder.safetensors"
FORMAT_VERSION = 1


class CollaborativeSection(Settings):
    """A vector per item from co-occurrence in training histories, joined to the content vector; weight 0 leaves it out."""

    weight: float = Field(1.0, ge=0)
    dimensions: Width = 64
    window: Length = 5


class TokenizerSection(Settings):
    """Settings of all steps from items to semantic IDs, as a run config holds them.

    alignment: how content is aligned with behaviour; the aligned vector then replaces the content vector. None uses the
    content vector unchanged.
    """

    content: ContentSection = ContentSection()
    alignment: AlignmentSpec | None = AlignmentSpec()
    collaborative: CollaborativeSection = CollaborativeSection()
    quantizer: QuantizerSpec = QuantizerSpec()


@dataclass(frozen=True)
class ItemTable:
    """The items of a dataset and the columns that describe them.

    table: one row per item. columns: names by kind of content (`text`, `categorical`, ... as in `ContentSpec`).
    folder: contains the files that these columns name. dataset: its name, saved with the semantic IDs.
    """

    table: pl.DataFrame
    columns: dict[str, list[str]]
    folder: Path
    dataset: str


class ItemEncoder:
    """Turns items into vectors: content, optionally aligned with behaviour, joined with a collaborative vector.

    The encoder is fitted once, saved beside the semantic IDs, and used unchanged for items that join later. Items without
    behaviour take the collaborative vectors of the items with the most similar content (`fill_cold`). If no column describes
    the items, their vectors come from behaviour alone.

    vectors_ND: float32, vectors of the fitted items: content or aligned columns, then collaborative columns. behaviour_ND:
    float32, collaborative vectors of the fitted items, zero for items without events. source: the origin of the vectors as
    plain JSON values, saved with the semantic IDs.
    """

    def __init__(self) -> None:
        self.vectors_ND = self.behaviour_ND = np.zeros((0, 0), dtype=np.float32)
        self.source: dict[str, Any] = {}
        self._content: ContentEncoder | None = None
        self._aligner: Aligner | None = None
        self._weight = 1.0  # of the collaborative vector; content vectors have length one

    def fit(
        self, items: ItemTable, training: tuple[np.ndarray, np.ndarray], section: TokenizerSection, seed: int
    ) -> Self:
        """Learn from the items and from training behaviour.

        training: item rows and offsets of the training sequences; they must not hold later events. section: the settings. If
        no column describes the items, there is no alignment, and the collaborative vector has weight 1. seed: for the
        truncated SVDs and the alignment. TokenizerError when a column or file of the items, or the behaviour, is unusable.
        """
        named = [name for group in items.columns.values() for name in group]
        self.source = {"dataset": items.dataset, "columns": named}
        self.behaviour_ND = collaborative_vectors(
            *training,
            len(items.table),
            dimensions=section.collaborative.dimensions,
            window=section.collaborative.window,
            seed=seed,
        )
        blocks: list[np.ndarray] = []
        if named:
            self._content = ContentEncoder(ContentSpec(**items.columns, seed=seed, **section.content.model_dump()))
            blocks = self._content.fit_encode_blocks(items.table, items.folder)
            self.source["content"] = {"blocks": self._content.block_names, "notes": self._content.notes}
            if section.alignment:
                self._align(section.alignment, blocks, training, seed)
        self._weight = section.collaborative.weight if named else 1.0
        if self._weight > 0:
            self.source["collaborative"] = section.collaborative.model_dump()
        self.vectors_ND = self._with_behaviour(self._described(blocks, len(items.table)), self.behaviour_ND)
        return self

    @property
    def described(self) -> np.ndarray:
        """The content or aligned columns of the fitted items, `[N, E]`; E is 0 without content."""
        return self.vectors_ND[:, : self.vectors_ND.shape[1] - (self.behaviour_ND.shape[1] if self._weight else 0)]

    def encode_new(self, items: pl.DataFrame, folder: Path, rows: np.ndarray) -> np.ndarray:
        """Vectors float32 [M,D] of items that joined after `fit`, from their content; nothing is learnt.

        items: the current table with all items, old and new. folder: contains the files that the columns name. rows: positions
        in the table of the items to encode. TokenizerError when the encoder was fitted without content, or a column or file
        of the items is unusable.
        """
        if self._content is None:
            raise TokenizerError(
                "new items need content, but dataset.yaml named no column that describes items when the tokenizer was "
                "fitted; name some and tokenize again."
            )
        described_ME = self._described(self._content.encode_blocks(items, folder, rows), len(rows))
        known = self.behaviour_ND.any(axis=1)
        described_KE = self.vectors_ND[known, : described_ME.shape[1]]  # of the fitted items with behaviour
        behaviour_KD = self.behaviour_ND[known]
        unknown_MD = np.zeros((len(rows), behaviour_KD.shape[1]), dtype=np.float32)
        joined = self._with_behaviour(
            np.concatenate([described_KE, described_ME]), np.concatenate([behaviour_KD, unknown_MD])
        )
        return joined[len(described_KE) :]

    def save(self, folder: Path) -> None:
        """Write the encoder; an encoder already in `folder` is replaced as a whole."""
        from safetensors.numpy import save_file

        arrays = {"vectors": self.vectors_ND, "behaviour": self.behaviour_ND}
        for prefix, part in (("content", self._content), ("aligner", self._aligner)):
            if part is not None:
                arrays |= {f"{prefix}.{name}": array for name, array in part.state_dict().items()}
        description = {
            "format": FORMAT_VERSION,
            "items": len(self.vectors_ND),
            "collaborative_weight": self._weight,
            "source": self.source,
            "content": self._content.config() if self._content else None,
            "aligner": self._aligner.config() if self._aligner else None,
        }
        with replacing_folder(folder, DESCRIPTION_FILE, "item encoder") as written:
            save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, written / ARRAYS_FILE)
            (written / DESCRIPTION_FILE).write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load the encoder that `save` wrote; TokenizerError names what is missing, damaged or does not fit."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        path = folder / DESCRIPTION_FILE
        try:
            description = json.loads(path.read_text(encoding="utf-8"))
            arrays = load_file(folder / ARRAYS_FILE)
        except (OSError, ValueError, SafetensorError) as error:
            raise TokenizerError(
                f"{folder}: no readable item encoder in this folder ({error}); tokenize again."
            ) from error
        if not isinstance(description, dict) or description.get("format") != FORMAT_VERSION:
            raise TokenizerError(
                f"{path}: does not have format {FORMAT_VERSION}, which this version reads; tokenize again."
            )
        encoder = cls()
        try:
            encoder.vectors_ND, encoder.behaviour_ND = arrays["vectors"], arrays["behaviour"]
            encoder._weight, encoder.source = description["collaborative_weight"], description["source"]
            if description["content"]:
                encoder._content = ContentEncoder.load(description["content"], below("content", arrays))
            if description["aligner"]:
                encoder._aligner = Aligner.load(description["aligner"], below("aligner", arrays))
        except KeyError as error:
            raise TokenizerError(f"{folder}: its item encoder lacks {error}; tokenize again.") from error
        except TokenizerError as error:
            raise TokenizerError(f"{folder / ARRAYS_FILE}: {error}") from error
        except ValueError as error:  # from pydantic: an unknown setting
            raise TokenizerError(f"{path}: its settings do not fit this version ({error}); tokenize again.") from error
        if not len(encoder.vectors_ND) == len(encoder.behaviour_ND) == description.get("items"):
            raise TokenizerError(f"{folder}: its two files do not belong together; tokenize again.")
        return encoder

    def _align(
        self, spec: AlignmentSpec, blocks: list[np.ndarray], training: tuple[np.ndarray, np.ndarray], seed: int
    ) -> None:
        pairs = pairs_from_behaviour(spec, *training, self.behaviour_ND)
        if not len(pairs):  # a very small log; the content is then used unchanged
            self.source["alignment"] = f"left out: training holds no pair of the kinds {', '.join(spec.pairs)}"
            return
        self._aligner = Aligner(spec, seed=seed).fit(blocks, pairs)
        figures = {"pairs_found": len(pairs), **self._aligner.figures}
        self.source["alignment"] = {**spec.model_dump(mode="json"), **figures}

    def _described(self, blocks: list[np.ndarray], items: int) -> np.ndarray:
        """Content vectors, aligned if the config asks for it, `[N, E]`; E is 0 without content."""
        if not blocks:
            return np.zeros((items, 0), dtype=np.float32)
        return self._aligner.encode(blocks) if self._aligner else normalise_rows(np.hstack(blocks))

    def _with_behaviour(self, described_NE: np.ndarray, behaviour_ND: np.ndarray) -> np.ndarray:
        if not self._weight:
            return described_NE
        filled_ND = fill_cold(behaviour_ND, described_NE, np.asarray(behaviour_ND.any(axis=1)))
        return np.hstack([described_NE, filled_ND * np.float32(self._weight)])
