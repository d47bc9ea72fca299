"""Videos and images as item content: films made here, a backbone of random weights, files that are missing or broken."""

import sys
import wave
from fractions import Fraction
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tokenizer.content import media
from tokenizer.content.encoder import ContentEncoder, ContentSpec
from tokenizer.content.frames import slow_frames, spread_budget
from tokenizer.content.vision import ImageEncoder
from tokenizer.errors import TokenizerError

NEEDED = "the extra `vision` is not installed"
av = pytest.importorskip("av", reason=NEEDED)
Image = pytest.importorskip("PIL.Image", reason=NEEDED)
transformers = pytest.importorskip("transformers", reason=NEEDED)
SIDE = 32


def picture(seed: int) -> np.ndarray:
    """Blocks of random colour, 96 x 128."""
    blocks = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return np.kron(blocks, np.ones((32, 32, 1), dtype=np.uint8))


def write_film(path: Path, pictures: list[np.ndarray], seconds_each: float, rate: int = 10) -> None:
    """A film that shows each picture for some seconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(rate))
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 128, 96, "yuv420p", 4_000_000
        for shown in pictures:
            for _ in range(round(seconds_each * rate)):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    for name, scenes, seconds in (("a", (1, 2, 3), 2), ("a_again", (1, 2, 3), 1), ("b", (4, 5, 6), 2)):
        write_film(folder / f"{name}.mp4", [picture(scene) for scene in scenes], seconds)
    for seed in (1, 2):
        Image.fromarray(picture(seed)).save(folder / f"{seed}.png")
    return folder


def save_backbone(folder: Path, kind: str) -> Path:
    """A backbone of random weights with its image processor, as a user would bring a trained one."""
    import torch

    layers = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    size = {"image_size": SIDE, "patch_size": 8}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "vit":
            # a checkpoint without pooler weights, as most are
            model = transformers.ViTModel(transformers.ViTConfig(**layers, **size), add_pooling_layer=False)
        elif kind == "resnet":
            sizes = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
            model = transformers.ResNetModel(transformers.ResNetConfig(**sizes))
        else:
            text = {**layers, "vocab_size": 10, "max_position_embeddings": 8}
            config = transformers.CLIPConfig(text_config=text, vision_config={**layers, **size}, projection_dim=12)
            model = transformers.CLIPModel(config)
    model.save_pretrained(folder)
    processor = transformers.ViTImageProcessor(size={"height": SIDE, "width": SIDE})
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_backbone(tmp_path_factory.mktemp("vit"), "vit")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures the backbone was given, call by call."""
    calls: list[int] = []
    embed = ImageEncoder.embed
    monkeypatch.setattr(
        ImageEncoder, "embed", lambda self, pictures: calls.append(len(pictures)) or embed(self, pictures)
    )
    return calls


def spec(backbone: Path, **columns: list[str]) -> ContentSpec:
    return ContentSpec(vision_model=str(backbone), frames_per_second=2.0, **columns)


def test_a_film_is_sampled_evenly_and_its_cuts_are_slow(films: Path) -> None:
    frames = media.sample_frames(films / "a.mp4", frames_per_second=2)
    assert len(frames) == 12
    assert frames[0].shape == (96, 128, 3) and frames[0].dtype == np.uint8
    assert np.abs(frames[0].astype(int) - picture(1)).mean() < 8
    slow_T = slow_frames(frames)
    assert np.flatnonzero(slow_T).tolist() == [0, 4, 8]
    assert spread_budget(slow_T, 1000).sum() == 1000


def test_a_long_film_is_thinned_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "MOST_FRAMES", 10)
    write_film(tmp_path / "ramp.mp4", [np.full((96, 128, 3), 4 * frame, dtype=np.uint8) for frame in range(60)], 0.1)
    shown = np.array([frame.mean() / 4 for frame in media.sample_frames(tmp_path / "ramp.mp4", frames_per_second=10)])
    np.testing.assert_allclose(shown, np.arange(0, 60, 8), atol=0.5)  # from beginning to end, at an even rate


