"""Stages are skipped when nothing they depend on has changed, and redone when something has."""

from pathlib import Path

import numpy as np
import pytest
from command_line import CONFIGS, TinyRun, configured, file_states

from onerec.cli import main
from onerec.errors import UserError
from onerec.files import write_json
from onerec.run.artefact import Artefact, key_of
from onerec.run.config_files import load_config
from onerec.run.opening import make_run, reopen_run
from onerec.run.stages.selection import load_selection
from onerec.scorers.co_occurrence import CoOccurrence

SELECTED = {"selection", "lists/onerec_selection"}
LISTS = ("lists/onerec", "lists/sasrec", "lists/item_knn", "lists/content_knn", "lists/popularity")
STAGES = ("sequences", "semantic_ids", "generator", "baselines/sasrec", *LISTS, *SELECTED)


def redone(tiny: TinyRun, *overrides: str) -> set[str]:
    """The stages whose files change when the same run is asked for with some keys changed."""
    before = {stage: file_states(tiny.folder / stage) for stage in STAGES}
    command = ["run", *configured("tiny", tiny.dataset, *overrides), "--runs", str(tiny.folder.parent)]
    assert main(command) == 0
    return {stage for stage in STAGES if file_states(tiny.folder / stage) != before[stage]}


def test_the_same_command_again_does_nothing_again(tiny_copy: TinyRun, capsys: pytest.CaptureFixture[str]) -> None:
    assert redone(tiny_copy) == set()
    output = capsys.readouterr().out
    assert "epoch" not in output
    assert "OneRec" in output  # the comparison is shown all the same


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("recommend.beam_width=60", {"lists/onerec"}),
        ("recommend.batch_size=7", set()),
        ("evaluate.bootstrap_samples=120", set()),
        ("evaluate.examples=1", set()),
        ("selection.decay=0.5", SELECTED),
        ("selection.co_occurrence.window=3", SELECTED),
        ("baselines.item_knn.window=3", {"lists/item_knn"}),
        ("baselines.sasrec.model.layers=1", {"baselines/sasrec", "lists/sasrec"}),
        ("recommend.exclude_seen=false", set(STAGES) - {"sequences", "semantic_ids"}),
        ("dataset.targets_per_user=all", set(STAGES)),
        ("train.learning_rate=0.02", {"generator", "lists/onerec", *SELECTED}),
        ("tokenizer.quantizer.seed=3", {"semantic_ids", "generator", "lists/onerec", "lists/content_knn", *SELECTED}),
    ],
)
def test_a_changed_key_redoes_what_depends_on_it(override: str, expected: set[str], tiny_copy: TinyRun) -> None:
    assert redone(tiny_copy, override) == expected


def test_a_killed_conversion_is_made_again(
    chain_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(CONFIGS / "own.yaml", [f"dataset.folder={chain_dataset}"])

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("onerec.run.stages.sequences.complete_folder", killed)
        with pytest.raises(KeyboardInterrupt):
            make_run(config, tmp_path).sequences  # noqa: B018  # a property that makes files
    assert (tmp_path / "sequences" / "part.npy").exists()  # half-made
    again, other = make_run(config, tmp_path), make_run(config, tmp_path / "other")
    for name in ("item_index", "offsets", "part", "event_rows"):
        assert np.array_equal(getattr(again.sequences, name), getattr(other.sequences, name))
    assert all(map(np.array_equal, again.training, other.training))
    before = file_states(tmp_path / "sequences")
    assert make_run(config, tmp_path).sequences.user_count == 150
    assert file_states(tmp_path / "sequences") == before  # made once


def test_changed_data_redo_everything(tiny_copy: TinyRun, chain_csv: Path, tmp_path: Path) -> None:
    lines = chain_csv.read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "shorter.csv").write_text("".join(lines[:-1]), encoding="utf-8")
    flags = ["--user", "user", "--item", "item", "--time", "time", "--out", str(tmp_path / "other")]
    assert main(["data", "import", str(tmp_path / "shorter.csv"), *flags]) == 0
    assert redone(TinyRun(tiny_copy.folder, tmp_path / "other", "", "")) == set(STAGES)


def test_tokenize_and_train_are_the_same_stages_as_those_of_run(tiny_copy: TinyRun) -> None:
    before = file_states(tiny_copy.folder / "semantic_ids") | file_states(tiny_copy.folder / "generator")
    for command in ("tokenize", "train"):
        assert main([command, *configured("tiny", tiny_copy.dataset), "--runs", str(tiny_copy.folder.parent)]) == 0
    assert before == file_states(tiny_copy.folder / "semantic_ids") | file_states(tiny_copy.folder / "generator")


