"""Default settings on catalogues that nobody has tuned them for: unique IDs, every code used, no level dead."""

import functools
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tokenizer.content import ContentSpec, content_vectors
from tokenizer.quantizers.spec import QuantizerSpec
from tokenizer.semantic_ids import SemanticIds
from tokenizer.tokenize import tokenize_items

KMEANS_FAMILY = ["rq_kmeans", "balanced_rq_kmeans"]


def low_rank_clusters(rng: np.random.Generator) -> np.ndarray:
    """What sentence embeddings look like: topics in a few directions, unit length."""
    topics = rng.normal(size=(60, 12))[rng.zipf(1.5, size=1500) % 60]
    vectors = (topics + 0.4 * rng.normal(size=topics.shape)) @ rng.normal(size=(12, 64))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def heavy_tails(rng: np.random.Generator) -> np.ndarray:
    """Most items near the middle, a few a thousand times as far out; columns of very different scale."""
    return np.asarray(rng.standard_t(1.5, size=(2000, 16)) * 10.0 ** rng.integers(-2, 2, size=16) + 5)


def near_duplicates(rng: np.random.Generator) -> np.ndarray:
    """A hundred products in fifty colours each: versions differ by a thousandth."""
    return np.asarray(np.repeat(rng.normal(size=(100, 24)), 50, axis=0) + 1e-3 * rng.normal(size=(5000, 24)))


def binary_features(rng: np.random.Generator) -> np.ndarray:
    """Thirty flags, most of them rare; some items have the very same ones."""
    return (rng.random(size=(1200, 30)) < rng.beta(0.6, 2, size=30)).astype(np.float32)


def three_hundred(rng: np.random.Generator) -> np.ndarray:
    """Hardly more items than a level has codes, fewer than columns."""
    return rng.normal(size=(300, 384)).astype(np.float32)


def kuairec(rng: np.random.Generator) -> np.ndarray:
    """Chinese captions, tags and categories of 3,000 videos."""
    spec = ContentSpec(text=["caption", "topic_tag"], categorical=["first_level_category_name"], text_dimensions=64)
    return _from_data("kuairec", spec, rng)


def kuairand(rng: np.random.Generator) -> np.ndarray:
    """No text at all: tags, kinds of video, lengths."""
    spec = ContentSpec(categorical=["tag", "video_type", "upload_type", "music_type"], numeric=["video_duration"])
    return _from_data("kuairand-pure", spec, rng)


def _from_data(name: str, spec: ContentSpec, rng: np.random.Generator) -> np.ndarray:
    if "ONEREC_DATA" not in os.environ:
        pytest.skip(f"ONEREC_DATA does not name the folder with {name}/")
    folder = Path(os.environ["ONEREC_DATA"]) / name
    items = pl.read_parquet(folder / "items.parquet")
    return content_vectors(items[np.sort(rng.choice(len(items), 3000, replace=False))], spec, folder)


CATALOGUES: list[Callable[[np.random.Generator], np.ndarray]] = [
    low_rank_clusters,
    heavy_tails,
    near_duplicates,
    binary_features,
    three_hundred,
    kuairec,
    kuairand,
]


@functools.cache
def vectors_of(catalogue: Callable[[np.random.Generator], np.ndarray]) -> np.ndarray:
    return catalogue(np.random.default_rng(7))


def tokenized(catalogue: Callable[[np.random.Generator], np.ndarray], method: str) -> SemanticIds:
    vectors = vectors_of(catalogue)
    made = tokenize_items(
        vectors, pl.Series("item", range(len(vectors))), QuantizerSpec.model_validate({"method": method})
    )
    assert made.level_sizes == [min(256, len(vectors))] * 3
    assert len(np.unique(made.codes_NL, axis=0)) == len(vectors)
    assert made.quality["collisions_after"]["share_of_items"] == 0
    return made


@pytest.mark.parametrize("catalogue", CATALOGUES, ids=lambda catalogue: catalogue.__name__)
@pytest.mark.parametrize("method", KMEANS_FAMILY)
def test_the_kmeans_family_uses_every_code(
    catalogue: Callable[[np.random.Generator], np.ndarray], method: str
) -> None:
    levels = tokenized(catalogue, method).quality["levels"]
    distinct = len(np.unique(vectors_of(catalogue), axis=0))
    for level in levels:
        assert level["utilisation"] == 1.0, f"{level['used']} codes used, {distinct} distinct rows"


@pytest.mark.parametrize("catalogue", [low_rank_clusters, binary_features], ids=lambda catalogue: catalogue.__name__)
def test_rq_vae_has_no_dead_level(catalogue: Callable[[np.random.Generator], np.ndarray]) -> None:
    made = tokenized(catalogue, "rq_vae")
    for level in made.quality["levels"]:
        assert level["utilisation"] >= 0.9 and level["entropy_share"] >= 0.7, level
    assert made.quality["reconstruction"]["share_of_variance"] < 0.5
