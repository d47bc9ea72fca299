"""Selection by the reward model: lists come from the beam, the weight does what it says and is fitted on what was not learnt."""

import json
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from reward_data import planted_events, quick_run, write_planted

from onerec.data.split import TRAIN, VALID, Cases
from onerec.recommenders.generator import GeneratorRecommender
from onerec.errors import UserError
from onerec.run.run import Run
from rl.rollouts.prompts import Prompts
from rl.reward_model.stage import learnt_and_judged, reward_section, train_reward_model, validating_users
from rl.reward_model.selection import WEIGHTS, RewardSelectingRecommender, fit_weight, load_reward_selection, mixture


@dataclass
class Beam(GeneratorRecommender):
    """Stands for a generator: proposes items 0 .. beam_width - 1, the lower the likelier; for odd users two fewer."""

    def recommend(
        self,
        history_items: np.ndarray,
        history_offsets: np.ndarray,
        k: int,
        exclude_seen: bool,
        readings: object = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        count = len(history_offsets) - 1
        items = np.tile(np.arange(k, dtype=np.int32), (count, 1))
        scores = -items.astype(np.float32)
        items[1::2, -2:], scores[1::2, -2:] = -1, -np.inf
        return items, scores


class Liking:
    """Stands for a reward model that likes items by their second digit."""

    def score(self, prompts: object, items_BX: torch.Tensor) -> torch.Tensor:
        return (items_BX % 10 + 1) / 20


def cases_that_take(targets: np.ndarray) -> Cases:
    count = len(targets)
    nobody = np.zeros(count, np.int32)
    return Cases(np.arange(count, dtype=np.int32), np.arange(count + 1), nobody, targets.astype(np.int32))


def selecting(weight: float) -> RewardSelectingRecommender:
    return RewardSelectingRecommender(Beam(None, 30), Liking(), weight)  # type: ignore[arg-type]


def test_with_weight_zero_the_beam_is_listed_and_with_one_the_score_decides() -> None:
    cases = cases_that_take(np.zeros(2))
    asked = (cases.history_items, cases.history_offsets, 4, False)
    assert selecting(0.0).recommend(*asked)[0].tolist() == [[0, 1, 2, 3]] * 2
    items, scores = selecting(1.0).recommend(*asked)
    assert items.tolist() == [[9, 19, 29, 8], [9, 19, 8, 18]]  # the second user's beam ends at 27
    np.testing.assert_allclose(scores[0], np.log([0.5, 0.5, 0.5, 0.45]), rtol=1e-6)


def test_between_them_both_count() -> None:
    cases = cases_that_take(np.zeros(1))
    items, scores = selecting(0.9).recommend(cases.history_items, cases.history_offsets, 30, False)
    expected = 0.1 * -np.arange(30) + 0.9 * np.log((np.arange(30) % 10 + 1) / 20)
    assert items[0].tolist() == np.argsort(-expected, kind="stable").tolist()
    np.testing.assert_allclose(scores[0], np.sort(expected)[::-1], rtol=1e-5)


def test_what_was_not_proposed_is_never_listed() -> None:
    cases = cases_that_take(np.zeros(2))
    items, scores = selecting(1.0).recommend(cases.history_items, cases.history_offsets, 40, False)
    assert (items[0] >= 0).sum() == 30
    assert (items[1] >= 0).sum() == 28
    assert np.isneginf(scores[items < 0]).all()
    assert np.isfinite(scores[items >= 0]).all()
    assert np.isneginf(mixture(np.array([[-np.inf]]), np.array([[-np.inf]]), 1.0)).all()


@pytest.mark.parametrize(("digits", "expected"), [((9,), 1.0), ((0, 1, 2), 0.0)])
def test_the_weight_is_what_users_go_by(digits: tuple[int, ...], expected: float) -> None:
    """Users who take items that end in 9 wherever they stand, and users who take what stands first."""
    draw = np.random.default_rng(0)
    if digits == (9,):
        targets = draw.integers(0, 3, 300) * 10 + 9
        targets[1::2] = np.minimum(targets[1::2], 19)
    else:
        targets = np.zeros(300)
    weight, tried = fit_weight(selecting(0.5), Prompts(cases_that_take(targets)), exclude_seen=False)
    assert [row["weight"] for row in tried] == list(WEIGHTS)
    figures = {row["weight"]: row["ndcg@10"] for row in tried}
    assert figures[weight] == max(figures.values())
    assert abs(weight - expected) < 0.1
    if expected == 0:
        assert figures[0.0] == 1.0


def test_weights_are_convex_and_in_order() -> None:
    assert WEIGHTS[0] == 0
    assert WEIGHTS[-1] == 1
    assert all(first < second for first, second in pairwise(WEIGHTS))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A generator that reads all impressions and a reward model on the planted log."""
    folder = tmp_path_factory.mktemp("selection")
    write_planted(folder / "data", planted_events(150))
    pathways = ("generator.pathways.stream=all", "generator.pathways.event_features=all")
    run = quick_run(folder, folder / "data", *pathways, "reward.validation_share=0.3", "reward.selection.beam_width=20")
    run.tokenize()
    run.train_generator()
    train_reward_model(run, reward_section(run))
    return run


def test_a_run_lists_what_its_reward_model_likes_of_what_its_generator_proposes(run: Run) -> None:
    section = reward_section(run)
    recommender = load_reward_selection(run, section)
    cases = run.cases("test")
    readings = run.readings(cases)
    beam = recommender.generator.recommend(cases.history_items, cases.history_offsets, 20, False, readings)[0]
    items, _ = replace(recommender, weight=1.0).recommend(
        cases.history_items, cases.history_offsets, 5, False, readings
    )
    prompts = Prompts(cases, readings)
    scores = recommender.score.score(prompts, torch.from_numpy(beam).long()).numpy()
    for case in range(len(cases)):
        assert set(items[case]) <= set(beam[case])
        listed = [scores[case][beam[case] == item][0] for item in items[case]]
        np.testing.assert_allclose(listed, np.sort(scores[case])[::-1][:5], rtol=1e-4)
    by_prompt, _ = replace(recommender, weight=1.0).recommend_prompts(prompts, 5, False)
    np.testing.assert_array_equal(by_prompt, items)


def test_the_weight_is_fitted_on_users_that_were_not_learnt_and_kept(run: Run) -> None:
    section = reward_section(run)
    recommender = load_reward_selection(run, section)
    path = run.folder / "reward" / "selection" / "weight.json"
    fitted = json.loads(path.read_text(encoding="utf-8"))
    assert recommender.weight == fitted["weight"]
    log = recommender.score.log
    held_out = validating_users(log, section)
    assert fitted["cases"] == held_out[run.cases("valid").user_index].sum()
    learnt, _ = learnt_and_judged(log, section)
    assert not (learnt & (log.parts_E == VALID) & held_out[log.users()]).any()
    assert (learnt & (log.parts_E == TRAIN) & held_out[log.users()]).any()
    before = path.stat().st_mtime_ns
    assert load_reward_selection(run, section).weight == fitted["weight"]
    assert path.stat().st_mtime_ns == before


def test_a_weight_that_is_given_is_taken(run: Run, tmp_path: Path) -> None:
    section = reward_section(run)
    given = section.model_copy(update={"selection": section.selection.model_copy(update={"weight": 0.7})})
    assert load_reward_selection(run, given).weight == 0.7
    other = quick_run(tmp_path, run.config.dataset.folder)
    other.tokenize()
    other.train_generator()
    with pytest.raises(UserError, match="onerec reward"):
        load_reward_selection(other, reward_section(other))
