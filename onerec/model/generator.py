"""The generator: it reads histories and gives log-probabilities of items, one code at a time."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from huggingface_hub import ModelHubMixin, snapshot_download
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from onerec.data.features import FeatureVocabulary
from onerec.data.windows import Batch
from onerec.decode.beam_search import Children
from onerec.decode.item_trie import ItemTrie
from onerec.errors import UserError
from onerec.model.decoders.code_decoder import CodeDecoder, EncodedContext
from onerec.model.decoders.decoder import Decoder
from onerec.model.decoders.lazy_decoder import LazyDecoder
from onerec.model.decoders.lookahead import ahead_of_targets
from onerec.model.generator_config import GeneratorConfig
from onerec.model.history.encoder import Encoder
from onerec.model.history.item_tokens import ItemTokens
from onerec.model.history.lifelong import LifelongTokens
from onerec.model.history.prefix import Prefix, PrefixTokens
from onerec.model.item_scorer import ItemScorer
from onerec.model.layers.experts import ExpertsSpec
from onerec.model.layers.features import EventFeatures
from onerec.model.layers.layer_sizes import LayerSizes
from tokenizer.common.integrity import check_sums, write_sums
from tokenizer.semantic_ids import SemanticIds

Ahead = Callable[[Tensor], Tensor]  # from child states to their lookahead logits, in nats
CONFIG_FILE, WEIGHTS_FILE, FEATURES_FOLDER = "config.json", "model.safetensors", "features"


class Generator(nn.Module, ModelHubMixin):
    """Encoder and decoder over semantic IDs, with one context token per item.

    `decoder: encoder_decoder` is the model of the OneRec Technical Report; `decoder: lazy` without encoder layers is
    OneRec-V2's.

    An item's log-probability is the sum over its L codes. With `softmax: legal` the model chooses each code among those that
    lead to an item. The probabilities of all items then sum to 1, and the training loss is -log p(item) in nats, the same unit
    as the loss of an item model with a full softmax.

    A generator is useless without its semantic IDs, so `save_pretrained(folder)` writes them beside `config.json`,
    `model.safetensors` and the features that the model reads. `Generator.from_pretrained(folder or Hub name)` reads all of it.

    Args:
        config: sizes and choices.
        semantic_ids: the ID of every item; they define the output heads and the trie.
        vocabulary: the features that `config.pathways` names; None where it names none.

    Raises:
        UserError: the config's choices contradict each other, or `vocabulary` is missing.
    """

    def __init__(
        self, config: GeneratorConfig, semantic_ids: SemanticIds, vocabulary: FeatureVocabulary | None = None
    ) -> None:
        super().__init__()
        config = config.settled(len(semantic_ids.codes_NL))
        if config.pathways.names_features and vocabulary is None:
            raise UserError("generator.pathways names features, so the generator needs their vocabulary beside its IDs")
        self.config, self.semantic_ids, self.vocabulary = config, semantic_ids, vocabulary
        self.trie = ItemTrie.from_codes(semantic_ids.codes_NL, semantic_ids.level_sizes)
        sizes, codes_NL = self.trie.level_sizes, torch.from_numpy(semantic_ids.codes_NL).long()
        self.tokens = ItemTokens(
            codes_NL, sizes, config.width, config.own_embedding, config.own_dropout, self._event_features()
        )
        layer_sizes = LayerSizes(config.width, config.heads, config.hidden_width, config.dropout, _experts_spec(config))
        in_encoder = (
            layer_sizes if config.expert_layers == "encoder_and_decoder" else replace(layer_sizes, experts=None)
        )
        self.encoder = Encoder(config.encoder_layers, in_encoder, config.context == "causal")
        self.decoder = self._make_decoder(layer_sizes, sizes)
        # Zero at the start, so that the codes alone decide about an item that training never shows.
        self.item_vectors = nn.Parameter(torch.zeros(len(codes_NL), config.width)) if config.item_head else None
        self.item_scorer = None
        if config.item_loss > 0 or config.lookahead:
            self.item_scorer = ItemScorer(config.width, config.item_loss_sample, config.own_dropout)
        self.last_positions_only = config.context == "bidirectional"
        self.prefix = self._prefix_tokens(layer_sizes)

    def _event_features(self) -> EventFeatures | None:
        vocabulary, pathways = self.vocabulary, self.config.pathways
        if vocabulary is None or not (vocabulary.event or vocabulary.item):
            return None
        return EventFeatures(vocabulary, pathways.feature_width, pathways.feature_dropout)

    def _prefix_tokens(self, layer_sizes: LayerSizes) -> PrefixTokens | None:
        pathways, joined_width, lifelong = self.config.pathways, self.tokens.joined_width, None
        user_sizes = [column.size for column in self.vocabulary.user] if self.vocabulary else []
        if not user_sizes and not pathways.positive_length and pathways.lifelong is None:
            return None
        if pathways.lifelong is not None:
            lifelong = LifelongTokens(pathways.lifelong.tokens, pathways.lifelong.layers, joined_width, layer_sizes)
        return PrefixTokens(user_sizes, pathways, joined_width, self.config.width, lifelong)

    def _make_decoder(self, layer_sizes: LayerSizes, level_sizes: tuple[int, ...]) -> CodeDecoder:
        config = self.config
        if config.decoder == "encoder_decoder":
            return Decoder(config.decoder_layers, layer_sizes, level_sizes)
        return LazyDecoder(
            config.decoder_layers,
            layer_sizes,
            level_sizes,
            key_value_layers=config.key_value_layers,
            key_value_split=config.key_value_split,
            key_value_groups=config.key_value_groups or config.heads,
        )

    def forward(self, batch: Batch) -> Tensor:
        """Negative log-likelihood of the counted targets in nats, summed per level: `[L]`.

        With `item_loss` > 0 there is one more entry: the item scorer's loss, multiplied by `item_loss`.
        """
        states_BTD, prefix = self.encode(batch)
        positions_BP = self.target_positions(batch)
        targets_BP = batch.targets_BT.gather(1, positions_BP)
        counted_BP = batch.counted_BT.gather(1, positions_BP)
        context = self.decoder.read_context(states_BTD, prefix)
        states_BPLD = self.teacher_forced(context, positions_BP, self.tokens.codes_NL[targets_BP], counted_BP)
        counted_XLD, targets_X = states_BPLD[counted_BP], targets_BP[counted_BP]
        rows = torch.arange(len(states_BTD), device=states_BTD.device)[:, None]
        ahead, item_loss = self._items_at_targets(states_BTD[rows, positions_BP][counted_BP], targets_X)
        losses = [
            -self.log_probabilities_of(counted_XLD[:, level], targets_X, level, ahead[level]).sum()
            for level in range(self.levels)
        ]
        if self.config.item_loss > 0:
            losses.append(self.config.item_loss * item_loss)
        return torch.stack(losses)

    def _items_at_targets(self, newest_XD: Tensor, targets_X: Tensor) -> tuple[Sequence[Ahead | None], Tensor]:
        """The item scorer at the positions of targets: the lookahead of each level, and its own summed loss."""
        if self.item_scorer is None:
            return [None] * self.levels, newest_XD.new_zeros(())
        if not self.config.lookahead:
            return [None] * self.levels, self.item_scorer.loss(newest_XD, targets_X, self.tokens)
        scores_NX = self.item_scorer.scores_of_all(newest_XD, self.tokens, self.trie.items)
        ahead, losses_X = ahead_of_targets(scores_NX, self.trie, targets_X)
        return [partial(_already_gathered, logits_XM) for logits_XM in ahead], losses_X.sum()

    def target_positions(self, batch: Batch) -> Tensor:
        """Positions `[B, P]` whose targets the decoder writes in training. Some of these targets may not count."""
        if self.last_positions_only:
            return batch.lengths_B[:, None] - 1
        if self.config.pathways.stream == "all":
            # Most events are not targets, so the decoder leaves them out.
            most = max(1, int(batch.counted_BT.sum(dim=1).max()))
            return (~batch.counted_BT).int().argsort(dim=1, stable=True)[:, :most]
        return torch.arange(batch.items_BT.shape[1], device=batch.items_BT.device).expand(len(batch.items_BT), -1)

    def encode(self, batch: Batch) -> tuple[Tensor, Prefix | None]:
        """Encoder states `[B, T, D]` of the histories, and the encoded prefix, or None without one."""
        features = batch.context_features
        tokens_BTD = self.tokens(batch.items_BT, None if features is None else features.features_BTF)
        if self.prefix is None:
            return self.encoder(tokens_BTD, batch.lengths_B), None
        prefix = self.prefix(batch, self.tokens)
        states_BSD, length = self.encoder(tokens_BTD, batch.lengths_B, prefix), len(prefix.positions_P)
        return states_BSD[:, length:], replace(prefix, tokens_BPD=states_BSD[:, :length])

    @property
    def levels(self) -> int:
        """Codes per item, L."""
        return self.trie.levels

    def _apply(self, *args: Any, **kwargs: Any) -> Self:
        """Move the trie along with the model. It holds only indices, so a change of dtype does not concern it."""
        super()._apply(*args, **kwargs)
        self.trie = self.trie.to(self.decoder.level_embeddings.device)
        return self

    def _save_pretrained(self, save_directory: Path) -> None:
        self.semantic_ids.save(save_directory / "semantic_ids")
        if self.vocabulary is not None:
            self.vocabulary.save(save_directory / FEATURES_FOLDER)
        save_file(
            {name: tensor.contiguous() for name, tensor in self.state_dict().items()}, save_directory / WEIGHTS_FILE
        )
        (save_directory / CONFIG_FILE).write_text(self.config.model_dump_json(indent=2) + "\n", encoding="utf-8")
        write_sums(save_directory)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Self:
        """The generator in a folder or on the Hub; options are those of `huggingface_hub`'s mixin.

        Raises:
            UserError: there is no such folder, and it is no name `owner/name` on the Hub; or a file is missing.
            TokenizerError: a file is not the one that was saved.
        """
        folder = Path(pretrained_model_name_or_path)
        named = len(folder.parts) == 2 and not folder.is_absolute() and folder.parts[0] not in (".", "..", "~")
        # The mixin would ask the Hub for any path that is no folder.
        if not folder.is_dir() and (not named or folder.parent.exists()):
            raise UserError(f"{folder}: no such folder; `onerec train` makes a generator folder")
        if folder.is_dir():
            _check_folder(folder)  # the mixin reads the config before it calls `_from_pretrained`
        loaded: Self = super().from_pretrained(pretrained_model_name_or_path, **options)
        return loaded

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **options: Any) -> Self:
        folder = Path(model_id)
        if not folder.is_dir():
            hub = {
                key: options[key] for key in ("revision", "cache_dir", "force_download", "local_files_only", "token")
            }
            folder = Path(snapshot_download(model_id, **hub))
        _check_folder(folder)
        config = GeneratorConfig(**json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8")))
        vocabulary = FeatureVocabulary.load(folder / FEATURES_FOLDER) if config.pathways.names_features else None
        model = cls(config, SemanticIds.load(folder / "semantic_ids"), vocabulary)
        weights = load_file(folder / WEIGHTS_FILE)
        if broken := [name for name, tensor in weights.items() if not tensor.isfinite().all()]:
            raise UserError(f"{folder / WEIGHTS_FILE}: {broken[0]} holds numbers that are not finite; train again")
        model.load_state_dict(weights)
        return model.eval()

    def teacher_forced(
        self, context: EncodedContext, positions_BP: Tensor, codes_BPL: Tensor, counted_BP: Tensor | None = None
    ) -> Tensor:
        """Decoder states `[B, P, L, D]` of given codes behind given positions. The codes need not be those of an item."""
        rows = torch.arange(len(codes_BPL), device=codes_BPL.device)[:, None]
        inputs = [self.decoder.last_state(context.states_BTD[rows, positions_BP])]
        inputs += [self.tokens.embed_codes(codes_BPL[..., level], level) for level in range(self.levels - 1)]
        states_BPLD: Tensor = self.decoder(torch.stack(inputs, dim=2), context, positions_BP, counted_BP)
        return states_BPLD

    def child_log_probabilities(
        self, hidden: Tensor, states: Tensor, level: int, ahead: Ahead | None = None
    ) -> Children:
        """The model's distribution over the legal continuations of trie states. Beam search, scoring and the loss all use it.

        With `softmax: legal` all probability goes to the children. With `full` it is spread over all V codes, and the share of
        illegal codes is lost. On the last level every child is one item; `item_head` adds to the code's logit an inner product
        with that item's own vector.

        Args:
            hidden: `[..., D]`, decoder states before the code of `level`.
            states: int64 `[...]`, their trie states.
            ahead: from child states `[..., M]` to lookahead logits, which are added to the codes' logits; None without lookahead.
        """
        codes, starts, legal = self.trie.edges(states, level)
        normed = self.decoder.head_norms[level](hidden)
        logits = self.decoder.heads[level](normed).float()
        # The codes are int32. A CPU can gather with them, which halves the memory to read.
        chosen = logits.gather(-1, codes if codes.device.type == "cpu" else codes.long())
        if self.item_vectors is not None and level == self.levels - 1:
            # Only real children are scored. The widest branch is many times the usual one, so most places are padding.
            queries_XD = (normed * self.tokens.scale)[..., None, :].expand(*legal.shape, -1)[legal]
            leaves_X = self._following(starts, legal)[legal]
            scores_X = (queries_XD * self.item_vectors[self.trie.items_of(leaves_X)]).sum(dim=-1)
            chosen = chosen + torch.zeros_like(chosen).masked_scatter(legal, scores_X.float())
        if ahead is not None:
            chosen = chosen + ahead(self._following(starts, legal))
        chosen = chosen.masked_fill(~legal, -torch.inf)
        total = chosen if self.config.softmax == "legal" else logits
        return Children(chosen - total.logsumexp(dim=-1, keepdim=True), starts)

    @staticmethod
    def _following(starts: Tensor, legal: Tensor) -> Tensor:
        """The states `[..., M]` that children lead to. Padding gets the state of the first child."""
        return torch.where(legal, torch.arange(legal.shape[-1], device=legal.device), 0) + starts[..., None] + 1

    def log_probabilities_of(self, hidden: Tensor, items: Tensor, level: int, ahead: Ahead | None = None) -> Tensor:
        """`log p(code of this level | history, codes before)` of given items in nats; `ahead` as in `child_log_probabilities`."""
        children = self.child_log_probabilities(hidden, self.trie.states_NL[items, level], level, ahead)
        return children.log_probabilities.gather(-1, self.trie.child_places_NL[items, level, None])[..., 0]


def _check_folder(folder: Path) -> None:
    """Raise UserError or TokenizerError unless a folder holds a whole generator as it was saved."""
    for name in (CONFIG_FILE, WEIGHTS_FILE, "semantic_ids"):
        if not (folder / name).exists():
            raise UserError(f"{folder / name}: missing; `onerec train` makes a generator folder")
    check_sums(folder, "save the generator again, or run the command that made it")


def _already_gathered(logits_XM: Tensor, _: Tensor) -> Tensor:
    """Lookahead logits that were gathered along the targets' paths, so the child states are not needed."""
    return logits_XM


def _experts_spec(config: GeneratorConfig) -> ExpertsSpec | None:
    """The experts of a config, or None where it has none."""
    if not config.experts:
        return None
    return ExpertsSpec(
        config.experts,
        config.experts_active,
        config.expert_hidden_width,
        config.shared_expert,
        config.balance_step,
        config.dense_layers,
    )
