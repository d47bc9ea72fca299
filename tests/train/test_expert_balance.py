"""Balance of experts in training: once per optimizer step, logged, averaged, and kept in checkpoints."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from generator_cases import EXPERTS, make_generator

from onerec.data.windows import every_position_windows
from onerec.model.layers.experts import ExpertsSpec, MixtureOfExperts
from onerec.train.expert_balance import ExpertBalance
from onerec.train.trainer import TrainConfig, Trainer

STEP = 0.125  # a power of two: moves add up exactly


def make_trainer(folder: Path, **settings: object) -> Trainer:
    draw = np.random.default_rng(0)
    lengths = draw.integers(2, 12, size=30)
    items = (np.arange(lengths.sum()) + draw.integers(0, 3, size=lengths.sum())) % 20
    windows = every_position_windows(items, np.cumsum([0, *lengths]), length=8)
    model = make_generator(
        **EXPERTS, experts_active=1, encoder_layers=1, decoder_layers=1, dropout=0.0, own_dropout=0.0, balance_step=STEP
    )
    training = TrainConfig(**{"epochs": 1, "batch_size": 8, "warmup_steps": 2, **settings})  # type: ignore[arg-type]
    return Trainer(model, windows, training, folder, lambda trained: {"ndcg@10": 0.0}, seed=3, label="test")


def biases(model: torch.nn.Module) -> torch.Tensor:
    return torch.stack([module.bias_E for module in model.modules() if isinstance(module, MixtureOfExperts)])


def test_a_bias_moves_once_per_step_however_a_batch_is_split(tmp_path: Path) -> None:
    whole, split = make_trainer(tmp_path / "whole"), make_trainer(tmp_path / "split", accumulation=3)
    for trainer in (whole, split):
        trainer.model.train()
        trainer._step(np.arange(8))
    assert torch.equal(biases(whole.bare_model), biases(split.bare_model))
    assert biases(whole.bare_model).abs().max() == STEP


def test_loads_are_those_of_items_and_counted_targets(tmp_path: Path) -> None:
    trainer, rows = make_trainer(tmp_path), np.arange(8)
    trainer.model.train()
    trainer._step(rows)
    batch = trainer.windows.batch(rows)
    encoder, decoder = (float(loads_E.sum()) for loads_E in trainer.expert_balance.seen)
    assert encoder == int(batch.lengths_B.sum())
    assert decoder == 3 * int(batch.counted_BT.sum())  # three codes per target


@pytest.mark.parametrize("average_decay", [0.0, 0.5])
def test_the_load_is_logged_and_the_biases_are_kept(tmp_path: Path, average_decay: float) -> None:
    trainer = make_trainer(tmp_path, average_decay=average_decay)
    trainer.run()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert all(1 <= line["expert_load"] <= 4 for line in lines if "loss" in line)
    again = make_trainer(tmp_path, average_decay=average_decay)
    again.run()  # finished: only reads the weights back
    assert biases(again.bare_model).any()
    assert torch.equal(biases(again.bare_model), biases(trainer.bare_model))


def balance_in_process(rank: int, folder: str) -> None:
    """One of two processes: its own tokens, the same layer."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    layer, tokens = layer_and_tokens()
    layer(tokens[rank::2])
    ExpertBalance(layer).step()
    torch.save(layer.bias_E, f"{folder}/bias_{rank}.pt")
    torch.distributed.destroy_process_group()


def layer_and_tokens() -> tuple[MixtureOfExperts, torch.Tensor]:
    torch.manual_seed(0)
    spec = ExpertsSpec(count=6, active=2, hidden_width=4, shared=False, balance_step=STEP, dense_layers=0)
    return MixtureOfExperts(4, spec).train(), torch.randn(30, 4)


def test_two_processes_move_the_biases_as_one_would(tmp_path: Path) -> None:
    # Fork, because a fresh process takes long to import all this. The children's few products need no threads.
    torch.multiprocessing.start_processes(balance_in_process, (str(tmp_path),), nprocs=2, start_method="fork")
    layer, tokens = layer_and_tokens()
    layer(tokens)
    ExpertBalance(layer).step()
    for rank in range(2):
        assert torch.equal(torch.load(tmp_path / f"bias_{rank}.pt"), layer.bias_E)


def test_biases_are_averaged_like_weights(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, average_decay=0.5)
    trainer.model.train()
    trainer._step(np.arange(8))
    assert trainer.average is not None
    decay = min(0.5, 2 / 11)  # of the first step, see AveragedWeights
    assert torch.allclose(biases(trainer.average.model), (1 - decay) * biases(trainer.bare_model))
