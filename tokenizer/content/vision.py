"""Embeddings of videos and images from a Hugging Face image backbone (extra `vision`), kept in the cache.

The vector of a video is the mean of its frames' vectors, weighted by the tokens that `tokenizer.content.frames` gives them.
So a frame that shows something new counts, even beside a minute without change.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tokenizer.content.cache import Advance, cached_vectors
from tokenizer.content.frames import slow_frames, spread_budget
from tokenizer.content.media import LONGEST_SIDE, MOST_FRAMES, read_image, sample_frames
from tokenizer.content.models import PretrainedModel
from tokenizer.content.text import MISSING_WORDS
from tokenizer.errors import TokenizerError

IMAGES_AT_ONCE = 32
STORED_AT_ONCE = 64  # videos, or batches of images; an interruption loses at most this much work


class ImageEncoder(PretrainedModel):
    """Image embeddings of length one: the mean of a backbone's output over all positions of a picture.

    model: an id on the hub or a folder, with its image processor. Models with an image and a text side, such as CLIP, give
    their image features. Others give the mean and not the pooled output, because many checkpoints lack the weights for
    pooling. It runs on a GPU if there is one. The model is loaded only when a file is not in the cache. Raises
    TokenizerError when the extra `vision` is not installed or the model cannot be loaded.
    """

    key, extra, hint = "vision_model", "vision", "give the folder of an image backbone and its processor"

    def embed(self, pictures: list[np.ndarray]) -> np.ndarray:
        """One row per picture (uint8 [H,W,3]), float32 [N,D]."""
        import torch

        processor, backbone = self._loaded
        parts = []
        with torch.inference_mode():
            for start in range(0, len(pictures), IMAGES_AT_ONCE):
                batch = processor(images=pictures[start : start + IMAGES_AT_ONCE], return_tensors="pt").to(
                    backbone.device
                )
                pixels = batch["pixel_values"].to(backbone.dtype)
                if "vision_config" in backbone.config.sub_configs:
                    features_BD = backbone.get_image_features(pixel_values=pixels).pooler_output
                else:
                    hidden = backbone(pixel_values=pixels).last_hidden_state  # [B,T,D], or [B,D,H,W] of a convolution
                    features_BD = hidden.mean(dim=1 if hidden.ndim == 3 else (2, 3))
                parts.append(torch.nn.functional.normalize(features_BD.float(), dim=1).cpu().numpy())
        return np.concatenate(parts)

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        with self.loading():
            import torch
            from transformers import AutoImageProcessor, AutoModel

            processor = AutoImageProcessor.from_pretrained(self.model)
            with torch.random.fork_rng(devices=[]):  # draws weights that the checkpoint lacks; none is used
                backbone = AutoModel.from_pretrained(self.model)
        return processor, backbone.to("cuda" if torch.cuda.is_available() else "cpu").eval()


class _FileColumn:
    """What columns of videos and columns of images share."""

    def __init__(self, column: str, encoder: ImageEncoder) -> None:
        self.column, self.encoder = column, encoder

    def present(self, items: pl.DataFrame) -> np.ndarray:
        """Rows that name a file, bool [N]."""
        column = items[self.column]
        if column.dtype not in (pl.String, pl.Null):
            raise TokenizerError(f"items: column {self.column!r} holds {column.dtype}; it must hold paths of files.")
        text = column.cast(pl.String).fill_null("").str.strip_chars().str.to_lowercase()
        return (~text.is_in(MISSING_WORDS)).to_numpy()

    def _files(self, items: pl.DataFrame, folder: Path, rows: np.ndarray) -> list[Path]:
        """Paths of these rows. A missing file is reported now, before hours of work on the other files."""
        paths = [folder / name for name in items[self.column][rows].str.strip_chars()]
        absent = [(row, path) for row, path in zip(rows, paths, strict=True) if not path.is_file()]
        if absent:
            row, path = absent[0]
            raise TokenizerError(
                f"items: column {self.column!r}, row {row}: {path} does not exist ({len(absent)} such rows of "
                f"{len(items)}); paths must be absolute or start at the folder of the items table."
            )
        return paths

    @contextmanager
    def _row(self, row: int) -> Iterator[None]:
        """Put the column and the row in front of an error about a file."""
        try:
            yield
        except TokenizerError as error:
            raise TokenizerError(f"items: column {self.column!r}, row {row}: {error}") from error


class VideoColumn(_FileColumn):
    """A column of paths to videos: a source for `tokenizer.content.embeddings.EmbeddingBlock`."""

    def __init__(self, column: str, encoder: ImageEncoder, frames_per_second: float, token_budget: int) -> None:
        super().__init__(column, encoder)
        self.frames_per_second, self.token_budget = frames_per_second, token_budget

    def vectors(self, items: pl.DataFrame, folder: Path, rows: np.ndarray) -> np.ndarray:
        """One vector per video, float32 [M,D]. TokenizerError names the row and the file that is missing or broken."""
        paths = self._files(items, folder, rows)

        def embed(positions: list[int], advance: Advance) -> np.ndarray:
            vectors = []
            for position in positions:
                with self._row(rows[position]):
                    vectors.append(self._video_vector(paths[position]))
                advance(1)
            return np.stack(vectors)

        settings = {"kind": "video", "frames_per_second": self.frames_per_second, "token_budget": self.token_budget}
        settings |= {"most_frames": MOST_FRAMES, "longest_side": LONGEST_SIDE, "pooling": "tokens"}
        return _cached(paths, self.encoder, settings, embed, STORED_AT_ONCE, f"embedding videos ({self.column})")

    def _video_vector(self, path: Path) -> np.ndarray:
        frames = sample_frames(path, self.frames_per_second)
        tokens_T = spread_budget(slow_frames(frames), self.token_budget)
        chosen = np.flatnonzero(tokens_T)
        vectors_CD = self.encoder.embed([frames[frame] for frame in chosen])
        return np.average(vectors_CD, axis=0, weights=tokens_T[chosen]).astype(np.float32)


class ImageColumn(_FileColumn):
    """A column of paths to images: a source for `tokenizer.content.embeddings.EmbeddingBlock`."""

    def vectors(self, items: pl.DataFrame, folder: Path, rows: np.ndarray) -> np.ndarray:
        """One vector per image, float32 [M,D]. TokenizerError names the row and the file that is missing or broken."""
        paths = self._files(items, folder, rows)

        def embed(positions: list[int], advance: Advance) -> np.ndarray:
            parts = []
            for start in range(0, len(positions), IMAGES_AT_ONCE):
                pictures = []
                for position in positions[start : start + IMAGES_AT_ONCE]:
                    with self._row(rows[position]):
                        pictures.append(read_image(paths[position]))
                parts.append(self.encoder.embed(pictures))
                advance(len(pictures))
            return np.concatenate(parts)

        settings, rows_at_once = {"kind": "image", "longest_side": LONGEST_SIDE}, STORED_AT_ONCE * IMAGES_AT_ONCE
        return _cached(paths, self.encoder, settings, embed, rows_at_once, f"embedding images ({self.column})")


def _cached(
    paths: list[Path],
    encoder: ImageEncoder,
    settings: dict[str, Any],
    embed: Callable[[list[int], Advance], np.ndarray],
    rows_at_once: int,
    what: str,
) -> np.ndarray:
    """Vectors from the cache or from `embed`; file content, weights and settings make the key."""
    keys = []
    for path in paths:
        with path.open("rb") as file:
            keys.append(hashlib.file_digest(file, "sha256").digest())
    maker = json.dumps({**settings, "model": encoder.identity})
    return cached_vectors(keys, maker, embed, rows_at_once=rows_at_once, what=what)
