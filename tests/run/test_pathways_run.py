"""A run whose generator reads all events, features, users and older events: from training to lists, without a leak."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from command_line import GENERATOR_ONLY, configured, results_of, trained

from onerec.cli import main
from onerec.data.contract import Dataset, DatasetSpec, write_dataset
from onerec.run.lists import lists_of
from onerec.run.opening import make_run
from onerec.run.run import Run

SETTINGS = (
    *GENERATOR_ONLY,
    "dataset.positive=liked",
    "train.epochs=1",
    "selection.beam_width=50",
    "generator.history_length=6",
    "generator.pathways.stream=all",
    "generator.pathways.event_features=all",
    "generator.pathways.item_features=[kind]",
    "generator.pathways.user_features=all",
    "generator.pathways.positive_length=4",
    "generator.pathways.lifelong={events: 12, representatives: 3, tokens: 2}",
)
SPEC = DatasetSpec.model_validate(
    {
        "name": "watched and skipped",
        "events": {
            "user": "user",
            "item": "item",
            "time": "time",
            "signals": ["liked", "shared"],
            "play_time": "played",
            "duration": "long",
        },
        "items": {"id": "item", "categorical": ["kind"]},
        "users": {"id": "user", "categorical": ["country"], "numeric": ["age"]},
    }
)


def watched_and_skipped(chain: Path, folder: Path, *, held_out: bool = False) -> Dataset:
    """The log in `chain`, its events liked, with skipped ones between them.

    With `held_out`, everything from a user's validation target on is otherwise: what is skipped, and how long and how well the
    targets are watched; which items they are stays.
    """
    draw = np.random.default_rng(5)
    liked = pl.read_csv(chain).with_columns(liked=pl.lit(1, pl.Int8))
    skipped = liked.with_columns(
        item=pl.Series(draw.integers(60, size=liked.height)), time=pl.col("time") + 30, liked=pl.lit(0, pl.Int8)
    ).sample(fraction=0.6, seed=1)
    events = pl.concat([liked, skipped]).sort("user", "time")
    events = events.with_columns(
        pl.Series("shared", draw.integers(2, size=events.height), dtype=pl.Int8),
        pl.Series("played", draw.integers(100, size=events.height)),
        pl.Series("long", draw.integers(50, 100, size=events.height)),
    )
    if held_out:
        targets_left = pl.col("liked").cast(pl.Int64).cum_sum(reverse=True).over("user")
        behind = (targets_left <= 2) & ~((targets_left == 2) & (pl.col("liked") == 0))
        events = events.with_columns(
            shared=pl.when(behind).then(1 - pl.col("shared")).otherwise(pl.col("shared")),
            played=pl.when(behind).then(pl.col("played") + 7).otherwise(pl.col("played")),
            item=pl.when(behind & (pl.col("liked") == 0)).then((pl.col("item") + 9) % 60).otherwise(pl.col("item")),
        )
    items = pl.DataFrame({"item": range(60), "kind": [f"k{item // 6}" for item in range(60)]})
    names = events["user"].unique(maintain_order=True)
    users = pl.DataFrame(
        {"user": names, "country": ["FR", "IT", None] * 50, "age": draw.integers(20, 60, size=150) * 1.0}
    )
    return write_dataset(folder, SPEC, events, items, users)


@pytest.fixture(scope="module")
def run(chain_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("pathways")
    watched_and_skipped(chain_csv, folder / "data")
    return trained("as_logged", folder / "data", folder / "runs", *SETTINGS)


def test_held_out_events_and_features_never_reach_the_weights(run: Run, chain_csv: Path, tmp_path: Path) -> None:
    watched_and_skipped(chain_csv, tmp_path / "data", held_out=True)
    other = trained("otherwise", tmp_path / "data", tmp_path / "runs", *SETTINGS)
    assert not other.dataset.events.equals(run.dataset.events)
    assert other.reading.vocabulary.event == run.reading.vocabulary.event
    weights = [(one.folder / "generator" / "model" / "model.safetensors").read_bytes() for one in (run, other)]
    assert weights[0] == weights[1]
    first, second = (lists_of(one, one.models()["onerec"])["valid_scores"] for one in (run, other))
    assert np.array_equal(first, second)  # what comes before the validation target is the same in both logs
    first, second = (lists_of(one, one.models()["onerec"])["test_scores"] for one in (run, other))
    assert not np.array_equal(first, second)


def test_baselines_and_requests_see_positive_events_alone(run: Run) -> None:
    plain = make_run(run.config.model_copy(update={"generator": type(run.config.generator)()}), run.folder)
    for part in ("valid", "test"):
        assert np.array_equal(run.requests(part).history_items, plain.requests(part).history_items)
        assert np.array_equal(run.requests(part).targets_C, plain.requests(part).targets_C)
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(run.training, plain.training, strict=True))
    assert run.data_key == plain.data_key
    assert run.key("semantic_ids") == plain.key("semantic_ids")
    assert run.key("generator") != plain.key("generator")


def test_a_user_is_recommended_to_with_all_that_is_known(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommend", str(run.folder), "--user", "u3"]) == 0
    known = capsys.readouterr().out
    row = run.sequences.user_ids.to_list().index("u3")
    begin, end = run.sequences.offsets[row : row + 2]
    items = [str(item) for item in run.sequences.item_index[begin:end]]
    assert main(["recommend", str(run.folder), "--history", *items]) == 0
    bare = capsys.readouterr().out
    assert known.count("\n") == bare.count("\n")
    assert known.splitlines()[-11:] != bare.splitlines()[-11:]


def test_results_say_that_the_generator_reads_more(run: Run) -> None:
    assert main(["evaluate", str(run.folder)]) == 0
    assert any("generator.pathways" in note for note in results_of(run.folder)["notes"])


def test_an_unknown_feature_is_refused_before_any_work(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = configured("wrong", run.dataset.folder, *SETTINGS, "generator.pathways.event_features=[play_ration]")
    assert main(["run", *wrong, "--runs", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert 'did you mean "play_ratio"?' in message
    assert message.count("\n") == 1
    assert not (tmp_path / "wrong" / "semantic_ids").exists()
