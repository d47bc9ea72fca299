"""KuaiRand (Gao et al., CIKM 2022): impressions of short videos on Kuaishou, in the official CSV layout.

Three variants share one layout: Pure (27,285 users, 7,583 videos), 1K (1,000 users, 4.4 million videos) and 27K (27,285
users, 32 million videos, 322 million impressions). The file of statistics per video is never read: its averages cover the whole
month, including the test period.
"""

import shutil
import tempfile
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path

import polars as pl

from onerec.data import checks
from onerec.data.contract import Dataset, DatasetSpec, EventColumns, ItemColumns, UserColumns, read_dataset, write_spec
from onerec.errors import UserError
from onerec.files import write_file

VARIANTS = ("pure", "1k", "27k")
BEIJING = timezone(timedelta(hours=8))
VALID_START = int(datetime(2022, 4, 25, tzinfo=BEIJING).timestamp() * 1000)
TEST_START = int(datetime(2022, 5, 1, tzinfo=BEIJING).timestamp() * 1000)

SIGNALS = [
    "is_click",
    "long_view",
    "is_like",
    "is_follow",
    "is_comment",
    "is_forward",
    "is_hate",
    "is_profile_enter",
]
LOG_COLUMNS = {
    "user_id": pl.Int32,
    "video_id": pl.Int32,
    "time_ms": pl.Int64,
    **dict.fromkeys(SIGNALS, pl.Int8),
    "play_time_ms": pl.Int32,
    "duration_ms": pl.Int32,
    "comment_stay_time": pl.Int32,
    "profile_stay_time": pl.Int32,
    "is_rand": pl.Int8,
    "tab": pl.Int8,
}
VIDEO_COLUMNS = {
    "video_id": pl.Int32,
    "author_id": pl.Int64,
    "video_type": pl.String,
    "upload_dt": pl.String,
    "upload_type": pl.String,
    "video_duration": pl.Float64,
    "server_width": pl.Float64,
    "server_height": pl.Float64,
    "music_id": pl.Int64,
    "music_type": pl.Float64,
    "tag": pl.String,
}
RANGES = ["follow_user_num_range", "fans_user_num_range", "friend_user_num_range", "register_days_range"]
USER_CATEGORIES = ["user_active_degree", "is_lowactive_period", "is_live_streamer", "is_video_author", *RANGES]
USER_CATEGORIES += [f"onehot_feat{number}" for number in range(18)]


def convert_kuairand(folder: Path, variant: str, out: Path, *, include_random: bool = False) -> Dataset:
    """Write a dataset folder from an unpacked KuaiRand archive (the folder itself or the `data` folder inside it).

    Periods follow Beijing time: history until April 24, valid April 25 to 30, test May 1 to 8. Impressions of the random policy
    (`log_random_*`) are left out. With `include_random` they are kept, and the column `is_rand` marks them. 27K is sorted on disk
    in 16 slices of users, so that it never has to fit in memory.

    Raises:
        UserError: a file or column is missing, or `read_dataset` refuses the result.
    """
    if variant not in VARIANTS:
        raise UserError(f'unknown KuaiRand variant "{variant}"; use {", ".join(VARIANTS)}')
    folder = Path(folder)
    source = folder / "data" if (folder / "data").is_dir() else folder
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    logs = _log_files(source, variant, include_random)
    videos = _scan(_files(source, f"video_features_basic_{variant}*.csv"), VIDEO_COLUMNS)
    profiles = _files(source, f"user_features_{variant}*.csv")
    (out / "dataset.yaml").unlink(missing_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=out, prefix=".slices-") as slices:
            _write_events(logs, out / "events.parquet", Path(slices), 16 if variant == "27k" else 1)
        items = videos.rename({"video_id": "item_id"})
        write_file(out / "items.parquet", lambda path: items.sink_parquet(path, compression="zstd"))
        users = _user_features(profiles)
        write_file(out / "users.parquet", lambda path: users.write_parquet(path, compression="zstd"))
    except pl.exceptions.PolarsError as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{source}: a CSV file is damaged ({reason}); unpack the archive again") from error
    write_spec(out, _spec(variant))
    try:
        return read_dataset(out)
    except UserError:
        (out / "dataset.yaml").unlink()  # a folder that fails its checks must not look complete
        raise


