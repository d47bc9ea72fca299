"""Run configs: those that are shipped, and what happens to mistakes in them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from command_line import CONFIGS
from pydantic import BaseModel

from onerec.cli import main, shipped_config
from onerec.run.config import RunConfig, load_config
from onerec.errors import UserError

SHIPPED = sorted(CONFIGS.glob("*.yaml"))
DEMO = CONFIGS / "demo.yaml"


def leaves(content: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all keys that hold a value."""
    for key, value in content.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key)


def explained_names() -> set[str]:
    """Keys of demo.yaml with a comment on their line, or on the line of the section right above them."""
    explained: set[str] = set()
    sections: list[tuple[int, bool]] = []
    for line in DEMO.read_text(encoding="utf-8").splitlines():
        match = re.match(r"^( *)([a-z_0-9]+):(.*)$", line)
        if match is None:
            continue
        depth, commented = len(match[1]), "#" in match[3]
        sections = [section for section in sections if section[0] < depth]
        if commented or (sections and sections[-1][1]):
            explained.add(match[2])
        sections.append((depth, commented))
    return explained


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_every_shipped_config_loads(path: Path) -> None:
    assert load_config(path).dataset.folder


def known_keys(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all keys that a config may hold; an optional section counts as a section."""
    for name, field in model.model_fields.items():
        kinds = [kind for kind in (field.annotation, *get_args(field.annotation)) if isinstance(kind, type)]
        sections = [kind for kind in kinds if issubclass(kind, BaseModel)]
        if sections:
            yield from known_keys(sections[0], (*path, name))
        else:
            yield (*path, name)


def test_the_demo_names_every_key_there_is() -> None:
    """Only the settings of each quantizer stay out; they are explained where the tokenizer is. Comments show what null hides."""
    text = DEMO.read_text(encoding="utf-8")
    written = set(leaves(yaml.safe_load(text)))
    written |= set(leaves(yaml.safe_load(re.sub(r"^( *)# (?= *\w+:)", r"\1", text, flags=re.MULTILINE))))
    missing = {key for key in known_keys(RunConfig) if key[:2] != ("tokenizer", "quantizer") or len(key) == 3}
    assert {".".join(key) for key in missing - written} == set()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_every_key_of_a_config_is_explained_in_the_demo(path: Path) -> None:
    used = leaves(yaml.safe_load(path.read_text(encoding="utf-8")))
    assert {".".join(key) for key in used if key[-1] not in explained_names()} == set()


def test_the_demo_finds_its_config_wherever_it_is_called_from() -> None:
    assert shipped_config("demo.yaml") == DEMO


def test_overrides_reach_every_depth_and_keep_their_types() -> None:
    config = load_config(DEMO, ["train.epochs=3", "baselines.sasrec.model.width=32", "dataset.positive=liked"])
    assert (config.train.epochs, config.dataset.positive) == (3, "liked")
    assert config.baselines.sasrec is not None
    assert config.baselines.sasrec.model.width == 32
    config = load_config(DEMO, ["tokenizer.quantizer.level_sizes=[8, 16]", "baselines.sasrec=null", "threads=2"])
    assert (config.tokenizer.quantizer.level_sizes, config.baselines.sasrec, config.threads) == ([8, 16], None, 2)


def test_an_override_opens_a_section_that_is_off() -> None:
    assert load_config(DEMO).rsft is None
    section = load_config(DEMO, ["rsft.session_gap=1800", "rsft.train.epochs=2"]).rsft
    assert section is not None
    assert (section.session_gap, section.dropped_share) == (1800, 0.5)
    assert (section.train.epochs, section.train.learning_rate) == (2, 0.0001)


def test_overrides_may_stand_behind_the_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All of them arrive: the last one is wrong, and is the one complained about."""
    arguments = ["run", str(DEMO), "name=x", "--runs", str(tmp_path), f"dataset.folder={tmp_path}", "train.epoch=3"]
    assert main(arguments) == 2
    assert 'unknown key "train.epoch"' in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["run", str(DEMO), "--runs", str(tmp_path), "stray"])
    assert "unrecognized arguments: stray" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.epoch=3", ['unknown key "train.epoch"', "epochs"]),
        ("trian.epochs=3", ['unknown key "trian"', "train"]),
        ("baselines.sasrec.model.widht=3", ['unknown key "baselines.sasrec.model.widht"', "width"]),
        ("generator.dropuot=0.1", ['unknown key "generator.dropuot"', "dropout"]),
        ("train.epochs=many", ['key "train.epochs"', "integer", "'many'"]),
        ("train.epochs=0", ['key "train.epochs"', "greater than 0"]),
        ("train=5", ['key "train"']),
        ("dataset.split=by_tiem", ['key "dataset.split"', "by_time", "'by_tiem'"]),
        ("recommend.beam_width=10", ['key "recommend.beam_width"', "50"]),
        ("name=a/b", ['key "name"', "'a/b'"]),
        ("rsft.dropped_share=0.3", ["rsft", "session_gap", "session_events"]),
        ("rsft={session_gap: 9, dropped_share: 1}", ['key "rsft.dropped_share"', "less than 1"]),
        ("train.epochs", ['override "train.epochs"', "key.subkey=value"]),
        ("=3", ['override "=3"', "key.subkey=value"]),
        ("train.epochs=[1", ['override "train.epochs=[1"', "not YAML"]),
        ("seed.more=1", ['override "seed.more=1"', '"seed" is a value']),
    ],
)
def test_a_wrong_override_is_one_line_that_names_it(
    override: str, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(DEMO), override, "--runs", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert message.startswith("onerec: ")
    assert message.count("\n") == 1, message
    assert all(word in message for word in words), message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: [", "not readable as YAML"),
        ("- a list", "mapping of keys"),
        ("name: x\n", 'key "dataset" is missing'),
        ("dataset: {folder: d}\n", 'key "name" is missing'),
    ],
)
def test_a_broken_config_file_is_named(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_config(path)
    assert str(path) in str(caught.value)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_config_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(tmp_path / "no.yaml"), "--runs", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"onerec: {tmp_path / 'no.yaml'}: no such config; the ones that come with the project lie in configs/\n"
    )
