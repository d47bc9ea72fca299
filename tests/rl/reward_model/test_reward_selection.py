"""Selection by the reward model: the weight's effect, and its fit on held-out users."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from request_cases import requests_of
from reward_data import quick_run

from onerec.data.candidates import Candidates
from onerec.data.requests import Requests
from onerec.data.split import TRAIN, VALID
from onerec.errors import UserError
from onerec.recommenders.cascade import Cascade
from onerec.run.run import Run
from onerec.scorers.mixture import Mixture
from onerec.scorers.preference_score import PreferenceScore
from rl.reward_model.selection import WEIGHTS, RewardSelectionStage, fit_weight
from rl.reward_model.stage import RewardStage, learnt_and_judged, validating_users

SETTINGS = (
    "generator.pathways.stream=all",
    "generator.pathways.event_features=all",
    "align.judge_half=null",
    "reward.validation_share=0.3",
    "reward.selection.beam_width=20",
)


class Beam:
    """Stands for a generator: its candidates are items 0 .. k - 1, the lower the likelier; odd requests get two fewer."""

    def recommend(self, requests: Requests, k: int, *, exclude_seen: bool) -> Candidates:
        items = np.tile(np.arange(k, dtype=np.int32), (len(requests), 1))
        scores = -items.astype(np.float32)
        items[1::2, -2:], scores[1::2, -2:] = -1, -np.inf
        return Candidates(items, scores)


class Liking:
    """Stands for a reward model that likes items by their second digit."""

    def score(self, requests: Requests, candidates: Candidates) -> np.ndarray:
        return np.where(candidates.found_CK, np.log((candidates.items_CK % 10 + 1) / 20), -np.inf)


def asked(targets: np.ndarray) -> Requests:
    return requests_of([[0]] * len(targets), targets)


def selecting(weight: float) -> Cascade:
    return Cascade(Beam(), 30, Mixture(Liking(), weight))


def test_with_weight_zero_the_beam_is_listed_with_one_the_score_decides_and_no_missing_candidate_ever() -> None:
    requests = asked(np.zeros(2))
    assert selecting(0.0).recommend(requests, 4, exclude_seen=False).items_CK.tolist() == [[0, 1, 2, 3]] * 2
    lists = selecting(1.0).recommend(requests, 4, exclude_seen=False)
    assert lists.items_CK.tolist() == [[9, 19, 29, 8], [9, 19, 8, 18]]  # the second user's beam ends at 27
    np.testing.assert_allclose(lists.scores_CK[0], np.log([0.5, 0.5, 0.5, 0.45]), rtol=1e-6)
    # Between them both count.
    lists = selecting(0.9).recommend(asked(np.zeros(1)), 30, exclude_seen=False)
    expected = 0.1 * -np.arange(30) + 0.9 * np.log((np.arange(30) % 10 + 1) / 20)
    assert lists.items_CK[0].tolist() == np.argsort(-expected, kind="stable").tolist()
    np.testing.assert_allclose(lists.scores_CK[0], np.sort(expected)[::-1], rtol=1e-5)
    lists = selecting(1.0).recommend(asked(np.zeros(2)), 40, exclude_seen=False)
    assert lists.found_CK.sum(axis=1).tolist() == [30, 28]
    assert np.isneginf(lists.scores_CK[~lists.found_CK]).all()
    assert np.isfinite(lists.scores_CK[lists.found_CK]).all()


@pytest.mark.parametrize("expected", [1.0, 0.0])
def test_the_fitted_weight_follows_what_users_take(expected: float) -> None:
    """Users who take items that end in 9 wherever they stand, and users who take what stands first."""
    targets = np.random.default_rng(0).integers(0, 3, 300) * 10 + 9
    targets[1::2] = np.minimum(targets[1::2], 19)
    requests = asked(targets if expected else np.zeros(300))
    candidates = Beam().recommend(requests, 30, exclude_seen=False)
    weight, tried = fit_weight(candidates, Liking(), requests)  # type: ignore[arg-type]
    assert [row["weight"] for row in tried] == list(WEIGHTS)
    assert (WEIGHTS[0], WEIGHTS[-1]) == (0, 1) and list(WEIGHTS) == sorted(set(WEIGHTS))
    figures = {row["weight"]: row["ndcg@10"] for row in tried}
    assert figures[weight] == max(figures.values())
    assert abs(weight - expected) < 0.1
    assert expected or figures[0.0] == 1.0


@pytest.fixture(scope="module")
def run(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A generator that reads all impressions and a reward model on the planted log."""
    run = quick_run(tmp_path_factory.mktemp("selection"), planted, *SETTINGS)
    run.make("generator")
    run.make("reward")
    return run


def selection_of(run: Run) -> tuple[RewardSelectionStage, Mixture]:
    """Selection by the reward model of all users, and the mixture that it ranks by."""
    stage = run.stages["reward/selection"]
    assert isinstance(stage, RewardSelectionStage)
    reranker = stage.load(run).reranker
    assert isinstance(reranker, Mixture)
    return stage, reranker


def test_a_run_ranks_its_generators_candidates_by_its_reward_model(run: Run) -> None:
    stage, mixture = selection_of(run)
    assert isinstance(mixture.scorer, PreferenceScore)
    cascade, requests = replace(stage.load(run), reranker=replace(mixture, weight=1.0)), run.requests("test")
    assert cascade.candidates == 20
    beam = cascade.recommender.recommend(requests, 20, exclude_seen=False).items_CK
    items = cascade.recommend(requests, 5, exclude_seen=False).items_CK
    scores = mixture.scorer.p_scores(requests, beam)
    for request in range(len(requests)):
        assert set(items[request]) <= set(beam[request])
        listed = [scores[request][beam[request] == item][0] for item in items[request]]
        np.testing.assert_allclose(listed, np.sort(scores[request])[::-1][:5], rtol=1e-4)


def test_the_weight_is_fitted_on_held_out_users_and_kept(run: Run) -> None:
    stage, mixture = selection_of(run)
    assert isinstance(mixture.scorer, PreferenceScore)
    path = run.folder / "reward" / "selection" / "weight.json"
    fitted = json.loads(path.read_text(encoding="utf-8"))
    assert mixture.weight == fitted["weight"]
    log, section = mixture.scorer.log, RewardStage(None).section(run)
    held_out = validating_users(log, section)
    assert fitted["cases"] == held_out[run.requests("valid").users_C].sum()
    learnt, _ = learnt_and_judged(log, section)
    assert not (learnt & (log.parts_E == VALID) & held_out[log.users()]).any()
    assert (learnt & (log.parts_E == TRAIN) & held_out[log.users()]).any()
    before = path.stat().st_mtime_ns
    assert stage.weight(run) == fitted["weight"]
    assert path.stat().st_mtime_ns == before


def test_a_weight_of_the_config_is_used(run: Run, planted: Path, tmp_path: Path) -> None:
    given = quick_run(run.folder.parent, planted, *SETTINGS, "reward.selection.weight=0.7")
    assert selection_of(given)[1].weight == 0.7
    other = quick_run(tmp_path, planted, *SETTINGS)
    other.make("generator")
    with pytest.raises(UserError, match="onerec reward"):
        selection_of(other)
