"""Prompts: only training positions, in an order that a resumed run repeats."""

from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from watched_cases import HISTORY_LENGTH, opened, watched_events, with_another_end, write_watched

from onerec.data.split import TRAIN, Sequences
from onerec.errors import UserError
from onerec.model.generator import Generator
from onerec.recommenders.generator import GeneratorRecommender
from onerec.run.run import Run
from rl.alignment.stage import align_prompts
from rl.config.rollouts import RolloutConfig
from rl.rollouts.prompts import batches_from, prompt_batches, training_prompts
from rl.rollouts.rollouts import generate_groups
from tokenizer.semantic_ids import SemanticIds


def sequences_of(trained: list[int], held_out: int = 2) -> Sequences:
    """Users with so many training events, and two later ones each; items are places."""
    lengths = np.array(trained) + held_out
    part = np.concatenate([[0] * count + [1, 2][:held_out] for count in trained]).astype(np.int8)
    ids = pl.Series(range(len(trained)))
    return Sequences(ids, np.arange(lengths.sum(), dtype=np.int32), np.cumsum([0, *lengths]), part)


users = st.lists(st.integers(0, 7), min_size=1, max_size=12)


@given(users, st.integers(1, 4), st.sampled_from(["newest", "random"]), st.integers(0, 99))
def test_prompts_are_training_positions_with_their_whole_past(
    trained: list[int], per_user: int, choice: str, seed: int
) -> None:
    sequences = sequences_of(trained)
    prompts = training_prompts(sequences, choice=choice, per_user=per_user, seed=seed)  # type: ignore[arg-type]
    assert prompts.dropped == sum(count == 1 for count in trained)
    asked = Counter(prompts.users_C.tolist())
    assert asked == Counter({u: min(per_user, max(count - 1, 0)) for u, count in enumerate(trained)} | Counter())
    assert (np.diff(prompts.target_events_C) > 0).all()
    for number, (user, place) in enumerate(zip(prompts.users_C, prompts.target_events_C, strict=True)):
        begin = sequences.offsets[user]
        assert begin < place < begin + trained[user]
        assert sequences.part[place] == TRAIN
        history = prompts.history_items[prompts.history_offsets[number] : prompts.history_offsets[number + 1]]
        assert history.tolist() == list(range(begin, place))
        assert prompts.targets_C[number] == place
    if choice == "newest":
        for user, count in enumerate(trained):
            last = sequences.offsets[user] + count
            expected = list(range(max(last - per_user, sequences.offsets[user] + 1), last)) if count > 1 else []
            assert prompts.target_events_C[prompts.users_C == user].tolist() == expected


def test_random_positions_are_uniform() -> None:
    """All ten pairs of five positions, 4000 users; one in a thousand."""
    prompts = training_prompts(sequences_of([6] * 4000), choice="random", per_user=2, seed=3)
    places = (prompts.target_events_C - 8 * prompts.users_C).reshape(-1, 2)
    pairs = Counter(map(tuple, places.tolist()))
    assert set(pairs) == {(a, b) for a in range(1, 6) for b in range(a + 1, 6)}
    assert chisquare(list(pairs.values())).pvalue > 1e-3
    again, other = (training_prompts(sequences_of([6] * 40), choice="random", per_user=2, seed=seed) for seed in (3, 4))
    assert not np.array_equal(again.target_events_C, other.target_events_C)
    # Where a maximum is set, the users are an even sample.
    assert training_prompts(sequences_of([3] * 9), at_most=3).users_C.tolist() == [0, 4, 8]


def everything_read(run: Run) -> list[bytes]:
    """All that a generator is shown of the prompts of alignment, and their targets."""
    prompts = align_prompts(run)
    assert prompts.stream is not None
    seen = [prompts.users_C, prompts.history_items, prompts.history_offsets, prompts.targets_C]
    for rows, batch in prompts.batches(HISTORY_LENGTH, 4, batch_size=7):
        features = batch.context_features
        assert features is not None
        shown = [batch.items_BT, batch.lengths_B, features.features_BTF]
        shown += [features.positive_items_BP, features.positive_features_BPF]
        seen += [rows, *(tensor.numpy() for tensor in shown)]
    return [array.tobytes() for array in seen]


