"""`onerec config`: every value of a config with where it comes from, as a config that loads again."""

import json
import re
from pathlib import Path

import pytest
import yaml
from command_line import CONFIGS

from onerec.cli import main
from onerec.run.config_files import load_config
from onerec.run.schema import config_schema

SHIPPED = sorted(CONFIGS.glob("*.yaml"))


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What `onerec config ARGUMENTS` prints."""
    assert main(["config", *map(str, arguments)]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    return shown.out


def origins(text: str) -> dict[str, str]:
    """Where each value comes from, by the dotted path of its key."""
    found, sections = {}, []
    for line in text.splitlines()[1:]:
        key = re.match(r"( *)(\w+):(.*)$", line)
        assert key, line
        sections = [*sections[: len(key[1]) // 2], key[2]]
        if key[3]:
            found[".".join(sections)] = key[3].rpartition("  # ")[2]
    return found


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("rsft.session_gap=1800", "align.learning_rate=0.00000001", "baselines.sasrec=null", "threads=3"),
        ("dataset.positive='null'", f"dataset.folder='with: # signs/{9 * 'and more '}/...'", "name='17'"),
    ],
)
def test_what_is_printed_loads_as_the_same_config(
    path: Path, overrides: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(capsys, path, *overrides)
    again = tmp_path / "again.yaml"
    again.write_text(text, encoding="utf-8")
    assert load_config(again) == load_config(path, overrides)
    content = yaml.safe_load(text)
    assert content == load_config(path, overrides).model_dump(mode="json"), "it names every key"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_value_of_the_file_points_to_its_line(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines, found = path.read_text(encoding="utf-8").splitlines(), origins(printed(capsys, path))
    named = {key: origin for key, origin in found.items() if origin != "default"}
    for key, origin in named.items():
        file, _, line = origin.partition(":")
        assert file == path.name
        assert lines[int(line) - 1].strip().startswith(f"{key.rpartition('.')[2]}:"), key
    values = sum(re.match(r" *[a-z_0-9]+: *[^ #]", line) is not None for line in lines)
    assert len(named) == values


def test_an_override_is_told_from_the_file_and_from_the_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    overrides = (
        "train.epochs=3",
        "align.rewards={hit: 1.0}",
        "baselines.sasrec=null",
        "rsft.session_gap=9",
        "train.epochs=4",
    )
    text = printed(capsys, "beauty", *overrides)
    found = origins(text)
    overridden = {"train.epochs", "align.rewards.hit", "baselines.sasrec", "rsft.session_gap"}
    assert {key for key, origin in found.items() if origin == "override"} == overridden
    assert found["align.rewards.p_score"] == found["rsft.dropped_share"] == "default", (
        "the override replaced the section"
    )
    assert re.fullmatch(r"beauty\.yaml:\d+", found["train.batch_size"])
    assert yaml.safe_load(text)["train"]["epochs"] == 4
    assert text.splitlines()[0].endswith("beauty.yaml " + " ".join(overrides))


def test_a_value_from_a_merged_section_points_to_where_it_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: mine\ndataset: {folder: d}\ntrain: &train\n  epochs: 3\n  patience: 2\nbaselines:\n  sasrec:\n    train:\n"
        "      <<: *train\n      patience: 5\n",
        encoding="utf-8",
    )
    found = origins(printed(capsys, path))
    assert (found["train.patience"], found["baselines.sasrec.train.epochs"]) == ("mine.yaml:5", "mine.yaml:4")
    assert found["baselines.sasrec.train.patience"] == "mine.yaml:10"


def test_the_schema_is_printed_without_a_config(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(printed(capsys, "--schema")) == config_schema()
    assert main(["config"]) == 2
    assert "onerec: config: name a config" in capsys.readouterr().err
