"""The loop of preference alignment. A step makes groups, rewards them, and adds up the losses of one optimizer step.

It is not trl's trainer, for two reasons. The reports add the next-code loss, on windows of its own (arXiv 2506.13695, arXiv
2502.18965). And OneRec-V2 learns from logged exposures beside generations, or from exposures alone (arXiv 2508.20900). All random
draws of a step depend only on the seed and the step's number, so a resumed run ends exactly like an uninterrupted one.
"""

import time
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from onerec.data.requests import Requests
from onerec.data.windows import Windows, epoch_batches
from onerec.errors import UserError
from onerec.model.generator import Generator
from onerec.train.checkpoint import Position, read_checkpoint, write_checkpoint
from onerec.train.expert_balance import ExpertBalance
from onerec.train.metrics_log import MetricsLog
from onerec.train.progress import TrainingProgress
from onerec.train.runtime import compute_on_cpu
from onerec.train.schedule import learning_rate_at
from rl.alignment.collapse import CollapseWatch
from rl.alignment.exposures import Exposures, exposure_loss
from rl.alignment.rewards import AlignRewards
from rl.alignment.step import Figures, Groups, downward_gradient_norm, group_figures, kl_to_start, objective_loss
from rl.config.alignment import PREFERENCE_OBJECTIVES, AlignConfig
from rl.rollouts.policy import batch_of, check_free, code_log_probabilities, score_codes
from rl.rollouts.prompts import batches_from, count_in_epoch
from rl.rollouts.rollouts import Rollouts, generate_groups
from rl.rollouts.snapshot import Snapshot, frozen_copy

CHECKPOINT_FILE, METRICS_FILE, STOPPED_FOLDER = "checkpoint.pt", "metrics.jsonl", "stopped"
STEPS_PER_STUDY = 10  # between the figures that cost an extra pass


