"""Prompts: training positions and nothing later, in an order that a resumed run repeats."""

from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rollout_cases import prompts_of
from scipy.stats import chisquare
from watched_cases import opened, watched_events, write_watched

from onerec.data.split import TRAIN, Sequences
from onerec.data.stream import padded_readings
from onerec.recommenders.generator import GeneratorRecommender
from onerec.errors import UserError
from onerec.model.generator import Generator
from onerec.run.run import Run
from rl.rollouts.prompts import batches_from, prompt_batches, training_cases, training_prompts
from rl.rollouts.rollouts import RolloutConfig, generate_groups
from tokenizer.semantic_ids import SemanticIds


def sequences_of(trained: list[int], held_out: int = 2) -> Sequences:
    """Users with so many training events, and two later ones each; items are places."""
    lengths = np.array(trained) + held_out
    part = np.concatenate([[0] * count + [1, 2][:held_out] for count in trained]).astype(np.int8)
    ids = pl.Series(range(len(trained)))
    return Sequences(ids, np.arange(lengths.sum(), dtype=np.int32), np.cumsum([0, *lengths]), part)


users = st.lists(st.integers(0, 7), min_size=1, max_size=12)


@given(users, st.integers(1, 4), st.sampled_from(["newest", "random"]), st.integers(0, 99))
def test_cases_are_training_positions_with_their_whole_past(
    trained: list[int], per_user: int, choice: str, seed: int
) -> None:
    sequences = sequences_of(trained)
    cases = training_cases(sequences, choice=choice, per_user=per_user, seed=seed)  # type: ignore[arg-type]
    assert cases.dropped == sum(count == 1 for count in trained)
    asked = Counter(cases.user_index.tolist())
    assert asked == Counter({u: min(per_user, max(count - 1, 0)) for u, count in enumerate(trained)} | Counter())
    assert (np.diff(cases.target_event) > 0).all()
    for case, (user, place) in enumerate(zip(cases.user_index, cases.target_event, strict=True)):
        begin = sequences.offsets[user]
        assert begin < place < begin + trained[user]
        assert sequences.part[place] == TRAIN
        history = cases.history_items[cases.history_offsets[case] : cases.history_offsets[case + 1]]
        assert history.tolist() == list(range(begin, place))
        assert cases.target[case] == place
    if choice == "newest":
        for user, count in enumerate(trained):
            last = sequences.offsets[user] + count
            expected = list(range(max(last - per_user, sequences.offsets[user] + 1), last)) if count > 1 else []
            assert cases.target_event[cases.user_index == user].tolist() == expected


def test_random_positions_are_evenly_drawn() -> None:
    """All ten pairs of five positions, 4000 users; one in a thousand."""
    cases = training_cases(sequences_of([6] * 4000), choice="random", per_user=2, seed=3)
    places = (cases.target_event - 8 * cases.user_index).reshape(-1, 2)
    pairs = Counter(map(tuple, places.tolist()))
    assert set(pairs) == {(a, b) for a in range(1, 6) for b in range(a + 1, 6)}
    assert chisquare(list(pairs.values())).pvalue > 1e-3
    again, other = (training_cases(sequences_of([6] * 40), choice="random", per_user=2, seed=seed) for seed in (3, 4))
    assert not np.array_equal(again.target_event, other.target_event)


def test_fewer_are_an_even_sample() -> None:
    cases = training_cases(sequences_of([3] * 9), at_most=3)
    assert cases.user_index.tolist() == [0, 4, 8]


def with_another_end(events: pl.DataFrame) -> pl.DataFrame:
    """The same log, except that everything behind the training period is otherwise."""
    behind = pl.col("period") != "train"
    return events.with_columns(
        item=pl.when(behind).then((pl.col("item") + 7) % 40).otherwise(pl.col("item")),
        shared=pl.when(behind).then(1 - pl.col("shared")).otherwise(pl.col("shared")),
        played=pl.when(behind).then(pl.col("played") + 9).otherwise(pl.col("played")),
        time=pl.col("time") + pl.when(behind).then(10**6).otherwise(0),
    )


def everything_read(run: Run, **choice: object) -> list[bytes]:
    """All that a generator is shown of the training prompts, and their targets."""
    prompts = training_prompts(run, **choice)  # type: ignore[arg-type]
    assert prompts.readings is not None
    cases = prompts.cases
    seen = [cases.user_index, cases.history_items, cases.history_offsets, cases.target]
    for rows, batch in padded_readings(prompts.readings, 6, 4, batch_size=7):
        features = batch.context_features
        assert features is not None
        shown = [
            batch.items_BT,
            batch.lengths_B,
            features.features_BTF,
            features.positive_items_BP,
            features.positive_features_BPF,
        ]
        seen += [rows, *(tensor.numpy() for tensor in shown)]
    return [array.tobytes() for array in seen]


