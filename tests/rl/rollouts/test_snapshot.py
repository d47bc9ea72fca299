"""The behaviour policy changes only when a refresh is due."""

import pytest
import torch
from request_cases import requests_of
from rollout_cases import small_generator

from onerec.model.generator import Generator
from rl.config.rollouts import RolloutConfig
from rl.rollouts.rollouts import generate_groups
from rl.rollouts.snapshot import Snapshot


def nudge(model: Generator) -> None:
    for parameter in model.parameters():
        parameter.data.add_(0.01)


def weight(model: Generator) -> float:
    return float(model.decoder.level_embeddings.detach()[0, 0])


@pytest.mark.parametrize("refresh_every", [1, 3])
def test_weights_are_those_of_the_last_multiple(refresh_every: int) -> None:
    policy = small_generator(0)
    with pytest.raises(ValueError, match="at least 1"):
        Snapshot(policy, 0)
    snapshot, at_step = Snapshot(policy, refresh_every), []
    for step in range(8):
        at_step.append(weight(policy))
        for _ in range(2):  # asking twice changes nothing
            assert weight(snapshot.generator_at(step)) == at_step[step - step % refresh_every]
        nudge(policy)


def test_training_the_policy_leaves_the_snapshot_alone() -> None:
    policy = small_generator(1).train()
    snapshot = Snapshot(policy, 100)
    behaviour = snapshot.generator_at(0)
    assert behaviour.trie is policy.trie
    assert policy.training and not behaviour.training
    assert not any(parameter.requires_grad for parameter in behaviour.parameters())
    asked = requests_of([[1, 2], [3]]), RolloutConfig(group_size=5), torch.Generator()
    before = generate_groups(snapshot.generator_at(1), *asked)
    nudge(policy)
    after = generate_groups(snapshot.generator_at(1), *asked)
    assert torch.equal(before.log_probabilities_BGL, after.log_probabilities_BGL)
    assert not torch.equal(before.log_probabilities_BGL, generate_groups(policy, *asked).log_probabilities_BGL)


def test_a_resumed_run_goes_on_with_the_same_behaviour_policy() -> None:
    policy = small_generator(2)
    snapshot = Snapshot(policy, 3)
    for step in range(5):
        snapshot.generator_at(step)
        nudge(policy)
    resumed = Snapshot(policy, 3)
    resumed.load_state_dict(snapshot.state_dict())
    assert weight(resumed.generator_at(5)) == weight(snapshot.generator_at(5)) != weight(policy)
    assert weight(resumed.generator_at(6)) == weight(snapshot.generator_at(6)) == weight(policy)
