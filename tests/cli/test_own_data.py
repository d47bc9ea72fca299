"""Own data from a CSV to a list, in the three commands of the README."""

import re
from pathlib import Path

import polars as pl
import pytest
from command_line import GENERATOR_ONLY, TinyRun, configured, imported_modules, onerec

from onerec.cli import main
from onerec.data.contract import read_dataset


def listed(output: str) -> list[tuple[str, str, float]]:
    """Item, title and probability of every line of the recommended list."""
    pattern = r"│ +\d+ │ (\S+) +│ (.+?) +│ +-[\d.]+ │ +([\d.]+)% │"
    return [(item, title, float(percent) / 100) for item, title, percent in re.findall(pattern, output)]


def history_of(tiny: TinyRun, user: str) -> list[str]:
    events = read_dataset(tiny.dataset).events
    return events.filter(pl.col("user") == user)["item"].cast(pl.String).to_list()


def test_import_run_and_recommend(tiny_run: TinyRun) -> None:
    assert (tiny_run.folder / "results.json").is_file()
    assert (tiny_run.folder / "report.html").read_text(encoding="utf-8").lstrip().startswith("<!")
    assert "OneRec" in tiny_run.stdout
    assert "results.json" in tiny_run.stdout
    asked = onerec("recommend", "runs/tiny", "--user", "u3", cwd=tiny_run.folder.parent.parent)
    assert asked.returncode == 0, asked.stderr
    items = [item for item, _, _ in listed(asked.stdout)]
    assert len(items) == len(set(items)) == 10
    catalogue = set(read_dataset(tiny_run.dataset).items["item"].cast(pl.String))
    assert set(items) <= catalogue - set(history_of(tiny_run, "u3"))


def test_the_comparison_is_printed_whole(tiny_run: TinyRun) -> None:
    """Off a terminal there are 80 columns; no figure may be cut to fit them."""
    table = [line for line in tiny_run.stdout.splitlines() if re.match(r"(OneRec|SASRec|Item-kNN).* \(\.", line)]
    assert len(table) == 4  # of OneRec the generator's list and the selected one
    for line in table:
        assert re.search(r" \.\d{4} \(\.\d{4}–\.\d{4}\) +\.\d{4} ", line), line
        assert "…" not in line


def test_wandb_is_not_imported_unless_asked_for(tiny_run: TinyRun) -> None:
    imported = imported_modules(tiny_run.stderr)
    assert "torch" in imported
    assert "wandb" not in imported
    assert "trl" not in imported


def test_seen_items_come_back_only_when_asked_for(tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]) -> None:
    ask = ["recommend", str(tiny_run.folder), "--history", "1", "2", "3", "--count", "100"]
    assert main(ask) == 0
    unseen = [item for item, _, _ in listed(capsys.readouterr().out)]
    assert main([*ask, "--include-seen"]) == 0
    every = listed(capsys.readouterr().out)
    assert sorted([*unseen, "1", "2", "3"]) == sorted(item for item, _, _ in every)
    assert len(every) == 60
    # Probabilities of all items, printed with two digits of a percent each, sum to one.
    assert sum(probability for _, _, probability in every) == pytest.approx(1.0, abs=60 * 0.00005)


def test_the_order_of_the_history_matters_and_its_beginning_is_shown(
    tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    def probabilities(*history: str) -> list[float]:
        assert main(["recommend", str(tiny_run.folder), "--history", *history]) == 0
        output = capsys.readouterr().out
        assert f"the last of {len(history)} events" in output
        return [probability for _, _, probability in listed(output)]

    assert probabilities("1", "2", "30") != probabilities("30", "2", "1")


def test_lists_show_titles_where_items_have_them(
    chain_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = pl.read_csv(chain_csv)["item"].unique(maintain_order=True)
    shop = pl.DataFrame({"sku": items, "name": [f"Thing no. {item}" for item in items], "price": items * 1.5})
    shop.write_csv(tmp_path / "shop.csv")
    dataset = tmp_path / "mine"
    flags = ["--user", "user", "--item", "item", "--time", "time", "--items", str(tmp_path / "shop.csv")]
    flags += ["--item-id", "sku", "--text", "name", "--numeric", "price"]
    assert main(["data", "import", str(chain_csv), *flags, "--out", str(dataset)]) == 0
    command = ["train", *configured("titled", dataset, *GENERATOR_ONLY, "train.epochs=1"), "--runs", str(tmp_path)]
    assert main(command) == 0
    capsys.readouterr()
    assert main(["recommend", str(tmp_path / "titled"), "--history", "7"]) == 0
    output = capsys.readouterr().out
    assert "Thing no. 7" in output
    assert len(listed(output)) == 10
    assert all(title == f"Thing no. {item}" for item, title, _ in listed(output))
