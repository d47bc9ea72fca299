"""A recommended list that a person can read: titles and scores for one user or one history."""

import difflib
import math

import numpy as np
from rich.table import Table

from onerec.decode.recommend import GeneratorRecommender
from onerec.errors import UserError
from onerec.evaluate.results import titles_of
from onerec.pipeline import Run
from onerec.selection_stage import load_selection

SHOWN_HISTORY = 10


def print_list(
    run: Run,
    user: str | None,
    history: list[str] | None,
    count: int,
    *,
    exclude_seen: bool,
    generator: GeneratorRecommender | None = None,
) -> None:
    """Print the history and the list for it: selected from the beam where the run selects, else the most probable items.

    Args:
        run: a run with a trained generator.
        user: id of a user of the dataset, or None.
        history: item ids, oldest first, used when `user` is None.
        count: items to list.
        exclude_seen: leave out items of the history.
        generator: lists its most probable items, in place of the run's own.

    Raises:
        UserError: the user or an item is unknown, the history is empty, or count is not positive.
    """
    if count < 1:
        raise UserError(f"--count must be at least 1, not {count}")
    readings = None
    if user is not None:
        row = row_of_user(run, user)
        begin, end = run.sequences.offsets[row : row + 2]
        items, readings = run.sequences.item_index[begin:end], run.reading_of_user(row)
    else:
        items = items_of_history(run, history or [])
    selects = generator is None and run.config.selection is not None
    recommender = load_selection(run) if selects else generator or run.load_generator()
    found_CK, scores_CK = recommender.recommend(items, np.array([0, len(items)]), count, exclude_seen, readings)
    titles, ids = titles_of(run.dataset), run.item_ids
    who = f"user {user}" if user is not None else "this history"
    table = Table(title=f"{who}: the last of {len(items)} events, oldest first", title_justify="left")
    for column in ("item", "title"):
        table.add_column(column)
    for item in items[-SHOWN_HISTORY:]:
        table.add_row(str(ids[int(item)]), titles[int(item)])
    run.console.print(table)
    title = "recommended next" + ("; p is among the items of the beam" if selects else "")
    table = Table(title=title, title_justify="left")
    for column, side in (("", "right"), ("item", "left"), ("title", "left"), ("log p", "right"), ("p", "right")):
        table.add_column(column, justify=side)  # type: ignore[arg-type]
    for place, (item, score) in enumerate(zip(found_CK[0], scores_CK[0], strict=True), start=1):
        if item >= 0:
            table.add_row(str(place), str(ids[int(item)]), titles[int(item)], f"{score:.3f}", f"{math.exp(score):.2%}")
    run.console.print(table)


def row_of_user(run: Run, user: str) -> int:
    """Where a user stands among those of the sequences; UserError when there is no such user."""
    names = run.sequences.user_ids.cast(str).to_list()
    if user not in names:
        raise UserError(f'no user "{user}" in {run.dataset.folder}{_nearest(user, names)}')
    return names.index(user)


def items_of_history(run: Run, history: list[str]) -> np.ndarray:
    """Item numbers of item ids; UserError names the first unknown one."""
    names = run.item_ids.cast(str).to_list()
    rows = {name: row for row, name in enumerate(names)}
    for item in history:
        if item not in rows:
            raise UserError(f'no item "{item}" in {run.dataset.folder}{_nearest(item, names)}')
    if not history:
        raise UserError("--history needs at least one item id")
    return np.array([rows[item] for item in history], dtype=np.int32)


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known[:100_000], n=3)
    return f"; did you mean {', '.join(close)}?" if close else f"; ids look like {', '.join(known[:3])}"
