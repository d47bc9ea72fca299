"""The whole stage: vectors in, unique IDs with their quality out, and the quantizer survives the disk."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tokenizer.content.encoder import ContentSpec, content_vectors
from tokenizer.errors import TokenizerError
from tokenizer.quantizers.spec import QuantizerSpec, RQVAESpec
from tokenizer.semantic_ids import SemanticIds
from tokenizer.tokenize import coded_vectors, load_quantizer, tokenize_items

SMALL_VAE = RQVAESpec(hidden=[16], latent_dimensions=6, steps=60, batch_size=64)


def vectors(items: int = 300) -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(12, 8))[rng.integers(12, size=items)]
    return (centres + 0.3 * rng.normal(size=(items, 8))).astype(np.float32)


@pytest.mark.parametrize("unique", ["nearest_free", "append_code"])
@pytest.mark.parametrize("method", ["rq_kmeans", "rq_vae"])
def test_ids_are_unique_repeatable_and_the_quantizer_can_be_loaded(tmp_path: Path, method: str, unique: str) -> None:
    x, item_ids = vectors(), pl.Series("video", [f"v{i}" for i in range(300)])
    spec = QuantizerSpec(method=method, level_sizes=[8, 8, 8], unique=unique, rq_vae=SMALL_VAE)  # type: ignore[arg-type]
    made = tokenize_items(x, item_ids, spec, source={"columns": ["title"]})
    assert len(np.unique(made.codes_NL, axis=0)) == 300
    assert made.codes_NL.shape[1] == (4 if unique == "append_code" else 3) == len(made.level_sizes)
    assert made.quality["collisions_before"]["share_of_items"] > 0
    assert made.quality["collisions_after"]["share_of_items"] == 0
    np.testing.assert_array_equal(made.codes_NL, tokenize_items(x, item_ids, spec).codes_NL)
    made.save(tmp_path / "ids")
    loaded = SemanticIds.load(tmp_path / "ids")
    assert loaded.config == made.config
    assert loaded.quality == made.quality
    np.testing.assert_array_equal(load_quantizer(loaded).encode(x), made.quantizer_codes_NQ)


@pytest.mark.parametrize("method", ["rq_kmeans", "rq_vae", "opq"])
def test_codes_alone_give_vectors_in_which_items_keep_their_places(tmp_path: Path, method: str) -> None:
    """They come from what is saved, are near the vectors that were coded, and are the same for equal codes."""
    x, item_ids = vectors(), pl.Series(range(300))
    spec = QuantizerSpec(method=method, level_sizes=[8, 8, 8], rq_vae=SMALL_VAE)  # type: ignore[arg-type]
    tokenize_items(x, item_ids, spec).save(tmp_path / "ids")
    loaded = SemanticIds.load(tmp_path / "ids")
    coded_NW, latent_NW = coded_vectors(loaded), load_quantizer(loaded).latent(x)
    assert np.square(coded_NW - latent_NW).sum() < 0.5 * np.square(latent_NW - latent_NW.mean(axis=0)).sum()
    different = np.unique(loaded.quantizer_codes_NQ, axis=0)
    assert len(np.unique(coded_NW, axis=0)) == len(different) < 300


def test_levels_larger_than_the_catalogue_are_cut_and_said() -> None:
    made = tokenize_items(vectors(5), pl.Series(range(5)), QuantizerSpec(level_sizes=[256, 4]))
    assert made.level_sizes == [5, 4]
    assert made.quality["notes"] == ["levels of [256, 4] codes reduced to [5, 4]: there are only 5 items"]


def test_one_item_and_items_without_content() -> None:
    one = tokenize_items(vectors(1), pl.Series(["only"]), QuantizerSpec())
    assert one.codes_NL.tolist() == [[0, 0, 0]]
    empty = tokenize_items(np.zeros((40, 3)), pl.Series(range(40)), QuantizerSpec(level_sizes=[4, 4, 4]))
    assert len(np.unique(empty.codes_NL, axis=0)) == 40
    assert "40 of 40 items have no content" in empty.quality["notes"][0]


def test_the_fingerprint_follows_vectors_and_ids() -> None:
    x, spec = vectors(20), QuantizerSpec(level_sizes=[4, 8])
    prints = {
        tokenize_items(a, pl.Series(ids), spec).config["inputs"]["sha256"]
        for a, ids in [(x, range(20)), (x, range(20)), (x + 1, range(20)), (x, range(1, 21))]
    }
    assert len(prints) == 3


def test_misfits_are_refused() -> None:
    with pytest.raises(TokenizerError, match="20 vectors for 19 item ids"):
        tokenize_items(vectors(20), pl.Series(range(19)), QuantizerSpec())
    with pytest.raises(TokenizerError, match="4 IDs for 20 items"):
        tokenize_items(vectors(20), pl.Series(range(20)), QuantizerSpec(level_sizes=[2, 2]))
    made = tokenize_items(vectors(20), pl.Series(range(20)), QuantizerSpec(level_sizes=[4, 8]))
    made.config["quantizer"]["levels"] = 3
    with pytest.raises(TokenizerError, match="do not fit this version"):
        load_quantizer(made)


def test_amazon_beauty_with_defaults() -> None:
    if "ONEREC_DATA" not in os.environ:
        pytest.skip("ONEREC_DATA does not name the folder with amazon-beauty/")
    folder = Path(os.environ["ONEREC_DATA"]) / "amazon-beauty"
    items = pl.read_parquet(folder / "items.parquet").sample(4000, seed=0)
    spec = ContentSpec(text=["title", "categories"], categorical=["attribute_ids"], text_dimensions=64)
    made = tokenize_items(content_vectors(items, spec, folder), items["item_id"], QuantizerSpec(level_sizes=[128] * 3))
    assert all(level["utilisation"] == 1 for level in made.quality["levels"])
    assert made.quality["reconstruction"]["share_of_variance"] < 0.1  # measured .042
    # items with the same first code agree on their category far more often than any two items do
    category = items["categories"].str.split(" > ").list.get(1, null_on_oob=True).fill_null("").to_numpy()
    same_code = made.codes_NL[:, None, 0] == made.codes_NL[None, :, 0]
    same_category = category[:, None] == category[None, :]
    assert same_category[same_code].mean() > 2 * same_category.mean()