def test_selection_keeps_what_it_counted(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A list needs no counting, and the same candidates get the same scores as when they were counted."""
    run = reopen_run(tiny_run.folder, [])
    requests, config = run.requests("test"), run.config.selection
    assert config is not None
    counted = CoOccurrence(config.co_occurrence, seed=run.config.seed).fit(*run.training, len(run.item_ids))

    def refuse(*_: object) -> None:
        raise AssertionError("counted again")

    monkeypatch.setattr(CoOccurrence, "fit", refuse)
    kept = load_selection(run).reranker.features.co_occurrence
    items_CK = np.tile(np.arange(60, dtype=np.int32), (len(requests), 1))
    for ours, theirs in zip(kept.scores_of(requests, items_CK), counted.scores_of(requests, items_CK), strict=True):
        assert np.array_equal(ours, theirs)
    assert main(["recommend", str(tiny_run.folder), "--history", "1", "2"]) == 0
    assert "recommended next" in capsys.readouterr().out


def test_a_selection_without_its_counts_is_made_again(tiny_copy: TinyRun, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tiny_copy.folder / "selection"
    scorer = (folder / "scorer.json").read_bytes()
    (folder / "new_items.npy").unlink()
    assert main(["recommend", str(tiny_copy.folder), "--history", "1"]) == 0
    assert f"{folder / 'new_items.npy'}: missing; it is made again" in capsys.readouterr().out
    assert (folder / "scorer.json").read_bytes() == scorer


def test_a_finished_stage_leaves_no_checkpoint_behind(tiny_run: TinyRun) -> None:
    names = {path.name for path in tiny_run.folder.rglob("*")}
    assert "checkpoint.pt" not in names
    assert not [name for name in names if name.endswith((".tmp", ".partial"))]


def test_only_an_unfinished_attempt_with_the_same_key_is_continued(tmp_path: Path) -> None:
    first, other = Artefact(tmp_path / "stage", key_of("a")), Artefact(tmp_path / "stage", key_of("b"))
    (first.begin() / "checkpoint.pt").write_text("weights")
    assert (first.begin() / "checkpoint.pt").exists()
    assert not (other.begin() / "checkpoint.pt").exists()


def test_a_finished_artefact_stays_until_its_successor_is_finished(tmp_path: Path) -> None:
    first, other = Artefact(tmp_path / "stage", key_of("a")), Artefact(tmp_path / "stage", key_of("b"))
    (first.begin() / "weights").write_text("of a")
    first.finish(7.0)
    assert other.seconds_at_stake == 7.0
    (other.begin() / "weights").write_text("of b")
    assert first.done and (tmp_path / "stage" / "weights").read_text() == "of a"
    assert (other.begin() / "weights").read_text() == "of b"  # a killed attempt goes on
    other.finish()
    assert other.done and not first.done and (tmp_path / "stage" / "weights").read_text() == "of b"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stage"]


@pytest.mark.parametrize("renames", [1, 2])
def test_a_kill_between_the_renames_loses_nothing(
    renames: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, other = Artefact(tmp_path / "stage", key_of("a")), Artefact(tmp_path / "stage", key_of("b"))
    for artefact, text in ((first, "of a"), (other, "of b")):
        (artefact.begin() / "weights").write_text(text)
        if artefact is first:
            first.finish()
    rename, done = Path.rename, []

    def killed(self: Path, target: Path) -> Path:
        if len(done) == renames - 1:
            raise KeyboardInterrupt
        done.append(target)
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            other.finish()
    again = Artefact(tmp_path / "stage", key_of("b"))
    again.recover()
    assert again.done and (tmp_path / "stage" / "weights").read_text() == "of b"


@pytest.mark.parametrize("change", ["flip", "truncate", "remove"])
def test_an_artefact_whose_file_has_changed_is_not_done(change: str, tmp_path: Path) -> None:
    artefact = Artefact(tmp_path / "stage", key_of("a"))
    file = artefact.begin() / "weights"
    file.write_bytes(b"12345")
    artefact.finish()
    assert artefact.done and artefact.damage is None
    if change == "remove":
        file.unlink()
    else:
        file.write_bytes(b"12325" if change == "flip" else b"123")
    assert not artefact.done
    assert str(file) in str(artefact.damage)


@pytest.mark.parametrize("foreign", ["stage", ".stage.new"])
def test_files_of_somebody_else_are_left_alone(foreign: str, tmp_path: Path) -> None:
    (tmp_path / foreign).mkdir()
    (tmp_path / foreign / "mine.txt").write_text("dear to me")
    with pytest.raises(UserError, match="not made by this program"):
        Artefact(tmp_path / "stage", key_of("a")).begin()
    assert (tmp_path / foreign / "mine.txt").read_text() == "dear to me"


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"key": "a"}'])
def test_a_damaged_stage_file_means_not_done(content: str, tmp_path: Path) -> None:
    write_json(tmp_path / "stage.json", {})
    (tmp_path / "stage.json").write_text(content)
    assert not Artefact(tmp_path, "a").done


def test_keys_do_not_depend_on_the_order_of_a_mapping() -> None:
    assert key_of({"a": 1, "b": [2]}) == key_of({"b": [2], "a": 1})
    assert key_of(1) != key_of("1")
