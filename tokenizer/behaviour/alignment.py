"""Collaborative alignment: content vectors are changed so that items with similar behaviour become similar.

This follows OneRec (arXiv 2506.13695, tokenizer section) and QARM (arXiv 2411.11739). Learnt queries pool an item's content
(`tokenizer.behaviour.query_pooling`), and an in-batch contrastive loss pulls the items of a pair together. OneRec preserves
the content by having a language model write the item's caption from the pooled queries. Here is no language model, so the
pooled queries have to reconstruct the content vectors instead. Items without pairs go through the same network, so items
without any event are aligned too.
"""

from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import Field
from scipy import sparse

from tokenizer.behaviour.pairs import (
    ItemPairs,
    co_occurrence_scores,
    joined,
    nearest_pairs,
    swing_scores,
    user_to_item_pairs,
)
from tokenizer.common.checks import check_vectors, fill_arrays
from tokenizer.common.settings import Layers, Length, Settings, Width
from tokenizer.errors import TokenizerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from tokenizer.behaviour.query_pooling import QueryPooling

PairKind = Literal["swing", "co_occurrence", "user_to_item"]
HIDDEN_SHARE = 0.05  # of the pairs are held out of training; they select the best step
HIDDEN_PAIRS = 1024  # at most this many of them are evaluated each time
LOOKS = 10  # evaluations of the held-out pairs during training
CHUNK_ROWS = 1 << 12
CLIP_NORM = 1.0


class AlignmentSpec(Settings):
    """Settings of pairs, network and training.

    pairs: kinds of pairs from `tokenizer.behaviour.pairs`, each with the same total weight. neighbours: partners per item for
    "swing" and "co_occurrence". queries, width, layers: of `tokenizer.behaviour.query_pooling`; an aligned vector has
    queries*width columns. temperature: of the contrastive loss. reconstruction_weight: weight of the reconstruction loss (the
    lost share of the content's squared length) beside the contrastive loss in nats. steps: of Adam with cosine decay, each
    on batch_size pairs.
    """

    pairs: list[PairKind] = Field(default=["swing", "user_to_item"], min_length=1)
    neighbours: Length = 10
    queries: Width = 2
    width: int = Field(default=64, ge=4, multiple_of=4, le=65_536)
    layers: Layers = 2
    dropout: float = Field(default=0.1, ge=0, lt=1)
    temperature: float = Field(default=0.1, ge=0.001, le=1000)
    reconstruction_weight: float = Field(default=0.1, ge=0)
    steps: int = Field(default=1000, ge=1)
    batch_size: int = Field(default=256, ge=2, le=1_000_000)
    learning_rate: float = Field(default=3e-3, gt=0)


def pairs_from_behaviour(
    spec: AlignmentSpec, item_index: np.ndarray, offsets: np.ndarray, collaborative_ND: np.ndarray
) -> ItemPairs:
    """Pairs of the kinds that the spec names, from training sequences; a small log may have none.

    item_index, offsets: as in `tokenizer.behaviour.co_occurrence`. collaborative_ND: a vector per item, zero without
    behaviour; user-to-item pairs compare items by it.
    """
    made, items = [], len(collaborative_ND)
    for kind in dict.fromkeys(spec.pairs):
        if kind == "swing":
            made.append(nearest_pairs(swing_scores(item_index, offsets, items), spec.neighbours))
        elif kind == "co_occurrence":
            made.append(nearest_pairs(co_occurrence_scores(item_index, offsets, items), spec.neighbours))
        else:
            made.append(user_to_item_pairs(item_index, offsets, collaborative_ND))
    return joined(made)


