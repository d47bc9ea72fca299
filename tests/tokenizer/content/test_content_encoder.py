"""A fitted encoder gives fitted items what they had, new items the same yardstick, and survives a trip through a file."""

import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from tokenizer.content.encoder import BlockWeights, ContentEncoder, ContentSpec, content_vectors
from tokenizer.content.text import mostly_cjk
from tokenizer.errors import TokenizerError

HERE = Path()
WORDS = ["red", "blue", "nail", "polish", "hair", "shampoo", "dry", "oil", "brush", "comb"]
EVERYTHING = ContentSpec(
    text=["title", "notes"], categorical=["tags", "brand"], numeric=["price", "rating"], vectors=["given.npy"]
)


def catalogue(items: int, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "title": [" ".join(rng.choice(WORDS, 3)) for _ in range(items)],
            "notes": [" ".join(rng.choice(WORDS, 2)) if rng.random() < 0.6 else None for _ in range(items)],
            "tags": [" ".join(map(str, rng.integers(0, 6, 2))) for _ in range(items)],
            "brand": rng.integers(0, 4, items).astype(float),
            "price": rng.lognormal(1, 2, items),  # a heavy tail
            "rating": [float(rng.normal()) if rng.random() < 0.8 else None for _ in range(items)],
        }
    )


def with_vectors(folder: Path, items: int) -> Path:
    np.save(folder / "given.npy", np.random.default_rng(1).normal(size=(items, 5)) + 3)
    return folder


def saved_and_loaded(encoder: ContentEncoder, folder: Path) -> ContentEncoder:
    save_file(encoder.state_dict(), folder / "state.safetensors")
    return ContentEncoder.load(json.loads(json.dumps(encoder.config())), load_file(folder / "state.safetensors"))


@pytest.mark.parametrize("text_blocks", ["joint", "each"])
def test_fitted_rows_are_encoded_as_they_were_fitted(tmp_path: Path, text_blocks: str) -> None:
    items, spec = catalogue(60), EVERYTHING.model_copy(update={"text_blocks": text_blocks})
    encoder = ContentEncoder(spec)
    fitted = encoder.fit_encode_blocks(items, with_vectors(tmp_path, 60))
    again = encoder.encode_blocks(items, tmp_path)
    assert len(fitted) == len(encoder.block_names) == (4 if text_blocks == "joint" else 5)
    for name, one, other in zip(encoder.block_names, fitted, again, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6, err_msg=name)  # float32 products of other batch sizes
    vectors = encoder.encode(items, tmp_path)
    np.testing.assert_allclose(content_vectors(items, spec, tmp_path), vectors, atol=1e-6)
    np.testing.assert_array_equal(saved_and_loaded(encoder, tmp_path).encode(items, tmp_path), vectors)


def test_a_row_depends_on_itself_alone(tmp_path: Path) -> None:
    items = catalogue(80)
    encoder = ContentEncoder(EVERYTHING).fit(items.head(60), with_vectors(tmp_path, 60))
    with_vectors(tmp_path, 80)
    every = encoder.encode(items, tmp_path)
    for rows in ([70], [79, 3], list(range(60, 80))):
        np.testing.assert_allclose(encoder.encode(items, tmp_path, np.asarray(rows)), every[rows], atol=1e-6)


def test_new_items_do_not_teach_an_encoder(tmp_path: Path) -> None:
    items = catalogue(60)
    encoder = ContentEncoder(EVERYTHING).fit(items, with_vectors(tmp_path, 60))
    before = {name: array.copy() for name, array in encoder.state_dict().items()}
    odd = catalogue(60, seed=9).with_columns(title=pl.lit("words never seen"), price=pl.lit(-1e9), brand=pl.lit(77.0))
    assert np.isfinite(encoder.encode(odd, tmp_path)).all()
    after = encoder.state_dict()
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_unseen_words_and_categories_are_ignored() -> None:
    items = pl.DataFrame({"t": ["red nail", "red nail", "hair oil", "hair oil"], "c": ["1", "1", "2", "2"]})
    encoder = ContentEncoder(ContentSpec(text=["t"], categorical=["c"])).fit(items, HERE)
    new = pl.DataFrame({"t": ["red nail zebra", "zebra", None], "c": ["1 99", "99", None]})
    text, categories = encoder.encode_blocks(new, HERE)
    fitted_text, fitted_categories = encoder.encode_blocks(items, HERE)
    np.testing.assert_allclose(text[0], fitted_text[0], atol=1e-6)
    np.testing.assert_allclose(categories[0], fitted_categories[0], atol=1e-6)
    assert not text[1:].any() and not categories[1:].any()


def test_chinese_text_is_compared_by_characters_that_survive_a_file(tmp_path: Path) -> None:
    texts = ["美食教程红烧肉", "红烧肉的做法美食", "搞笑视频小猫", "小猫搞笑日常"]
    assert mostly_cjk(texts)
    assert not mostly_cjk(["red nail polish", "shampoo 洗发水"])
    encoder = ContentEncoder(ContentSpec(text=["caption"])).fit(pl.DataFrame({"caption": texts}), HERE)
    vectors = encoder.encode(pl.DataFrame({"caption": texts}), HERE)
    near = vectors @ vectors.T
    assert near[0, 1] > near[0, 2]
    assert near[2, 3] > near[1, 3]
    new = saved_and_loaded(encoder, tmp_path).encode(pl.DataFrame({"caption": ["红烧肉"]}), HERE)[0]
    assert min(vectors[:2] @ new) > 0.5 > max(vectors[2:] @ new)


