"""The trainer: it resumes, splits batches, and keeps the best weights."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from onerec.data.windows import Batch, every_position_windows
from onerec.errors import UserError
from onerec.recommenders.sasrec import SASRec, SASRecConfig
from onerec.train.averaging import AveragedWeights
from onerec.train.schedule import learning_rate_at, learning_rate_for
from onerec.train.trainer import TrainConfig, Trainer

TIMED = {"targets_per_second"}


class KilledError(Exception):
    """Stands for a kill: nothing of the trainer runs after it."""


def make_trainer(folder: Path, dropout: float = 0.2, validate: object = None, **settings: object) -> Trainer:
    draw = np.random.default_rng(0)
    lengths = draw.integers(2, 15, size=40)
    items = (np.arange(lengths.sum()) + draw.integers(0, 3, size=lengths.sum())) % 20  # mostly the next few: learnable
    windows = every_position_windows(items, np.cumsum([0, *lengths]), length=8)
    torch.manual_seed(0)
    model = SASRec(SASRecConfig(width=16, dropout=dropout, history_length=8), 20)
    config = TrainConfig(**{"epochs": 4, "batch_size": 8, "checkpoint_every": 3, "warmup_steps": 5, **settings})  # type: ignore[arg-type]
    chosen = validate or (lambda trained: {"ndcg@10": float(1 / probe(trained))})
    return Trainer(model, windows, config, folder, chosen, seed=5, label="test")  # type: ignore[arg-type]


@torch.no_grad()
def probe(model: nn.Module) -> Tensor:
    items = torch.arange(6)[None]
    loss: Tensor = model(Batch(items, items + 1, torch.ones_like(items, dtype=torch.bool), torch.tensor([6]))).sum()
    return loss


def log_of(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMED} for line in lines]


@pytest.mark.parametrize("average_decay", [0.0, 0.9])
@pytest.mark.parametrize("stop_after", [1, 4, 8, 13])
def test_a_killed_run_ends_as_if_it_had_never_been_killed(
    tmp_path: Path, stop_after: int, average_decay: float
) -> None:
    """Stopped within an epoch, at its end, and between checkpoints: the log and the weights stay the same."""
    whole = make_trainer(tmp_path / "whole", average_decay=average_decay)
    whole.run()
    killed = make_trainer(tmp_path / "killed", average_decay=average_decay)
    step, taken = killed._step, 0

    def stopping(rows: np.ndarray) -> tuple[Tensor, Tensor]:
        nonlocal taken
        if taken == stop_after:
            raise KilledError
        taken += 1
        return step(rows)

    killed._step = stopping  # type: ignore[method-assign]
    with pytest.raises(KilledError):
        killed.run()
    resumed = make_trainer(tmp_path / "killed", average_decay=average_decay)
    resumed.run()
    assert log_of(tmp_path / "killed") == log_of(tmp_path / "whole")
    for name, tensor in whole.bare_model.state_dict().items():
        assert torch.equal(tensor, resumed.bare_model.state_dict()[name]), name


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    make_trainer(tmp_path).run()
    before = (tmp_path / "metrics.jsonl").read_bytes()
    again = make_trainer(tmp_path)
    again._step = None  # type: ignore[assignment]  # would fail if called
    again.run()
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize("accumulation", [2, 3, 11])
def test_micro_batches_give_the_same_trajectory(tmp_path: Path, accumulation: int) -> None:
    """Without dropout, splitting a batch only changes the order of summation: 1e-4 over 20 steps of float32."""
    make_trainer(tmp_path / "one", dropout=0.0).run()
    make_trainer(tmp_path / "split", dropout=0.0, accumulation=accumulation).run()
    for one, split in zip(log_of(tmp_path / "one"), log_of(tmp_path / "split"), strict=True):
        assert one == pytest.approx(split, rel=1e-4)


def test_training_learns_and_keeps_the_best_weights(tmp_path: Path) -> None:
    scores = iter([0.1, 0.5, 0.2, 0.3])
    seen: list[dict[str, Tensor]] = []

    def validate(model: nn.Module) -> dict[str, float]:
        seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return {"ndcg@10": next(scores)}

    trainer = make_trainer(tmp_path, validate=validate)
    position = trainer.run()
    assert position.best_step == 2 * trainer.steps_per_epoch
    for name, tensor in trainer.bare_model.state_dict().items():
        assert torch.equal(tensor, seen[1][name])
    losses = [line["loss"] for line in log_of(tmp_path) if "loss" in line]
    assert losses[-1] < losses[0]


def test_patience_stops_early(tmp_path: Path) -> None:
    scores = iter([0.5, 0.4, 0.3, 0.2, 0.1])
    trainer = make_trainer(tmp_path, validate=lambda model: {"ndcg@10": next(scores)}, epochs=50, patience=2)
    assert trainer.run().epoch == 3


def test_a_broken_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"half a file")
    with pytest.raises(UserError, match=r"checkpoint\.pt: damaged"):
        make_trainer(tmp_path).run()


def test_learning_rate_warms_up_peaks_and_falls_to_its_share() -> None:
    rates = [learning_rate_at(step, peak=1.0, warmup_steps=10, total_steps=110, final_share=0.1) for step in range(120)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1.0
    assert rates[60] == pytest.approx(0.55)
    assert rates[110] == rates[119] == pytest.approx(0.1)
    assert all(a <= b for a, b in pairwise(rates[:10]))
    assert all(a >= b for a, b in pairwise(rates[10:]))


@pytest.mark.parametrize(
    ("parameters", "rate"),
    [(1e8, 5e-4), (2e8, 3.54e-4), (5e8, 2.24e-4), (1e9, 1.58e-4), (2e9, 1.12e-4), (4e9, 7.91e-5), (8e9, 5.59e-5)],
)
def test_the_rule_gives_the_rates_of_the_reports_table(parameters: float, rate: float) -> None:
    assert learning_rate_for(int(parameters)) == pytest.approx(rate, rel=0.003)  # printed with three digits


def test_without_a_learning_rate_the_size_of_the_model_decides(tmp_path: Path) -> None:
    """The size of SASRec, without its tables of items and positions."""
    assert TrainConfig().learning_rate is None
    by_rule, by_hand = make_trainer(tmp_path / "rule"), make_trainer(tmp_path / "hand", learning_rate=0.003)
    model = by_rule.bare_model
    tables = model.items.weight.numel() + model.positions.weight.numel()  # type: ignore[operator,union-attr]
    size = sum(parameter.numel() for parameter in model.parameters()) - tables
    assert by_rule.peak == pytest.approx(learning_rate_for(size))
    assert by_hand.peak == 0.003
    by_rule.run()
    rates = [line["learning_rate"] for line in log_of(tmp_path / "rule") if "learning_rate" in line]
    assert max(rates) <= by_rule.peak


def test_averaged_weights_are_the_weighted_mean_of_all_steps() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 1.0)
    average = AveragedWeights(model, decay=0.5)
    expected = 1.0
    for step, value in enumerate([4.0, -2.0, 8.0], start=1):
        nn.init.constant_(model.weight, value)
        average.update(model, step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert float(average.model.weight.item()) == pytest.approx(expected)  # type: ignore[operator,union-attr]


def test_the_average_is_what_is_validated_and_kept(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, average_decay=0.9)
    trainer.run()
    assert trainer.average is not None
    plain = make_trainer(tmp_path / "plain")
    plain.run()
    assert log_of(tmp_path)[0] == log_of(tmp_path / "plain")[0]
    kept, other = trainer.bare_model.state_dict(), plain.bare_model.state_dict()
    assert any(not torch.equal(kept[name], other[name]) for name in kept)
