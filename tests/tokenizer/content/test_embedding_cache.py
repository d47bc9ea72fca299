"""The cache of embeddings: what is known is not embedded again, damage costs time and never gives a wrong vector."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tokenizer.content import cache, progress
from tokenizer.content.cache import cache_folder, cached_vectors, content_key
from tokenizer.content.encoder import ContentEncoder, ContentSpec
from tokenizer.content.sentences import SentenceEncoder
from tokenizer.errors import TokenizerError


def right_vector(text: str) -> np.ndarray:
    return np.frombuffer(content_key(text.encode())[:16], dtype=np.uint8).astype(np.float32)


class Embedder:
    """An encoder that counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, texts: list[str], maker: str = "model", rows_at_once: int = 100) -> np.ndarray:
        def embed(positions: list[int], advance: object) -> np.ndarray:
            self.asked += [texts[position] for position in positions]
            return np.stack([right_vector(texts[position]) for position in positions])

        keys = [content_key(text.encode()) for text in texts]
        made = cached_vectors(keys, maker, embed, rows_at_once=rows_at_once, what="test")
        np.testing.assert_array_equal(made, np.stack([right_vector(text) for text in texts]))
        return made


def asked_for(texts: list[str]) -> list[str]:
    """The texts that were not in the cache; the vectors of all are checked."""
    embedder = Embedder()
    embedder(texts)
    return embedder.asked


