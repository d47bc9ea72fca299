"""Read video and image files as small RGB pictures, with PyAV and Pillow (extra `vision`)."""

from pathlib import Path

import numpy as np

from tokenizer.errors import TokenizerError

LONGEST_SIDE = 448  # pixels; image backbones read 224 to 384, so nothing is lost and memory stays small
MOST_FRAMES = 256  # per video; 150 MB at this size


def sample_frames(path: Path, frames_per_second: float) -> list[np.ndarray]:
    """Frames of a video at an even rate: uint8 [H,W,3] each, with a longest side of at most LONGEST_SIDE.

    The first frame is always taken. Whenever there are more than MOST_FRAMES, every other frame is dropped and the rate is
    halved. Raises TokenizerError when the file cannot be decoded or has no frame.
    """
    try:
        import av
    except ImportError as error:
        raise TokenizerError(f"videos need the extra `vision`: pip install '.[vision]' ({error}).") from error
    frames: list[np.ndarray] = []
    seconds: list[float] = []
    step, next_second = 1 / frames_per_second, 0.0
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise TokenizerError(f"{path}: holds no video stream.")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            started: float | None = None
            for number, frame in enumerate(container.decode(stream)):
                # the time of a frame without a time stamp follows from its number
                shown = frame.time if frame.time is not None else number / float(stream.average_rate or 25)
                started = shown if started is None else started
                if shown - started < next_second - 1e-6:
                    continue
                width, height = _fitted_size(frame.width, frame.height)
                frames.append(frame.to_ndarray(format="rgb24", width=width, height=height))
                seconds.append(shown - started)
                if len(frames) > MOST_FRAMES:
                    frames, seconds, step = frames[::2], seconds[::2], 2 * step
                next_second = seconds[-1] + step
    except (av.FFmpegError, OSError, ValueError) as error:
        raise TokenizerError(f"{path}: cannot be decoded as a video ({error}).") from error
    if not frames:
        raise TokenizerError(f"{path}: the video has no frame.")
    return frames


def read_image(path: Path) -> np.ndarray:
    """Read a picture as uint8 [H,W,3], upright, with a longest side of at most LONGEST_SIDE. TokenizerError when unreadable."""
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise TokenizerError(f"images need the extra `vision`: pip install '.[vision]' ({error}).") from error
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
            return np.asarray(upright.resize(_fitted_size(*upright.size), Image.Resampling.BICUBIC))
    except (
        OSError,
        ValueError,
        SyntaxError,
        Image.DecompressionBombError,
    ) as error:  # what Pillow raises for a bad file
        raise TokenizerError(f"{path}: cannot be read as an image ({error}).") from error


def _fitted_size(width: int, height: int) -> tuple[int, int]:
    scale = min(1.0, LONGEST_SIDE / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))
