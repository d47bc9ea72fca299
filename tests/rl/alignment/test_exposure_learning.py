"""Learning from logged exposures by GBPO: watched items become likelier, disliked ones less likely."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from align_cases import (
    EXPOSURES_ALONE,
    KINDS,
    curves,
    likes_and_dislikes,
    make_loop,
    policy_of,
    settings,
    small_exposures,
    weights_of,
)
from align_cases import ITEMS as SMALL_ITEMS
from watched_cases import ITEMS, opened, watched_events, write_watched

from onerec.data.impressions import parts_of_impressions
from onerec.data.split import TRAIN
from onerec.data.stream import order_events
from onerec.errors import UserError
from onerec.model.bound_generator import item_log_probabilities
from onerec.model.generator import Generator
from onerec.run.stages.generator import generator_windows
from rl.alignment.exposures import Exposures, exposure_loss, training_exposures
from rl.alignment.loop import AlignLoop
from rl.config.alignment import AlignConfig
from rl.rewards.duration_aware import advantages_of_batch, play_events
from rl.rollouts.policy import batch_of, score_codes
from tokenizer.semantic_ids import SemanticIds


@torch.no_grad()
def log_probabilities_of(policy: Generator, exposures: Exposures) -> np.ndarray:
    """Of all exposures, item by item, by the generator's own account."""
    items = torch.from_numpy(exposures.items_X).long()[:, None]
    batch = batch_of(policy.eval(), exposures.prompts(np.arange(len(exposures))))
    return item_log_probabilities(policy, batch, items)[:, 0].numpy()


@pytest.mark.parametrize("kind", list(KINDS))
def test_watched_items_become_likelier_and_disliked_ones_less_likely(kind: str, tmp_path: Path) -> None:
    policy, exposures = policy_of(kind), likes_and_dislikes()
    before = log_probabilities_of(policy, exposures)
    config = settings(**EXPOSURES_ALONE, steps=30, next_code={"weight": 0.0}, limits={"entropy": 0.0})
    make_loop(tmp_path, policy, config, exposures=exposures).run()
    risen = log_probabilities_of(policy, exposures) - before
    assert risen[exposures.advantages_X > 0].mean() > 0.5
    assert risen[exposures.advantages_X < 0].mean() < -0.5
    lines = curves(tmp_path)
    assert all(np.isfinite(list(line.values())).all() for line in lines)
    for line in lines:
        assert line["exposure_rewarded"] + line["exposure_disliked"] == pytest.approx(1)
        assert line["gradient_norm"] == pytest.approx(line["exposure_gradient_norm"], rel=1e-5)
        assert not {"objective_loss", "reward", "legality", "next_code_loss"} & set(line)
    for name, sign in (("rewarded", 1), ("disliked", -1)):
        curve = [line[key] for line in lines if (key := f"exposure_log_probability/{name}") in line]
        assert sign * (np.mean(curve[-5:]) - np.mean(curve[:5])) > 0.3


def test_gradients_of_exposures_are_those_of_gbpo_without_an_old_policy() -> None:
    """+1: as in next-code training. -1: pi / max(pi, 1 - pi) of it, the other way. Codes are those of what was shown."""
    policy, exposures, numbers = policy_of("lazy"), likes_and_dislikes(), np.arange(20)
    parameters = list(policy.parameters())
    found = torch.autograd.grad(exposure_loss(policy, exposures, numbers, False)[0], parameters, allow_unused=True)
    items = torch.from_numpy(exposures.items_X[numbers]).long()
    codes = torch.from_numpy(policy.semantic_ids.codes_NL).long()[items][:, None]
    log_pi = score_codes(policy, batch_of(policy, exposures.prompts(numbers)), codes, False).log_probabilities_BGL
    pi, liked = log_pi.detach().exp(), torch.from_numpy(exposures.advantages_X[numbers] > 0)[:, None, None]
    assert (pi > 0.5).any() and (pi < 0.5).any()
    coefficients = torch.where(liked, 1.0, -pi / torch.maximum(pi, 1 - pi))
    expected = torch.autograd.grad(-(coefficients * log_pi).mean(), parameters, allow_unused=True)
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_disliked_items_are_pushed_less_when_they_are_unlikely(tmp_path: Path) -> None:
    policy = policy_of("encoder_decoder")
    exposures = small_exposures(np.where(np.arange(SMALL_ITEMS) < 10, -1, 0).astype(np.int8))
    before = log_probabilities_of(policy, exposures).mean()
    config = settings(**EXPOSURES_ALONE, steps=120, next_code={"weight": 0.0}, limits={"entropy": 0.0})
    make_loop(tmp_path, policy, config, exposures=exposures).run()
    assert log_probabilities_of(policy, exposures).mean() < before - 3
    norms = [line["exposure_gradient_norm"] for line in curves(tmp_path)]
    assert np.mean(norms[-10:]) < 0.2 * np.mean(norms[:10])
    assert weights_of(policy).isfinite().all()


