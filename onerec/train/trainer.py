"""One training loop for the generator and every trained baseline.

A model is any module whose forward pass maps a `Batch` to summed losses. The loss of a step is the sum over all counted
targets of the global batch, divided by their number. So splitting a batch over micro-batches or processes changes only the
rounding.
"""

import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from onerec.data.windows import Windows, epoch_batches, share_of_batch
from onerec.errors import UserError
from onerec.files import write_file
from onerec.model.counting import size_without_tables
from onerec.train.averaging import AveragedWeights
from onerec.train.checkpoint import (
    Position,
    random_states,
    read_checkpoint,
    restore_random_states,
    seed_dropout,
    write_checkpoint,
)
from onerec.train.expert_balance import ExpertBalance
from onerec.train.metrics_log import MetricsLog
from onerec.train.progress import TrainingProgress
from onerec.train.runtime import compute_on_cpu
from onerec.train.schedule import learning_rate_at, learning_rate_for
from tokenizer.common.settings import Length, Settings

Validate = Callable[[nn.Module], dict[str, float]]
STEPS_PER_LOG = 20


class TrainConfig(Settings):
    """How to train. `batch_size` counts the windows of an optimizer step, over all processes and micro-batches.

    learning_rate: the peak; None takes the rate that `learning_rate_for` gives a model of this size.
    """

    epochs: int = Field(40, gt=0, le=1_000_000)
    batch_size: Length = 128
    accumulation: int = Field(1, gt=0, le=10_000)
    learning_rate: float | None = Field(None, gt=0)
    final_learning_rate_share: float = Field(0.05, ge=0, le=1)
    warmup_steps: int = Field(200, ge=0)
    weight_decay: float = Field(0.01, ge=0)
    clip_norm: float = Field(1.0, gt=0)
    average_decay: float = Field(0.0, ge=0, lt=1)
    validate_every: int = Field(1, gt=0)
    patience: int = Field(6, gt=0)
    checkpoint_every: int = Field(500, gt=0)
    precision: Literal["auto", "fp32", "bf16"] = "auto"


