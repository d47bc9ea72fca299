"""Our generator behind Hugging Face's `generate`, the way open generative recommenders decode: beams are rows of the batch, and a
Python function says after every prefix which codes may follow. The weights are those of our generator.

Keys and values are cached as transformers' own encoder-decoder models do it, for the codes and for the history, and reordered
with the beams.
"""

from collections import defaultdict
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.cache_utils import EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput

from onerec.data.windows import Batch
from onerec.model.decoders.code_decoder import EncodedContext, Past
from onerec.model.generator import Generator


class BeamsConfig(PretrainedConfig):
    """What `generate` asks of a configuration."""

    model_type = "onerec_beams"

    def __init__(self, vocab_size: int = 1, layers: int = 1, **options: Any) -> None:
        super().__init__(**options)
        self.vocab_size, self.num_hidden_layers, self.decoder_layers = vocab_size, layers, layers
        self.num_attention_heads = self.hidden_size = 1


class HistoryEncoder(nn.Module):
    """Item numbers `[B, T]` to encoder states, once per user."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **_: Any) -> BaseModelOutput:
        generator = self.generator
        states_BTD = generator.encoder(generator.tokens(input_ids), attention_mask.sum(dim=1))
        return BaseModelOutput(last_hidden_state=states_BTD)


class HuggingFaceBeams(PreTrainedModel, GenerationMixin):
    """A generator (encoder-decoder, without item head) as a sequence-to-sequence model over one vocabulary of all codes.

    Token `level_starts[l] + c` is code c of level l; two more tokens start a sequence and fill it up.
    """

    config_class = BeamsConfig
    main_input_name = "input_ids"

    def __init__(self, generator: Generator) -> None:
        if generator.item_vectors is not None:
            raise ValueError("the item head scores items, not codes: make the generator with item_head=False")
        self.level_starts = np.concatenate([[0], np.cumsum(generator.trie.level_sizes)]).tolist()
        start = self.level_starts[-1]
        config = BeamsConfig(
            vocab_size=start + 2,
            layers=generator.config.decoder_layers,
            is_encoder_decoder=True,
            decoder_start_token_id=start,
            pad_token_id=start + 1,
            bos_token_id=start,
            eos_token_id=None,
            tie_word_embeddings=False,
        )
        super().__init__(config)
        self.generator, self.history_encoder = generator, HistoryEncoder(generator)
        self.allowed = _followers(generator.semantic_ids.codes_NL, self.level_starts)

    def get_encoder(self, *_: Any, **__: Any) -> nn.Module:
        return self.history_encoder

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        encoder_outputs: BaseModelOutput | None = None,
        cache: EncoderDecoderCache | None = None,
        **_: Any,
    ) -> Seq2SeqLMOutput:
        """Logits of the code after the newest one, -inf for codes of other levels."""
        assert decoder_input_ids is not None and encoder_outputs is not None and attention_mask is not None
        assert cache is not None
        level = cache.get_seq_length()
        context = self._context(encoder_outputs, cache)
        last_R = attention_mask.sum(dim=1) - 1
        generator = self.generator
        if level == 0:
            states_RD = context.states_BTD[torch.arange(len(last_R)), last_R]
            inputs_R1D = generator.decoder.last_state(states_RD)[:, None]
            past = Past([], [])
        else:
            codes_R1 = decoder_input_ids[:, -1:] - self.level_starts[level - 1]
            inputs_R1D = generator.tokens.embed_codes(codes_R1, level - 1)
            layers = cache.self_attention_cache.layers
            # One beam per row: each level's keys and values are the row's own.
            before = [
                [
                    (cast(Any, layer).keys[:, None, :, place], cast(Any, layer).values[:, None, :, place])
                    for layer in layers
                ]
                for place in range(level)
            ]
            past = Past(before, [torch.zeros_like(codes_R1)] * level)
        hidden_R1D, grown = generator.decoder.step(inputs_R1D, level, context, last_R, past)
        for layer, (keys, values) in enumerate(grown.keys_values[-1]):
            cache.self_attention_cache.update(keys[:, 0, :, None], values[:, 0, :, None], layer)
        logits_RV = generator.decoder.heads[level](generator.decoder.head_norms[level](hidden_R1D[:, 0]))
        all_RV = logits_RV.new_full((len(last_R), self.config.vocab_size), -torch.inf)
        all_RV[:, self.level_starts[level] : self.level_starts[level + 1]] = logits_RV
        return Seq2SeqLMOutput(logits=all_RV[:, None], cache=cache)

    def _context(self, encoder_outputs: BaseModelOutput, past: EncoderDecoderCache) -> EncodedContext:
        states_RTD = cast(Tensor, encoder_outputs.last_hidden_state)
        cross = past.cross_attention_cache
        if past.get_seq_length() == 0:
            for layer, (keys, values) in enumerate(self.generator.decoder.read_context(states_RTD).keys_values):
                cross.update(keys, values, layer)
        return EncodedContext(states_RTD, [(cast(Any, layer).keys, cast(Any, layer).values) for layer in cross.layers])

    def beams(self, batch: Batch, beam_width: int) -> tuple[Tensor, Tensor]:
        """Codes int64 `[B, K, L]` of every user's beams, best first, and their log-probabilities `[B, K]`."""
        levels = self.generator.levels
        made: Any = self.generate(
            batch.items_BT,
            attention_mask=(torch.arange(batch.items_BT.shape[1]) < batch.lengths_B[:, None]).long(),
            num_beams=beam_width,
            num_return_sequences=beam_width,
            do_sample=False,
            max_new_tokens=levels,
            min_new_tokens=levels,
            length_penalty=0.0,
            renormalize_logits=True,  # the legal softmax: probabilities among the codes that may follow
            prefix_allowed_tokens_fn=self._may_follow,
            return_dict_in_generate=True,
            output_scores=True,
            use_cache=True,
        )
        codes_XL = made.sequences[:, -levels:] - torch.tensor(self.level_starts[:-1])
        return codes_XL.view(-1, beam_width, levels), made.sequences_scores.view(-1, beam_width)

    def _may_follow(self, _: int, sequence: Tensor) -> list[int]:
        return self.allowed[tuple(sequence[1:].tolist())]


def _followers(codes_NL: np.ndarray, level_starts: list[int]) -> dict[tuple[int, ...], list[int]]:
    """Tokens that may follow each prefix. Any token may follow a prefix of no item, which has no probability anyway."""
    followers: defaultdict[tuple[int, ...], set[int]] = defaultdict(set)
    tokens_NL = codes_NL + np.array(level_starts[:-1])
    for tokens in tokens_NL.tolist():
        for level, token in enumerate(tokens):
            followers[tuple(tokens[:level])].add(token)
    every = list(range(level_starts[-1]))
    return defaultdict(lambda: every, {prefix: sorted(found) for prefix, found in followers.items()})
