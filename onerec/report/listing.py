"""A request from the command line, and the list for it as a person reads it."""

import difflib
import math
from dataclasses import replace

import numpy as np
import polars as pl
from rich.table import Table

from onerec.data.candidates import Lists
from onerec.data.requests import Requests
from onerec.data.split import rows_of
from onerec.errors import UserError
from onerec.run.results import titles_of
from onerec.run.run import Run
from onerec.terminal import shown

SHOWN_HISTORY = 10


def request_of(run: Run, user: str | None, history: list[str] | None, count: int) -> Requests:
    """The request for a user of the dataset, whose events are all history, or else for item ids, oldest first.

    Raises:
        UserError: the user or an item is unknown, the history is empty, or count is not positive.
    """
    if count < 1:
        raise UserError(f"--count must be at least 1, not {count}")
    if user is None:
        items = items_of_history(run, history or [])
        return Requests.of_histories(items, np.array([0, len(items)]))
    row = row_of_user(run, user)
    begin, end = run.sequences.offsets[row : row + 2]
    request = Requests.of_histories(run.sequences.item_index[begin:end], np.array([0, end - begin]))
    return run.reading.up_to_now(replace(request, users_C=np.array([row], dtype=np.int32)))


def print_list(run: Run, user: str | None, request: Requests, lists: Lists, *, selected: bool) -> None:
    """Print the end of the history of one request, and the list for it, whose scores are log-probabilities.

    `selected`: these are probabilities among the beam's items, not among all.
    """
    items = request.history_items
    titles, ids = titles_of(run.dataset), run.item_ids
    who = f"user {shown(user)}" if user is not None else "this history"
    table = Table(title=f"{who}: the last of {len(items)} events, oldest first", title_justify="left")
    for column in ("item", "title"):
        table.add_column(column)
    for item in items[-SHOWN_HISTORY:]:
        table.add_row(shown(ids[int(item)]), shown(titles[int(item)]))
    run.console.print(table)
    title = "recommended next" + ("; p is among the items of the beam" if selected else "")
    table = Table(title=title, title_justify="left")
    for column, side in (("", "right"), ("item", "left"), ("title", "left"), ("log p", "right"), ("p", "right")):
        table.add_column(column, justify=side)  # type: ignore[arg-type]
    for place, (item, score) in enumerate(zip(lists.items_CK[0], lists.scores_CK[0], strict=True), start=1):
        if item >= 0:
            shares = f"{score:.3f}", f"{math.exp(score):.2%}"
            table.add_row(str(place), shown(ids[int(item)]), shown(titles[int(item)]), *shares)
    run.console.print(
        table if table.row_count else "nothing to recommend: every item that the beam found is in the history"
    )


def row_of_user(run: Run, user: str) -> int:
    """Where a user stands among those of the sequences; UserError when there is no such user."""
    names = run.sequences.user_ids.cast(pl.String)
    rows = (names == user).arg_true()
    if not len(rows):
        raise UserError(f'no user "{user}" in {run.dataset.folder}{_nearest(user, names)}')
    return int(rows[0])


def items_of_history(run: Run, history: list[str]) -> np.ndarray:
    """Item numbers of item ids; UserError names the first unknown one."""
    if not history:
        raise UserError("--history needs at least one item id")
    names = run.item_ids.cast(pl.String)
    rows = rows_of(pl.Series(history), names)
    if (unknown := np.flatnonzero(rows < 0)).size:
        item = history[int(unknown[0])]
        raise UserError(f'no item "{item}" in {run.dataset.folder}{_nearest(item, names)}')
    return rows


def _nearest(name: str, known: pl.Series) -> str:
    close = difflib.get_close_matches(name, known.head(100_000).to_list(), n=3)
    return f"; did you mean {', '.join(close)}?" if close else f"; ids look like {', '.join(known.head(3))}"