def shards(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.shard"))


def test_only_what_is_new_is_embedded(own_cache: Path) -> None:
    embedder = Embedder()
    embedder(["a", "b", "a", "c"])
    assert embedder.asked == ["a", "b", "c"]
    embedder(["c", "a", "b"])
    assert embedder.asked == ["a", "b", "c"]
    embedder(["d", "a", "d"])
    assert embedder.asked == ["a", "b", "c", "d"]
    embedder(["a"], maker="another model")
    assert embedder.asked == ["a", "b", "c", "d", "a"]
    assert not [path for path in own_cache.rglob("*") if path.is_file() and path.suffix != ".shard"]


def test_what_was_stored_before_an_interruption_is_kept() -> None:
    def embed(positions: list[int], advance: object) -> np.ndarray:
        if positions[0] >= 20:
            raise KeyboardInterrupt
        return np.stack([right_vector(str(position)) for position in positions])

    with pytest.raises(KeyboardInterrupt):
        cached_vectors([content_key(str(n).encode()) for n in range(30)], "model", embed, rows_at_once=10, what="test")
    numbers = [str(number) for number in range(30)]
    assert asked_for(numbers) == numbers[20:]


def test_a_damaged_shard_is_never_believed(own_cache: Path) -> None:
    asked_for(["a", "b", "c"])
    (shard,) = shards(own_cache)
    whole = shard.read_bytes()
    for place in range(0, len(whole), 7):
        shard.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert asked_for(["a", "b", "c"]) == ["a", "b", "c"]
        for other in shards(own_cache):
            if other != shard:
                other.unlink()
    for left in (0, 10, 40, len(whole) - 1):
        shard.write_bytes(whole[:left])
        asked_for(["a", "b", "c"])
    assert not asked_for(["a", "b", "c"])  # rebuilt beside the damaged one


def test_many_small_shards_become_one(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MERGE_ABOVE", 5)
    texts = [str(number) for number in range(40)]
    Embedder()(texts, rows_at_once=3)
    assert len(shards(own_cache)) == 1
    assert not asked_for(texts)


def test_a_disk_that_takes_nothing_costs_only_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("ONEREC_CACHE", str(tmp_path / "file"))
    for _ in range(2):
        with pytest.warns(UserWarning, match="cannot store embeddings.*ONEREC_CACHE"):
            assert asked_for(["a"]) == ["a"]


def test_two_processes_at_once(own_cache: Path) -> None:
    script = (
        "import numpy as np; from tokenizer.content import cache; cache.MERGE_ABOVE = 4\n"
        "keys = [cache.content_key(str(n).encode()) for n in range(300)]\n"
        "right = np.stack([np.frombuffer(key[:16], dtype=np.uint8) for key in keys]).astype(np.float32)\n"
        "for last in (100, 200, 300):\n"
        "    made = cache.cached_vectors(keys[:last], 'model', lambda at, _: right[at], rows_at_once=7, what='test')\n"
        "    assert np.array_equal(made, right[:last])\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(2)]
    assert [process.wait(timeout=60) for process in running] == [0, 0]
    assert not asked_for([str(number) for number in range(300)])
    assert not list(own_cache.rglob("*.tmp"))


class Screen(io.StringIO):
    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.isatty = lambda: terminal  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("terminal", "patience", "shown"), [(True, 0.0, True), (True, 60.0, False), (False, 0.0, False)]
)
def test_a_bar_is_for_terminals_and_for_long_work(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, patience: float, shown: bool
) -> None:
    screen = Screen(terminal)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress, "PATIENCE_SECONDS", patience)
    with progress.progress("embedding texts", 3) as advance:
        for _ in range(3):
            advance(1)
    assert ("embedding texts" in screen.getvalue()) == shown
    assert bool(screen.getvalue()) == shown


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEREC_CACHE", "/somewhere/else")
    assert cache_folder() == Path("/somewhere/else")
    monkeypatch.delenv("ONEREC_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/xdg/onerec")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "onerec"


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence encoder of a few thousand random weights in a folder, as a user would bring one."""
    transformers = pytest.importorskip("transformers", reason="the extra `text` is not installed")
    import torch

    folder = tmp_path_factory.mktemp("model")
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "nail", "hair", "oil"]))
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.BertModel(transformers.BertConfig(vocab_size=8, **sizes)).save_pretrained(folder)
    return folder


ITEMS = pl.DataFrame({"t": ["red nail", "hair oil", None, "red nail", "oil"], "u": ["red", "nail", "hair", "", "oil"]})


def test_sentences_are_embedded_once(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    embed = SentenceEncoder.embed
    monkeypatch.setattr(
        SentenceEncoder, "embed", lambda self, texts, done: asked.extend(texts) or embed(self, texts, done)
    )
    spec = ContentSpec(text=["t"], text_encoder="sentence", sentence_model=str(tiny_model))
    encoder = ContentEncoder(spec)
    fitted = np.hstack(encoder.fit_encode_blocks(ITEMS, Path()))
    assert sorted(asked) == ["hair oil", "oil", "red nail"]
    np.testing.assert_array_equal(fitted[0], fitted[3])
    assert not fitted[2].any() and fitted[[0, 1, 4]].any(axis=1).all()
    loaded = ContentEncoder.load(encoder.config(), encoder.state_dict())
    np.testing.assert_allclose(loaded.encode(ITEMS, Path()), fitted, atol=1e-6)
    assert len(asked) == 3
    new = pl.DataFrame({"t": ["hair nail", "oil"]})
    np.testing.assert_allclose(loaded.encode(new, Path())[1], fitted[4], atol=1e-6)
    assert asked[3:] == ["hair nail"]


def test_text_columns_share_one_loaded_model(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    loads = []
    load = transformers.AutoModel.from_pretrained
    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", lambda where: loads.append(where) or load(where))
    spec = ContentSpec(text=["t", "u"], text_blocks="each", text_encoder="sentence", sentence_model=str(tiny_model))
    blocks = ContentEncoder(spec).fit_encode_blocks(ITEMS, Path())
    assert len(blocks) == 2 and len(loads) == 1


def test_other_weights_under_the_same_name_are_noticed(tiny_model: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.numpy import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    spec = ContentSpec(text=["t"], text_encoder="sentence", sentence_model=str(folder))
    encoder = ContentEncoder(spec).fit(ITEMS, Path())
    weights = load_file(folder / "model.safetensors")
    save_file({name: array + 0.1 for name, array in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(TokenizerError, match="not the one that this tokenizer was fitted with"):
        ContentEncoder.load(encoder.config(), encoder.state_dict()).encode(ITEMS, Path())


def test_a_model_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the extra `text` is not installed")
    spec = ContentSpec(text=["t"], text_encoder="sentence", sentence_model=str(tmp_path))
    with pytest.raises(TokenizerError, match=r"sentence_model .* cannot be loaded"):
        ContentEncoder(spec).fit(ITEMS, Path())