def test_prompts_hold_nothing_from_after_training(tmp_path: Path) -> None:
    logged = write_watched(tmp_path / "logged", watched_events())
    other = write_watched(tmp_path / "other", with_another_end(logged.events))
    changed = write_watched(tmp_path / "changed", logged.events.with_columns(shared=1 - pl.col("shared")))
    for choice in ("align.prompts={}", "align.prompts.per_user=3", "align.prompts={choice: random, per_user: 2}"):
        first, second, third = (
            opened(dataset, tmp_path / name, choice) for name, dataset in (("a", logged), ("b", other), ("c", changed))
        )
        assert everything_read(first) == everything_read(second)
        assert not np.array_equal(first.requests("valid").targets_C, second.requests("valid").targets_C)
        assert everything_read(first) != everything_read(third)  # what is read before a target does count


def test_a_policy_with_pathways_reads_what_its_recommender_reads(tmp_path: Path) -> None:
    run = opened(write_watched(tmp_path / "logged", watched_events()), tmp_path / "run", "align.prompts.per_user=2")
    codes = np.stack([np.arange(40) // 8, np.arange(40) % 8], axis=1).astype(np.int32)
    torch.manual_seed(0)
    ids = SemanticIds(pl.Series(range(40)), codes, codes, [5, 8])
    generator = Generator(run.config.generator, ids, run.reading.vocabulary).eval()
    prompts = align_prompts(run)
    rng, config = torch.Generator(), RolloutConfig(group_size=8, batch_size=6)
    found = generate_groups(generator, prompts, config, rng)
    lists = GeneratorRecommender(generator, 8).recommend(prompts, 8, exclude_seen=False)
    assert np.array_equal(found.items_BG.numpy(), lists.items_CK)
    # Sums of two codes' float32 log-probabilities in another order.
    assert np.abs(found.log_probabilities_BGL.sum(dim=-1).numpy() - lists.scores_CK).max() <= 1e-5
    rows = np.array([9, 2, 2, 30])
    picked = generate_groups(generator, prompts.pick(rows), config, rng)
    assert torch.equal(picked.items_BG, found.items_BG[rows])
    bare = generate_groups(generator, replace(prompts, stream=None, stream_ends_C=None), config, rng)
    assert not torch.equal(bare.log_probabilities_BGL, found.log_probabilities_BGL)


def test_without_pathways_prompts_have_no_stream(tmp_path: Path) -> None:
    run = opened(write_watched(tmp_path / "logged", watched_events()), tmp_path / "run", pathways=False)
    prompts = align_prompts(run)
    assert prompts.stream is None
    items, offsets = run.training
    for user, target in zip(prompts.users_C, prompts.targets_C, strict=True):
        assert target == items[offsets[user + 1] - 1]


def test_a_log_without_two_training_events_of_a_user_is_refused(tmp_path: Path) -> None:
    events = watched_events().filter(pl.int_range(pl.len()).over("user") < 1)
    run = opened(write_watched(tmp_path / "short", events.with_columns(liked=pl.lit(1, pl.Int8))), tmp_path / "run")
    with pytest.raises(UserError, match="no user has two training events"):
        align_prompts(run)


def test_every_epoch_asks_every_prompt_or_another_share_once_in_an_order_of_its_own() -> None:
    epochs = [prompt_batches(range(10), 4, seed=1, epoch=epoch) for epoch in range(3)]
    for batches in epochs:
        assert [len(rows) for rows in batches] == [4, 4, 2]
        assert sorted(np.concatenate(batches).tolist()) == list(range(10))
    assert len({np.concatenate(batches).tobytes() for batches in epochs}) == 3
    other = prompt_batches(range(10), 4, seed=2, epoch=0)
    assert np.concatenate(other).tobytes() != np.concatenate(epochs[0]).tobytes()
    shares = [np.concatenate(prompt_batches(range(24), 5, seed=1, epoch=epoch, share=0.5)) for epoch in range(3)]
    assert all(len(rows) == len(set(rows)) == 12 for rows in shares)
    assert set(shares[0]) != set(shares[1])


@pytest.mark.parametrize("share", [1.0, 0.5])
@pytest.mark.parametrize("step", [0, 2, 3, 7])
def test_a_resumed_run_sees_the_same_batches(step: int, share: float) -> None:
    whole = list(islice(batches_from(range(10), 4, seed=1, share=share), step + 5))[step:]
    resumed = list(islice(batches_from(range(10), 4, seed=1, step=step, share=share), 5))
    assert [rows.tolist() for rows in resumed] == [rows.tolist() for rows in whole]
