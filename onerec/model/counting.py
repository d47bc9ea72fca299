"""Exact counts of parameters and floating-point operations, per part of a generator.

The counts cover matrix products with 2 operations per multiply-add, attention included. Every query counts against every key,
even where a mask hides the key, because that product is computed. As is usual, norms, activations, gathers, softmaxes and the
item head's gathered inner products are left out. The item scorer's operations depend on the catalogue, so `batch_flops` counts
them and `forward_flops` does not.

A training step costs three forward passes: for each forward product, the backward pass has two products of the same size, one
per factor. A fused attention kernel also recomputes its scores in the backward pass. That is not part of the model and is not
counted.
"""

from dataclasses import dataclass
from typing import cast

from torch import nn

from onerec.data.windows import Batch
from onerec.model.decoders.code_decoder import CodeLayer
from onerec.model.decoders.decoder import Decoder
from onerec.model.decoders.lazy_decoder import LazyDecoder
from onerec.model.generator import Generator
from onerec.model.history.encoder import EncoderLayer
from onerec.model.history.lifelong import CompressionLayer, LifelongTokens
from onerec.model.item_scorer import ItemScorer
from onerec.model.layers.attention import CrossAttention
from onerec.model.layers.experts import MixtureOfExperts

PARTS = (
    "embeddings",  # tables of codes, own items and features
    "item_tokens",  # joins the embeddings of an item
    "prefix",  # makes the tokens before the history
    "encoder",
    "context",  # makes keys and values of the history, with a context processor or the projections of all cross-attention
    "decoder",  # the rest of the decoder's layers
    "start",  # level embeddings, and the projection of the last state
    "heads",  # norms and output layers
    "item_head",
    "item_scorer",
)


@dataclass(frozen=True)
class Parameters:
    """Numbers of trained parameters.

    Attributes:
        parts: parameters of each of `PARTS`.
        inactive: parameters of routed experts that a single token does not use.
    """

    parts: dict[str, int]
    inactive: int

    @property
    def total(self) -> int:
        """All parameters."""
        return sum(self.parts.values())

    @property
    def active(self) -> int:
        """Parameters that one token uses: of the routed experts, only the active ones count."""
        return self.total - self.inactive

    @property
    def tables(self) -> int:
        """Parameters in lookup tables: embeddings and the item head's vectors. They grow with the catalogue."""
        return self.parts["embeddings"] + self.parts["item_head"]


@dataclass(frozen=True)
class ForwardFlops:
    """Operations of a forward pass, by part, for a given length of the history.

    Attributes:
        per_context_token: `item_tokens`, `encoder` and `context`, once per history item, however many targets follow.
        per_target: `start`, `decoder` and `heads`, for all L codes of one target or, in beam search, of one beam.
        per_prefix: `prefix`, `encoder` and `context`, for all tokens before one history; 0 without pathways.
    """

    per_context_token: dict[str, int]
    per_target: dict[str, int]
    per_prefix: dict[str, int]

    def total(self, context_tokens: int, targets: int, histories: int = 0) -> int:
        """Operations of a pass over these numbers of history items (padding included), targets, and histories with a prefix."""
        counts = ((context_tokens, self.per_context_token), (targets, self.per_target), (histories, self.per_prefix))
        return sum(count * sum(parts.values()) for count, parts in counts)


def count_parameters(model: Generator) -> Parameters:
    """Count every parameter once, by part."""
    parts = dict.fromkeys(PARTS, 0)
    for name, parameter in model.named_parameters():
        parts[_part_of(name)] += parameter.numel()
    experts = [module for module in model.modules() if isinstance(module, MixtureOfExperts)]
    return Parameters(parts, sum((layer.spec.count - layer.spec.active) * _expert_size(layer) for layer in experts))


def size_without_tables(model: nn.Module) -> int:
    """Parameters of any model that one token uses, without tables: the N of scaling laws and of the learning-rate rule."""
    if isinstance(model, Generator):
        counted = count_parameters(model)
        return counted.active - counted.tables
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    return sum(parameter.numel() for parameter in model.parameters() if id(parameter) not in tables)


def forward_flops(model: Generator, history: int, positives: int = 0, representatives: int = 0) -> ForwardFlops:
    """Count the operations of a forward pass.

    Args:
        model: the generator to count.
        history: items per padded history.
        positives: positive events per padded prefix.
        representatives: representatives of lifelong events per padded prefix.
    """
    width, levels = model.config.width, model.levels
    prefix, prefix_tokens = _prefix(model, positives, representatives)
    keys = history + prefix_tokens
    encoder = sum(
        _matrices(layer) + _attention(keys, width) for layer in cast(list[EncoderLayer], list(model.encoder.layers))
    )
    # A layer reads the L codes of a target: matrices per code, and attention to L codes and to the history per code.
    reading = _attention(levels, width) + _attention(keys, width)
    decoder = sum(_matrices(layer) - _context_matrices(layer) + reading for layer in model.decoder.blocks)
    return ForwardFlops(
        per_context_token={
            "item_tokens": _matrices(model.tokens.project),
            "encoder": encoder,
            "context": _context(model),
        },
        per_target={
            "start": _matrices(model.decoder.last_state),
            "decoder": levels * decoder,
            "heads": _matrices(model.decoder.heads),
        },
        per_prefix={
            "prefix": prefix,
            "encoder": prefix_tokens * encoder,
            "context": prefix_tokens * _context(model),
        },
    )


