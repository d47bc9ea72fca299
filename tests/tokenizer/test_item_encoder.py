"""The encoder that turns items into vectors: old and new items alike, with and without alignment, saved and loaded."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tokenizer.behaviour.co_occurrence import collaborative_vectors, fill_cold
from tokenizer.common.vectors import normalise_rows
from tokenizer.content.encoder import ContentSpec, content_vectors
from tokenizer.errors import TokenizerError
from tokenizer.item_encoder import ItemEncoder, ItemTable, TokenizerSection

ITEMS = 60
Fitted = tuple[str, ItemEncoder]
Sequences = tuple[np.ndarray, np.ndarray]
ALIGNED = {"queries": 2, "width": 16, "layers": 1, "steps": 20, "batch_size": 32}
SECTIONS: dict[str, dict[str, Any]] = {
    "content": {"alignment": None, "collaborative": {"weight": 0}},
    "content_and_behaviour": {"alignment": None, "collaborative": {"weight": 2.0, "dimensions": 8}},
    "aligned": {"alignment": ALIGNED, "collaborative": {"weight": 0}},
    "all": {"alignment": ALIGNED, "collaborative": {"weight": 1.5, "dimensions": 8}},
}


@pytest.fixture(scope="module")
def items() -> ItemTable:
    """The items of the chain log, which say from which stretch of the chain they are; item 60 has no column filled."""
    titles = [f"stretch{item // 12} part{item // 4} colour{item % 7}" for item in range(ITEMS)]
    kinds = [f"k{item // 12}" for item in range(ITEMS)]
    table = pl.DataFrame({"item": range(ITEMS + 1), "title": [*titles, None], "kind": [*kinds, None]})
    return ItemTable(table, {"text": ["title"], "categorical": ["kind"]}, Path("unused"), "described")


@pytest.fixture(scope="module")
def training(chain_csv: Path) -> Sequences:
    """Sequences in which items 50 and above never occur."""
    events = pl.read_csv(chain_csv).filter(pl.col("item") < 50)
    lengths = events.group_by("user", maintain_order=True).len()["len"].to_numpy()
    return events["item"].to_numpy().astype(np.int32), np.concatenate([[0], np.cumsum(lengths)])


@pytest.fixture(scope="module", params=SECTIONS)
def fitted(request: pytest.FixtureRequest, items: ItemTable, training: Sequences) -> Fitted:
    section = TokenizerSection(**SECTIONS[request.param])
    return request.param, ItemEncoder().fit(items, training, section, seed=3)


def test_vectors_hold_what_the_config_asks_for_and_are_the_same_again(
    fitted: Fitted, items: ItemTable, training: Sequences
) -> None:
    kind, encoder = fitted
    again = ItemEncoder().fit(items, training, TokenizerSection(**SECTIONS[kind]), seed=3)
    assert np.array_equal(again.vectors_ND, encoder.vectors_ND)
    assert encoder.vectors_ND.dtype == np.float32 and len(encoder.vectors_ND) == ITEMS + 1
    assert encoder.vectors_ND[:ITEMS].any(axis=1).all()
    assert not encoder.vectors_ND[ITEMS].any()  # neither content nor behaviour
    assert ("alignment" in encoder.source) == (kind in ("aligned", "all"))
    assert ("collaborative" in encoder.source) == (kind in ("content_and_behaviour", "all"))
    assert encoder.source["columns"] == ["title", "kind"]
    json.dumps(encoder.source)
    squares = np.square(encoder.vectors_ND[:ITEMS]).sum(axis=1)
    expected = {"content": 1, "content_and_behaviour": 1 + 4, "aligned": 1, "all": 1 + 2.25}[kind]
    np.testing.assert_allclose(squares, expected, rtol=1e-4)


def test_behaviour_is_that_of_training_alone(fitted: Fitted, training: Sequences) -> None:
    kind, encoder = fitted
    assert encoder.behaviour_ND[:50].any(axis=1).all()
    assert not encoder.behaviour_ND[50:].any()
    dimensions = SECTIONS[kind]["collaborative"].get("dimensions", 64)
    expected = collaborative_vectors(*training, ITEMS + 1, dimensions=dimensions, seed=3)
    np.testing.assert_array_equal(encoder.behaviour_ND, expected)


def test_without_alignment_content_and_behaviour_stand_side_by_side(items: ItemTable, training: Sequences) -> None:
    section = TokenizerSection(**SECTIONS["content_and_behaviour"])
    encoder = ItemEncoder().fit(items, training, section, seed=3)
    spec = ContentSpec(text=["title"], categorical=["kind"], seed=3)
    content = content_vectors(items.table, spec, items.folder)
    filled = fill_cold(encoder.behaviour_ND, content, encoder.behaviour_ND.any(axis=1))
    np.testing.assert_allclose(encoder.vectors_ND, np.hstack([normalise_rows(content), 2 * filled]), atol=1e-6)


def test_an_item_without_behaviour_gets_the_same_vector_when_it_joins_later(fitted: Fitted, items: ItemTable) -> None:
    _, encoder = fitted
    rows = np.array([55, 60, 51])
    np.testing.assert_allclose(encoder.encode_new(items.table, items.folder, rows), encoder.vectors_ND[rows], atol=1e-5)


def test_new_items_land_near_items_of_their_kind(fitted: Fitted, items: ItemTable) -> None:
    _, encoder = fitted
    new = pl.DataFrame({"item": [100, 101], "title": ["stretch1 part4 colour9", "unheard of"], "kind": ["k1", "k3"]})
    grown = pl.concat([items.table, new])
    before = encoder.vectors_ND.copy()
    rows = np.array([61, 62])
    joined = encoder.encode_new(grown, items.folder, rows)
    assert np.array_equal(encoder.vectors_ND, before)
    nearest = np.argsort(-(joined @ encoder.vectors_ND[:ITEMS].T), axis=1)[:, :5]
    # aligned, the end of one stretch is near the start of the next, so not all need be of the kind; by chance 1 in 5 is
    assert (nearest[0] // 12 == 1).mean() >= 0.8 and (nearest[1] // 12 == 3).mean() >= 0.8
    # an item's vector does not depend on who joins with it
    np.testing.assert_allclose(encoder.encode_new(grown, items.folder, rows[1:]), joined[1:], atol=1e-5)


def test_saved_and_loaded_it_gives_the_same_vectors(fitted: Fitted, items: ItemTable, tmp_path: Path) -> None:
    _, encoder = fitted
    encoder.save(tmp_path / "encoder")
    encoder.save(tmp_path / "encoder")  # replaces
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["encoder", "encoder.json", "encoder.safetensors"]
    loaded = ItemEncoder.load(tmp_path / "encoder")
    assert np.array_equal(loaded.vectors_ND, encoder.vectors_ND)
    assert np.array_equal(loaded.behaviour_ND, encoder.behaviour_ND)
    assert loaded.source == encoder.source
    new = items.table, items.folder, np.array([2, 58])
    assert np.array_equal(loaded.encode_new(*new), encoder.encode_new(*new))


def test_damage_is_named(fitted: Fitted, tmp_path: Path) -> None:
    _, encoder = fitted
    folder = tmp_path / "encoder"
    with pytest.raises(TokenizerError, match="no readable item encoder"):
        ItemEncoder.load(folder)
    encoder.save(folder)
    description = json.loads((folder / "encoder.json").read_text())
    smell = {"spec": {**description["content"]["spec"], "smell": 1}}
    weightless = {key: value for key, value in description.items() if key != "collaborative_weight"}
    for damaged, message in (
        ({**description, "format": 99}, "does not have format"),
        ({**description, "items": 7}, "do not belong together"),
        ({**description, "content": smell}, "smell"),
        (weightless, "lacks 'collaborative_weight'"),
    ):
        (folder / "encoder.json").write_text(json.dumps(damaged))
        with pytest.raises(TokenizerError, match=message):
            ItemEncoder.load(folder)
    encoder.save(folder)
    (folder / "encoder.safetensors").write_bytes(b"short")
    with pytest.raises(TokenizerError, match="no readable item encoder"):
        ItemEncoder.load(folder)


def test_without_columns_behaviour_stands_alone_and_nobody_can_join(
    items: ItemTable, training: Sequences, tmp_path: Path
) -> None:
    bare = ItemTable(items.table.select("item"), {}, items.folder, "bare")
    section = TokenizerSection(**SECTIONS["aligned"])  # its weight for behaviour is 0, which would leave nothing
    encoder = ItemEncoder().fit(bare, training, section, seed=3)
    assert "alignment" not in encoder.source
    np.testing.assert_allclose(encoder.vectors_ND, normalise_rows(encoder.behaviour_ND), atol=1e-6)
    encoder.save(tmp_path / "encoder")
    with pytest.raises(TokenizerError, match="new items need content"):
        ItemEncoder.load(tmp_path / "encoder").encode_new(bare.table, bare.folder, np.array([0]))


def test_a_log_without_pairs_uses_the_content_as_it_is(items: ItemTable) -> None:
    alone = np.arange(3, dtype=np.int32), np.arange(4)  # three users with one event each
    encoder = ItemEncoder().fit(items, alone, TokenizerSection(**SECTIONS["aligned"]), seed=3)
    plain = ItemEncoder().fit(items, alone, TokenizerSection(**SECTIONS["content"]), seed=3)
    np.testing.assert_array_equal(encoder.vectors_ND, plain.vectors_ND)
    assert "holds no pair" in encoder.source["alignment"]
