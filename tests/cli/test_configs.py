"""Run configs: those that are shipped, and what happens to mistakes in them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from command_line import CONFIGS
from pydantic import BaseModel

from onerec.cli import main
from onerec.errors import UserError
from onerec.run.config_files import load_config, shipped_config
from onerec.run.schema import config_schema, explanations, with_examples
from rl.config.run import AlignmentRunConfig as RunConfig

SHIPPED = sorted(CONFIGS.glob("*.yaml"))
DEMO = CONFIGS / "demo.yaml"
by_name = pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)


def leaves(content: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The paths of all keys that hold a value, with the values."""
    for key, value in content.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


def known_keys(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all keys that a config may hold; an optional section counts as a section."""
    for name, field in model.model_fields.items():
        kinds = [kind for kind in (field.annotation, *get_args(field.annotation)) if isinstance(kind, type)]
        sections = [kind for kind in kinds if issubclass(kind, BaseModel) and kind.model_fields]
        if sections:
            yield from known_keys(sections[0], (*path, name))
        else:
            yield (*path, name)


@by_name
def test_every_commented_example_loads(path: Path, tmp_path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    switched_on = tmp_path / path.name
    switched_on.write_text(with_examples(text), encoding="utf-8")
    assert (load_config(switched_on) != load_config(path)) == (path.name in {"demo.yaml", "own.yaml"})


def test_the_demo_names_and_explains_every_key_there_is() -> None:
    text = DEMO.read_text(encoding="utf-8")
    assert {key for key, _ in leaves(yaml.safe_load(with_examples(text)))} == set(known_keys(RunConfig))
    schema = config_schema()
    models = {"": schema, **schema["$defs"]}
    assert all(content["additionalProperties"] is False for content in models.values()), "editors mark misspelt keys"
    assert [
        f"{model}.{key}"
        for model, content in models.items()
        for key, entry in content["properties"].items()
        if not entry.get("description")
    ] == []


@by_name
def test_every_key_has_a_comment_on_its_line_or_on_that_of_its_section(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    comments = explanations(text)
    keys = [key for key, _ in leaves(yaml.safe_load(text))]
    assert [".".join(key) for key in keys if not {key, key[:-1]} & comments.keys()] == []
    assert text.startswith("# yaml-language-server: $schema=schema.json\n# ")


@by_name
def test_a_config_other_than_the_demo_names_only_what_differs_from_the_defaults(path: Path) -> None:
    if path == DEMO:
        return
    none = RunConfig(name="none", dataset={"folder": "none"})  # type: ignore[arg-type]  # pydantic makes the section
    defaults, found = dict(leaves(none.model_dump())), dict(leaves(load_config(path).model_dump()))
    named = [key for key, _ in leaves(yaml.safe_load(path.read_text(encoding="utf-8")))]
    assert [".".join(key) for key in named if found[key] == defaults.get(key, "a section that is off")] == []


def test_a_comment_may_go_on_in_the_next_line_and_an_example_is_explained_too() -> None:
    text = "# title: no key\na: 1   # first: one\n       # second\nb:     # two\n  c: 3\n  # d:\n  #   e: 4  # five\n"
    assert explanations(text) == {("a",): "first: one second", ("b",): "two", ("b", "d", "e"): "five"}
    assert yaml.safe_load(with_examples(text.replace("# title: no key\n", "")))["b"] == {"c": 3, "d": {"e": 4}}


def test_the_schema_for_editors_is_up_to_date() -> None:
    """Otherwise: `onerec config --schema > configs/schema.json`."""
    assert json.loads((CONFIGS / "schema.json").read_text(encoding="utf-8")) == config_schema()


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
    with pytest.raises(UserError, match=f"(?s)^{re.escape(str(path))}.*{words}") as caught:
        load_config(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["own", "own.yaml", "configs/own.yaml"])
def test_a_shipped_config_is_found_by_its_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config(Path(name)) == load_config(CONFIGS / "own.yaml")
    assert shipped_config("demo.yaml") == DEMO  # which `onerec demo` takes from anywhere
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text("name: mine\ndataset: {folder: d}\n", encoding="utf-8")
    assert load_config(Path(name)).name == "mine", "a file in its place goes first"


@pytest.mark.parametrize("name", ["no.yaml", "elsewhere/own.yaml", "own.yml", "schema.json"])
def test_a_missing_config_file_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", name]) == 2
    assert capsys.readouterr().err == (
        f"onerec: {name}: no such config; give the path of a file, or the name of a shipped config: "
        "beauty.yaml, demo.yaml, kuairand.yaml, own.yaml\n"
    )
    assert list(tmp_path.iterdir()) == []