def test_exposures_add_their_weighted_gradient_to_the_objective(tmp_path: Path) -> None:
    exposures, lines, ends = likes_and_dislikes(), {}, {}
    for weight in (0.0, 1.0, 3.0):
        policy, folder = policy_of("encoder_decoder"), tmp_path / str(weight)
        config = settings(exposures={"weight": weight}, steps=1, next_code={"weight": 0.0})
        make_loop(folder, policy, config, exposures=exposures if weight else None).run()
        (lines[weight],), ends[weight] = curves(folder), weights_of(policy)
    objective = {line["objective_gradient_norm"] for line in lines.values()}
    assert len(objective) == 1
    assert "exposure_loss" not in lines[0.0] and lines[0.0]["gradient_norm"] in objective
    assert lines[1.0]["exposure_loss"] == lines[3.0]["exposure_loss"]
    assert lines[3.0]["exposure_gradient_norm"] == pytest.approx(3 * lines[1.0]["exposure_gradient_norm"], rel=1e-4)
    bounds = [
        (abs(line["objective_gradient_norm"] - line["exposure_gradient_norm"]), line["gradient_norm"])
        for line in (lines[1.0], lines[3.0])
    ]
    assert all(low <= norm for low, norm in bounds)
    assert len({tuple(weights.tolist()) for weights in ends.values()}) == 3


def lengthy_events() -> pl.DataFrame:
    """Users watch a share of a video that does not depend on its length; the upper half of the items is ten times as long."""
    draw = np.random.default_rng(0)
    events = watched_events(120).with_columns(liked=pl.lit(1, pl.Int8))
    lengths = np.where(events["item"].to_numpy() >= ITEMS // 2, 600, 60)
    return events.with_columns(
        pl.Series("long", lengths), pl.Series("played", (lengths * draw.random(len(lengths))).round().astype(np.int64))
    )


def test_raw_play_time_prefers_long_videos_and_the_reward_does_not(tmp_path: Path) -> None:
    dataset = write_watched(tmp_path / "watched", lengthy_events())
    run = opened(dataset, tmp_path / "run", "align.exposures.weight=1", "align.exposures.least=2", pathways=False)
    aware = training_exposures(run)
    order = order_events(dataset, run.sequences, "all")
    rows = order.rows_E[parts_of_impressions(dataset, run.sequences, order, None) == TRAIN]
    plays = play_events(dataset, rows, None)[0]
    longest = rows[advantages_of_batch(plays, np.zeros(len(rows), bool)) > 0]
    # The same kind of exposures, rewarded by raw play time. Users' events stand together in the file and all count.
    positions = np.searchsorted(run.sequences.event_rows, longest)
    users = np.searchsorted(run.sequences.offsets, positions, side="right") - 1
    known = positions > run.sequences.offsets[users]
    positions, users, longest = positions[known], users[known], longest[known]
    items, ones = run.sequences.item_index[positions], np.ones(len(positions), np.int8)
    raw = Exposures(run.sequences, None, longest, users, items, ones, positions, positions)

    codes = np.stack([np.arange(ITEMS) % 5, np.arange(ITEMS) // 5], axis=1).astype(np.int32)
    ids = SemanticIds(pl.Series(range(ITEMS)), codes, codes, [5, 8])
    asked, every = aware.prompts(np.arange(0, len(aware), 4)), torch.arange(ITEMS)
    shares = {}
    for name, exposures in (("start", None), ("aware", aware), ("raw", raw)):
        torch.manual_seed(0)
        policy = Generator(run.config.generator, ids)
        if exposures is not None:
            more = {"exposures": {"weight": 1.0, "batch_size": 32}, "steps": 60, "next_code": {"weight": 0.0}}
            config, windows = settings(**{**EXPOSURES_ALONE, **more}), generator_windows(run)
            AlignLoop(policy, windows, asked, None, config, tmp_path / name, seed=3, exposures=exposures).run()
        with torch.no_grad():
            batch = batch_of(policy.eval(), asked)
            found = item_log_probabilities(policy, batch, every.expand(len(asked), -1)).exp()
        shares[name] = float(found[:, ITEMS // 2 :].sum(dim=1).mean())
    assert len(aware) > 100  # so the share of long ones among them has a standard deviation of 0.05 at most
    assert abs(shares["start"] - 0.5) < 0.1
    assert shares["aware"] < shares["start"] + 0.1
    assert shares["raw"] > shares["start"] + 0.35


def test_a_batch_of_exposures_is_scored_like_single_ones() -> None:
    policy, exposures = policy_of("encoder_decoder"), likes_and_dislikes()
    expected = log_probabilities_of(policy, exposures)
    numbers = np.array([40, 3, 77, 12])
    liked = replace(exposures, advantages_X=np.ones(len(exposures), np.int8))
    _, figures = exposure_loss(policy, liked, numbers, False)
    assert float(figures["exposure_log_probability/rewarded"]) == pytest.approx(expected[numbers].mean(), abs=1e-5)
    assert "exposure_log_probability/disliked" not in figures


def test_contradictory_settings_of_exposures_are_refused() -> None:
    none: dict[str, Any] = {"rewards": {"p_score": 0.0}}
    assert not AlignConfig(**EXPOSURES_ALONE).rewards.used
    for changed, message in (
        ({"objective": "gbpo"}, "give p_score, hit or rank one, or learn from exposures"),
        ({"exposures": {"weight": 1.0}}, "set align.objective: gbpo"),
        ({**EXPOSURES_ALONE, "format": {"weight": 1.0}, "rollouts": {"method": "free"}}, "about generations"),
        ({**EXPOSURES_ALONE, "scenario": {"column": "kind", "value": "k0"}}, "about generations"),
    ):
        with pytest.raises(UserError, match=message):
            AlignConfig(**{**none, **changed})
    with pytest.raises(ValueError, match="rewards or exposures"):
        make_loop(Path("unused"), policy_of("lazy"), AlignConfig(**EXPOSURES_ALONE), exposures=None)