@pytest.mark.parametrize(
    "name", ["shortest", "0.terms", "0.idf", "1.directions", "1.0.values", "1.0.weights", "2.scales", "3.mean"]
)
def test_a_damaged_state_is_refused_by_name(tmp_path: Path, name: str) -> None:
    encoder = ContentEncoder(EVERYTHING).fit(catalogue(40), with_vectors(tmp_path, 40))
    state = encoder.state_dict()
    inner = name if name == "shortest" else name.split(".", 1)[1]
    with pytest.raises(TokenizerError, match=f"'{inner}' is missing"):
        ContentEncoder.load(encoder.config(), {key: array for key, array in state.items() if key != name})
    with pytest.raises(TokenizerError, match=inner):
        ContentEncoder.load(encoder.config(), {**state, name: np.zeros((1, 1, 1))})
    if name not in ("1.directions", "3.mean"):
        with pytest.raises(TokenizerError, match=r"differ in length|wrong shape|wrong length|is damaged"):
            ContentEncoder.load(encoder.config(), {**state, name: state[name][:-1]})
    for config in ({}, {"spec": {"txt": ["title"]}}):
        with pytest.raises(TokenizerError, match="config is not readable"):
            ContentEncoder.load(config, state)
    blank = ContentEncoder(EVERYTHING)
    for use in (blank.state_dict, lambda: blank.encode(catalogue(3), HERE)):
        with pytest.raises(TokenizerError, match="not fitted"):
            use()


def test_vectors_of_another_width_are_refused(tmp_path: Path) -> None:
    items = catalogue(10)
    encoder = ContentEncoder(ContentSpec(vectors=["given.npy"])).fit(items, with_vectors(tmp_path, 10))
    np.save(tmp_path / "given.npy", np.ones((10, 7)))
    with pytest.raises(TokenizerError, match=r"given.npy: 7 columns, but the encoder was fitted on 5"):
        encoder.encode(items, tmp_path)


def test_text_columns_as_one_block_each_with_the_weight_of_text() -> None:
    items = catalogue(50)
    spec = ContentSpec(text=["title", "notes"], text_blocks="each", weights=BlockWeights(text=2.0))
    encoder = ContentEncoder(spec)
    title, notes = encoder.fit_encode_blocks(items, HERE)
    assert encoder.block_names == ["text title", "text notes"]
    np.testing.assert_allclose(np.linalg.norm(title, axis=1), 2, atol=1e-5)
    empty = items["notes"].is_null().to_numpy()
    assert not notes[empty].any()
    np.testing.assert_allclose(np.linalg.norm(notes[~empty], axis=1), 2, atol=1e-5)
    assert encoder.notes == [f"text notes: {empty.sum()} of 50 items lack this content, their rows are zero"]


def test_a_number_missing_only_in_new_items_is_nothing() -> None:
    items = pl.DataFrame({"n": [1.0, 2.0, 3.0]})
    encoder = ContentEncoder(ContentSpec(numeric=["n"])).fit(items, HERE)
    new = encoder.encode(pl.DataFrame({"n": [None, 2.0]}, schema={"n": pl.Float64}), HERE)
    assert not new[0].any()
    np.testing.assert_allclose(new[1], encoder.encode(items, HERE)[1], atol=1e-7)


cells = st.none() | st.sampled_from(["", "red nail", "红烧肉", "unknown", "1 2", "9", "a|b"]) | st.text(max_size=6)
numbers = st.none() | st.floats() | st.integers(-3, 3).map(float)


@settings(max_examples=30)
@given(st.lists(st.tuples(cells, cells, numbers), max_size=12))
def test_any_table_is_fitted_and_encoded_alike(rows: list[tuple[str | None, str | None, float | None]]) -> None:
    schema = {"t": pl.String, "c": pl.String, "n": pl.Float64}
    items = pl.DataFrame([*rows, ("word", "1", 0.0)], schema=schema, orient="row")
    encoder = ContentEncoder(ContentSpec(text=["t"], categorical=["c"], numeric=["n"]))
    fitted = np.hstack(encoder.fit_encode_blocks(items, HERE))
    assert np.isfinite(fitted).all() and fitted[-1].any()
    np.testing.assert_allclose(fitted, encoder.encode(items, HERE), atol=1e-5)


def test_captions_of_one_category_are_near_each_other_on_kuairec() -> None:
    if "ONEREC_DATA" not in os.environ:
        pytest.skip("ONEREC_DATA does not name the folder with kuairec/")
    table = pl.read_parquet(Path(os.environ["ONEREC_DATA"]) / "kuairec" / "items.parquet")
    items = table.filter((pl.col("first_level_category_name") != "UNKNOWN") & (pl.col("caption").str.len_chars() > 0))
    label_N = items["first_level_category_name"].to_physical().rank("dense").to_numpy()
    vectors_ND = content_vectors(items, ContentSpec(text=["caption"]), HERE)
    asked = np.random.default_rng(0).choice(len(items), 1000, replace=False)
    near_QN = vectors_ND[asked] @ vectors_ND.T
    near_QN[np.arange(1000), asked] = -np.inf
    neighbours_QK = np.argpartition(-near_QN, 10, axis=1)[:, :10]
    purity = (label_N[neighbours_QK] == label_N[asked, None]).mean()
    shares = np.unique(label_N, return_counts=True)[1] / len(items)
    assert purity > 3 * (shares**2).sum()  # .244 against a chance of .053 over all captions