class AlignLoop:
    """Aligns a policy in place, and resumes by itself from its folder.

    The objective scores the policy in eval mode, so that ratios start at 1. The next-code loss uses training mode, with dropout.
    Everything is computed in float32.

    Args:
        policy: the trained generator to start from, on the device to run on.
        windows: training windows of the next-code loss.
        prompts: histories that groups are generated for.
        rewards: what generations earn. None: generate nothing and learn from exposures alone.
        config: see `AlignConfig`.
        folder: receives `metrics.jsonl` and `checkpoint.pt`, and `stopped/` if alignment stops itself.
        seed: of all random draws.
        exposures: logged exposures, if `config.exposures` has a weight.
        wandb_project: mirror metrics to Weights & Biases under this project.

    Raises:
        UserError: free rollouts, but the generator has probabilities for legal codes only.
    """

    def __init__(
        self,
        policy: Generator,
        windows: Windows,
        prompts: Requests,
        rewards: AlignRewards | None,
        config: AlignConfig,
        folder: Path,
        *,
        seed: int,
        exposures: Exposures | None = None,
        wandb_project: str | None = None,
    ) -> None:
        if rewards is None and exposures is None:
            raise ValueError("alignment needs rewards or exposures to learn from")
        self.free = config.rollouts.method == "free"
        if self.free:
            check_free(policy)
        folder.mkdir(parents=True, exist_ok=True)
        self.policy, self.windows, self.prompts, self.rewards = policy, windows, prompts, rewards
        self.exposures = exposures
        self.config, self.folder, self.seed, self.wandb_project = config, folder, seed, wandb_project
        self.accelerator = Accelerator(cpu=compute_on_cpu(), mixed_precision="no")
        optimizer = torch.optim.AdamW(policy.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
        self.optimizer = self.accelerator.prepare(optimizer)
        self.start, self.snapshot = frozen_copy(policy), Snapshot(policy, self.refresh_every)
        self.expert_balance, self.watch = ExpertBalance(policy), CollapseWatch(config.limits)
        self.rng, self.position = torch.Generator(self.accelerator.device), Position()

    @property
    def refresh_every(self) -> int:
        """Optimizer steps between copies of the policy. DPO and IPA copy it once per epoch of prompts."""
        if self.config.objective in PREFERENCE_OBJECTIVES:
            return -(-count_in_epoch(self.prompts, self.config.prompts.share) // self.config.batch_size)
        return self.config.refresh_every

    def run(self) -> Position:
        """Align to the end, or continue where a killed run stopped.

        Raises:
            UserError: a loss or gradient is not finite, or legality or entropy has collapsed. `stopped/` then holds the policy
                after the last step that was taken.
        """
        self._resume()
        config, position = self.config, self.position
        log = MetricsLog(
            self.folder / METRICS_FILE, position.log_bytes, self.wandb_project, config.model_dump(mode="json")
        )
        prompt_rows = batches_from(
            self.prompts, config.batch_size, self.seed, position.step, share=config.prompts.share
        )
        window_rows, exposure_rows = self._window_batches(position.step), self._exposure_batches(position.step)
        unit = "exposures" if self.rewards is None else "generations"
        started = time.perf_counter()
        try:
            with TrainingProgress(config.objective, config.steps, True, unit) as progress:
                while position.step < config.steps:
                    figures = self._step(next(prompt_rows), next(window_rows), next(exposure_rows))
                    log.write(figures)
                    trouble = self._after(figures, progress)
                    if trouble is not None:
                        self._stop(trouble)
                    if position.step % config.checkpoint_every == 0 or position.step == config.steps:
                        started = self._checkpoint(log, started)
        finally:
            log.close()
        self.policy.eval()
        return position

    def _step(
        self, prompt_rows: np.ndarray, window_rows: np.ndarray, exposure_rows: np.ndarray | None
    ) -> dict[str, float]:
        """Compute the gradients of one optimizer step, without taking it. Returns the step's figures."""
        began = time.perf_counter()
        self._seed_step()
        figures: Figures = {}
        rollout_seconds = 0.0
        if self.rewards is not None:
            figures, rollout_seconds = self._learn_from_groups(self.rewards, self.prompts.pick(prompt_rows))
        if self.exposures is not None and exposure_rows is not None:
            figures |= self._learn_from_exposures(self.exposures, exposure_rows)
        if self.config.next_code.weight:
            figures["next_code_loss"] = self._learn_next_codes(window_rows)
        figures["gradient_norm"] = self._gradient_norm()
        plain = {name: float(figure) for name, figure in figures.items()}
        seconds = time.perf_counter() - began
        timed = {"seconds": seconds, "rollout_share": rollout_seconds / seconds}
        return {"step": self.position.step + 1, **plain, "learning_rate": self._learning_rate(), **timed}

    def _learn_from_groups(self, rewards: AlignRewards, prompts: Requests) -> tuple[Figures, float]:
        """Add the gradients of the objective. Returns its figures and the seconds that generation took."""
        groups, rollout_seconds, figures = self._make_groups(rewards, prompts)
        self.policy.eval()
        batch = batch_of(self.policy, groups.prompts)
        scored = score_codes(self.policy, batch, groups.rollouts.codes_BGL, self.free)
        loss, found = objective_loss(self.config, scored, groups, self.rng)
        if studied := self.position.step % STEPS_PER_STUDY == 0 or self.position.step + 1 == self.config.steps:
            parameters = [one for one in self.policy.parameters() if one.requires_grad]
            figures["negative_gradient_norm"] = downward_gradient_norm(loss, scored.log_probabilities_BGL, parameters)
        self.accelerator.backward(loss)
        figures |= found | {"objective_loss": loss.detach(), "objective_gradient_norm": self._gradient_norm()}
        figures["entropy"] = scored.entropies_BGL.detach().sum(dim=-1).mean()
        if studied:
            figures["kl_to_start"] = self._kl(groups, scored.log_probabilities_BGL)
        return figures, rollout_seconds

    def _learn_from_exposures(self, exposures: Exposures, rows: np.ndarray) -> Figures:
        """Add the gradients of the exposures' loss. Returns its figures, with the norm of these gradients alone."""
        self.policy.eval()
        loss, figures = exposure_loss(self.policy, exposures, rows, self.free)
        parameters = [one for one in self.policy.parameters() if one.requires_grad]
        found = torch.autograd.grad(self.config.exposures.weight * loss, parameters, allow_unused=True)
        for one, gradient in zip(parameters, found, strict=True):
            if gradient is not None:
                one.grad = gradient if one.grad is None else one.grad + gradient
        norm = torch.nn.utils.get_total_norm([gradient for gradient in found if gradient is not None])
        return figures | {"exposure_gradient_norm": norm}

    def _make_groups(self, rewards: AlignRewards, prompts: Requests) -> tuple[Groups, float, Figures]:
        """Groups of the behaviour policy with their rewards, the seconds that generation took, and figures of the groups."""
        began = time.perf_counter()
        behaviour = self.snapshot.generator_at(self.position.step)
        rollouts = generate_groups(behaviour, prompts, self.config.rollouts, self.rng)
        seconds = time.perf_counter() - began
        rewards_BG, parts = rewards(prompts, rollouts)
        reference_BG = rollouts.log_probabilities_BGL.sum(dim=-1)
        if self.config.objective in PREFERENCE_OBJECTIVES and self.config.rollouts.method != "beam":
            # Samples come from a distribution that may be truncated or tempered; the reference is the policy itself.
            reference_BG = self._item_log_probabilities(behaviour, prompts, rollouts)
        figures = group_figures(rollouts, rewards_BG, parts)
        return Groups(prompts, rollouts, rewards_BG, reference_BG), seconds, figures

    @torch.no_grad()
    def _item_log_probabilities(self, generator: Generator, prompts: Requests, rollouts: Rollouts) -> Tensor:
        batch = batch_of(generator, prompts)
        return code_log_probabilities(generator, batch, rollouts.codes_BGL, self.free).sum(dim=-1)

    def _kl(self, groups: Groups, log_pi_BGL: Tensor) -> Tensor:
        start_BG = self._item_log_probabilities(self.start, groups.prompts, groups.rollouts)
        sampled = self.config.rollouts.method in ("sample", "free")
        return kl_to_start(log_pi_BGL.detach().sum(dim=-1), start_BG, sampled=sampled)

    def _learn_next_codes(self, window_rows: np.ndarray) -> Tensor:
        """Add the gradients of the next-code loss. Returns the loss, a mean over targets."""
        self.policy.train()
        batch = self.windows.batch(window_rows).to(self.accelerator.device)
        loss = self.policy(batch).sum() / max(1, int(self.windows.target_counts[window_rows].sum()))
        self.accelerator.backward(self.config.next_code.weight * loss)
        detached: Tensor = loss.detach()
        return detached

    def _after(self, figures: dict[str, float], progress: TrainingProgress) -> str | None:
        """Take the optimizer step if everything is finite. Returns what has gone wrong, or None."""
        for name in ("objective_loss", "exposure_loss", "next_code_loss", "gradient_norm"):
            if not np.isfinite(figures.get(name, 0.0)):
                self.optimizer.zero_grad()
                return f"{name} is {figures[name]}; lower align.learning_rate"
        self.accelerator.clip_grad_norm_(self.policy.parameters(), self.config.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.expert_balance.step()
        self.position.step += 1
        if self.rewards is None:  # no generations, so legality is 1
            made = self.config.exposures.batch_size
            progress.update(self.position.step, figures["exposure_loss"], made / figures["seconds"])
            return self.watch.update(1.0, figures["exposure_entropy"])
        made = self.config.batch_size * self.config.rollouts.group_size
        progress.update(self.position.step, figures["objective_loss"], made / figures["seconds"])
        return self.watch.update(figures["legality"], figures["entropy"])

    def _stop(self, trouble: str) -> None:
        self.policy.eval()
        self.policy.save_pretrained(self.folder / STOPPED_FOLDER)
        raise UserError(
            f"{self.folder}: alignment stopped after step {self.position.step}: {trouble}. "
            f"{STOPPED_FOLDER}/ holds the generator after that step, {METRICS_FILE} the curves"
        )

    def _gradient_norm(self) -> Tensor:
        return torch.nn.utils.get_total_norm([one.grad for one in self.policy.parameters() if one.grad is not None])

    def _learning_rate(self) -> float:
        config = self.config
        return learning_rate_at(
            self.position.step,
            peak=config.learning_rate,
            warmup_steps=config.warmup_steps,
            total_steps=config.steps,
            final_share=config.final_learning_rate_share,
        )

    def _seed_step(self) -> None:
        drawn, dropped = np.random.SeedSequence([self.seed, self.position.step]).generate_state(2).tolist()
        self.rng.manual_seed(drawn)
        torch.manual_seed(dropped)

    def _exposure_batches(self, step: int) -> Iterator[np.ndarray | None]:
        """An endless stream of exposure batches that starts at this step; None each time without exposures."""
        if self.exposures is None:
            return repeat(None)
        return batches_from(self.exposures, self.config.exposures.batch_size, self.seed, step)

    def _window_batches(self, step: int) -> Iterator[np.ndarray]:
        """An endless stream of window batches that starts at this step."""
        size = self.config.next_code.batch_size
        epoch, skipped = divmod(step, -(-len(self.windows) // size))
        while True:
            yield from epoch_batches(self.windows, size, self.seed, epoch)[skipped:]
            epoch, skipped = epoch + 1, 0

    def _checkpoint(self, log: MetricsLog, started: float) -> float:
        """Save the state. Returns the time from which to count seconds from now on."""
        now = time.perf_counter()
        self.position.seconds += now - started
        self.position.log_bytes, self.position.finished = log.length, self.position.step == self.config.steps
        content: dict[str, Any] = {
            "model": self.policy.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "snapshot": self.snapshot.state_dict(),
            "watch": self.watch.state_dict(),
        }
        write_checkpoint(self.folder / CHECKPOINT_FILE, content, self.position)
        return now

    def _resume(self) -> None:
        found = read_checkpoint(self.folder / CHECKPOINT_FILE)
        if found is None:
            return
        content, self.position = found
        self.policy.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.snapshot.load_state_dict(content["snapshot"])
        self.watch.load_state_dict(content["watch"])