class Trainer:
    """Train a model on windows until validation stops improving. A killed run resumes from its folder.

    Args:
        model: forward(batch) gives losses of any shape; their sum is the loss.
        windows: training windows.
        config: see `TrainConfig`.
        folder: for `metrics.jsonl`, `checkpoint.pt` and `best.safetensors`.
        validate: called in the main process with the bare model in eval mode. It returns figures, `criterion` among them.
        seed: seeds data order and dropout.
        label: name that the progress bar shows.
        wandb_project: the Weights & Biases project to mirror metrics to; None for none.
        criterion: the validation figure that is highest for the best weights; it must not be negative.
    """

    def __init__(
        self,
        model: nn.Module,
        windows: Windows,
        config: TrainConfig,
        folder: Path,
        validate: Validate,
        *,
        seed: int,
        label: str,
        wandb_project: str | None = None,
        criterion: str = "ndcg@10",
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.config, self.windows, self.folder, self.validate = config, windows, folder, validate
        self.seed, self.label, self.wandb_project, self.criterion = seed, label, wandb_project, criterion
        self.accelerator = Accelerator(cpu=compute_on_cpu(), mixed_precision=choose_precision(config.precision))
        seed_dropout(seed, self.accelerator.process_index)
        self.peak = config.learning_rate or learning_rate_for(size_without_tables(model))
        optimizer = torch.optim.AdamW(
            _decayed_groups(model, config.weight_decay), lr=self.peak, betas=(0.9, 0.98), fused=True
        )
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.average = AveragedWeights(self.bare_model, config.average_decay) if config.average_decay else None
        self.expert_balance = ExpertBalance(self.bare_model)
        self.steps_per_epoch = -(-len(windows) // config.batch_size)
        self.total_steps = self.steps_per_epoch * config.epochs
        self.position = Position()

    def run(self) -> Position:
        """Train to the end, or continue where a killed run stopped. Afterwards the model holds the best weights."""
        self._resume()
        log = None
        if self.accelerator.is_main_process:
            log = MetricsLog(
                self.folder / "metrics.jsonl", self.position.log_bytes, self.wandb_project, self.config.model_dump()
            )
        with TrainingProgress(self.label, self.total_steps, self.accelerator.is_main_process) as progress:
            while not self.position.finished:
                self._epoch(log, progress)
        if log is not None:
            log.close()
        self.accelerator.wait_for_everyone()
        self.bare_model.load_state_dict(load_file(self.folder / "best.safetensors"))
        return self.position

    @property
    def bare_model(self) -> nn.Module:
        """The model without the wrapper that `accelerate` puts around it."""
        bare: nn.Module = self.accelerator.unwrap_model(self.model)
        return bare

    @property
    def judged_model(self) -> nn.Module:
        """The model that is validated and kept: the one with averaged weights, if weights are averaged."""
        return self.bare_model if self.average is None else self.average.model

    def _epoch(self, log: MetricsLog | None, progress: TrainingProgress) -> None:
        position, started = self.position, time.perf_counter()
        batches = epoch_batches(self.windows, self.config.batch_size, self.seed, position.epoch)
        self.model.train()
        loss_sum, targets_seen, since = torch.zeros((), device=self.accelerator.device), 0, time.perf_counter()
        for rows in batches[position.batch :]:
            loss, norm = self._step(rows)
            loss_sum, targets_seen = loss_sum + loss, targets_seen + int(self.windows.target_counts[rows].sum())
            position.step, position.batch = position.step + 1, position.batch + 1
            at_end = position.batch == len(batches)
            saving = position.step % self.config.checkpoint_every == 0 and not at_end
            # Every checkpoint follows a line of the log, so a resumed run starts its running sums where this run did.
            if position.step % STEPS_PER_LOG == 0 or at_end or saving:
                total = float(self.accelerator.reduce(loss_sum, "sum"))
                rate = targets_seen / (time.perf_counter() - since)
                line = self._training_line(total / targets_seen, rate, float(norm))
                progress.update(position.step, line["loss"], rate)
                if log is not None:
                    log.write(line)
                loss_sum, targets_seen, since = torch.zeros_like(loss_sum), 0, time.perf_counter()
            if saving:
                started = self._checkpoint(log, started)
                since = time.perf_counter()
        position.epoch, position.batch = position.epoch + 1, 0
        last = position.epoch == self.config.epochs
        if last or position.epoch % self.config.validate_every == 0:
            self._validate(log, progress)
        position.finished = last or position.stale_validations >= self.config.patience
        self._checkpoint(log, started)

    def _step(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """One optimizer step on the global batch `rows`. Returns this process's summed loss, and the gradient norm."""
        processes, accumulation = self.accelerator.num_processes, self.config.accumulation
        scale = processes / max(1, int(self.windows.target_counts[rows].sum()))
        loss_sum = torch.zeros((), device=self.accelerator.device)
        for micro in range(accumulation):
            part = micro * processes + self.accelerator.process_index
            batch = self.windows.batch(share_of_batch(rows, part, accumulation * processes))
            last = micro == accumulation - 1
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                loss = self.model(batch.to(self.accelerator.device)).sum()
                self.accelerator.backward(loss * scale)
            loss_sum = loss_sum + loss.detach()
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        if not torch.isfinite(norm):  # a loss that is not finite has such gradients; equal in all processes
            raise self._diverged("a gradient")
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.expert_balance.step()
        if self.average is not None:
            self.average.update(self.bare_model, self.position.step + 1)
        return loss_sum, norm

    def _diverged(self, what: str) -> UserError:
        return UserError(
            f"{self.folder}: training of {self.label} stopped at step {self.position.step + 1}: {what} is not a finite number; "
            f"lower its learning rate (its peak is {self.peak:g}) and run again; weights and checkpoints of before are kept"
        )

    def _learning_rate(self) -> float:
        return learning_rate_at(
            self.position.step,
            peak=self.peak,
            warmup_steps=self.config.warmup_steps,
            total_steps=self.total_steps,
            final_share=self.config.final_learning_rate_share,
        )

    def _training_line(self, loss: float, rate: float, norm: float) -> dict[str, Any]:
        return {
            "step": self.position.step,
            "epoch": self.position.step / self.steps_per_epoch,
            "loss": loss,
            "learning_rate": self._learning_rate(),
            "gradient_norm": norm,
            "targets_per_second": rate,
            **self.expert_balance.figures(),
        }

    def _validate(self, log: MetricsLog | None, progress: TrainingProgress) -> None:
        position = self.position
        figures: list[dict[str, float]] = [{}]
        if self.accelerator.is_main_process:
            before = random_states()
            figures = [self.validate(self.judged_model.eval())]
            restore_random_states(before)
        broadcast_object_list(figures)
        score = figures[0][self.criterion]
        if score > position.best_score:
            position.best_score, position.best_step, position.stale_validations = score, position.step, 0
            if not all(bool(tensor.isfinite().all()) for tensor in self.judged_model.state_dict().values()):
                raise self._diverged("a weight")
            if self.accelerator.is_main_process:
                _save_weights(self.judged_model, self.folder / "best.safetensors")
        else:
            position.stale_validations += 1
        if log is not None:
            line = {f"valid/{name}": value for name, value in figures[0].items()}
            log.write({"step": position.step, "epoch": position.step / self.steps_per_epoch, **line})
        progress.validated(position.epoch, figures[0], position.best_step == position.step)

    def _checkpoint(self, log: MetricsLog | None, started: float) -> float:
        """Save everything. Returns the time from which the next seconds are counted."""
        now = time.perf_counter()
        self.position.seconds += now - started
        states = gather_object([random_states()])
        if log is not None:
            self.position.log_bytes = log.length
            content = {
                "model": self.bare_model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "random_states": states,
                "average": self.average.model.state_dict() if self.average is not None else {},
            }
            write_checkpoint(self.folder / "checkpoint.pt", content, self.position)
        self.accelerator.wait_for_everyone()
        return now

    def _resume(self) -> None:
        found = read_checkpoint(self.folder / "checkpoint.pt")
        if found is None:
            return
        content, self.position = found
        self.bare_model.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        if self.average is not None:
            self.average.model.load_state_dict(content["average"])
        states = content["random_states"]
        if len(states) == self.accelerator.num_processes:
            restore_random_states(states[self.accelerator.process_index])


def choose_precision(asked: str) -> str:
    """The mixed-precision mode for `accelerate`: bf16 on GPUs that have it, fp32 on CPUs, where bf16 is often 10 times slower."""
    if asked == "auto":
        return "bf16" if not compute_on_cpu() and torch.cuda.is_bf16_supported() else "no"
    return "no" if asked == "fp32" else asked


def _decayed_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay applies to matrices, but not to norms, biases, and embeddings, most of which a batch does not touch."""
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    decayed = [p for p in model.parameters() if p.ndim >= 2 and id(p) not in embeddings]
    others = [p for p in model.parameters() if p.ndim < 2 or id(p) in embeddings]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def _save_weights(model: nn.Module, path: Path) -> None:
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    write_file(path, lambda temporary: save_file(tensors, temporary))
