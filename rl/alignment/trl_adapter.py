"""trl's GRPO trainer for generators, with trl's loss types or the objectives of `rl.objectives`.

trl's trainer expects a causal language model. It generates text itself, computes probabilities over an unconstrained vocabulary,
and passes token ids around. The adapter replaces these three: a prompt is the number of a request, generations come from a
callable, and log-probabilities and entropies are those of the policy, under the trie or free. Advantages, losses, clipping, the
KL term and optimizer steps stay trl's. Options of trl that would have no effect are refused (`TrlAdapter`).

Written against trl 1.16; trl's trainers change between minor versions.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import fields
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.callbacks import SyncRefModelCallback

from onerec.data.requests import Requests
from onerec.data.windows import Batch
from onerec.errors import UserError
from onerec.model.generator import Generator
from onerec.train.runtime import compute_on_cpu
from rl.objectives import PolicyLoss
from rl.rewards.reward import Reward
from rl.rollouts.policy import batch_of, check_free, score_codes
from rl.rollouts.rollouts import Rollouts

Rollout = Callable[[Requests, int], Rollouts]
Objective = Callable[[Tensor, Tensor, Tensor], PolicyLoss]
LOSS_TYPES = ("grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo")

# Options of how trl generates text. Here the rollouts generate.
_OF_GENERATION = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "generation_kwargs",
    "cache_implementation",
    "use_vllm",
    "use_transformers_continuous_batching",
)
# Options for language models: truncated texts, chats, language-model heads, routers that return their scores.
_OF_LANGUAGE_MODELS = (
    "mask_truncated_completions",
    "chat_template_kwargs",
    "model_init_kwargs",
    "cast_lm_head_to_fp32",
    "router_aux_loss_coef",
    "gradient_checkpointing",
    "use_liger_kernel",
    "pad_to_multiple_of",
)
# Options of trl's losses, which an `objective` replaces.
_OF_LOSSES = (
    "loss_type",
    "importance_sampling_level",
    "epsilon",
    "epsilon_high",
    "delta",
    "beta",
    "entropy_coef",
    "use_adaptive_entropy",
    "top_entropy_quantile",
    "off_policy_mask_threshold",
)


def trl_config(generator: Generator, folder: Path, **settings: Any) -> GRPOConfig:
    """trl's config with defaults for a generator.

    The defaults are full precision, no gradient checkpointing, no reports, no checkpoints, and completions of L codes, the length
    by which `loss_type="dr_grpo"` divides. Sizes are trl's: `per_device_train_batch_size` counts generations and not users.

    Args:
        folder: trl's output folder.
        settings: fields of `GRPOConfig`; they override the defaults.
    """
    suited = {
        "output_dir": str(folder),
        "use_cpu": compute_on_cpu(),
        "bf16": False,
        "gradient_checkpointing": None,  # trl's default is True, and False makes trl warn about the option's name
        "report_to": "none",
        "save_strategy": "no",
        "max_completion_length": generator.levels,
    }
    return GRPOConfig(**{**suited, **settings})


class GeneratorModel(PreTrainedModel):
    """A generator as the model that trl trains. They share their weights.

    The generator stays in eval mode, because with dropout ratios would not start at 1. trl reads `training` of this module to
    tell training from evaluation. `free` scores codes without the trie.
    """

    config_class = PreTrainedConfig

    def __init__(self, generator: Generator, free: bool) -> None:
        no_text = {"pad_token_id": 0, "eos_token_id": 0}  # as in `_no_text`
        super().__init__(PreTrainedConfig(**no_text))
        self.generator, self.free, self.generation_config = generator, free, GenerationConfig(**no_text)
        self.post_init()

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Keep the weights."""

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.generator.eval()
        return self

    def forward(self, batch: Batch, codes_BGL: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities and entropies `[B, G, L]`."""
        scored = score_codes(self.generator, batch, codes_BGL, self.free)
        return scored.log_probabilities_BGL, scored.entropies_BGL


class TrlAdapter(GRPOTrainer):
    """trl's GRPO trainer with a generator as its policy. `train()` changes the generator's weights in place.

    Ratios divide by the log-probabilities that the rollouts carry: those of the policy that generated, which may be a snapshot or
    have a temperature. The reference of the KL term (`beta`) is a copy of the generator made now.

    trl's `importance_sampling_level="sequence"` is GSPO's geometric mean over codes. The ratio of a whole item is
    `rl.objectives.ecpo` with `level="item"`.

    Args:
        generator: the policy.
        prompts: histories to generate for. The number of a request is one prompt of trl.
        rollout: makes G generations for each of some prompts, on the generator's device.
        rewards: by the name that curves show; `args.reward_weights` weights them.
        args: see `trl_config`.
        free: score codes without the trie, for rollouts that were generated without it.
        objective: replaces trl's `loss_type`, for example `rl.objectives.gbpo` or a `partial` of `rl.objectives.ecpo`. It is
            called with log-probabilities `[X, 1, L]`, advantages `[X, 1]` and old log-probabilities.

    Raises:
        UserError: an option of trl has no effect here or does not fit the generator: options of sampling, of text and language
            models, and with an `objective` those of trl's losses.
    """

    def __init__(
        self,
        generator: Generator,
        prompts: Requests,
        rollout: Rollout,
        rewards: Mapping[str, Reward],
        args: GRPOConfig,
        *,
        free: bool = False,
        objective: Objective | None = None,
    ) -> None:
        _check(args, generator, len(prompts), objective)
        if free:
            check_free(generator)
        self.prompts, self.rollout, self.objective = prompts, rollout, objective
        beta, sync = args.beta, args.sync_ref_model
        args.beta, args.sync_ref_model = 0.0, False  # otherwise trl loads a reference model by its name on the Hub
        super().__init__(
            model=GeneratorModel(generator, free),
            reward_funcs=[_named(name, reward) for name, reward in rewards.items()],
            args=args,
            train_dataset=Dataset.from_dict({"prompt": list(range(len(prompts)))}),
            processing_class=_no_text(),
        )
        args.beta, args.sync_ref_model = beta, sync
        self._keep_reference(beta, sync)

    def _keep_reference(self, beta: float, sync: bool) -> None:
        self.beta = beta
        if not beta:
            return
        reference = deepcopy(self.accelerator.unwrap_model(self.model)).requires_grad_(False)
        self.ref_model = self.accelerator.prepare_model(reference, evaluation_mode=True)
        if sync:
            self.add_callback(SyncRefModelCallback(ref_model=self.ref_model, accelerator=self.accelerator))

    def _send_telemetry(self) -> None:
        """Send nothing."""

    def _generate(self, prompts: list[int]) -> tuple[Any, ...]:
        """Generations for prompts, which trl has repeated group by group."""
        generations: int = self.num_generations if self.model.training else self.num_generations_eval  # type: ignore[assignment]
        rows_X = np.asarray(prompts)
        rows_B = rows_X[::generations]
        if not np.array_equal(np.repeat(rows_B, generations)[: len(rows_X)], rows_X) or len(rows_X) % generations:
            raise UserError(
                f"a process was given {len(rows_X)} generations, which are not whole groups of {generations}; make "
                "per_device_train_batch_size x steps_per_generation a multiple of num_generations"
            )
        self._asked = self.prompts.pick(rows_B)
        with torch.no_grad():
            self._made = self.rollout(self._asked, generations)
        codes_XL = self._made.codes_BGL.flatten(0, 1).tolist()
        texts = ["-".join(map(str, codes)) for codes in codes_XL]
        log_probabilities_XL = self._made.log_probabilities_BGL.flatten(0, 1).tolist()
        # trl's order: prompts, completions, a mask of tools, texts, log-probabilities, extra fields, images, images of tools.
        return [[row] for row in prompts], codes_XL, None, texts, log_probabilities_XL, {}, None, []

    def _calculate_rewards(self, inputs: Any, prompts: list[int], completions: Any, completion_ids_list: Any) -> Tensor:
        """Rewards `[X, rewards]` of all processes."""
        columns = []
        for name, reward in zip(self.reward_func_names, self.reward_funcs, strict=True):
            rewards_BG = reward(self._asked, self._made)
            if rewards_BG.shape != self._made.items_BG.shape or not rewards_BG.isfinite().all():
                raise UserError(
                    f'reward "{name}" must give a finite number for each of {tuple(self._made.items_BG.shape)} generations; '
                    f"it gave {tuple(rewards_BG.shape)}, {int((~rewards_BG.isfinite()).sum())} of them not finite"
                )
            columns.append(rewards_BG.flatten())
        gathered: Tensor = self.accelerator.gather(torch.stack(columns, dim=1).float().to(self.accelerator.device))
        return gathered

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """As trl does, but ratios divide by the probabilities of the policy that generated."""
        made: dict[str, Any] = super()._generate_and_score_completions(inputs)
        made["old_per_token_logps"] = made["sampling_per_token_logps"]
        return made

    def _get_per_token_logps_and_entropies(
        self,
        model: torch.nn.Module,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        **_: Any,
    ) -> tuple[Tensor, Tensor | None, None]:
        """Log-probabilities and entropies `[X, L]` of rows with the number of a prompt and L codes."""
        found = []
        for rows_XT in input_ids.split(batch_size or max(len(input_ids), 1)):
            rows_B, codes_BGL, user_X, place_X = _by_user(rows_XT[:, 0], rows_XT[:, -logits_to_keep:])
            batch = batch_of(self.accelerator.unwrap_model(model).generator, self.prompts.pick(rows_B.cpu().numpy()))
            with self.accelerator.autocast():
                found.append([scored_BGL[user_X, place_X] for scored_BGL in model(batch, codes_BGL)])
        log_probabilities, entropies = (torch.cat(part) for part in zip(*found, strict=True))
        return log_probabilities, entropies if compute_entropy else None, None

    def _compute_loss(self, model: torch.nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        if self.objective is None:
            loss: Tensor = super()._compute_loss(model, inputs)
            return loss
        input_ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
        log_probabilities_XL, entropies_XL, _ = self._get_per_token_logps_and_entropies(
            model, input_ids, inputs["completion_mask"], inputs["completion_ids"].shape[1], compute_entropy=True
        )
        old_X1L, advantages_X1 = inputs["old_per_token_logps"][:, None], inputs["advantages"][:, None]
        made = self.objective(log_probabilities_XL[:, None], advantages_X1, old_X1L)
        figures = {
            "entropy": entropies_XL.mean(),  # type: ignore[union-attr]
            "ratio/mean": made.ratio_mean,
            "ratio/max": made.ratio_max,
            "clip_ratio/region_mean": made.clipped_share,
            "negative_coefficient": made.negative_coefficient,
        }
        for name, figure in figures.items():
            gathered = self.accelerator.gather(figure.detach())
            together = gathered.max() if name == "ratio/max" else gathered.mean()
            self._metrics["train" if self.model.training else "eval"][name].append(float(together))
        return made.loss / (self.current_gradient_accumulation_steps if self.model.training else 1)


def _by_user(rows_X: Tensor, codes_XL: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Group code sequences by user, so that each history is encoded once.

    Returns:
        the different rows `[B]`; codes `[B, G, L]`, where a user with fewer than G sequences repeats the first; and for each of
        the X sequences its user and its place in that user's group.
    """
    rows_B, user_X = rows_X.unique(return_inverse=True)
    counts_B, order_X = user_X.bincount(minlength=len(rows_B)), user_X.argsort(stable=True)
    starts_B = counts_B.cumsum(0) - counts_B
    place_X = torch.empty_like(user_X)
    place_X[order_X] = torch.arange(len(user_X), device=user_X.device) - starts_B[user_X[order_X]]
    codes_BGL = codes_XL[order_X[starts_B]][:, None].repeat(1, int(counts_B.max()), 1)
    codes_BGL[user_X, place_X] = codes_XL
    return rows_B, codes_BGL, user_X, place_X


def _named(name: str, reward: Reward) -> Reward:
    """The reward as a named function. trl reads the name, and would take a reward that is a module for a language model."""

    def rewards_of(prompts: Requests, rollouts: Rollouts) -> Tensor:
        return reward(prompts, rollouts)

    rewards_of.__name__ = name
    return rewards_of


def _no_text() -> PreTrainedTokenizerFast:
    """A tokenizer, because trl requires one. Prompts have one token and completions L, so its padding is never used."""
    tokenizer = Tokenizer(WordLevel({"<none>": 0}, unk_token="<none>"))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<none>", eos_token="<none>")


def _check(args: GRPOConfig, generator: Generator, prompts: int, objective: Objective | None) -> None:
    """Refuse options without effect and sizes that do not fit. Raises UserError."""
    defaults = {field.name: field.default for field in fields(GRPOConfig)}
    defaults |= {"gradient_checkpointing": False, "pad_to_multiple_of": None}
    why = dict.fromkeys(_OF_GENERATION, "the rollouts decide how generations are made")
    why |= dict.fromkeys(_OF_LANGUAGE_MODELS, "it is for language models, and a generator is none")
    if objective is not None:
        why |= dict.fromkeys(_OF_LOSSES, "`objective` replaces trl's loss")
    for name, reason in why.items():
        if getattr(args, name) != defaults[name]:
            raise UserError(f"trl's option {name}={getattr(args, name)!r} has no effect here: {reason}")
    if args.loss_type not in LOSS_TYPES:
        raise UserError(f'trl 1.16 has no loss_type "{args.loss_type}"; it has {", ".join(LOSS_TYPES)}')
    if args.max_completion_length != generator.levels:
        raise UserError(
            f"max_completion_length is {args.max_completion_length}, but the generator's IDs have {generator.levels} codes"
        )
    at_once = cast(int, args.generation_batch_size) // cast(int, args.num_generations)
    if prompts < at_once:
        raise UserError(
            f"{prompts} prompts are fewer than the {at_once} of one generation step, and trl would train on none of them; "
            "use more prompts, or lower per_device_train_batch_size or steps_per_generation"
        )
