"""A checkpoint whose bytes have changed is never resumed."""

from pathlib import Path

import numpy as np
import pytest
import torch

from onerec.errors import UserError
from onerec.train.checkpoint import Position, read_checkpoint, write_checkpoint


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A small checkpoint on disk."""
    path = tmp_path / "checkpoint.pt"
    write_checkpoint(path, {"model": {"weight": torch.arange(1000.0)}}, Position(step=7, best_score=0.5))
    return path


def test_it_is_read_back_by_us_and_by_torch(checkpoint: Path) -> None:
    found = read_checkpoint(checkpoint)
    assert found is not None
    content, position = found
    assert torch.equal(content["model"]["weight"], torch.arange(1000.0)) and position.step == 7
    assert torch.load(checkpoint, weights_only=True)["position"]["step"] == 7


def test_every_flipped_bit_is_noticed(checkpoint: Path) -> None:
    whole = checkpoint.read_bytes()
    generator = np.random.default_rng(3)
    for place in [0, len(whole) - 1, len(whole) - 65, *generator.integers(len(whole), size=60).tolist()]:
        flipped = whole[place] ^ (1 << int(generator.integers(8)))
        checkpoint.write_bytes(whole[:place] + bytes([flipped]) + whole[place + 1 :])
        with pytest.raises(
            UserError, match="damaged, or written by an earlier version; delete this file and run again"
        ):
            read_checkpoint(checkpoint)


@pytest.mark.parametrize("kept", [0, 10, 64, 1000, -1])
def test_a_truncated_file_is_noticed_and_without_it_training_starts_over(kept: int, checkpoint: Path) -> None:
    checkpoint.write_bytes(checkpoint.read_bytes()[:kept])
    with pytest.raises(UserError, match="damaged"):
        read_checkpoint(checkpoint)
    checkpoint.unlink()
    assert read_checkpoint(checkpoint) is None
