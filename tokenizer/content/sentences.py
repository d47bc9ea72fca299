"""Text embeddings from a Hugging Face sentence encoder (extra `text`), kept in the cache."""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tokenizer.content.cache import Advance, cached_vectors, content_key
from tokenizer.content.models import OFFLINE_MODEL, PretrainedModel, model_location
from tokenizer.content.text import item_texts

SENTENCE_BATCH = 64
SENTENCE_TOKENS = 256
STORED_AT_ONCE = 4096  # texts; an interruption loses at most this much work


class SentenceEncoder(PretrainedModel):
    """Mean-pooled last hidden states of a Hugging Face encoder, rows of length one.

    model: an id on the hub, a folder, or OFFLINE_MODEL. Texts are cut at SENTENCE_TOKENS tokens. It runs on a GPU if there
    is one. The model is loaded only when a text is not in the cache. Raises TokenizerError when the extra `text` is not
    installed or the model cannot be loaded.
    """

    key, extra = "sentence_model", "text"
    hint = f"give a folder, or {OFFLINE_MODEL!r} from the extra `text`"

    def vectors(self, texts: list[str]) -> np.ndarray:
        """One row per text, float32 [N,D]."""
        keys = [content_key(text.encode()) for text in texts]
        maker = {"kind": "sentence", "model": self.identity, "tokens": SENTENCE_TOKENS, "pooling": "mean"}
        return cached_vectors(
            keys,
            json.dumps(maker),
            lambda positions, advance: self.embed([texts[position] for position in positions], advance),
            rows_at_once=STORED_AT_ONCE,
            what="embedding texts",
        )

    def embed(self, texts: list[str], advance: Advance) -> np.ndarray:
        """Embeddings of the texts, float32 [N,D], without the cache."""
        import torch

        tokenizer, encoder = self._loaded
        tokens = min(SENTENCE_TOKENS, tokenizer.model_max_length)
        # a batch of texts of similar length needs little padding
        by_length = np.argsort([len(text) for text in texts], kind="stable")
        parts = []
        with torch.inference_mode():
            for start in range(0, len(texts), SENTENCE_BATCH):
                batch = tokenizer(
                    [texts[row] for row in by_length[start : start + SENTENCE_BATCH]],
                    padding=True,
                    truncation=True,
                    max_length=tokens,
                    return_tensors="pt",
                ).to(encoder.device)
                hidden_BTD = encoder(**batch).last_hidden_state.float()
                mask_BT1 = batch["attention_mask"].unsqueeze(-1).to(hidden_BTD.dtype)
                mean_BD = (hidden_BTD * mask_BT1).sum(1) / mask_BT1.sum(1).clamp(min=1)
                parts.append(torch.nn.functional.normalize(mean_BD, dim=1).cpu().numpy())
                advance(len(parts[-1]))
        vectors_ND = np.concatenate(parts)
        return np.asarray(vectors_ND[np.argsort(by_length)])

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        location = model_location(self.model)
        with self.loading():
            import torch
            from transformers import AutoModel, AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(location)
            with torch.random.fork_rng(devices=[]):  # draws weights that the checkpoint lacks; none is used
                encoder = AutoModel.from_pretrained(location)
        if encoder.config.is_encoder_decoder:
            encoder = encoder.get_encoder()
        if tokenizer.pad_token is None:  # language models have none; the mask hides the padding anyway
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer, encoder.to("cuda" if torch.cuda.is_available() else "cpu").eval()


class TextColumns:
    """Text columns of the items, read as one text: a source for `tokenizer.content.embeddings.EmbeddingBlock`."""

    def __init__(self, columns: list[str], encoder: SentenceEncoder) -> None:
        self.columns, self.encoder = columns, encoder

    def present(self, items: pl.DataFrame) -> np.ndarray:
        """Rows that have a text, bool [N]."""
        return np.asarray([bool(text) for text in item_texts(items, self.columns)])

    def vectors(self, items: pl.DataFrame, folder: Path, rows: np.ndarray) -> np.ndarray:
        """Embeddings of these rows, float32 [M,D]."""
        return self.encoder.vectors(item_texts(items.select(self.columns)[rows], self.columns))