def _spec(variant: str) -> DatasetSpec:
    return DatasetSpec(
        name=f"kuairand-{variant}",
        licence="CC BY-SA 4.0, KuaiRand (Gao et al., CIKM 2022)",
        events=EventColumns(
            user="user_id",
            item="item_id",
            time="time_ms",
            period="period",
            signals=SIGNALS,
            play_time="play_time_ms",
            duration="duration_ms",
        ),
        items=ItemColumns(
            id="item_id",
            categorical=["author_id", "video_type", "upload_type", "music_id", "music_type", "tag"],
            numeric=["video_duration", "server_width", "server_height"],
        ),
        users=UserColumns(id="user_id", categorical=USER_CATEGORIES),
        split="by_period",
    )


def _files(source: Path, pattern: str) -> list[Path]:
    found = sorted(source.glob(pattern))
    if not found:
        raise UserError(
            f"{source}: no file {pattern}; give the unpacked KuaiRand folder and its --variant ({', '.join(VARIANTS)})"
        )
    return found


def _log_files(source: Path, variant: str, include_random: bool) -> list[Path]:
    """The files of the standard log in order of time, then those of the random log if it is included."""
    names = ["log_standard_4_08_to_4_21", "log_standard_4_22_to_5_08"]
    names += ["log_random_4_22_to_5_08"] if include_random else []
    return [path for name in names for path in _files(source, f"{name}_{variant}*.csv")]


def _scan(paths: list[Path], columns: Mapping[str, type[pl.DataType]]) -> pl.LazyFrame:
    """The named columns of CSV files as a lazy frame with narrow types. Raises UserError if a column is missing."""
    frames = []
    for path in paths:
        # Small integers are read as floats first, because some exports write 12 as 12.0.
        read_as = {name: pl.Float64 if kind == pl.Int8 else kind for name, kind in columns.items()}
        frame = pl.scan_csv(path, schema_overrides=read_as, infer_schema_length=0)
        try:
            names = frame.collect_schema().names()
        except pl.exceptions.PolarsError as error:
            raise UserError(f"{path}: empty or not a CSV file; unpack the archive again") from error
        for name in columns:
            if name not in names:
                raise UserError(f'{path}: no column "{name}"; {checks.nearest_name(name, names)}')
        frames.append(frame.select(pl.col(name).cast(kind) for name, kind in columns.items()))
    return pl.concat(frames)


def _user_features(paths: list[Path]) -> pl.DataFrame:
    columns: dict[str, type[pl.DataType]] = dict.fromkeys(USER_CATEGORIES, pl.String)
    users = _scan(paths, {"user_id": pl.Int32, **columns}).collect()
    # "1" and "1.0" are the same category.
    numbers = [name for name in USER_CATEGORIES if name not in RANGES and name != "user_active_degree"]
    return users.with_columns(pl.col(numbers).cast(pl.Float64).cast(pl.Int32))


def _write_events(logs: list[Path], target: Path, slices: Path, count: int) -> None:
    """Sort events by user and time. Each slice of users is sorted on its own, through a temporary file."""
    time = pl.col("time_ms")
    late = pl.when(time >= TEST_START).then(pl.lit("test")).when(time >= VALID_START).then(pl.lit("valid"))
    events = _scan(logs, LOG_COLUMNS).rename({"video_id": "item_id"})
    events = events.select(
        "user_id",
        "item_id",
        "time_ms",
        late.otherwise(pl.lit("history")).alias("period"),
        pl.all().exclude("user_id", "item_id", "time_ms"),
    )
    raw = slices / "raw.parquet"
    events.sink_parquet(raw)
    checks.check_not_empty(pl.scan_parquet(raw).head(1).collect(), logs[0])
    user = pl.col("user_id")
    edges = pl.scan_parquet(raw).select(user.min().alias("low"), user.max().alias("high")).collect().row(0)
    low, high = (edge or 0 for edge in edges)
    width = (high - low) // count + 1
    for number in range(count):
        start = low + number * width
        # Rows without a user id go into the first slice; later checks report them.
        mine = user.is_between(start, start + width - 1)
        mine = mine | user.is_null() if number == 0 else mine
        part = pl.scan_parquet(raw).filter(mine).sort("user_id", "time_ms", maintain_order=True)
        part.sink_parquet(slices / f"part{number:02d}.parquet")
    parts = sorted(slices.glob("part*.parquet"))
    if len(parts) == 1:
        write_file(target, lambda path: shutil.move(parts[0], path))
        return
    joined = pl.concat([pl.scan_parquet(part) for part in parts])
    write_file(target, lambda path: joined.sink_parquet(path, maintain_order=True))
