"""Groups of generations with their log-probabilities under the policy that generated them."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from onerec.data.requests import Requests
from onerec.decode.beam_search import beam_search
from onerec.decode.exclusion import ExcludingDecoder, ForbiddenEdges
from onerec.errors import UserError
from onerec.model.bound_generator import BoundGenerator, bind
from onerec.model.generator import Generator
from rl.config.rollouts import RolloutConfig
from rl.rollouts.draws import Truncation, WithoutReplacement, WithReplacement
from rl.rollouts.sampling import sample_codes, sample_items


@dataclass(frozen=True)
class Rollouts:
    """G generations for each of B users.

    Attributes:
        codes_BGL: int64, the generated codes.
        items_BG: int64, the item with these codes; -1 if there is none.
        log_probabilities_BGL: float32, of each code given the codes before it, in nats, under the policy that generated it.
    """

    codes_BGL: Tensor
    items_BG: Tensor
    log_probabilities_BGL: Tensor

    @property
    def legal(self) -> Tensor:
        """Whether an item has the codes, boolean `[B, G]`."""
        return self.items_BG >= 0


def truncation_of(config: RolloutConfig) -> Truncation:
    """The truncation that the config asks for."""
    return Truncation(config.temperature, config.top_k, config.top_p)


def generate_groups(generator: Generator, prompts: Requests, config: RolloutConfig, rng: torch.Generator) -> Rollouts:
    """Generate a group for every prompt, without dropout.

    The meaning of `log_probabilities_BGL` depends on the method:
    - Beams: the policy's log-probabilities, whatever is excluded.
    - Samples: log-probabilities of the distribution that codes were drawn from. This is the policy's distribution over legal
      codes, without codes that lead to excluded items only, after temperature, top-k and top-p, normalised at every level. With
      `softmax: legal`, temperature 1 and no truncation it is the policy's own. Without replacement they are still those of a
      single draw, and not the probability of being in the group or at this position. Generations stand in the order of the
      draws, so the first of a group is an exact sample.
    - Free: the same over all codes of a level.

    Args:
        generator: the policy. It keeps its train or eval mode.
        prompts: histories to generate for.
        config: see `RolloutConfig`.
        rng: random numbers for sampling, best on the generator's device. Beams draw none.

    Returns:
        rollouts on the generator's device, in the order of the prompts.

    Raises:
        UserError: `group_size` generations are not possible for some user, or free sampling, but the generator has probabilities
            for legal codes only.
    """
    was_training = generator.training
    generator.eval()
    try:
        return _generate(generator, prompts, config, rng)
    finally:
        generator.train(was_training)


@torch.no_grad()
def _generate(generator: Generator, prompts: Requests, config: RolloutConfig, rng: torch.Generator) -> Rollouts:
    device = generator.decoder.level_embeddings.device
    model = generator.config
    batches = prompts.batches(model.history_length, model.pathways.positive_length, config.batch_size)
    shape = (len(prompts), config.group_size)
    codes_BGL = torch.zeros((*shape, generator.levels), dtype=torch.long, device=device)
    items_BG = torch.zeros(shape, dtype=torch.long, device=device)
    log_probabilities_BGL = torch.zeros((*shape, generator.levels), device=device)
    for numbers, batch in batches:
        seen = prompts.seen(numbers).to(device) if config.exclude_seen else None
        found, rows = (
            groups_of(bind(generator, batch.to(device)), config, rng, seen),
            torch.from_numpy(numbers).to(device),
        )
        codes_BGL[rows], items_BG[rows] = found.codes_BGL, found.items_BG
        log_probabilities_BGL[rows] = found.log_probabilities_BGL
    return Rollouts(codes_BGL, items_BG, log_probabilities_BGL)


@torch.no_grad()
def groups_of(
    bound: BoundGenerator, config: RolloutConfig, rng: torch.Generator, seen_BS: Tensor | None = None
) -> Rollouts:
    """The groups of a batch of encoded histories; otherwise as `generate_groups`.

    Args:
        bound: the generator with the encoded histories.
        config, rng: as for `generate_groups`.
        seen_BS: int64 items to exclude, padded with -1; needed and used with `config.exclude_seen` only.
    """
    generator, size = bound.generator, config.group_size
    if config.method == "free":
        codes_BGL, levels_BGL = sample_codes(bound, size, truncation_of(config), partial(WithReplacement, size, rng))
        return Rollouts(codes_BGL, generator.trie.items_with_codes(codes_BGL), levels_BGL)
    decoder: BoundGenerator | ExcludingDecoder = bound
    if config.exclude_seen:
        if seen_BS is None:
            raise ValueError("exclude_seen needs the items that were seen")
        decoder = ExcludingDecoder(bound, ForbiddenEdges.of_items(generator.trie, seen_BS))
    if config.method == "beam":
        beams = beam_search(decoder, generator.trie, beam_width=size, by_level=True)
        assert beams.log_probabilities_BKL is not None
        items_BG, levels_BGL = beams.items_BK, beams.log_probabilities_BKL
    else:
        draw = WithReplacement if config.method == "sample" else WithoutReplacement
        items_BG, levels_BGL = sample_items(
            decoder, generator.trie, size, truncation_of(config), partial(draw, size, rng)
        )
    _check_full(items_BG, config)
    return Rollouts(generator.tokens.codes_NL[items_BG], items_BG, levels_BGL)


def _check_full(items_BG: Tensor, config: RolloutConfig) -> None:
    """Raises UserError if a group has fewer than `group_size` items."""
    fewest = int((items_BG >= 0).sum(dim=1).min())
    if fewest < config.group_size:
        raise UserError(
            f"rollouts.group_size is {config.group_size}, but for some user method {config.method} finds {fewest} items, because "
            "the catalogue without seen items, top_k or top_p leaves no more; set a smaller group_size"
        )