def batch_flops(model: Generator, batch: Batch) -> dict[str, int]:
    """Operations of one forward pass in training over this batch, by part. Padding counts, because it is computed.

    The decoder runs over every position that `target_positions` names. Heads and item scorer run only where a target counts.
    The item scorer's part is exact where it compares with the whole catalogue, and an upper bound where it draws a sample.
    """
    (rows, history), features = batch.items_BT.shape, batch.context_features
    positives = 0 if features is None else features.positive_items_BP.shape[1]
    representatives = 0 if features is None or features.lifelong is None else features.lifelong.items_BR.shape[1]
    flops = forward_flops(model, history, positives, representatives)
    positions_BP = model.target_positions(batch)
    counted = int(batch.counted_BT.gather(1, positions_BP).sum())
    parts = {part: rows * history * one for part, one in flops.per_context_token.items()}
    parts |= {part: parts.get(part, 0) + rows * one for part, one in flops.per_prefix.items()}
    parts |= {part: positions_BP.numel() * flops.per_target[part] for part in ("start", "decoder")}
    parts["heads"] = counted * flops.per_target["heads"]
    parts["item_scorer"] = 0 if model.item_scorer is None else _item_scorer(model, model.item_scorer, counted)
    return parts


def _item_scorer(model: Generator, scorer: ItemScorer, targets: int) -> int:
    items = len(model.tokens.codes_NL)
    whole = bool(model.config.lookahead) or items <= scorer.sample
    compared = items if whole else min(items, scorer.sample + targets)
    return targets * (_matrices(scorer) + 2 * compared * model.config.width)


def _prefix(model: Generator, positives: int, representatives: int) -> tuple[int, int]:
    """Operations that make the tokens before a history, and the number of these tokens."""
    made, flops, tokens = model.prefix, 0, 0
    if made is not None and made.user_project is not None:
        flops, tokens = _matrices(made.user_project), 1
    if made is not None and made.older_project is not None:
        places = max(positives, 1)
        flops, tokens = flops + places * _matrices(made.older_project), tokens + places
    if made is not None and made.lifelong is not None:
        compression, compressed = _compression(made.lifelong, max(representatives, 1))
        flops, tokens = flops + compression, tokens + compressed
    return flops, tokens


def _compression(lifelong: LifelongTokens, representatives: int) -> tuple[int, int]:
    """Operations that compress this many representatives, and the number of resulting tokens."""
    (tokens, width), flops = lifelong.queries_ND.shape, representatives * _matrices(lifelong.project)
    for layer in cast(list[CompressionLayer], list(lifelong.layers)):
        of_row = _matrices(layer.cross_attention.project_context)
        flops += representatives * of_row
        flops += tokens * (_matrices(layer) - of_row + _attention(representatives, width))
    return flops, tokens


def _part_of(name: str) -> str:
    """The part that a parameter belongs to, by its name in the state dict."""
    if name.startswith(("tokens.", "prefix.")):
        joining = "prefix" if name.startswith("prefix.") else "item_tokens"
        return "embeddings" if "_embeddings." in name else joining
    if "project_context" in name or name.startswith("decoder.context_processor."):
        return "context"
    if name.startswith(("decoder.heads.", "decoder.head_norms.")):
        return "heads"
    if name.startswith("decoder."):
        return "decoder" if name.startswith("decoder.layers.") else "start"
    if name.startswith("item_scorer."):
        return "item_scorer"
    return "item_head" if name == "item_vectors" else "encoder"


def _expert_size(layer: MixtureOfExperts) -> int:
    return (layer.expand_EDH.numel() + layer.contract_EHD.numel()) // layer.spec.count


def _matrices(module: nn.Module) -> int:
    """Operations per token of all products with the weights of a module."""
    flops = sum(2 * part.weight.numel() for part in module.modules() if isinstance(part, nn.Linear))
    experts = [part for part in module.modules() if isinstance(part, MixtureOfExperts)]
    return flops + sum(2 * layer.spec.active * _expert_size(layer) for layer in experts)


def _attention(keys: int, width: int) -> int:
    """Operations of one query against this many keys, over all heads, and of the weighted sum of their values."""
    return 4 * keys * width


def _context_matrices(layer: CodeLayer) -> int:
    """Operations per context token that a decoder layer spends on its own keys and values."""
    cross = layer.cross_attention
    return _matrices(cross.project_context) if isinstance(cross, CrossAttention) else 0


def _context(model: Generator) -> int:
    decoder = model.decoder
    if isinstance(decoder, Decoder):
        return sum(_context_matrices(layer) for layer in decoder.blocks)
    return _matrices(cast(LazyDecoder, decoder).context_processor)
