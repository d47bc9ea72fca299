"""MovieLens-100K: 100,000 ratings of 1,682 films by 943 people (GroupLens, 1998).

GroupLens does not allow redistribution, so this package does not contain the data. It downloads the official archive or, if
that fails, the copy in the PyPI wheel of recbole 1.2.1. Both are checked by SHA-256 before they are opened, and both give the
same dataset folder.
"""

import hashlib
import io
import os
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from pathlib import Path

import polars as pl

from onerec.data.contract import Dataset, DatasetSpec, EventColumns, ItemColumns, UserColumns, write_dataset
from onerec.errors import UserError
from onerec.files import write_file

ARCHIVE_URL = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
ARCHIVE_SHA256 = "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229"
WHEEL_REQUIREMENT = "recbole==1.2.1"
WHEEL_SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
EVENT_COLUMNS = ["user_id", "item_id", "rating", "timestamp"]
USER_COLUMNS = ["user_id", "age", "gender", "occupation", "zip_code"]

SPEC = DatasetSpec(
    name="movielens-100k",
    licence="GroupLens, research use: no redistribution, no commercial use; do not publish this folder",
    events=EventColumns(user="user_id", item="item_id", time="timestamp", signals=["liked"]),
    items=ItemColumns(id="item_id", text=["title", "genres"], categorical=["genres"], numeric=["year"]),
    users=UserColumns(id="user_id", categorical=["gender", "occupation"], numeric=["age"]),
    split="leave_one_out",
)


def fetch_movielens_100k(out: Path, archive: Path | None = None) -> Dataset:
    """Write MovieLens-100K as a dataset folder, from `archive`, the cache or a download.

    Every rating is an event, whatever its value. The column `rating` is kept, and the signal `liked` is 1 from four stars up.

    Args:
        out: the dataset folder.
        archive: the official ml-100k.zip or the recbole 1.2.1 wheel; None takes the cached archive or downloads one.

    Raises:
        UserError: `archive` is neither of the two, or no download succeeds.
    """
    return convert_movielens(_cached_or_downloaded() if archive is None else _known_archive(Path(archive)), out)


def convert_movielens(archive: Path, out: Path) -> Dataset:
    """Write the dataset folder from either archive. The names inside tell which one it is. No hash is checked."""
    try:
        with zipfile.ZipFile(archive) as opened:
            names = {Path(name).name: name for name in opened.namelist() if "ml-100k/" in name}
            if "u.data" in names:
                parts = [opened.read(names[name]) for name in ("u.data", "u.item", "u.user", "u.genre")]
                events, items, users = _official_tables(*parts)
            else:
                parts = [opened.read(names[f"ml-100k.{end}"]) for end in ("inter", "item", "user")]
                events, items, users = _wheel_tables(*parts)
            users = users.select(pl.col("user_id", "age").cast(pl.Int32), "gender", "occupation").sort("user_id")
    except (zipfile.BadZipFile, KeyError, OSError, pl.exceptions.PolarsError) as error:
        raise UserError(f"{archive}: not a readable MovieLens-100K archive ({error}); download it again") from error
    return write_dataset(out, SPEC, _in_order(events), _tidy_items(items), users)


def _official_tables(data: bytes, item: bytes, user: bytes, genre: bytes) -> tuple[pl.DataFrame, ...]:
    """The three tables from GroupLens's files, which are separated by tabs and bars, in latin-1, with a 0/1 column per genre."""
    events = _table(data, "\t", EVENT_COLUMNS)
    genres = _table(genre, "|", ["genre", "number"]).drop_nulls().sort(pl.col("number").cast(pl.Int64))
    names = genres["genre"].to_list()
    films = _table(item, "|", ["item_id", "title", "released", "video_released", "url", *names])
    flags = [pl.when(pl.col(name) == "1").then(pl.lit(name)) for name in names]
    items = films.select("item_id", "title", pl.concat_str(flags, separator=",", ignore_nulls=True).alias("genres"))
    return events, items, _table(user, "|", USER_COLUMNS)


def _wheel_tables(inter: bytes, item: bytes, user: bytes) -> tuple[pl.DataFrame, ...]:
    """The same tables from recbole's atomic files, which are UTF-8 with a typed header and keep years apart from titles."""
    events = _table(inter, "\t", EVENT_COLUMNS, header=True)
    films = _table(item, "\t", ["item_id", "title", "year", "genres"], header=True)
    # recbole misspells the one film that GroupLens calls "unknown".
    unknown = pl.when(pl.col("title") == "unkonwn").then(pl.lit("unknown"))
    title = unknown.otherwise(pl.format("{} ({})", "title", "year"))
    items = films.select("item_id", title.alias("title"), pl.col("genres").str.replace_all(" ", ","))
    return events, items, _table(user, "\t", USER_COLUMNS, header=True)