def test_what_comes_after_training_never_reaches_a_prompt(tmp_path: Path) -> None:
    logged = write_watched(tmp_path / "logged", watched_events())
    other = write_watched(tmp_path / "other", with_another_end(logged.events))
    runs = opened(logged, tmp_path / "a"), opened(other, tmp_path / "b")
    for choice in ({}, {"per_user": 3}, {"choice": "random", "per_user": 2, "seed": 5}):
        first, second = (everything_read(run, **choice) for run in runs)
        assert first == second
    assert not np.array_equal(*(run.cases("valid").target for run in runs))
    changed = logged.events.with_columns(shared=1 - pl.col("shared"))
    third = opened(write_watched(tmp_path / "third", changed), tmp_path / "c")
    assert everything_read(third) != everything_read(runs[0])  # what is read before a target does count


def test_a_policy_with_pathways_is_asked_what_its_recommender_is_asked(tmp_path: Path) -> None:
    run = opened(write_watched(tmp_path / "logged", watched_events()), tmp_path / "run")
    codes = np.stack([np.arange(40) // 8, np.arange(40) % 8], axis=1).astype(np.int32)
    torch.manual_seed(0)
    ids = SemanticIds(pl.Series(range(40)), codes, codes, [5, 8])
    generator = Generator(run.config.generator, ids, run.vocabulary).eval()
    prompts = training_prompts(run, per_user=2)
    rng, config = torch.Generator(), RolloutConfig(group_size=8, batch_size=6)
    found = generate_groups(generator, prompts, config, rng)
    asked = (prompts.cases.history_items, prompts.cases.history_offsets, 8, False, prompts.readings)
    items, scores = GeneratorRecommender(generator, 8).recommend(*asked)
    assert np.array_equal(found.items_BG.numpy(), items)
    # Sums of two codes' float32 log-probabilities in another order.
    assert np.abs(found.log_probabilities_BGL.sum(dim=-1).numpy() - scores).max() <= 1e-5
    rows = np.array([9, 2, 2, 30])
    picked = generate_groups(generator, prompts.pick(rows), config, rng)
    assert torch.equal(picked.items_BG, found.items_BG[rows])
    bare = generate_groups(generator, type(prompts)(prompts.cases), config, rng)
    assert not torch.equal(bare.log_probabilities_BGL, found.log_probabilities_BGL)


def test_without_pathways_there_is_nothing_to_read_but_items(tmp_path: Path) -> None:
    run = opened(write_watched(tmp_path / "logged", watched_events()), tmp_path / "run", pathways=False)
    prompts = training_prompts(run)
    assert prompts.readings is None
    items, offsets = run.training
    for user, target in zip(prompts.cases.user_index, prompts.cases.target, strict=True):
        assert target == items[offsets[user + 1] - 1]


def test_a_log_without_two_training_events_of_a_user_is_refused(tmp_path: Path) -> None:
    events = watched_events().filter(pl.int_range(pl.len()).over("user") < 1)
    run = opened(write_watched(tmp_path / "short", events.with_columns(liked=pl.lit(1, pl.Int8))), tmp_path / "run")
    with pytest.raises(UserError, match="no user has two training events"):
        training_prompts(run)


def test_every_epoch_asks_every_prompt_once_in_an_order_of_its_own() -> None:
    prompts = prompts_of([[1]] * 10)
    epochs = [prompt_batches(prompts, 4, seed=1, epoch=epoch) for epoch in range(3)]
    for batches in epochs:
        assert [len(rows) for rows in batches] == [4, 4, 2]
        assert sorted(np.concatenate(batches).tolist()) == list(range(10))
    assert len({np.concatenate(batches).tobytes() for batches in epochs}) == 3
    other = prompt_batches(prompts, 4, seed=2, epoch=0)
    assert np.concatenate(other).tobytes() != np.concatenate(epochs[0]).tobytes()


@pytest.mark.parametrize("step", [0, 2, 3, 7])
def test_a_resumed_run_sees_the_same_batches(step: int) -> None:
    prompts = prompts_of([[1]] * 10)
    whole = list(islice(batches_from(prompts, 4, seed=1), step + 5))[step:]
    resumed = list(islice(batches_from(prompts, 4, seed=1, step=step), 5))
    assert [rows.tolist() for rows in resumed] == [rows.tolist() for rows in whole]
