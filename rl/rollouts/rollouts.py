"""Groups of generations and their log-probabilities under the policy that made them."""

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
        codes_BGL: int64, the codes that were chosen.
        items_BG: int64, the item that has them; -1 where none has.
        log_probabilities_BGL: float32, of each code given those before it, in nats, under the policy that chose it.
    """

    codes_BGL: Tensor
    items_BG: Tensor
    log_probabilities_BGL: Tensor

    @property
    def legal(self) -> Tensor:
        """Whether the codes are an item's, boolean `[B, G]`."""
        return self.items_BG >= 0


def truncation_of(config: RolloutConfig) -> Truncation:
    """From the policy's distribution to the one that is sampled from."""
    return Truncation(config.temperature, config.top_k, config.top_p)


def generate_groups(generator: Generator, prompts: Requests, config: RolloutConfig, rng: torch.Generator) -> Rollouts:
    """Generate a group for every prompt with the generator as it is, without dropout.

    What `log_probabilities_BGL` are:
    - beams: the policy's own, whatever is excluded.
    - samples: those of the distribution that codes were drawn from: the policy's over the legal codes, without those that lead
      to excluded items alone, after temperature, top-k and top-p, normalised at every level. For a policy with `softmax: legal`,
      at temperature 1 and with nothing cut off, they are the policy's own. Without replacement they are still those of one
      draw: neither the probability to be in the group nor to come at this place of it. Generations stand in the order in which
      they are drawn, so the first of a group is an exact sample.
    - free: the same over all codes of a level.

    Args:
        generator: the policy; its mode (training or not) is as before afterwards.
        rng: what sampling draws from, best on the generator's device; results repeat with its seed, `prompts` and `config`. Beams
            draw nothing.

    Returns:
        rollouts on the generator's device, in the order of the prompts.

    Raises:
        UserError: a user cannot be given `group_size` generations, or free sampling of a policy that knows legal codes alone.
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
    """The groups of a batch of histories that are encoded already; else as `generate_groups`.

    Args:
        seen_BS: int64 items that are excluded, padded with -1; needed where `config.exclude_seen`, of no meaning elsewhere.
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
    """Raises UserError where a group has fewer items than it should have."""
    fewest = int((items_BG >= 0).sum(dim=1).min())
    if fewest < config.group_size:
        raise UserError(
            f"rollouts.group_size is {config.group_size}, but for some user method {config.method} finds {fewest} items: "
            "the catalogue (without what was seen), top_k or top_p leaves no more; take a smaller group"
        )
