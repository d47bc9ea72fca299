"""SASRec with a full softmax over all items: the plain sequential model that small generative recommenders often lose to.

Self-Attentive Sequential Recommendation (arXiv 1808.09781), trained with cross-entropy over the whole catalogue instead of one
sampled negative. It shares windows, trainer, schedule and early stopping with the generator.
"""

from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from onerec.data.candidates import Lists
from onerec.data.requests import Requests
from onerec.data.windows import Batch, Windows, every_position_windows
from onerec.errors import UserError
from onerec.recommenders.recommender import TrainingData
from onerec.train.trainer import TrainConfig
from tokenizer.common.settings import Layers, Length, Settings, Width


class SASRecConfig(Settings):
    """Sizes of SASRec; widths in features, dropout a probability, history_length in items."""

    width: Width = 64
    heads: Width = 2
    layers: Layers = 2
    dropout: float = Field(0.3, ge=0, lt=1)
    history_length: Length = 50

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.width % self.heads:
            raise UserError(
                f"baselines.sasrec.model.width is {self.width}; it must be a multiple of the {self.heads} heads"
            )
        return self


class SASRecSection(Settings):
    """The SASRec baseline: its sizes and its own training settings."""

    model: SASRecConfig = SASRecConfig()
    train: TrainConfig = TrainConfig()


class SASRec(nn.Module):
    """Causal transformer over item embeddings; the same embeddings score the next item."""

    def __init__(self, config: SASRecConfig, item_count: int) -> None:
        super().__init__()
        self.config = config
        self.items = nn.Embedding(item_count, config.width)
        self.positions = nn.Embedding(config.history_length, config.width)
        layer = nn.TransformerEncoderLayer(
            config.width,
            config.heads,
            dim_feedforward=4 * config.width,
            dropout=config.dropout,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.layers = nn.TransformerEncoder(
            layer, config.layers, nn.LayerNorm(config.width), enable_nested_tensor=False
        )
        self.dropout = nn.Dropout(config.dropout)
        nn.init.normal_(self.items.weight, std=config.width**-0.5)
        nn.init.normal_(self.positions.weight, std=config.width**-0.5)

    def states(self, items_BT: Tensor) -> Tensor:
        """Hidden states `[B, T, D]`; padding on the right is hidden by the causal mask."""
        time = items_BT.shape[1]
        x_BTD = self.dropout(self.items(items_BT) * self.config.width**0.5 + self.positions.weight[:time])
        mask = nn.Transformer.generate_square_subsequent_mask(time, device=x_BTD.device)
        states: Tensor = self.layers(x_BTD, mask=mask, is_causal=True)
        return states

    def forward(self, batch: Batch) -> Tensor:
        """Negative log-likelihood of the counted targets in nats, summed, `[1]`."""
        states_XD = self.states(batch.items_BT)[batch.counted_BT]
        logits_XN = (states_XD @ self.items.weight.T).float()
        return functional.cross_entropy(logits_XN, batch.targets_BT[batch.counted_BT], reduction="sum")[None]


class SASRecRecommender:
    """Rank the whole catalogue with a trained SASRec, `batch_size` users at a time."""

    name, label = "sasrec", "SASRec"
    description = "causal transformer over items, full-softmax cross-entropy, every item scored"
    reads_vectors = False

    def __init__(self, model: nn.Module, batch_size: int = 256) -> None:
        assert isinstance(model, SASRec)
        self.model, self.batch_size = model, batch_size

    @staticmethod
    def width(section: SASRecSection) -> int:
        return section.model.width

    @staticmethod
    def build(section: SASRecSection, data: TrainingData) -> SASRec:
        return SASRec(section.model, data.item_count)

    @staticmethod
    def windows(section: SASRecSection, data: TrainingData) -> Windows:
        return every_position_windows(data.item_index, data.offsets, section.model.history_length)

    @torch.inference_mode()
    def recommend(self, requests: Requests, k: int, *, exclude_seen: bool) -> Lists:
        """The k best items of each request; scores are log-probabilities in nats."""
        model, lists = self.model.eval(), Lists.empty(len(requests), k)
        device, item_count = model.items.weight.device, len(model.items.weight)
        items_only = Requests.of_histories(requests.history_items, requests.history_offsets)
        for rows, batch in items_only.batches(model.config.history_length, 0, self.batch_size):
            batch = batch.to(device)
            states_BTD = model.states(batch.items_BT)
            last_BD = states_BTD[torch.arange(len(rows), device=device), batch.lengths_B - 1]
            scores_BN = functional.log_softmax((last_BD @ model.items.weight.T).float(), dim=1)
            if exclude_seen:
                seen_BS = requests.seen(rows).to(device)
                # Padding (-1) is sent to an extra column that is cut off again.
                marks = torch.zeros(len(rows), item_count + 1, dtype=torch.bool, device=device)
                marks.scatter_(1, torch.where(seen_BS < 0, item_count, seen_BS), True)
                scores_BN = scores_BN.masked_fill(marks[:, :item_count], -torch.inf)
            best = scores_BN.topk(min(k, item_count), dim=1)
            found = best.values > -torch.inf
            lists.items_CK[rows, : best.indices.shape[1]] = torch.where(found, best.indices, -1).cpu().numpy()
            lists.scores_CK[rows, : best.indices.shape[1]] = best.values.cpu().numpy()
        return lists
