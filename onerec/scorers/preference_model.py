"""The model of the P-Score: a tower per objective, and a fusion of the towers (OneRec Technical Report, arXiv 2506.13695).

The candidate attends to the user's history (target attention, as in SIM). Every tower reads the result of this attention, the
mean of the history, the user and the candidate. The fusion also reads the towers' hidden states, and outputs a single number.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from einops import rearrange
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from onerec.data.features import FeatureVocabulary
from onerec.data.impressions import NEXT_ITEM, ImpressionBatch
from onerec.errors import UserError
from onerec.files import write_file, write_json
from onerec.model.layers.features import FeatureEmbeddings, drop_rows, projection
from onerec.scorers.preference_config import RewardConfig

CONFIG_FILE, WEIGHTS_FILE, FEATURES_FOLDER = "config.json", "model.safetensors", "features"
SMALLEST = 1e-6  # lower bound of the weighted sum, which objectives of negative weight can make negative
AGES = 12  # buckets of an event's age, each twice as wide as the previous one


@dataclass(frozen=True)
class Judgement:
    """The model's output for X candidates of each of B users.

    Attributes:
        objectives_BXO: logits, one per objective.
        score_BX: logit of the fusion; its sigmoid is the P-Score.
    """

    objectives_BXO: Tensor
    score_BX: Tensor

    def to(self, device: torch.device | str) -> "Judgement":
        """The same as float32 on `device`."""
        return Judgement(self.objectives_BXO.to(device).float(), self.score_BX.to(device).float())


class PreferenceModel(nn.Module):
    """Maps histories and candidates to a probability of every objective and to one score.

    An item is represented by its vector (of content and training behaviour, computed before), its features, and an embedding of
    its own. Training drops the latter at random, so that the model can judge rare and new items without it.

    `forward(batch)` returns summed losses `[O + 1]` in nats: the binary cross-entropy of every objective over known labels, and
    the fusion's. The fusion learns all labels at once, by their weights: the weighted sum of its cross-entropies with the
    labels equals, up to a factor, its cross-entropy with their weighted mean. It learns only from events of which all labels
    are known; otherwise its score would depend on what a log happens to record. Before training, it equals the weighted sum of
    the towers.

    Args:
        config: sizes and choices.
        objectives: names of the O objectives. [NEXT_ITEM] draws negatives in training.
        vocabulary: features of events, items and users.
        vectors_ND: of the items.
        rates_O: share of ones among each objective's known labels.
        negative_weights_N: unnormalised weights to draw negatives with; used for NEXT_ITEM only.
    """

    vectors_ND: Tensor
    item_codes_NGM: Tensor
    rates_O: Tensor
    negative_sums_N: Tensor
    asked_weights_O: Tensor

    def __init__(
        self,
        config: RewardConfig,
        objectives: list[str],
        vocabulary: FeatureVocabulary,
        vectors_ND: Tensor,
        rates_O: Tensor,
        negative_weights_N: Tensor,
    ) -> None:
        super().__init__()
        weights = [1.0] * len(objectives) if config.weights is None else config.weights
        config.check_weights(objectives)
        self.config, self.objectives, self.vocabulary = config, objectives, vocabulary
        width = config.width
        sizes = {kind: [column.size for column in getattr(vocabulary, kind)] for kind in ("event", "item", "user")}
        self.register_buffer("vectors_ND", vectors_ND.float())
        self.register_buffer("item_codes_NGM", torch.from_numpy(vocabulary.item_codes_NGM).long(), persistent=False)
        self.register_buffer("rates_O", rates_O.float())
        self.register_buffer("negative_sums_N", negative_weights_N.double().cumsum(0))
        self.register_buffer("asked_weights_O", torch.tensor(weights), persistent=False)
        weights_O = self.fusion_weights()
        if not bool(weights_O.isfinite().all()) or bool((weights_O * self.asked_weights_O < 0).any()):
            raise UserError(
                "reward.weights: divided by the labels' standard deviations, the weights of objectives with both labels in "
                f"training must sum to more than 0; the objectives are {', '.join(objectives)}"
            )
        self.item_features = FeatureEmbeddings(sizes["item"], config.feature_width) if sizes["item"] else None
        self.event_features = FeatureEmbeddings(sizes["event"], config.feature_width) if sizes["event"] else None
        self.user_features = FeatureEmbeddings(sizes["user"], config.feature_width) if sizes["user"] else None
        described = vectors_ND.shape[1] + (self.item_features.width if self.item_features else 0)
        self.describe = nn.Linear(described, width)
        self.own_embeddings = nn.Embedding(len(vectors_ND), width)
        nn.init.normal_(self.own_embeddings.weight, std=0.02)
        self.item_norm, self.token_norm = nn.RMSNorm(width), nn.RMSNorm(width)
        self.add_event = nn.Linear(self.event_features.width, width) if self.event_features else None
        self.add_user = projection(self.user_features.width, width) if self.user_features else None
        self.attention = TargetAttention(width, config.heads)
        self.joined = (4 + bool(self.add_user)) * width
        self.towers = nn.Linear(self.joined, len(objectives) * config.tower_width)
        self.heads = nn.Parameter(torch.zeros(len(objectives), config.tower_width))
        # At the start, each tower predicts its objective's overall rate.
        self.head_biases = nn.Parameter(torch.logit(self.rates_O.clamp(SMALLEST, 1 - SMALLEST)))
        self.fuse = nn.Linear(len(objectives) * config.tower_width + self.joined, config.tower_width)
        self.fusion_head = nn.Linear(config.tower_width, 1)
        nn.init.zeros_(self.fusion_head.weight)
        nn.init.zeros_(self.fusion_head.bias)
        self.dropout = nn.Dropout(config.dropout)

    def fusion_weights(self) -> Tensor:
        """The weight of each objective in the fusion, `[O]`, with sum one.

        The config's weights are first divided by the labels' standard deviations, because a like is far rarer than a click and
        would otherwise hardly count. A label that is always the same has weight 0.
        """
        spread_O = (self.rates_O * (1 - self.rates_O)).sqrt()
        scaled_O = torch.where(spread_O > 0, self.asked_weights_O / spread_O.clamp(min=1e-9), 0.0)
        return scaled_O / scaled_O.sum()

    def weighted(self, probabilities: Tensor) -> Tensor:
        """The weighted sum of probabilities `[..., O]`, at most 1. The fusion has to beat it."""
        return (probabilities * self.fusion_weights()).sum(dim=-1)

    def items(self, items: Tensor) -> Tensor:
        """Item representations, `[..., D]`."""
        described = [self.vectors_ND[items] * self.vectors_ND.shape[1] ** 0.5]  # rows have lengths near one
        if self.item_features is not None:
            described.append(self.item_features.mean(self.item_codes_NGM[items]))
        own = drop_rows(self.own_embeddings(items), self.config.own_dropout, self.training)
        normed: Tensor = self.item_norm(self.describe(torch.cat(described, dim=-1)) + own)
        return normed

    def judge(self, batch: ImpressionBatch, candidates_BX: Tensor, counts_BX: Tensor) -> Judgement:
        """Judge candidates, each with the first `counts_BX` events of its history."""
        length = batch.items_BT.shape[1]
        known_K, places = torch.cat([batch.items_BT, candidates_BX], dim=1).unique(return_inverse=True)
        items = self.items(known_K)[places]
        tokens_BTD, items_BXD = items[:, :length], items[:, length:]
        if self.event_features is not None and self.add_event is not None:
            features_BTF = drop_rows(batch.features_BTF, self.config.feature_dropout, self.training)
            tokens_BTD = tokens_BTD + self.add_event(self.event_features(features_BTF))
        tokens_BTD = self.dropout(self.token_norm(tokens_BTD))
        found_BXD = self.attention(items_BXD, tokens_BTD, counts_BX)
        parts = [items_BXD, found_BXD, items_BXD * found_BXD, _means_before(tokens_BTD, counts_BX)]
        if self.user_features is not None and self.add_user is not None:
            users_BU = drop_rows(batch.users_BU, self.config.feature_dropout, self.training)
            parts.append(self.add_user(self.user_features(users_BU))[:, None].expand_as(items_BXD))
        joined_BXJ = self.dropout(torch.cat(parts, dim=-1))
        hidden_BXOH = functional.silu(self.towers(joined_BXJ)).unflatten(-1, self.heads.shape)
        objectives_BXO = (self.dropout(hidden_BXOH) * self.heads).sum(dim=-1) + self.head_biases
        fused = functional.silu(self.fuse(torch.cat([hidden_BXOH.flatten(-2), joined_BXJ], dim=-1)))
        # The fusion adds to the weighted sum. Detached towers stay calibrated.
        summed_BX = self.weighted(objectives_BXO.detach().float().sigmoid())
        start_BX = torch.logit(summed_BX.clamp(SMALLEST, 1 - SMALLEST))
        return Judgement(objectives_BXO, start_BX + self.fusion_head(self.dropout(fused))[..., 0])

    def forward(self, batch: ImpressionBatch) -> Tensor:
        """Summed losses `[O + 1]`; labels that are NaN do not count."""
        candidates_BX, counts_BX, labels_BXO = batch.candidates_BX, batch.counts_BX, batch.labels_BXO
        if self.objectives == [NEXT_ITEM]:
            candidates_BX, counts_BX, labels_BXO = self.with_negatives(batch, self.config.negatives)
        return self.losses(self.judge(batch, candidates_BX, counts_BX), labels_BXO)

    def losses(self, judgement: Judgement, labels_BXO: Tensor) -> Tensor:
        """The summed losses of a judgement, `[O + 1]`; the fusion's is multiplied by its weight."""
        known_BXO = ~labels_BXO.isnan()
        labels_BXO = torch.where(known_BXO, labels_BXO, 0.0)
        losses_BXO = functional.binary_cross_entropy_with_logits(
            judgement.objectives_BXO.float(), labels_BXO, reduction="none"
        )
        towers_O = (losses_BXO * known_BXO).flatten(0, 1).sum(dim=0)
        complete_BX = (known_BXO | (self.fusion_weights() == 0)).all(dim=-1)
        fusion_BX = functional.binary_cross_entropy_with_logits(
            judgement.score_BX.float(), self.weighted(labels_BXO), reduction="none"
        )
        fusion = self.config.fusion_weight * (fusion_BX * complete_BX).sum()
        return torch.cat([towers_O, fusion[None]])

    def with_negatives(
        self, batch: ImpressionBatch, count: int, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Candidates, counts and labels with `count` random items appended for every candidate, for the next item.

        The random items have label 0. An item that equals the candidate has no label, nor have the items of a candidate without
        one.
        """
        shape = (*batch.candidates_BX.shape, count)
        device, total = batch.candidates_BX.device, self.negative_sums_N[-1]
        drawn = torch.rand(shape, generator=generator, dtype=torch.float64).to(device) * total
        drawn_BXK = torch.searchsorted(self.negative_sums_N, drawn, right=True).clamp(max=len(self.negative_sums_N) - 1)
        unlabelled_BXK = batch.labels_BXO.isnan() | (drawn_BXK == batch.candidates_BX[..., None])
        labels_BXK = torch.zeros(shape, device=device).masked_fill(unlabelled_BXK, torch.nan)
        candidates = torch.cat([batch.candidates_BX, drawn_BXK.flatten(1)], dim=1)
        counts = torch.cat([batch.counts_BX, batch.counts_BX.repeat_interleave(count, dim=1)], dim=1)
        return candidates, counts, torch.cat([batch.labels_BXO, labels_BXK.flatten(1)[..., None]], dim=1)

    def save(self, folder: Path) -> None:
        """Write `config.json`, `model.safetensors` and the features' vocabulary."""
        self.vocabulary.save(folder / FEATURES_FOLDER)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        write_file(folder / WEIGHTS_FILE, lambda temporary: save_file(tensors, temporary))
        content = {"objectives": self.objectives, "reward": self.config.model_dump(mode="json")}
        write_json(folder / CONFIG_FILE, content)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a model that `save` wrote. Raises UserError if it is missing or unreadable."""
        try:
            content = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
            tensors = load_file(folder / WEIGHTS_FILE)
            vectors_ND, rates_O = tensors["vectors_ND"], tensors["rates_O"]
            parts = (RewardConfig(**content["reward"]), list(content["objectives"]))
            vocabulary = FeatureVocabulary.load(folder / FEATURES_FOLDER)
            model = cls(*parts, vocabulary, vectors_ND, rates_O, torch.ones(len(vectors_ND)))
            model.load_state_dict(tensors)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"{folder}: no readable reward model there ({reason}); `onerec reward` makes one"
            ) from error
        return model.eval()


class TargetAttention(nn.Module):
    """Attention of candidates to the events before them. An extra key stands for "nothing relevant".

    There are no positions. Each head has a bias for the age of an event, in buckets.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key_value = nn.Linear(width, width, bias=False), nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.nothing = nn.Parameter(torch.zeros(2, width))
        self.age_biases = nn.Parameter(torch.zeros(heads, AGES))

    def forward(self, candidates_BXD: Tensor, tokens_BTD: Tensor, counts_BX: Tensor) -> Tensor:
        """The result of each candidate's attention to its first `counts_BX` tokens, `[B, X, D]`."""
        places_T = torch.arange(tokens_BTD.shape[1], device=tokens_BTD.device)
        ages_BXT = counts_BX[..., None] - 1 - places_T
        buckets_BXT = (ages_BXT.clamp(min=0) + 1).float().log2().long().clamp(max=AGES - 1)
        biases = self.age_biases[:, buckets_BXT].masked_fill(ages_BXT < 0, -torch.inf)
        biases = rearrange(functional.pad(biases, (1, 0)), "h b x t -> b h x t")
        pairs_BTE = self.key_value(tokens_BTD)
        nothing_B1E = self.nothing.flatten().expand(len(pairs_BTE), 1, -1).to(pairs_BTE.dtype)
        keys, values = torch.cat([nothing_B1E, pairs_BTE], dim=1).chunk(2, dim=-1)
        query, keys, values = (
            rearrange(part, "b n (h d) -> b h n d", h=self.heads) for part in (self.query(candidates_BXD), keys, values)
        )
        found = functional.scaled_dot_product_attention(query, keys, values, attn_mask=biases.to(query.dtype))
        attended: Tensor = self.out(rearrange(found, "b h x d -> b x (h d)"))
        return attended


def _means_before(tokens_BTD: Tensor, counts_BX: Tensor) -> Tensor:
    """The mean of the first `counts_BX` tokens, `[B, X, D]`; zero for a count of 0."""
    sums_BTD = functional.pad(tokens_BTD.cumsum(dim=1), (0, 0, 1, 0))
    rows = torch.arange(len(tokens_BTD), device=tokens_BTD.device)[:, None]
    return sums_BTD[rows, counts_BX] / counts_BX.clamp(min=1)[..., None]
