"""One content vector per item, from text, categories, numbers, videos, images and the user's own vectors.

Each kind of content becomes a block of columns. Its rows have length one, or zero for an item without this content; they are
multiplied by the block's weight, and the blocks stand side by side. So the squared distance between two items is a weighted
sum over blocks, and no block dominates by its scale.
"""

from pathlib import Path
from typing import Any, Literal, Protocol, Self

import numpy as np
import polars as pl
from pydantic import Field, ValidationError

from tokenizer.common.settings import Seed, Settings, Width
from tokenizer.common.vectors import ROUNDING, normalise_rows
from tokenizer.content.categorical import CategoricalBlock
from tokenizer.content.embeddings import EmbeddingBlock
from tokenizer.content.fitted_state import below, fitted_array
from tokenizer.content.models import OFFLINE_MODEL
from tokenizer.content.numeric import NumericBlock
from tokenizer.content.sentences import SentenceEncoder, TextColumns
from tokenizer.content.text import TfidfBlock
from tokenizer.content.vector_files import VectorFileBlock
from tokenizer.content.vision import ImageColumn, ImageEncoder, VideoColumn
from tokenizer.errors import TokenizerError


class BlockWeights(Settings):
    """Weight of each kind of block; squared distances are multiplied by the square of the weight."""

    text: float = Field(default=1.0, ge=0)
    categorical: float = Field(default=0.5, ge=0)
    numeric: float = Field(default=0.25, ge=0)
    vectors: float = Field(default=1.0, ge=0)
    vision: float = Field(default=1.0, ge=0)


class ContentSection(Settings):
    """How the columns that describe items become vectors.

    text_encoder: "tfidf" (word 1-2-grams, character 1-2-grams where most letters are Chinese, Japanese or Korean;
    truncated SVD) or "sentence" (a Hugging Face encoder, mean pooling; needs the extra `text`). text_blocks: "joint"
    reads all text columns of an item as one text, "each" makes a block per column. sentence_model, vision_model: id or
    folder of a Hugging Face model; there is no default vision model (needs the extra `vision`). frames_per_second: how
    densely videos are sampled. token_budget: shared by the frames of a video, see `tokenizer.content.frames`.
    *_dimensions: largest width of a block.
    """

    text_encoder: Literal["tfidf", "sentence"] = "tfidf"
    text_blocks: Literal["joint", "each"] = "joint"
    text_dimensions: Width = 128
    sentence_model: str = OFFLINE_MODEL
    categorical_dimensions: Width = 64
    vision_model: str | None = None
    vision_dimensions: Width = 128
    frames_per_second: float = Field(default=1.0, gt=0)
    token_budget: int = Field(default=4096, ge=1)
    weights: BlockWeights = BlockWeights()


class ContentSpec(ContentSection):
    """Which columns of the items table describe an item, and how they become vectors.

    text, categorical, numeric: column names. vectors: files beside the items table (.npy or .safetensors), one row per
    item in the table's order. videos, images: columns of paths, absolute or from the folder of the items table.
    seed: of the SVD.
    """

    text: list[str] = []
    categorical: list[str] = []
    numeric: list[str] = []
    vectors: list[str] = []
    videos: list[str] = []
    images: list[str] = []
    seed: Seed = 0


class Block(Protocol):
    """One kind of content: fitted once on a table, then applied unchanged to any table with the same columns."""

    def fit(self, items: pl.DataFrame, folder: Path) -> np.ndarray: ...
    def encode(self, items: pl.DataFrame, folder: Path, rows: np.ndarray) -> np.ndarray: ...
    def state_dict(self) -> dict[str, np.ndarray]: ...
    def load_state(self, state: dict[str, np.ndarray]) -> None: ...


