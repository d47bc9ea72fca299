"""Amazon product reviews, 2014 and 2018 editions (McAuley et al.), in their official files of JSON lines.

Every review is an event, whatever its stars. Files may be gzipped or plain. Polars reads the reviews and the 2018 metadata,
which are strict JSON. The 2014 metadata consists of Python dictionaries; see `_parse_loose`.
"""

import ast
import json
from pathlib import Path

import numpy as np
import polars as pl

from onerec.data import checks
from onerec.data.contract import Dataset, DatasetSpec, EventColumns, ItemColumns, write_dataset
from onerec.data.event_log import short_reason
from onerec.errors import UserError

REVIEW_SCHEMA = {"reviewerID": pl.String, "asin": pl.String, "unixReviewTime": pl.Int64, "overall": pl.Float64}
# 2014 has `categories` (a list of paths) and one description; 2018 has `category` (one path) and a list of descriptions.
STRICT_SCHEMA = pl.Struct(
    {
        "asin": pl.String,
        "title": pl.String,
        "brand": pl.String,
        "category": pl.List(pl.String),
        "description": pl.List(pl.String),
    }
)
TIE_SEED = 20140614


def convert_amazon(reviews: Path, metadata: Path | None, out: Path, minimum: int = 5) -> Dataset:
    """Write a dataset folder from a review file and, if given, the metadata file of the same category.

    Reviews of the same item by the same user at the same time count once; dataset.yaml says how many repeats were dropped. Users
    and items with fewer than `minimum` reviews are removed until no more have to go, which leaves an official 5-core file as it
    is. Times are days. A user's reviews of one day are shuffled with a fixed seed, because the files order them by item id.

    Raises:
        UserError: a file is missing or not JSON, or nothing is left.
    """
    all_events, repetitions = read_reviews(Path(reviews))
    events = k_core(all_events, minimum)
    if events.is_empty():
        raise UserError(f"{reviews}: no user and item with {minimum} reviews each are left; give a smaller minimum")
    asins = events["item_id"].unique().sort().to_frame()
    text = ["title", "categories", "brand", "description"]
    if metadata is None:
        items, columns = asins, ItemColumns(id="item_id")
    else:
        known = read_metadata(Path(metadata), asins["item_id"])
        items = asins.join(known, on="item_id", how="left", maintain_order="left").with_columns(
            pl.col(text).fill_null("")
        )
        columns = ItemColumns(id="item_id", text=text, categorical=["brand"])
    order = "by time; ties of a user shuffled with a fixed seed"
    if repetitions:
        order += f"; {checks.counted(repetitions, 'repeated review')} dropped"
    spec = DatasetSpec(
        name=f"amazon-{Path(reviews).name.split('.')[0].lower().replace('_', '-')}",
        licence="research use; Amazon reviews (McAuley et al.)",
        events=EventColumns(user="user_id", item="item_id", time="timestamp", order=order),
        items=columns,
        split="leave_one_out",
    )
    return write_dataset(out, spec, in_time_order(events), items)


def read_reviews(path: Path) -> tuple[pl.DataFrame, int]:
    """Events (user_id, item_id, timestamp in seconds, rating), and the number of repeated reviews that were dropped."""
    _check_file(path)
    try:
        raw = pl.scan_ndjson(path, schema=REVIEW_SCHEMA).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _not_json(path, "review", error) from error
    checks.check_not_empty(raw, path)
    for column in ("reviewerID", "asin", "unixReviewTime"):
        checks.refuse_rows(raw, path, column, pl.col(column).is_null(), "missing ({rows}); is this the review file?")
    events = raw.select(
        pl.col("reviewerID").alias("user_id"),
        pl.col("asin").alias("item_id"),
        pl.col("unixReviewTime").alias("timestamp"),
        pl.col("overall").cast(pl.Float32).alias("rating"),
    )
    once = events.unique(["user_id", "item_id", "timestamp"], keep="first", maintain_order=True)
    return once, events.height - once.height


