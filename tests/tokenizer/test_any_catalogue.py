"""Default settings on catalogues that nobody has tuned them for: unique IDs, every code used, no dead level."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tokenizer.content.encoder import ContentSpec, content_vectors
from tokenizer.quantizers.spec import QuantizerSpec
from tokenizer.semantic_ids import SemanticIds
from tokenizer.tokenize import load_quantizer, tokenize_items

KMEANS_FAMILY = ["rq_kmeans", "balanced_rq_kmeans"]
Catalogue = Callable[[np.random.Generator], np.ndarray]


def low_rank_clusters(rng: np.random.Generator) -> np.ndarray:
    """What sentence embeddings look like: topics in a few directions, unit length."""
    topics = rng.normal(size=(60, 12))[rng.zipf(1.5, size=5000) % 60]
    vectors = (topics + 0.4 * rng.normal(size=topics.shape)) @ rng.normal(size=(12, 64))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def heavy_tails(rng: np.random.Generator) -> np.ndarray:
    """Most items near the middle, a few a thousand times as far out; columns of very different scale."""
    return np.asarray(rng.standard_t(1.5, size=(2000, 16)) * 10.0 ** rng.integers(-2, 2, size=16) + 5)


def near_duplicates(rng: np.random.Generator) -> np.ndarray:
    """A hundred products in thirty colours each: versions differ by a thousandth."""
    return np.asarray(np.repeat(rng.normal(size=(100, 24)), 30, axis=0) + 1e-3 * rng.normal(size=(3000, 24)))


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


UNTUNED = [low_rank_clusters, heavy_tails, near_duplicates]
CATALOGUES: list[Catalogue] = [*UNTUNED, binary_features, three_hundred, kuairec, kuairand]


@functools.cache
def vectors_of(catalogue: Catalogue) -> np.ndarray:
    return catalogue(np.random.default_rng(7))


def tokenized(catalogue: Catalogue, method: str, **changes: Any) -> SemanticIds:
    vectors = vectors_of(catalogue)
    spec = QuantizerSpec.model_validate({"method": method, method: changes})
    made = tokenize_items(vectors, pl.Series("item", range(len(vectors))), spec)
    assert made.level_sizes == [min(256, len(vectors))] * 3
    assert len(np.unique(made.codes_NL, axis=0)) == len(vectors)
    assert made.quality["collisions_after"]["share_of_items"] == 0
    return made


def what_is_left(made: SemanticIds, vectors: np.ndarray) -> list[int]:
    """Distinct rows that each level has to code, up to rounding: no level can use more codes than that."""
    quantizer = load_quantizer(made)
    residual, distinct = quantizer.latent(vectors), []
    for level, codebook in enumerate(quantizer.codebooks):
        distinct.append(len(np.unique(np.round(residual, 5) + 0.0, axis=0)))
        residual = residual - codebook[made.quantizer_codes_NQ[:, level]]
    return distinct


by_name = {"ids": lambda catalogue: catalogue.__name__}


@pytest.mark.parametrize("catalogue", CATALOGUES, **by_name)
@pytest.mark.parametrize("method", KMEANS_FAMILY)
def test_the_kmeans_family_uses_every_code(catalogue: Catalogue, method: str) -> None:
    made = tokenized(catalogue, method)
    used = [level["used"] for level in made.quality["levels"]]
    if catalogue is three_hundred and method == "rq_kmeans":
        # most of 256 clusters hold one item, which leaves nothing for the next level to tell apart
        assert used == [min(256, distinct) for distinct in what_is_left(made, vectors_of(catalogue))]
    else:
        assert used == [256, 256, 256]


@pytest.mark.parametrize("catalogue", UNTUNED, **by_name)
def test_rq_vae_has_no_dead_level(catalogue: Catalogue) -> None:
    """With a tenth of the default steps: codes and levels have that much less time to come alive, and so has the test."""
    made = tokenized(catalogue, "rq_vae", steps=100)
    for level in made.quality["levels"]:
        assert level["utilisation"] >= 0.9 and level["entropy_share"] >= 0.7, level
    assert made.quality["reconstruction"]["share_of_variance"] < 0.2
