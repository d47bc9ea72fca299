"""The learned reward over prompts: how it reads them, what generations that are no item get, and that order does not matter."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from reward_cases import make_rollouts
from reward_data import ITEMS, SIGNALS, planted_events, write_planted

from onerec.data.split import evaluation_cases, split_sequences
from onerec.scorers.preference_config import RewardConfig
from onerec.data.impressions import fit_impression_vocabulary, read_impressions
from onerec.scorers.preference_model import PreferenceModel
from rl.rollouts.prompts import Prompts
from onerec.scorers.preference_score import PreferenceScore


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> tuple[PreferenceScore, Prompts]:
    """An untrained model with heads that say something, and prompts of several lengths."""
    dataset = write_planted(tmp_path_factory.mktemp("planted") / "data", planted_events(30))
    sequences = split_sequences(dataset, positive="long")
    vocabulary = fit_impression_vocabulary(dataset, sequences, None)
    log = read_impressions(dataset, sequences, None, SIGNALS, vocabulary)
    torch.manual_seed(0)
    rates = torch.tensor([0.6, 0.5, 0.2])
    model = PreferenceModel(RewardConfig(), SIGNALS, vocabulary, torch.randn(ITEMS, 4), rates, torch.ones(ITEMS))
    with torch.no_grad():
        model.heads.normal_()
        model.fusion_head.weight.normal_()
    return PreferenceScore(model, log, batch_size=7), Prompts(evaluation_cases(sequences, "test", "all"))


def test_scores_are_probabilities_of_any_item_for_any_prompt(asked: tuple[PreferenceScore, Prompts]) -> None:
    score, prompts = asked
    everything = torch.arange(ITEMS).expand(len(prompts), -1)
    scores, chances = score.score(prompts, everything), score.probabilities(prompts, everything)
    assert scores.shape == (len(prompts), ITEMS)
    assert chances.shape == (len(prompts), ITEMS, 3)
    assert ((scores > 0) & (scores < 1)).all()
    assert ((chances > 0) & (chances < 1)).all()
    assert scores.std(dim=1).min() > 1e-4  # items differ
    some = torch.tensor([[5, 3]]).expand(len(prompts), -1)
    torch.testing.assert_close(score.score(prompts, some), scores[:, [5, 3]])


def test_what_is_no_item_gets_zero_which_is_below_everything(asked: tuple[PreferenceScore, Prompts]) -> None:
    score, prompts = asked
    items = [[4, -1, 7]] * len(prompts)
    rewards = score(prompts, make_rollouts(items))
    assert rewards.dtype == torch.float32
    assert rewards.isfinite().all()
    assert (rewards[:, 1] == 0).all()
    expected = score.score(prompts, torch.tensor([[4, 7]]).expand(len(prompts), -1))
    torch.testing.assert_close(rewards[:, [0, 2]], expected)
    assert (expected > 0).all()


def test_the_size_of_batches_and_the_order_of_prompts_change_nothing(asked: tuple[PreferenceScore, Prompts]) -> None:
    score, prompts = asked
    items = torch.randint(ITEMS, (len(prompts), 4), generator=torch.Generator().manual_seed(0))
    expected = score.score(prompts, items)
    together = replace(score, batch_size=1000).score(prompts, items)
    torch.testing.assert_close(together, expected, atol=1e-5, rtol=1e-4)
    order = np.random.default_rng(0).permutation(len(prompts))
    turned = score.score(Prompts(prompts.cases.pick(order)), items[torch.from_numpy(order)])
    torch.testing.assert_close(turned, expected[torch.from_numpy(order)], atol=1e-5, rtol=1e-4)


def test_a_prompt_that_names_nothing_is_read_by_its_items(asked: tuple[PreferenceScore, Prompts]) -> None:
    score, prompts = asked
    items = torch.tensor([[1, 2, 3]]).expand(len(prompts), -1)
    nameless = Prompts(replace(prompts.cases, target_event=np.zeros(0, np.int64)))
    found = score.score(nameless, items)
    assert found.isfinite().all()
    assert (found - score.score(prompts, items)).abs().max() > 1e-4
    other = np.where(prompts.cases.history_items == 0, 1, prompts.cases.history_items - 1)
    changed = Prompts(replace(nameless.cases, history_items=other))
    assert (score.score(changed, items) - found).abs().max() > 1e-4


def test_the_target_and_what_follows_are_not_read(asked: tuple[PreferenceScore, Prompts], tmp_path: Path) -> None:
    score, prompts = asked
    ends = score.log.histories_of(prompts)
    assert ends is not None
    items = torch.tensor([[1, 2, 3]])
    for case in range(0, len(prompts), 9):
        stream = score.log.stream
        features, numbers = stream.features_EF.copy(), stream.item_index.copy()
        features[ends[1][case] :], numbers[ends[1][case] :] = 0, 0
        blind = replace(score.log, stream=replace(stream, features_EF=features, item_index=numbers))
        one = Prompts(prompts.cases.pick(np.array([case])))
        assert torch.equal(replace(score, log=blind).score(one, items), score.score(one, items))
