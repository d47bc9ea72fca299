"""Groups against exact probabilities: items, frequencies and log-probabilities, with both decoders."""

import numpy as np
import polars as pl
import pytest
import torch
from request_cases import requests_of
from rollout_cases import SIZES, TOLERANCE, assert_drawn_from, plain_distribution, scores_of_all, small_generator

from onerec.decode.beam_search import beam_search
from onerec.errors import UserError
from onerec.model.bound_generator import bind
from onerec.model.generator import Generator
from rl.config.rollouts import RolloutConfig
from rl.rollouts.rollouts import Rollouts, generate_groups, groups_of
from rl.rollouts.sampling import _Stepped
from tokenizer.semantic_ids import SemanticIds

HISTORIES = [[1, 2, 3], [4, 5, 6, 7, 8, 9, 1, 2], [0], [10, 11], [3, 3, 12]]
MODELS = {
    "encoder_decoder": {"decoder": "encoder_decoder", "item_head": True},
    "lazy": {"decoder": "lazy", "item_head": True},
    "lookahead": {"item_loss": 0.5, "lookahead": True, "item_head": True},
    "full": {"decoder": "lazy", "softmax": "full"},
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def group(model: Generator, histories: list[list[int]], seed: int = 0, **settings: object) -> Rollouts:
    return generate_groups(model, requests_of(histories), RolloutConfig(**settings), seeded(seed))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("size", [1, 4, 17])
def test_beams_equal_beam_search_with_the_policys_log_probabilities(name: str, size: int) -> None:
    model, prompts = small_generator(1, **MODELS[name]), requests_of(HISTORIES)
    found = group(model, HISTORIES, group_size=size, batch_size=3)
    for rows, batch in prompts.batches(6, 0, batch_size=100):
        with torch.no_grad():
            beams = beam_search(bind(model, batch), model.trie, beam_width=size)
        assert torch.equal(found.items_BG[rows], beams.items_BK)
        sums = found.log_probabilities_BGL[rows].sum(dim=-1)
        torch.testing.assert_close(sums, beams.log_probabilities_BK, atol=TOLERANCE, rtol=0)
    assert torch.equal(found.codes_BGL, model.tokens.codes_NL[found.items_BG])
    scores = scores_of_all(model, prompts)
    if model.config.softmax == "legal":
        for row in range(len(HISTORIES)):
            steps = plain_distribution(model, scores[row].double(), set())
            expected = torch.tensor([steps[item] for item in found.items_BG[row].tolist()], dtype=torch.float32).log()
            torch.testing.assert_close(found.log_probabilities_BGL[row], expected, atol=TOLERANCE, rtol=0)
    expected = scores.gather(1, found.items_BG)
    torch.testing.assert_close(found.log_probabilities_BGL.sum(dim=-1), expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("method", ["sample", "without_replacement"])
@pytest.mark.parametrize("name", ["encoder_decoder", "lazy", "lookahead"])
def test_samples_have_the_policys_log_probabilities_at_temperature_one(name: str, method: str) -> None:
    model = small_generator(2, **MODELS[name])
    found = group(model, HISTORIES, method=method, group_size=9, batch_size=2)
    assert found.legal.all()
    assert torch.equal(found.codes_BGL, model.tokens.codes_NL[found.items_BG])
    expected = scores_of_all(model, requests_of(HISTORIES)).gather(1, found.items_BG)
    torch.testing.assert_close(found.log_probabilities_BGL.sum(dim=-1), expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", MODELS)
def test_items_are_sampled_as_often_as_they_are_likely(name: str) -> None:
    model = small_generator(3, **MODELS[name])
    found = group(model, [[1, 2, 3]], method="sample", group_size=6000)
    steps = plain_distribution(model, _double_scores(model, [1, 2, 3]), set())
    assert_drawn_from(found.items_BG[0].tolist(), {item: float(np.prod(chances)) for item, chances in steps.items()})


def _double_scores(model: Generator, history: list[int]) -> torch.Tensor:
    """Exact log-probabilities of a policy as it is sampled under the trie: those of items, normalised level by level."""
    if model.config.softmax == "legal":
        return scores_of_all(model, requests_of([history]))[0].double()
    beams = group(model, [history], group_size=model.trie.item_count)
    levels = torch.zeros(model.trie.item_count, len(SIZES), dtype=torch.float64)
    levels[beams.items_BG[0]] = beams.log_probabilities_BGL[0].double()
    prefixes = [model.trie.states_NL[:, level] for level in range(len(SIZES))]
    following = [*prefixes[1:], torch.arange(model.trie.item_count)]
    for level, states in enumerate(prefixes):
        for state in set(states.tolist()):
            inside = states == state
            children = {int(following[level][i]): levels[i, level].exp() for i in inside.nonzero()[:, 0]}
            levels[inside, level] -= torch.stack(list(children.values())).sum().log()
    return levels.sum(dim=1)


@pytest.mark.parametrize("name", ["encoder_decoder", "lazy"])
def test_without_replacement_nothing_repeats_and_the_first_is_an_exact_sample(name: str) -> None:
    model, groups = small_generator(4, **MODELS[name]), 3000
    found = group(model, [[1, 2, 3]] * groups, method="without_replacement", group_size=5, batch_size=1000)
    ordered = found.items_BG.sort(dim=1).values
    assert (ordered[:, 1:] != ordered[:, :-1]).all()
    chances = scores_of_all(model, requests_of([[1, 2, 3]]))[0].double().exp()
    assert_drawn_from(found.items_BG[:, 0].tolist(), dict(enumerate(chances.tolist())))
    # The second is a sample from what is left: judged where the likeliest item came first.
    likeliest = int(chances.argmax())
    seconds = found.items_BG[found.items_BG[:, 0] == likeliest, 1].tolist()
    left = {item: float(chance / (1 - chances[likeliest])) for item, chance in enumerate(chances) if item != likeliest}
    assert_drawn_from(seconds, left)


@pytest.mark.parametrize("method", ["sample", "without_replacement"])
@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p", "exclude_seen"),
    [
        (0.5, None, None, False),
        (2.0, 2, None, True),
        (1.0, None, 0.6, False),
        (1.5, 3, 0.8, True),
        (1.0, None, None, True),
    ],
)
def test_support_and_log_probabilities_are_those_of_the_truncated_distribution(
    method: str, temperature: float, top_k: int | None, top_p: float | None, exclude_seen: bool
) -> None:
    histories = [[1, 2, 3], [4, 5, 6, 7, 8, 9, 1, 2]]
    for name, settings in MODELS.items():
        model = small_generator(6, **settings)
        for history in histories:
            seen = set(history) if exclude_seen else set()
            steps = plain_distribution(model, _double_scores(model, history), seen, temperature, top_k, top_p)
            size = 400 if method == "sample" else len(steps)
            truncation = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
            found = group(model, [history], method=method, group_size=size, exclude_seen=exclude_seen, **truncation)
            items = found.items_BG[0].tolist()
            assert set(items) <= set(steps), name
            if method == "without_replacement":
                assert set(items) == set(steps), name
            expected = torch.tensor([steps[item] for item in items], dtype=torch.float32).log()
            torch.testing.assert_close(found.log_probabilities_BGL[0], expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("method", ["beam", "sample", "without_replacement"])
@pytest.mark.parametrize("name", MODELS)
def test_excluded_items_are_never_generated(name: str, method: str) -> None:
    model = small_generator(7, **MODELS[name])
    # Six items are read at most; the eight likeliest stand before them.
    read = [(history * 6)[-6:] for history in HISTORIES]
    best = group(model, read, group_size=8).items_BG.tolist()
    histories = [[*seen, *history] for seen, history in zip(best, read, strict=True)]
    found = group(model, histories, method=method, group_size=3, exclude_seen=True, batch_size=2)
    for items, history in zip(found.items_BG.tolist(), histories, strict=True):
        assert not set(items) & set(history)
    if method == "beam":
        every = group(model, histories, group_size=17)
        for row, history in enumerate(histories):
            # These a plain beam of three would have spent its places on.
            assert not set(every.items_BG[row, :8].tolist()) - set(history)
            places = [every.items_BG[row].tolist().index(item) for item in found.items_BG[row].tolist()]
            told = every.log_probabilities_BGL[row, places]
            torch.testing.assert_close(found.log_probabilities_BGL[row], told, atol=TOLERANCE, rtol=0)


def test_a_group_larger_than_the_catalogue_is_refused() -> None:
    model = small_generator(8)
    for method in ("beam", "without_replacement"):
        with pytest.raises(UserError, match=r"group_size is 18, but for some user method \w+ finds 17 items"):
            group(model, HISTORIES, method=method, group_size=18)
        with pytest.raises(UserError, match="finds 15 items"):
            group(model, [[1, 2, 2]], method=method, group_size=16, exclude_seen=True)
    with pytest.raises(UserError, match="finds 0 items"):
        group(model, [list(range(17))], method="sample", group_size=2, exclude_seen=True)


def free_pair(decoder: str) -> tuple[Generator, Generator]:
    """A generator with 17 items, and one with the same weights for which each sequence of codes is an item."""
    settings = {"decoder": decoder, "softmax": "full", "own_embedding": False}
    model, complete = small_generator(9, **settings), small_generator(9, items=36, **settings)
    complete.load_state_dict(model.state_dict())
    return model, complete


def numbers_of(complete: Generator, codes: torch.Tensor) -> torch.Tensor:
    """Items of the complete catalogue by a plain comparison of codes."""
    return (codes[:, None] == complete.tokens.codes_NL[None]).all(dim=-1).int().argmax(dim=1)


@pytest.mark.parametrize("decoder", ["encoder_decoder", "lazy"])
def test_free_samples_are_legal_as_often_as_the_policy_says(decoder: str) -> None:
    model, complete = free_pair(decoder)
    history, count = [1, 2, 3], 6000
    found = group(model, [history], method="free", group_size=count)
    legal = float(scores_of_all(model, requests_of([history]))[0].double().exp().sum())
    assert 0.2 < legal < 0.8
    # Four standard deviations of a binomial share: one in 16,000, and the seed is fixed.
    assert abs(float(found.legal.float().mean()) - legal) < 4 * (legal * (1 - legal) / count) ** 0.5
    known = found.items_BG[0][found.legal[0]]
    assert torch.equal(found.codes_BGL[0][found.legal[0]], model.tokens.codes_NL[known])
    items = numbers_of(complete, found.codes_BGL[0])
    same_history = numbers_of(complete, model.tokens.codes_NL[torch.tensor(history)]).tolist()
    scores = scores_of_all(complete, requests_of([same_history]))[0]
    torch.testing.assert_close(found.log_probabilities_BGL[0].sum(dim=-1), scores[items], atol=TOLERANCE, rtol=0)
    assert_drawn_from(items.tolist(), dict(enumerate(scores.double().exp().tolist())))


def test_free_samples_follow_truncation() -> None:
    model, _ = free_pair("lazy")
    found = group(model, [[1, 2], [4]], method="free", group_size=50, top_k=1)
    assert (found.codes_BGL == found.codes_BGL[:, :1]).all()
    assert (found.log_probabilities_BGL == 0).all()


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match="free sampling needs a generator trained with softmax: full"):
        group(small_generator(0), HISTORIES, method="free")
    with pytest.raises(UserError, match="leave them out with method: beam"):
        RolloutConfig(method="beam", top_k=5)
    with pytest.raises(UserError, match="leave it out with method: free"):
        RolloutConfig(method="free", exclude_seen=True)


@pytest.mark.parametrize("method", ["sample", "without_replacement", "free"])
def test_a_seed_repeats_and_another_does_not(method: str) -> None:
    model = small_generator(10, softmax="full")
    first, second, other = (group(model, HISTORIES, seed, method=method, group_size=8) for seed in (1, 1, 2))
    assert torch.equal(first.codes_BGL, second.codes_BGL)
    assert torch.equal(first.log_probabilities_BGL, second.log_probabilities_BGL)
    assert not torch.equal(first.codes_BGL, other.codes_BGL)


def test_many_users_that_are_stepped_apart_get_the_same_as_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of users keep their own caches, truncation and exclusion: top-k 1 leaves nothing to chance."""
    model = small_generator(12)
    settings = {"method": "sample", "group_size": 3, "top_k": 1, "exclude_seen": True}
    whole = group(model, HISTORIES, **settings)
    monkeypatch.setattr("onerec.model.bound_generator.BEAM_FLOATS", 1)
    assert torch.equal(whole.items_BG, group(model, HISTORIES, **settings).items_BG)


@pytest.mark.parametrize("method", ["sample", "without_replacement"])
@pytest.mark.parametrize("name", MODELS)
def test_stepping_distinct_prefixes_only_changes_nothing(
    name: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is done elsewhere than on a CPU: every prefix of every generation is stepped."""
    model, settings = small_generator(15, **MODELS[name]), {"method": method, "group_size": 12, "exclude_seen": True}
    histories = [[1, 2, 3], [4, 5]]
    shared = group(model, histories, **settings)
    monkeypatch.setattr("rl.rollouts.sampling._Stepped.distinct", lambda states_BK, _: _Stepped.every(states_BK))
    every = group(model, histories, **settings)
    assert torch.equal(shared.items_BG, every.items_BG)
    torch.testing.assert_close(shared.log_probabilities_BGL, every.log_probabilities_BGL, atol=TOLERANCE, rtol=0)


def test_a_policy_in_training_generates_without_dropout_and_trains_on() -> None:
    model = small_generator(13, dropout=0.5)
    calm = group(model, HISTORIES, group_size=5)
    model.train()
    found = group(model, HISTORIES, group_size=5)
    assert model.training
    assert torch.equal(found.log_probabilities_BGL, calm.log_probabilities_BGL)
    assert not found.log_probabilities_BGL.requires_grad
    # Old log-probabilities go into losses, which inference tensors cannot.
    (found.log_probabilities_BGL * torch.ones(1, requires_grad=True)).sum().backward()


def test_groups_can_be_made_from_an_encoded_batch() -> None:
    model, prompts = small_generator(14), requests_of([[1, 2], [3, 4]])
    ((_, batch),) = prompts.batches(6, 0, batch_size=10)
    config = RolloutConfig(group_size=4)
    with torch.no_grad():
        found = groups_of(bind(model, batch), config, seeded())
    assert torch.equal(found.items_BG, generate_groups(model, prompts, config, seeded()).items_BG)


def test_a_single_item_is_certain() -> None:
    codes = np.array([[1, 0, 2]], dtype=np.int32)
    lone = Generator(small_generator(0).config, SemanticIds(pl.Series([0]), codes, codes, SIZES)).eval()
    for method in ("beam", "sample", "without_replacement"):
        found = group(lone, [[0]], method=method, group_size=1)
        assert found.items_BG.tolist() == [[0]]
        assert found.log_probabilities_BGL.tolist() == [[[0, 0, 0]]]