def test_pictures_are_read_upright_and_small(tmp_path: Path) -> None:
    image = Image.fromarray(np.zeros((900, 600, 3), dtype=np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6  # the camera was held on its side
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert media.read_image(tmp_path / "turned.jpg").shape == (299, 448, 3)
    Image.fromarray(np.zeros((20, 30), dtype=np.uint8)).save(tmp_path / "grey.png")
    assert media.read_image(tmp_path / "grey.png").shape == (20, 30, 3)


@pytest.mark.parametrize("kind", ["vit", "resnet", "clip"])
def test_any_backbone_tells_pictures_apart_and_twice_the_same(tmp_path: Path, kind: str) -> None:
    import torch

    folder = save_backbone(tmp_path / kind, kind)
    before = torch.random.get_rng_state()
    vectors, again = (ImageEncoder(str(folder)).embed([picture(1), picture(2), picture(1)]) for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    np.testing.assert_array_equal(vectors, again)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(vectors[0], vectors[2], atol=1e-5)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3


def test_films_of_the_same_scenes_are_near_and_are_embedded_once(films: Path, backbone: Path, asked: list[int]) -> None:
    clips, covers = ["a.mp4", "a_again.mp4", "b.mp4", "b.mp4"], ["1.png", "1.png", None, "2.png"]
    items = pl.DataFrame({"clip": clips, "cover": covers})
    encoder = ContentEncoder(spec(backbone, videos=["clip"], images=["cover"]))
    clips, covers = encoder.fit_encode_blocks(items, films)
    assert asked == [12, 6, 12, 2]  # frames of three films, then two pictures
    assert encoder.block_names == ["video clip", "image cover"]
    assert encoder.notes == ["image cover: 1 of 4 items lack this content, their rows are zero"]
    assert not covers[2].any()
    np.testing.assert_allclose(covers[0], covers[1], atol=1e-6)
    near = clips @ clips.T
    assert near[0, 1] > 0.9 > near[0, 2]
    assert near[2, 3] == pytest.approx(1, abs=1e-5)
    loaded = ContentEncoder.load(encoder.config(), encoder.state_dict())
    new_clips, _ = loaded.encode_blocks(items.head(2), films)
    np.testing.assert_allclose(new_clips, clips[:2], atol=1e-6)
    assert len(asked) == 4  # everything came from the cache


def test_other_settings_are_embedded_anew(films: Path, backbone: Path, asked: list[int]) -> None:
    items = pl.DataFrame({"clip": ["a.mp4", "b.mp4"]})
    chosen = spec(backbone, videos=["clip"])
    for changed in ({}, {"frames_per_second": 1.0}, {"token_budget": 3}, {}):
        ContentEncoder(chosen.model_copy(update=changed)).fit(items, films)
    assert asked == [12, 12, 6, 6, 3, 3]  # a budget of three tokens is spent on the three slow frames


def test_missing_and_broken_files_are_named_with_their_row(films: Path, backbone: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"this is no film" * 50)
    (tmp_path / "cut.mp4").write_bytes((films / "a.mp4").read_bytes()[:300])
    (tmp_path / "broken.png").write_bytes((films / "1.png").read_bytes()[:60])
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(1600))
    good, png = str(films / "a.mp4"), str(films / "1.png")
    faults = [
        ("videos", [good, "gone.mp4", None, "lost.mp4"], r"row 1: .*gone.mp4 does not exist \(2 such rows of 4\)"),
        ("videos", [good, "", "broken.mp4"], r"row 2: .*broken.mp4: cannot be decoded"),
        ("videos", ["cut.mp4"], r"row 0: .*cut.mp4: cannot be decoded"),
        ("videos", ["sound.wav"], r"sound.wav: holds no video stream"),
        ("videos", [png, good], None),  # a picture is a film of one frame
        ("images", [png, "broken.png"], r"row 1: .*broken.png: cannot be read as an image"),
        ("images", [png, good], r"row 1: .*a.mp4: cannot be read as an image"),
        ("images", ["", None], r"every row is empty \(columns: file\)"),
    ]
    for key, cells, message in faults:
        items = pl.DataFrame({"file": cells}, schema={"file": pl.String})
        encoder = ContentEncoder(spec(backbone, **{key: ["file"]}))
        if message is None:
            encoder.fit(items, tmp_path)
            continue
        with pytest.raises(TokenizerError, match=message):
            encoder.fit(items, tmp_path)
    joined = pl.DataFrame({"clip": ["a.mp4", "b.mp4", "a.mp4", "gone.mp4"]})
    encoder = ContentEncoder(spec(backbone, videos=["clip"])).fit(joined.head(3), films)
    with pytest.raises(TokenizerError, match=r"row 3: .*gone.mp4"):  # the row of a new item is its row in the table
        encoder.encode(joined, films, np.asarray([2, 3]))


def test_faulty_settings_are_named(films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TokenizerError, match="vision_model names no model"):
        ContentEncoder(ContentSpec(images=["f"]))
    items = pl.DataFrame({"f": ["1.png"], "n": [3]})
    with pytest.raises(TokenizerError, match=r"vision_model .* cannot be loaded"):
        ContentEncoder(spec(tmp_path, images=["f"])).fit(items, films)
    with pytest.raises(TokenizerError, match="column 'n' holds Int64; it must hold paths"):
        ContentEncoder(spec(tmp_path, images=["n"])).fit(items, films)
    with pytest.raises(TokenizerError, match="no column 'g'"):
        ContentEncoder(spec(tmp_path, videos=["g"])).fit(items, films)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(TokenizerError, match="extra `vision`"):
        media.sample_frames(films / "a.mp4", 1.0)