class Aligner:
    """Turns blocks of content into one aligned vector per item, float32 [N, queries*width], with rows of length one.

    An item without any content stays zero. A GPU is used if there is one. `figures` holds `stopped_at`, the step whose
    weights were kept, and, if there were enough pairs to hold some out, their `contrastive_loss` and `reconstruction_loss`
    at that step.
    """

    def __init__(self, spec: AlignmentSpec | None = None, *, seed: int = 0) -> None:
        self.spec = spec or AlignmentSpec()
        self.seed = seed
        self.block_widths: list[int] = []
        self.figures: dict[str, float] = {}
        self._network: QueryPooling | None = None

    def fit(self, blocks: list[np.ndarray], pairs: ItemPairs) -> Self:
        """Train on blocks [N,D_i] whose row n is item n; the global random states of torch and NumPy do not change.

        A small share of the pairs is held out of training and selects the best step. Raises TokenizerError for unusable
        blocks. There must be a pair, and every pair must name rows of the blocks.
        """
        import torch

        blocks = _checked(blocks, None)
        self.block_widths = [block.shape[1] for block in blocks]
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(self.seed)
            network = self._make_network().to(device)
            self._train(network, [torch.from_numpy(block).to(device) for block in blocks], pairs)
        self._network = network.cpu().eval().requires_grad_(False)
        return self

    def encode(self, blocks: list[np.ndarray]) -> np.ndarray:
        """Aligned vectors of items from their content alone, for fitted items and for items that join later."""
        import torch

        if self._network is None:
            raise TokenizerError("this alignment has not been fitted; call fit first, or load a saved one.")
        blocks = _checked(blocks, self.block_widths)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network = self._network.to(device)
        aligned_NW = np.empty((len(blocks[0]), self.spec.queries * self.spec.width), dtype=np.float32)
        with torch.no_grad():
            for start in range(0, len(aligned_NW), CHUNK_ROWS):
                rows = [torch.from_numpy(block[start : start + CHUNK_ROWS]).to(device) for block in blocks]
                pooled_BW = torch.nn.functional.normalize(network(rows), dim=1)
                aligned_NW[start : start + CHUNK_ROWS] = pooled_BW.cpu().numpy()
        network.cpu()
        empty_N = ~np.logical_or.reduce([block.any(axis=1) for block in blocks])
        aligned_NW[empty_N] = 0
        return aligned_NW

    def config(self) -> dict[str, Any]:
        """Settings and figures as plain JSON values."""
        return {
            "spec": self.spec.model_dump(mode="json"),
            "seed": self.seed,
            "block_widths": self.block_widths,
            "figures": self.figures,
        }

    def state_dict(self) -> dict[str, np.ndarray]:
        """The weights, as arrays."""
        if self._network is None:
            raise TokenizerError("this alignment has not been fitted; there is no state to save.")
        return {name: weight.numpy().copy() for name, weight in self._network.state_dict().items()}

    @classmethod
    def load(cls, config: dict[str, Any], state: dict[str, np.ndarray]) -> Self:
        """Restore from `config()` and `state_dict()`; TokenizerError names an array that is missing or has a wrong shape."""
        import torch

        aligner = cls(AlignmentSpec.model_validate(config["spec"]), seed=config["seed"])
        aligner.block_widths, aligner.figures = list(config["block_widths"]), dict(config["figures"])
        with torch.random.fork_rng(devices=[]):
            network = aligner._make_network()
        fill_arrays("alignment", {name: weight.numpy() for name, weight in network.state_dict().items()}, state)
        aligner._network = network.eval().requires_grad_(False)
        return aligner

    def _make_network(self) -> "QueryPooling":
        from tokenizer.behaviour.query_pooling import QueryPooling

        spec = self.spec
        return QueryPooling(self.block_widths, spec.queries, spec.width, spec.layers, spec.dropout)

    def _train(self, network: "QueryPooling", blocks: list["Tensor"], pairs: ItemPairs) -> None:
        import torch

        spec, random = self.spec, np.random.default_rng(self.seed)
        draw, hidden_P2 = _shared_out(pairs, len(blocks[0]), random)
        together_NN = _together(pairs, len(blocks[0]))
        square = max(float(sum(block.square().sum() for block in blocks)) / len(blocks[0]), 1e-12)

        def losses_of(pairs_B2: np.ndarray) -> tuple["Tensor", "Tensor"]:
            return _losses(network, blocks, pairs_B2, together_NN, spec.temperature, square)

        optimizer = torch.optim.Adam(network.parameters(), lr=spec.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=spec.steps)
        best, kept = float("inf"), {}
        self.figures = {"stopped_at": spec.steps}
        for step in range(1, spec.steps + 1):
            network.train()
            contrastive, lost_share = losses_of(draw(spec.batch_size))
            optimizer.zero_grad()
            (contrastive + spec.reconstruction_weight * lost_share).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP_NORM)
            optimizer.step()
            schedule.step()
            if (step % max(1, spec.steps // LOOKS) and step != spec.steps) or not len(hidden_P2):
                continue  # without held-out pairs the last weights are kept
            network.eval()
            with torch.no_grad():
                contrast, lost = _look(losses_of, hidden_P2, spec.batch_size)
            if contrast + spec.reconstruction_weight * lost < best:
                best = contrast + spec.reconstruction_weight * lost
                kept = {name: weight.detach().clone() for name, weight in network.state_dict().items()}
                self.figures = {"stopped_at": step, "contrastive_loss": contrast, "reconstruction_loss": lost}
        if kept:
            network.load_state_dict(kept)
        if not all(bool(weight.isfinite().all()) for weight in network.parameters()):
            raise TokenizerError("alignment: training diverged to infinity; set a smaller learning_rate.")


def _look(
    losses_of: "Callable[[np.ndarray], tuple[Tensor, Tensor]]", hidden_P2: np.ndarray, batch_size: int
) -> tuple[float, float]:
    """Both losses on the held-out pairs, in batches as in training."""
    parts = [hidden_P2[start : start + batch_size] for start in range(0, len(hidden_P2), batch_size)]
    losses = [losses_of(part) for part in parts]
    share = np.asarray([len(part) for part in parts]) / len(hidden_P2)
    contrast, lost = (float(share @ [float(one[which]) for one in losses]) for which in (0, 1))
    return contrast, lost


def _losses(
    network: "QueryPooling",
    blocks: list["Tensor"],
    pairs_B2: np.ndarray,
    together_NN: sparse.csr_matrix,
    temperature: float,
    square: float,
) -> tuple["Tensor", "Tensor"]:
    """In-batch contrastive loss in both directions, and the share of the content's squared length that is lost."""
    import torch
    from torch.nn import functional

    rows = torch.from_numpy(pairs_B2.T.ravel().astype(np.int64)).to(blocks[0].device)
    content = [block[rows] for block in blocks]
    pooled = network(content)
    lost = (network.reconstruct(pooled) - torch.cat(content, dim=1)).square().sum(dim=1).mean() / square
    anchor_BW, partner_BW = functional.normalize(pooled, dim=1).chunk(2)
    scores_BB = anchor_BW @ partner_BW.T / temperature
    # neither the item itself nor its other partners count as negatives, in either direction
    right_BB = torch.from_numpy(together_NN[pairs_B2[:, 0]][:, pairs_B2[:, 1]].toarray() > 0).to(scores_BB.device)
    right_BB.fill_diagonal_(False)
    scores_BB = scores_BB.masked_fill(right_BB, -torch.inf)
    answer_B = torch.arange(len(pairs_B2), device=scores_BB.device)
    contrast = (functional.cross_entropy(scores_BB, answer_B) + functional.cross_entropy(scores_BB.T, answer_B)) / 2
    return contrast, lost


def _together(pairs: ItemPairs, items: int) -> sparse.csr_matrix:
    """Items that are paired in either direction, and every item with itself, [N,N]."""
    anchor, partner = pairs.pairs_P2.T
    shape, ones = (items, items), np.ones(len(pairs), dtype=np.float32)
    one_way = sparse.csr_matrix((ones, (anchor, partner)), shape=shape)
    return sparse.csr_matrix(one_way + one_way.T + sparse.identity(items, format="csr", dtype=np.float32))


def _shared_out(pairs: ItemPairs, items: int, random: np.random.Generator) -> tuple[Any, np.ndarray]:
    """Return a function that draws training pairs by weight, and the pairs [H,2] held out of it.

    A pair is held out in both directions. When all pairs would be held out, none is.
    """
    low, high = pairs.pairs_P2.min(axis=1).astype(np.int64), pairs.pairs_P2.max(axis=1)
    _, couple = np.unique(low * items + high, return_inverse=True)
    hidden_P = (random.random(couple.max() + 1) < HIDDEN_SHARE)[couple]
    if hidden_P.all():
        hidden_P[:] = False
    hidden_P2 = random.permutation(pairs.pairs_P2[hidden_P])[:HIDDEN_PAIRS]
    training_P2, total = pairs.pairs_P2[~hidden_P], np.cumsum(pairs.weight_P[~hidden_P], dtype=np.float64)

    def draw(count: int) -> np.ndarray:
        place = np.searchsorted(total, random.random(count) * total[-1], side="right")
        return np.asarray(training_P2[np.minimum(place, len(training_P2) - 1)])

    return draw, hidden_P2


def _checked(blocks: list[np.ndarray], widths: list[int] | None) -> list[np.ndarray]:
    blocks = [check_vectors(block, what=f"content block {number}") for number, block in enumerate(blocks, start=1)]
    if len({len(block) for block in blocks}) != 1:
        raise TokenizerError(
            f"alignment: blocks of {[len(block) for block in blocks]} rows; each block needs one row per item."
        )
    if widths is not None and [block.shape[1] for block in blocks] != widths:
        raise TokenizerError(
            f"alignment: blocks of {[block.shape[1] for block in blocks]} columns, but it was fitted on {widths}."
        )
    return blocks