class ContentEncoder:
    """Turns items into vectors; fitted once and used unchanged for items that join later.

    A row's vector depends only on that row and the fitted state. Words and categories that `fit` did not see are ignored.
    `block_names` says what each block holds. After `fit`, `notes` says for each block how many items lack its content.
    """

    def __init__(self, spec: ContentSpec) -> None:
        self.spec = spec
        named = _blocks(spec)
        if not named:
            raise TokenizerError(
                "no content named: give at least one column of the items (text, categorical, numeric, videos, images), "
                "or a file of vectors."
            )
        self.block_names = [name for name, _, _ in named]
        self._blocks: list[Block] = [block for _, block, _ in named]
        self._weights = [weight for _, _, weight in named]
        self.notes: list[str] = []
        self._shortest: np.ndarray | None = None  # per block: rows up to this length count as zero

    def fit(self, items: pl.DataFrame, folder: Path) -> Self:
        """Learn from a table. folder: contains the files that the spec names. Deterministic.

        Raises TokenizerError when a column or file is missing or unusable, or all text is empty.
        """
        self.fit_encode_blocks(items, folder)
        return self

    def fit_encode_blocks(self, items: pl.DataFrame, folder: Path) -> list[np.ndarray]:
        """Fit, and return the blocks of the fitted rows as `encode_blocks` does, without embedding anything twice."""
        self._check_table(items)
        raw = [block.fit(items, Path(folder)) for block in self._blocks]
        lengths = [np.linalg.norm(part, axis=1) for part in raw]
        self._shortest = np.asarray([ROUNDING * length_N.max() for length_N in lengths], dtype=np.float64)
        empty = [int((length_N <= tiny).sum()) for length_N, tiny in zip(lengths, self._shortest, strict=True)]
        self.notes = [
            f"{name}: {count} of {len(items)} items lack this content, their rows are zero"
            for name, count in zip(self.block_names, empty, strict=True)
            if count
        ]
        return self._weighted(raw)

    def encode_blocks(self, items: pl.DataFrame, folder: Path, rows: np.ndarray | None = None) -> list[np.ndarray]:
        """One float32 [N,D_i] per block: rows of length one times the block's weight, zero for an item without this content.

        rows: positions in the table to encode, all by default. A file of vectors has one row for each item of the table, so
        for items that joined later pass the whole table and their rows.
        Raises TokenizerError when the encoder is not fitted, or a column or file is missing or unusable.
        """
        if self._shortest is None:
            raise TokenizerError("the content encoder is not fitted; call fit, or load a fitted one.")
        self._check_table(items)
        chosen = np.arange(len(items)) if rows is None else np.asarray(rows)
        return self._weighted([block.encode(items, Path(folder), chosen) for block in self._blocks])

    def encode(self, items: pl.DataFrame, folder: Path, rows: np.ndarray | None = None) -> np.ndarray:
        """The blocks side by side, float32 [N,D]."""
        return np.hstack(self.encode_blocks(items, folder, rows))

    def config(self) -> dict[str, Any]:
        """The spec as plain JSON values."""
        return {"spec": self.spec.model_dump(mode="json")}

    def state_dict(self) -> dict[str, np.ndarray]:
        """Everything learnt, as arrays that a safetensors file can hold."""
        if self._shortest is None:
            raise TokenizerError("the content encoder is not fitted; there is no state to save.")
        state = {"shortest": self._shortest}
        for number, block in enumerate(self._blocks):
            state |= {f"{number}.{name}": np.ascontiguousarray(array) for name, array in block.state_dict().items()}
        return state

    @classmethod
    def load(cls, config: dict[str, Any], state: dict[str, np.ndarray]) -> Self:
        """The encoder that gave `config()` and `state_dict()`; TokenizerError names an array that does not fit."""
        try:
            encoder = cls(ContentSpec.model_validate(config["spec"]))
        except (KeyError, ValidationError) as error:
            raise TokenizerError(
                f"fitted content encoder: its config is not readable ({error}); tokenize again."
            ) from error
        encoder._shortest = fitted_array(state, "shortest", 1)
        if len(encoder._shortest) != len(encoder._blocks):
            raise TokenizerError("fitted content encoder: the array 'shortest' has a wrong length; tokenize again.")
        for number, block in enumerate(encoder._blocks):
            block.load_state(below(str(number), state))
        return encoder

    def _weighted(self, raw: list[np.ndarray]) -> list[np.ndarray]:
        assert self._shortest is not None
        return [
            normalise_rows(part, float(shortest)) * np.float32(weight)
            for part, shortest, weight in zip(raw, self._shortest, self._weights, strict=True)
        ]

    def _check_table(self, items: pl.DataFrame) -> None:
        if items.is_empty():
            raise TokenizerError("the items table has no rows; there is nothing to tokenize.")
        spec = self.spec
        for column in (*spec.text, *spec.categorical, *spec.numeric, *spec.videos, *spec.images):
            if column not in items.columns:
                raise TokenizerError(f"items: no column {column!r}; the table has {', '.join(items.columns)}.")


def content_vectors(items: pl.DataFrame, spec: ContentSpec, folder: Path) -> np.ndarray:
    """One vector per row of `items`, float32 [N,D], from a `ContentEncoder` fitted on the same rows.

    folder: contains the files that the spec names. A row without any content is zero. Deterministic.
    Raises TokenizerError when a column or file is missing or unusable, all text is empty, or nothing is named.
    """
    return np.hstack(ContentEncoder(spec).fit_encode_blocks(items, folder))


def _blocks(spec: ContentSpec) -> list[tuple[str, Block, float]]:
    """Name, block and weight of everything the spec names, in a fixed order."""
    blocks = _text_blocks(spec)
    if spec.categorical:
        block = CategoricalBlock(spec.categorical, spec.categorical_dimensions, spec.seed)
        blocks.append((f"categorical {' + '.join(spec.categorical)}", block, spec.weights.categorical))
    if spec.numeric:
        blocks.append((f"numeric {' + '.join(spec.numeric)}", NumericBlock(spec.numeric), spec.weights.numeric))
    for name in spec.vectors:
        blocks.append((f"vectors {name}", VectorFileBlock(name), spec.weights.vectors))
    return blocks + _vision_blocks(spec)


def _text_blocks(spec: ContentSpec) -> list[tuple[str, Block, float]]:
    groups = [spec.text] if spec.text_blocks == "joint" and spec.text else [[name] for name in spec.text]
    encoder = SentenceEncoder(spec.sentence_model)  # shared by all blocks, so that it is loaded only once
    blocks: list[tuple[str, Block, float]] = []
    for columns in groups:
        block: Block
        if spec.text_encoder == "tfidf":
            block = TfidfBlock(columns, spec.text_dimensions, spec.seed)
        else:
            block = EmbeddingBlock(TextColumns(columns, encoder), columns, spec.text_dimensions, spec.seed)
        blocks.append((f"text {' + '.join(columns)}", block, spec.weights.text))
    return blocks


def _vision_blocks(spec: ContentSpec) -> list[tuple[str, Block, float]]:
    if not spec.videos and not spec.images:
        return []
    if spec.vision_model is None:
        raise TokenizerError(
            "the items have videos or images, but vision_model names no model; "
            "give the folder or id of an image backbone on Hugging Face."
        )
    encoder = ImageEncoder(spec.vision_model)
    videos = [VideoColumn(name, encoder, spec.frames_per_second, spec.token_budget) for name in spec.videos]
    images = [ImageColumn(name, encoder) for name in spec.images]
    return [
        (
            f"{kind} {one.column}",
            EmbeddingBlock(one, [one.column], spec.vision_dimensions, spec.seed),
            spec.weights.vision,
        )
        for kind, columns in (("video", videos), ("image", images))
        for one in columns
    ]
