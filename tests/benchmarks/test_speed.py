"""The rivals of the speed benchmarks do the same work: equal beams, about equal parameters; and a difference is noticed."""

import pytest
import torch

from benchmarks.decoding import check_same, stepped_beams, walked_states
from benchmarks.speed.random_models import random_batch, random_generator
from benchmarks.speed.timing import in_turns, ratios, spread
from benchmarks.training import our_step, t5_like, t5_step
from onerec.decode.beam_search import beam_search
from onerec.model.bound_generator import bind
from onerec.model.counting import count_parameters


@pytest.mark.parametrize("beam_width", [4, 30])  # the second is wider than the first level
@torch.inference_mode()
def test_hugging_face_finds_the_same_items_with_the_same_scores(beam_width: int) -> None:
    from benchmarks.speed.hugging_face_beams import HuggingFaceBeams

    model = random_generator(300, (12, 9, 10), width=16, item_head=False)
    batch = random_batch(300, users=3, length=7)
    ours = beam_search(bind(model, batch), model.trie, beam_width=beam_width)
    theirs = HuggingFaceBeams(model).eval().beams(batch, beam_width)
    check_same(model, ours.items_BK, ours.log_probabilities_BK, *theirs)
    with pytest.raises(AssertionError, match="scores"):
        check_same(model, ours.items_BK, ours.log_probabilities_BK - 0.01, *theirs)
    others = (ours.items_BK + 1) % 300
    with pytest.raises(AssertionError, match="only one"):
        check_same(model, others, ours.log_probabilities_BK, *theirs)


def test_the_item_head_is_refused() -> None:
    from benchmarks.speed.hugging_face_beams import HuggingFaceBeams

    with pytest.raises(ValueError, match="item_head"):
        HuggingFaceBeams(random_generator(50, (5, 5, 5), width=16, item_head=True))


@torch.inference_mode()
def test_states_that_a_search_walks_are_noted_and_the_trie_is_left_as_it_was() -> None:
    """Six beams a user below the root; at the last level only those that more than one item continues."""
    model, batch = random_generator(300, (12, 9, 10), width=16, item_head=False), random_batch(300, users=2, length=5)
    before = type(model.trie).edges
    asked = walked_states(model, batch, 6)
    assert type(model.trie).edges is before
    assert [level for _, level in asked] == [0, 1, 2]
    assert [states.shape for states, _ in asked[:2]] == [(2, 1), (2, 6)]
    stepped = [states.shape[0] * states.shape[1] for states, _ in asked]
    assert stepped[2] <= 12
    assert stepped_beams(model, batch, 6) == sum(stepped)


def test_both_steps_train_models_of_one_size() -> None:
    model = random_generator(300, (12, 9, 10), width=32, item_head=False).train()
    rival = t5_like(model)
    size = sum(parameter.numel() for parameter in rival.parameters())
    assert abs(size / count_parameters(model).total - 1) < 0.01
    for made, step in ((model, our_step(model, 2)), (rival, t5_step(rival, 2, 3))):
        before = [parameter.detach().clone() for parameter in made.parameters()]
        step()
        moved = [not torch.equal(now, was) for now, was in zip(made.parameters(), before, strict=True)]
        assert sum(moved) > 0.9 * len(moved)


def test_repeats_are_summed_up_by_their_median() -> None:
    assert spread([3.0, 1.0, 2.0]) == {"value": 2.0, "min": 1.0, "max": 3.0, "repeats": 3}
    assert spread([4.0, 1.0, 2.0, 3.0])["value"] == 2.5
    assert ratios([4.0, 9.0], [2.0, 3.0])["max"] == 3.0
    calls: list[str] = []
    taken = in_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2)
    assert calls == ["a", "b"] * 3  # the first round does not count
    assert len(taken["a"]) == len(taken["b"]) == 2
