"""Helpers of the tests of RSFT: settings of a small stage, and a plain reference for its sessions."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from command_line import configured
from torch import Tensor
from watched_cases import PLAIN, opened

from onerec.data.contract import read_dataset
from onerec.model.generator import Generator
from onerec.run.run import Run
from rl.config.rsft import RsftConfig
from rl.rsft.sessions import lower_sessions

STAGE = (
    "tokenizer.alignment=null",
    "rsft.session_gap=2500",
    "rsft.train.epochs=3",
    "rsft.train.batch_size=4",
    "rsft.train.learning_rate=0.01",
    "rsft.train.checkpoint_every=2",
    "rsft.train.patience=9",
)
ALIGN = (
    "reward=null",
    "align.rewards.p_score=0",
    "align.rewards.hit=1",
    "align.rollouts.group_size=8",
    "align.rollouts.exclude_seen=false",
    "align.batch_size=8",
    "align.steps=2",
)


def typed(data: Path, *overrides: str) -> list[str]:
    return configured("watched", data, *PLAIN, *STAGE, *ALIGN, *overrides)


def reopened(data: Path, runs: Path, *overrides: str, pathways: bool = False) -> Run:
    return opened(read_dataset(data), runs / "watched", *STAGE, *ALIGN, *overrides, pathways=pathways)


def sessions_of_table(run: Run, config: RsftConfig) -> list[tuple[bool, list[dict[str, Any]]]]:
    """Every session of the training part, whether it is dropped and its rows, by walking the table."""
    sessions: list[list[dict[str, Any]]] = []
    for rows in run.dataset.events.partition_by("user", maintain_order=True):
        trained = [row for row in rows.to_dicts() if row["period"] == "train"]
        liked = [place for place, row in enumerate(trained) if row["liked"]]
        trained = trained[: liked[-1] + 1] if liked else []
        for place, row in enumerate(trained):
            if config.session_events is not None:
                begins = place % config.session_events == 0
            else:
                begins = not place or row["time"] - trained[place - 1]["time"] > (config.session_gap or 0)
            if begins:
                sessions.append([])
            sessions[-1].append(row)
    totals = [sum(row["played"] for row in session) for session in sessions]
    assert len(set(totals)) > 0.5 * len(totals)
    dropped = lower_sessions(np.array(totals), config.dropped_share, run.config.seed)
    return list(zip(dropped.tolist(), sessions, strict=True))


def weights_in(folder: Path) -> dict[str, Tensor]:
    return Generator.from_pretrained(folder / "model").state_dict()


def same(one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float = 0.0) -> bool:
    return all(torch.allclose(one[name], other[name], rtol=0, atol=tolerance) for name in one)


def facts_of(folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    return facts