def _table(content: bytes, separator: str, columns: list[str], header: bool = False) -> pl.DataFrame:
    """A table of strings. Official files are latin-1 without a header; recbole's are UTF-8 with one."""
    text = content.decode("utf-8" if header else "latin-1")
    return pl.read_csv(
        io.StringIO(text),
        separator=separator,
        has_header=header,
        new_columns=columns,
        quote_char=None,
        infer_schema=False,
    )


def _in_order(events: pl.DataFrame) -> pl.DataFrame:
    """Events by user and time.

    Three quarters of the ratings share their second with another rating of the same user. These keep the order of the file, which
    GroupLens shuffled, so the order leaks neither ids nor ratings.
    """
    rating = pl.col("rating").cast(pl.Float64).cast(pl.Int8)
    return events.select(
        pl.col("user_id", "item_id").cast(pl.Int32),
        pl.col("timestamp").cast(pl.Int64),
        rating.alias("rating"),
        (rating >= 4).cast(pl.Int8).alias("liked"),
    ).sort("user_id", "timestamp", maintain_order=True)


def _tidy_items(items: pl.DataFrame) -> pl.DataFrame:
    """Move the year from the title ("Toy Story (1995)", "… (1995) (V)") to a column of its own."""
    title = pl.col("title").str.replace_all(r"\s+", " ").str.strip_chars()
    dated = r"^(.*?) ?\((\d{4})\)(?: \(V\))?$"
    return items.select(
        pl.col("item_id").cast(pl.Int32),
        title.str.replace(dated, "$1").alias("title"),
        title.str.extract(dated, 2).cast(pl.Int32).alias("year"),
        pl.col("genres").fill_null("unknown"),
    ).sort("item_id")


def cache_folder() -> Path:
    """The folder of downloads: $XDG_CACHE_HOME/onerec, by default ~/.cache/onerec."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "onerec"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _known_archive(path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"{path}: no such file; --archive takes ml-100k.zip or the recbole 1.2.1 wheel")
    if (found := _sha256(path)) not in (ARCHIVE_SHA256, WHEEL_SHA256):
        raise UserError(
            f"{path}: its SHA-256 {found} belongs neither to {ARCHIVE_URL} nor to the recbole 1.2.1 wheel; "
            "download the file again"
        )
    return path


def _cached_or_downloaded() -> Path:
    """An archive with a correct hash, from the cache, else from GroupLens, else from PyPI."""
    folder = cache_folder()
    sources = (
        (folder / "ml-100k.zip", ARCHIVE_SHA256, _download_archive, ARCHIVE_URL),
        (folder / "recbole-1.2.1.whl", WHEEL_SHA256, _download_wheel, f"pip download {WHEEL_REQUIREMENT}"),
    )
    for path, expected, _, _ in sources:
        if path.is_file() and _sha256(path) == expected:
            return path
    failures = []
    for path, expected, download, name in sources:
        try:
            content = download()
        except (OSError, subprocess.SubprocessError) as error:
            failures.append(f"{name}: {' '.join(str(error).split())[-200:]}")
            continue
        if hashlib.sha256(content).hexdigest() != expected:
            failures.append(f"{name}: the downloaded file has another SHA-256")
            continue
        return _keep(path, content)
    raise UserError(
        f"MovieLens-100K cannot be downloaded ({'; '.join(failures)}). Download {ARCHIVE_URL} on a machine with a network "
        "and pass the file with --archive ml-100k.zip"
    )


def _keep(path: Path, content: bytes) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, lambda temporary: temporary.write_bytes(content))
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error}); set XDG_CACHE_HOME to a writable folder") from error
    return path


def _download_archive() -> bytes:
    with urllib.request.urlopen(ARCHIVE_URL, timeout=10) as response:
        content: bytes = response.read()
    return content


def _download_wheel() -> bytes:
    """Download the wheel with pip, which respects the user's index and proxy settings."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
        command += ["--disable-pip-version-check", "--dest", folder, WHEEL_REQUIREMENT]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode != 0 or not wheels:
            raise OSError(done.stderr or done.stdout or "pip gave no file")
        return wheels[0].read_bytes()
