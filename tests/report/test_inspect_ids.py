"""The inspection page: what it carries, that nothing in the data can break out of it, and that a browser draws it."""

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from command_line import CONFIGS, TINY
from pages import Outline

from onerec.data.contract import DatasetSpec, EventColumns, ItemColumns, write_dataset
from onerec.errors import UserError
from onerec.report.inspect import data as inspect_data
from onerec.report.inspect.ids import render_page, write_page
from onerec.run.config_files import load_config
from onerec.run.opening import make_run
from onerec.run.run import Run
from onerec.run.stages.semantic_ids import item_encoder, semantic_ids
from tokenizer.quantizers.spec import QuantizerSpec
from tokenizer.tokenize import tokenize_items

ITEMS = 90
HOSTILE = "</script><script>document.title='broken'</script><!-- & \u2028 "


def unpack(packed: dict[str, str]) -> np.ndarray:
    ((kind, text),) = packed.items()
    return np.frombuffer(base64.b64decode(text), dtype={"u8": "<u1", "u16": "<u2", "u32": "<u4"}[kind])


def data_of(page: Path) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text("utf-8"), re.S)
    assert found is not None
    return json.loads(found.group(1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset with Chinese and hostile titles, a category in words and as a number, cells with nothing."""
    generator = np.random.default_rng(0)
    kinds = ["指甲油", "口红", "洗发水"]
    kind = generator.integers(0, 3, ITEMS)
    titles = [f"{kinds[k]} 红色 {n % 7}" for n, k in enumerate(kind)]
    titles[5], titles[6] = HOSTILE + titles[5], ""
    items = pl.DataFrame(
        {
            "item": [f"i{n}" for n in range(ITEMS)],
            "title": titles,
            "kind <i>": [kinds[k] for k in kind],
            "kind_number": kind + 100,
            "price": generator.random(ITEMS).tolist(),
            "shop": ["UNKNOWN"] * ITEMS,
        }
    )
    events = pl.DataFrame(
        {
            "user": np.repeat(np.arange(60), 6),
            "item": [f"i{n}" for n in generator.permuted(np.tile(np.arange(ITEMS), (60, 1)), axis=1)[:, :6].ravel()],
        }
    )
    spec = DatasetSpec(
        name="shop <b>",
        events=EventColumns(user="user", item="item"),
        items=ItemColumns(id="item", text=["title"], categorical=["kind <i>"]),
    )
    made = tmp_path_factory.mktemp("shop")
    write_dataset(made, spec, events, items)
    return made


def tokenized(folder: Path, runs: Path, *overrides: str) -> Run:
    config = load_config(CONFIGS / "own.yaml", [*TINY, "name=shop", f"dataset.folder={folder}", *overrides])
    run = make_run(config, runs)
    run.make("semantic_ids")
    return run


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return tokenized(folder, tmp_path_factory.mktemp("runs") / "shop", "tokenizer.quantizer.level_sizes=[8,16]")


@pytest.fixture(scope="module")
def page(run: Run) -> Path:
    return write_page(run)


def test_every_item_is_on_the_page_with_its_codes_and_columns(run: Run, page: Path) -> None:
    data, ids = data_of(page), semantic_ids(run)
    codes = unpack(data["codes"]).reshape(-1, data["levels"])
    assert codes.tolist() == sorted(ids.codes_NL.tolist())
    by_id = dict(zip(ids.item_ids.to_list(), ids.codes_NL.tolist(), strict=True))
    assert {name: codes[row].tolist() for row, name in enumerate(data["ids"])} == by_id
    columns = {column["name"]: column for column in data["columns"]}
    assert set(columns) == {"title", "kind <i>", "kind_number", "price", "shop"}
    title = dict(zip(run.dataset.items["item"], run.dataset.items["title"], strict=True))
    assert columns["title"].get("cells") or columns["title"]["values"]
    for name, column in columns.items():
        index = unpack(column["index"]) if "index" in column else range(ITEMS)
        cells = [column.get("values", column.get("cells"))[place] for place in index]
        expected = dict(zip(run.dataset.items["item"], run.dataset.items[name].cast(pl.String), strict=True))
        assert cells == [expected[item] or "" for item in data["ids"]]
    assert HOSTILE in title["i5"]
    # the number of a category says what its name says, and one shop for all names no groups
    assert [data["columns"][index]["name"] for index in data["labels"]] == ["kind <i>"]


def test_neighbours_equal_a_slow_search(run: Run, page: Path) -> None:
    data = data_of(page)
    order = [run.dataset.items["item"].to_list().index(item) for item in data["ids"]]
    vectors = item_encoder(run).vectors_ND[order].astype(float)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = vectors @ vectors.T
    codes = unpack(data["codes"]).reshape(-1, data["levels"])
    near = unpack(data["near"]["rows"]).reshape(ITEMS, -1)
    by_id = unpack(data["tree"]["rows"]).reshape(ITEMS, -1)
    for row in range(ITEMS):
        others = [other for other in range(ITEMS) if other != row]
        best = sorted((cosine[row, other] for other in others), reverse=True)[: near.shape[1]]
        assert cosine[row, near[row]] == pytest.approx(best, abs=1e-5)
        depth = {other: int((codes[row] == codes[other]).cumprod().sum()) for other in others}
        deepest = sorted(depth.values(), reverse=True)[: by_id.shape[1]]
        assert [depth[other] for other in by_id[row].tolist()] == deepest
        assert len(set(by_id[row].tolist())) == by_id.shape[1]
    shown = unpack(data["near"]["cosine"]).reshape(ITEMS, -1) / 100 - 1
    assert shown == pytest.approx(np.take_along_axis(cosine, near.astype(int), axis=1), abs=0.006)


def test_confused_items_are_those_that_collided_or_lie_far(run: Run, page: Path) -> None:
    data, ids = data_of(page), semantic_ids(run)
    given = dict(zip(ids.item_ids.to_list(), map(tuple, ids.quantizer_codes_NQ.tolist()), strict=True))
    sizes = [len(group) for group in data["collided"]]
    assert sizes == sorted(sizes, reverse=True)
    assert min(sizes) > 1
    assert sizes[0] == ids.quality["collisions_before"]["largest_group"]
    for group in data["collided"]:
        assert len({given[data["ids"][row]] for row in group}) == 1
    error = unpack(data["error"])
    assert [int(error[row]) for row in data["far"]] == sorted(error.tolist(), reverse=True)[: len(data["far"])]
    codes = unpack(data["codes"]).reshape(-1, data["levels"])
    assert all(codes[left, 0] != codes[right, 0] for left, right, _ in data["parted"])
    assert sum(data["kept"]) == ITEMS


def test_nothing_in_the_data_breaks_out_and_nothing_is_fetched(page: Path) -> None:
    text = page.read_text("utf-8")
    assert Outline(text).tags.count("script") == 2
    assert "<i>" not in text and "kind &lt;i&gt;" in text
    assert not re.search(r"fetch\(|innerHTML|https?://", text)
    assert "default-src 'none'" in text


def test_a_browser_draws_the_tree_and_an_item(page: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine to draw the page with")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    options += ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={tmp_path}"]
    made = subprocess.run(
        [browser, *options, "--virtual-time-budget=2000", "--dump-dom", f"{page.as_uri()}#item=i5"],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    assert "<title>shop · semantic IDs</title>" in made  # the title's script did not run
    drawn = made.split('<script type="application/json"')[0]
    assert "&lt;/script&gt;&lt;script&gt;document.title=" in drawn
    assert drawn.count('class="row"') > 8
    assert drawn.count('class="near"') == 2
    assert "Items that begin" in drawn
    assert "指甲油" in drawn


def test_large_catalogues_are_sampled_and_the_page_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspect_data, "SHOWN_ITEMS", 30)
    monkeypatch.setattr("onerec.report.inspect.ids.SHOWN_ITEMS", 30)
    monkeypatch.setattr(inspect_data, "CONFUSED", 2)
    page = write_page(run)
    data = data_of(page)
    assert 30 <= len(data["ids"]) < ITEMS == data["items"]
    assert len(unpack(data["codes"])) == ITEMS * data["levels"]
    shown = unpack(data["shown"])
    assert shown.tolist() == sorted(set(shown.tolist()))
    rows = [*data["far"], *(row for group in data["collided"] for row in group), *unpack(data["near"]["rows"])]
    assert set(rows) <= set(range(len(shown)))
    assert f"This page holds {len(shown)} of the items" in page.read_text("utf-8")


@pytest.mark.parametrize(
    "overrides",
    [
        ["tokenizer.quantizer.level_sizes=[128]"],
        ["tokenizer.quantizer.level_sizes=[4,4,4,4]"],
        ["tokenizer.quantizer.unique=append_code", "tokenizer.quantizer.level_sizes=[4,4]"],
    ],
)
def test_other_shapes_of_ids(folder: Path, tmp_path: Path, overrides: list[str]) -> None:
    run = tokenized(folder, tmp_path / "run", *overrides)
    data = data_of(write_page(run))
    assert data["levels"] == len(semantic_ids(run).level_sizes)
    assert len(data["ids"]) == ITEMS


def test_a_run_without_ids_is_refused_and_nothing_is_tokenized(folder: Path, tmp_path: Path) -> None:
    config = load_config(CONFIGS / "own.yaml", [*TINY, "name=none", f"dataset.folder={folder}"])
    with pytest.raises(UserError, match="semantic_ids: not there"):
        write_page(make_run(config, tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_an_item_that_left_the_catalogue_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fewer = run.dataset.items.head(ITEMS - 1)
    monkeypatch.setattr(type(run), "item_ids", property(lambda _: fewer["item"]))
    with pytest.raises(UserError, match=r"1 items with a semantic ID are not in items\.parquet any more, i89"):
        write_page(run)


@pytest.mark.parametrize("items", [1, 2])
def test_hardly_any_items(items: int) -> None:
    vectors = np.eye(items, 3, dtype=np.float32)
    ids = tokenize_items(vectors, pl.Series(range(items)), QuantizerSpec(level_sizes=[4, 4]))
    table = pl.DataFrame({"item": range(items), "none": [None] * items, "lists": [[1, 2]] * items})
    text = render_page(ids, vectors, table, title="few", text_columns=[], id_column="item")
    assert ("1 item written as 2 codes" if items == 1 else "2 items, each written as 2 codes") in text
    assert '"[1, 2]"' in text