def k_core(events: pl.DataFrame, minimum: int) -> pl.DataFrame:
    """Drop users and items with fewer than `minimum` events until all that remain have enough."""
    while True:
        often = (pl.len().over("user_id") >= minimum) & (pl.len().over("item_id") >= minimum)
        kept = events.filter(often)
        if kept.height == events.height:
            return events
        events = kept


def in_time_order(events: pl.DataFrame) -> pl.DataFrame:
    """Events by user and time. Ties are in a random order that depends on the events alone."""
    settled = events.sort("user_id", "timestamp", "item_id")
    tie = np.random.default_rng(TIE_SEED).random(settled.height)
    return settled.with_columns(pl.Series("tie", tie)).sort("user_id", "timestamp", "tie").drop("tie")


def read_metadata(path: Path, asins: pl.Series) -> pl.DataFrame:
    """Columns item_id, title, categories, brand and description for those of `asins` that the metadata file describes.

    The file may be many times larger than the reviews, so lines are filtered by ASIN before they are parsed.
    """
    _check_file(path)
    asin = pl.col("line").str.extract(r"""['"]asin['"]\s*:\s*['"]([^'"]+)['"]""").alias("item_id")
    try:
        lines = pl.scan_lines(path, name="line").with_columns(asin)
        wanted = asins.rename("item_id").to_frame().lazy()
        known = lines.join(wanted, on="item_id", how="semi", maintain_order="left").collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{path}: cannot be read ({short_reason(error)}); download it again") from error
    known = known.unique("item_id", keep="first", maintain_order=True)
    if known.is_empty():
        raise UserError(f"{path}: no line describes an item of the reviews; give the metadata of the same category")
    strict = _is_json(known["line"][0])
    described = _parse_strict(known, path) if strict else _parse_loose(known, path)
    text = pl.col("title", "categories", "brand", "description").fill_null("")
    plain = text.str.replace_all(r"<[^>]*>", " ").str.replace_all(r"\s+", " ").str.strip_chars()
    # Some 2018 titles hold the script of the shop's page instead of a title.
    title = pl.when(pl.col("title").str.contains("getTime", literal=True)).then(pl.lit("")).otherwise(pl.col("title"))
    return described.with_columns(plain).with_columns(title.alias("title"))


def _is_json(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except json.JSONDecodeError:
        return False


def _parse_strict(known: pl.DataFrame, path: Path) -> pl.DataFrame:
    try:
        fields = known.select("item_id", pl.col("line").str.json_decode(STRICT_SCHEMA).alias("fields")).unnest("fields")
    except pl.exceptions.PolarsError as error:
        raise _not_json(path, "metadata", error) from error
    return fields.select(
        "item_id",
        "title",
        pl.col("category").list.drop_nulls().list.join(" > ").alias("categories"),
        "brand",
        pl.col("description").list.drop_nulls().list.join(" "),
    )


def _parse_loose(known: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Parse the 2014 metadata, which has one Python dictionary per line and is not JSON.

    Only here does Python handle single rows. They are few, because only items of the reviews are parsed: 12,101 lines for Beauty
    take about a second.
    """
    rows = []
    for asin, line in known.select("item_id", "line").iter_rows():
        try:
            fields = ast.literal_eval(line)
        except (SyntaxError, ValueError) as error:
            raise UserError(
                f'{path}: the line of item "{asin}" is neither JSON nor a Python dictionary ({error}); download it again'
            ) from error
        paths = ["" if part is None else " > ".join(map(str, part)) for part in fields.get("categories") or []]
        texts = [str(fields.get(key) or "") for key in ("title", "brand", "description")]
        rows.append((asin, texts[0], "; ".join(paths), texts[1], texts[2]))
    return pl.DataFrame(rows, schema=["item_id", "title", "categories", "brand", "description"], orient="row")


def _not_json(path: Path, kind: str, error: Exception) -> UserError:
    reason = short_reason(error)
    return UserError(f"{path}: not JSON lines ({reason}); give the unchanged {kind} file from Amazon's data page")


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise UserError(f"{path}: no such file; `onerec data amazon --help` lists the files that are needed")
