"""Rewards by rule: values by hand, generations that are no item, and the weighted sum."""

from pathlib import Path

import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reward_cases import make_prompts, make_rollouts

from onerec.data.contract import DatasetSpec, EventColumns, ItemColumns, write_dataset
from onerec.errors import UserError
from rl.alignment.rewards import AlignRewards
from rl.config.alignment import ScenarioConfig
from rl.rewards.format import format_advantages, largest
from rl.rewards.hit import hit_reward
from rl.rewards.rank import rank_penalties, rank_reward
from rl.rewards.scenario import class_of_items, hold_class_down


def test_a_hit_is_the_target_itself() -> None:
    rewards = hit_reward(make_prompts([7, 3]), make_rollouts([[7, 3, -1], [3, 3, 7]]))
    assert rewards.tolist() == [[1, 0, 0], [1, 1, 0]]
    assert rewards.dtype == torch.float32


def test_penalties_shrink_with_the_rank_and_sum_to_minus_one() -> None:
    # of three: 1, 1 / log2(3) = 0.63093, 1 / 2, in sum 2.13093
    torch.testing.assert_close(rank_penalties(3), -torch.tensor([0.469279, 0.296082, 0.234639]), atol=1e-5, rtol=0)
    assert float(rank_penalties(16).sum()) == pytest.approx(-1, abs=1e-6)


def test_misses_above_the_target_cost_most_and_groups_without_it_cost_nothing() -> None:
    log_probabilities = [[-3.0, -1.0, -2.0], [-1.0, -2.0, -3.0]]
    rewards = rank_reward(make_prompts([5, 5]), make_rollouts([[4, 5, -1], [1, 2, 3]], log_probabilities))
    first, second, third = rank_penalties(3).tolist()
    assert rewards[0].tolist() == [third, 0.0, second]
    assert rewards[1].tolist() == [0.0, 0.0, 0.0]
    assert first < second < third < 0
    # Equals stay in their order, so that of a beam the rank is the place.
    rewards = rank_reward(make_prompts([9]), make_rollouts([[1, 2, 9]], [[-1.0, -1.0, -4.0]]))
    assert rewards[0].tolist() == [*rank_penalties(3)[:2].tolist(), 0.0]


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 1000))
def test_the_format_reward_counts_k_of_a_group_and_never_an_illegal_one(group: int, chosen: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    items = torch.randint(-1, 3, (5, group), generator=draw)
    torch.manual_seed(seed)
    advantages = format_advantages(make_rollouts(items.tolist()), chosen, "random")
    assert set(advantages.unique().tolist()) <= {0.0, 1.0}
    assert (advantages[items < 0] == 0).all()
    assert (advantages.sum(dim=1) <= chosen).all()
    legal = make_rollouts(items.clamp(min=0).tolist())
    assert (format_advantages(legal, chosen, "random").sum(dim=1) == min(chosen, group)).all()


def test_format_chooses_every_place_equally_often_or_the_most_probable_and_of_equals_the_first() -> None:
    torch.manual_seed(0)
    advantages = format_advantages(make_rollouts([[1, 2, 3, 4]] * 6000), 2, "random")
    # 1/2 each; the standard error of a share is .0065
    torch.testing.assert_close(advantages.mean(dim=0), torch.full((4,), 0.5), atol=0.03, rtol=0)
    rollouts = make_rollouts([[1, -1, 3, 4]], [[-3.0, -1.0, -2.0, -4.0]])
    assert format_advantages(rollouts, 2, "most_probable").tolist() == [[0, 0, 1, 0]]
    assert largest(torch.tensor([[1.0, 2.0, 2.0, 2.0]]), 2).tolist() == [[False, True, True, False]]


IN_CLASS = torch.tensor([False, True, True, False])


@pytest.mark.parametrize(("most", "held_down"), [(0.4, True), (0.5, False), (0.6, False)])
def test_a_class_is_held_down_only_above_its_share(most: float, held_down: bool) -> None:
    """Of four legal generations two are of the class; the fifth is none."""
    values = [[1.0, 2.0, -3.0, 4.0, 5.0]]
    rollouts = make_rollouts([[0, 1, 2, 3, -1]])
    rewards = hold_class_down(torch.tensor(values), rollouts, IN_CLASS, factor=0.5, most=most)
    assert rewards.tolist() == ([[1.0, 1.0, -3.0, 4.0, 5.0]] if held_down else values)
    # Without any legal generation nothing is.
    rewards = torch.tensor([[1.0, 2.0]])
    assert hold_class_down(rewards, make_rollouts([[-1, -1]]), IN_CLASS, factor=0.5, most=0.0) is rewards


def test_a_class_is_named_by_a_column_and_a_value(tmp_path: Path) -> None:
    events = pl.DataFrame({"user": ["a", "a"], "item": [1, 2]})
    items = pl.DataFrame({"item": [1, 2, 3, 4], "tag": ["1,12", "12", "112", None]})
    spec = DatasetSpec(
        name="tags", events=EventColumns(user="user", item="item"), items=ItemColumns(id="item", categorical=["tag"])
    )
    dataset = write_dataset(tmp_path / "tags", spec, events, items)
    assert class_of_items(dataset, "tag", "12").tolist() == [True, True, False, False]
    with pytest.raises(UserError, match='no item has the value "2"'):
        class_of_items(dataset, "tag", "2")
    with pytest.raises(UserError, match="tag"):
        class_of_items(dataset, "tags", "12")


def test_rewards_are_summed_by_their_weights() -> None:
    rewards = {"hit": hit_reward, "rank": rank_reward, "nowhere": lambda *_: torch.tensor([[torch.nan, 1.0]])}
    asked = (make_prompts([5]), make_rollouts([[4, 5]], [[-1.0, -2.0]]))
    total, parts = AlignRewards(rewards, {"hit": 2.0, "rank": -1.0})(*asked)
    assert set(parts) == {"hit", "rank"}
    torch.testing.assert_close(total, 2 * hit_reward(*asked) - rank_reward(*asked))
    held = ScenarioConfig(column="", value="", factor=0.25, most=0.0)
    total, _ = AlignRewards(rewards, {"hit": 2.0}, held, torch.arange(6) == 5)(*asked)
    assert total.tolist() == [[0.0, 0.5]]
    with pytest.raises(UserError, match='reward "nowhere" is not finite'):
        AlignRewards(rewards, {"hit": 1.0, "nowhere": 1.0})(*asked)
