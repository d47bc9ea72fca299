"""Rewards by rule: what they give by hand, what they give to generations that are no item, and what they refuse."""

from pathlib import Path

import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reward_cases import make_prompts, make_rollouts

from onerec.data.contract import DatasetSpec, EventColumns, ItemColumns, write_dataset
from onerec.errors import UserError
from rl.rewards.combined import CombinedReward, combine
from rl.rewards.format import FormatReward, first_by
from rl.rewards.hit import HitReward
from rl.rewards.rank import RankReward, rank_penalties
from rl.rewards.scenario import ScenarioReward, class_of_items


def test_a_hit_is_the_target_itself() -> None:
    rewards = HitReward()(make_prompts([7, 3]), make_rollouts([[7, 3, -1], [3, 3, 7]]))
    assert rewards.tolist() == [[1, 0, 0], [1, 1, 0]]
    assert rewards.dtype == torch.float32


def test_penalties_fall_off_and_sum_to_minus_one() -> None:
    # of three: 1, 1 / log2(3) = 0.63093, 1 / 2, in sum 2.13093
    torch.testing.assert_close(rank_penalties(3), -torch.tensor([0.469279, 0.296082, 0.234639]), atol=1e-5, rtol=0)
    assert float(rank_penalties(16).sum()) == pytest.approx(-1, abs=1e-6)


def test_misses_above_the_target_cost_most_and_groups_without_it_cost_nothing() -> None:
    log_probabilities = [[-3.0, -1.0, -2.0], [-1.0, -2.0, -3.0]]
    rewards = RankReward()(make_prompts([5, 5]), make_rollouts([[4, 5, -1], [1, 2, 3]], log_probabilities))
    first, second, third = rank_penalties(3).tolist()
    assert rewards[0].tolist() == [third, 0.0, second]
    assert rewards[1].tolist() == [0.0, 0.0, 0.0]
    assert first < second < third < 0


def test_of_a_beam_the_rank_is_the_place() -> None:
    log_probabilities = [[-1.0, -1.0, -4.0]]  # equals stay in their order
    rewards = RankReward()(make_prompts([9]), make_rollouts([[1, 2, 9]], log_probabilities))
    assert rewards[0].tolist() == [*rank_penalties(3)[:2].tolist(), 0.0]


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 1000))
def test_format_counts_k_of_a_group_and_never_an_illegal_one(group: int, chosen: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    items = torch.randint(-1, 3, (5, group), generator=draw)
    reward = FormatReward(chosen, "random", draw)
    rewards = reward(make_prompts([0] * 5), make_rollouts(items.tolist()))
    assert set(rewards.unique().tolist()) <= {0.0, 1.0}
    assert (rewards[items < 0] == 0).all()
    assert (rewards.sum(dim=1) <= chosen).all()
    legal = make_rollouts(items.clamp(min=0).tolist())
    assert (reward(make_prompts([0] * 5), legal).sum(dim=1) == min(chosen, group)).all()


def test_every_place_of_a_group_is_chosen_equally_often() -> None:
    rewards = FormatReward(2, "random", torch.Generator().manual_seed(0))(
        make_prompts([0] * 6000), make_rollouts([[1, 2, 3, 4]] * 6000)
    )
    # 1/2 each; the standard error of a share is .0065
    torch.testing.assert_close(rewards.mean(dim=0), torch.full((4,), 0.5), atol=0.03, rtol=0)


def test_the_most_probable_can_be_chosen_instead() -> None:
    rollouts = make_rollouts([[1, -1, 3, 4]], [[-3.0, -1.0, -2.0, -4.0]])
    assert FormatReward(2, "most_probable")(make_prompts([0]), rollouts).tolist() == [[0, 0, 1, 0]]


def test_of_equals_the_first_are_chosen() -> None:
    assert first_by(torch.tensor([[1.0, 2.0, 2.0, 2.0]]), 2).tolist() == [[False, True, True, False]]


def test_at_least_one_generation_must_count() -> None:
    with pytest.raises(ValueError, match="at least one"):
        FormatReward(0)


class Fixed:
    """Stands for a reward that is known."""

    def __init__(self, values: list[list[float]]) -> None:
        self.values = torch.tensor(values)

    def __call__(self, prompts: object, rollouts: object) -> torch.Tensor:
        return self.values


IN_CLASS = torch.tensor([False, True, True, False])


@pytest.mark.parametrize(("most", "held_down"), [(0.4, True), (0.5, False), (0.6, False)])
def test_a_class_is_held_down_above_its_share_only(most: float, held_down: bool) -> None:
    """Of four legal generations two are of the class; the fifth is none."""
    values = [[1.0, 2.0, -3.0, 4.0, 5.0]]
    reward = ScenarioReward(Fixed(values), IN_CLASS, 0.5, most)
    rewards = reward(make_prompts([0]), make_rollouts([[0, 1, 2, 3, -1]]))
    assert rewards.tolist() == ([[1.0, 1.0, -3.0, 4.0, 5.0]] if held_down else values)


def test_without_any_legal_generation_nothing_is_held_down() -> None:
    reward = ScenarioReward(Fixed([[1.0, 2.0]]), IN_CLASS, 0.5, 0.0)
    assert reward(make_prompts([0]), make_rollouts([[-1, -1]])).tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize(("factor", "most"), [(1.0, 0.5), (-0.1, 0.5), (0.5, 1.5)])
def test_a_factor_that_would_not_hold_down_is_refused(factor: float, most: float) -> None:
    with pytest.raises(ValueError, match="a factor"):
        ScenarioReward(Fixed([[0.0]]), IN_CLASS, factor, most)


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


def test_rewards_add_up_by_their_weights() -> None:
    known = {"hit": HitReward(), "rank": RankReward(), "unused": Fixed([[9.0, 9.0]])}
    combined = combine(known, {"hit": 2.0, "rank": -1.0})
    asked = (make_prompts([5]), make_rollouts([[4, 5]], [[-1.0, -2.0]]))
    parts = combined.parts(*asked)
    assert set(parts) == {"hit", "rank"}
    torch.testing.assert_close(combined(*asked), 2 * parts["hit"] - parts["rank"])
    assert isinstance(combined, CombinedReward)


def test_unknown_rewards_and_none_at_all_are_refused() -> None:
    with pytest.raises(UserError, match='no reward "hits"'):
        combine({"hit": HitReward()}, {"hits": 1.0})
    with pytest.raises(UserError, match="no reward is named"):
        combine({"hit": HitReward()}, {})
