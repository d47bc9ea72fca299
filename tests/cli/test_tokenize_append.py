"""`onerec tokenize CONFIG --append` and `onerec tokenize inspect RUN`, as a shop would use them."""

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from command_line import GENERATOR_ONLY, configured, file_states

from onerec.cli import main
from onerec.data.contract import DatasetSpec, read_dataset, write_dataset
from tokenizer.item_encoder import ItemEncoder
from tokenizer.semantic_ids import SemanticIds

WORDS = {
    "tea": ["green tea", "black tea", "mint tea"],
    "lamp": ["desk lamp", "floor lamp"],
    "shoe": ["red shoe", "shoe"],
}


def shop(names: list[str]) -> pl.DataFrame:
    """An items table in which an item's first letters say what it is."""
    titles = [WORDS[name[:4].rstrip("0123456789")][len(name) % 2] + f" size {int(name[-1]) % 4}" for name in names]
    return pl.DataFrame({"sku": names, "name": titles, "price": [float(len(name)) for name in names]})


def names_of(start: int, end: int) -> list[str]:
    return [f"{kind}{number}" for number in range(start, end) for kind in WORDS]


def stock(folder: Path, names: list[str], users: int = 60) -> None:
    """A dataset folder with these items; events are about the first thirty only."""
    rng = np.random.default_rng(0)
    bought = sorted(set(names_of(0, 10)) & set(names))
    rows = [
        {"user": f"u{user}", "sku": str(name)} for user in range(users) for name in rng.choice(bought, 6, replace=False)
    ]
    spec = DatasetSpec(
        name="shop",
        events={"user": "user", "item": "sku"},  # type: ignore[arg-type]
        items={"id": "sku", "text": ["name"], "numeric": ["price"]},  # type: ignore[arg-type]
    )
    write_dataset(folder, spec, pl.DataFrame(rows), shop(names))


class Shop:
    """A tokenized dataset folder and the commands for it."""

    def __init__(self, folder: Path) -> None:
        self.dataset, self.runs = folder / "data", folder / "runs"
        self.artefact = self.runs / "shop" / "semantic_ids"
        stock(self.dataset, names_of(0, 10))

    def command(self, *words: str) -> list[str]:
        return [*configured("shop", self.dataset, *GENERATOR_ONLY), "--runs", str(self.runs), *words]

    def tokenize(self, *words: str) -> int:
        return main(["tokenize", *self.command(*words)])

    def codes(self) -> dict[str, list[int]]:
        ids = SemanticIds.load(self.artefact / "ids")
        return dict(zip(ids.item_ids.to_list(), ids.codes_NL.tolist(), strict=True))


@pytest.fixture(scope="module")
def tokenized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    assert Shop(folder).tokenize() == 0
    return folder


@pytest.fixture
def opened(tokenized: Path, tmp_path: Path) -> Shop:
    """A copy that a test may change."""
    shutil.copytree(tokenized / "runs", tmp_path / "runs")
    return Shop(tmp_path)


def test_items_join_twice_and_the_generator_learns_them(opened: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    first = opened.codes()
    stock(opened.dataset, names_of(0, 12))
    assert opened.tokenize("--append") == 0
    output = capsys.readouterr().out
    assert "6 items to 30; no ID changed" in output
    assert "most similar old items" in output
    second = opened.codes()
    stock(opened.dataset, [*names_of(11, 13), *reversed(names_of(0, 11))], users=70)  # another order, and more events
    assert opened.tokenize("--append") == 0
    assert "3 items to 36; no ID changed" in capsys.readouterr().out
    third = opened.codes()
    assert [len(first), len(second), len(third)] == [30, 36, 39]
    assert first.items() <= second.items() <= third.items()
    assert len({tuple(codes) for codes in third.values()}) == 39

    table = read_dataset(opened.dataset).items["sku"].to_list()
    assert list(third) == table  # item numbers are rows of the items table
    assert len(SemanticIds.load(opened.artefact / "ids").quality["appended"]) == 2
    before = file_states(opened.artefact)
    assert main(["train", *opened.command("train.epochs=1")]) == 0
    assert file_states(opened.artefact) == before  # done already, nothing tokenized anew
    trained = SemanticIds.load(opened.runs / "shop" / "generator" / "model" / "semantic_ids")
    assert dict(zip(trained.item_ids.to_list(), trained.codes_NL.tolist(), strict=True)) == third


def test_the_encoder_keeps_a_row_per_item_in_the_order_of_the_table(opened: Shop) -> None:
    before = ItemEncoder.load(opened.artefact / "encoder").vectors_ND
    names = [*names_of(10, 11), *reversed(names_of(0, 10))]
    stock(opened.dataset, names)
    assert opened.tokenize("--append") == 0
    encoder = ItemEncoder.load(opened.artefact / "encoder")
    np.testing.assert_array_equal(encoder.vectors_ND[3:], before[::-1])
    assert not encoder.behaviour_ND[:3].any()


def test_events_alone_can_grow(opened: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    before = opened.codes()
    stock(opened.dataset, names_of(0, 10), users=80)
    assert opened.tokenize("--append") == 0
    assert "no new items" in capsys.readouterr().out
    assert opened.codes() == before
    states = file_states(opened.artefact)
    assert opened.tokenize() == 0  # the stage is done for the data as they are now
    assert opened.tokenize("--append") == 0
    assert "nothing to append, every item has an ID" in capsys.readouterr().out
    assert file_states(opened.artefact) == states


def test_mistakes_end_with_one_line_and_change_nothing(opened: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    before = file_states(opened.artefact)

    def refused(*words: str) -> str:
        assert opened.tokenize("--append", *words) == 2
        message = capsys.readouterr().err
        assert message.startswith("onerec: ")
        assert message.count("\n") == 1
        return message

    stock(opened.dataset, names_of(0, 11))
    assert "another tokenizer section" in refused("tokenizer.quantizer.level_sizes=[4,16]")
    assert "no semantic IDs to append to" in refused("name=other")
    stock(opened.dataset, [name for name in names_of(0, 11) if name != "lamp3"] + ["lamp30"])
    assert "'lamp3' has a semantic ID but no row any more (1 such items)" in refused()
    assert file_states(opened.artefact) == before


def test_inspect_writes_a_page_also_after_items_joined(opened: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    stock(opened.dataset, [*names_of(10, 12), *names_of(0, 10)])
    assert opened.tokenize("--append") == 0
    capsys.readouterr()
    assert main(["tokenize", "inspect", str(opened.runs / "shop")]) == 0
    page = Path("".join(capsys.readouterr().out.split("page:")[1].split("\n")).strip())
    assert page.read_text(encoding="utf-8").lstrip().lower().startswith("<!doctype html")
    assert page.is_relative_to(opened.runs / "shop")


def test_inspect_needs_a_run_with_ids(opened: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tokenize", "inspect", str(tmp_path)]) == 2
    assert "not a run folder" in capsys.readouterr().err
    (opened.artefact / "ids" / "item_codes.parquet").unlink()
    assert main(["tokenize", "inspect", str(opened.runs / "shop")]) == 2
    assert "item_codes.parquet: missing" in capsys.readouterr().err
