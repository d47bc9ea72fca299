"""The stage that aligns the trained generator with rewards.

It follows the Technical Report's post-training (arXiv 2506.13695): groups of the model's own generations, rewards, a policy
objective, and the next-code loss beside it. With `objective: ipa` it is OneRec's iterative preference alignment (arXiv
2502.18965): DPO, the best of a group against the worst. OneRec-V2's user feedback (arXiv 2508.20900), logged exposures with the
duration-aware reward, can be added to both or used alone.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from onerec.data.requests import Requests
from onerec.errors import UserError
from onerec.model.generator import Generator
from onerec.recommenders.generator import GeneratorRecommender
from onerec.run.models import Model
from onerec.run.run import Facts, Run, Stage
from onerec.run.stages.generator import MODEL_FOLDER, GeneratorStage, generator_model, load_generator
from onerec.train.runtime import set_threads
from rl.alignment.exposures import Exposures, training_exposures
from rl.alignment.loop import AlignLoop
from rl.alignment.rewards import load_rewards
from rl.config.run import AlignmentRunConfig, config_of
from rl.reward_model.choice import aligns, judging_name, rewarding_name
from rl.reward_model.selection import UNTOUCHED_TEST
from rl.rewards.scenario import class_of_items
from rl.rollouts.prompts import training_prompts
from rl.rsft.stage import alignment_start, check_alignment_start, load_later, next_code_windows

VALIDATION_LEARNT = (
    "The reward model that gives the rewards has learnt from validation events of most users. Validation figures of the aligned "
    "generator are therefore not held-out figures; its test figures are."
)


class AlignStage(Stage):
    """Aligns the generator by the config's objective, in the folder `aligned_<objective>`."""

    kind = "align"

    def __init__(self, config: AlignmentRunConfig) -> None:
        self.name = aligned_name(config)
        self.start, self.rewarding = alignment_start(config), rewarding_name(config) if config.reward else None
        self.needs = (self.start,) if self.rewarding is None else (self.start, self.rewarding)
        self.behind = tuple(dict.fromkeys((GeneratorStage.name, *self.needs, self.name)))
        self._exposures: Exposures | None = None

    def asked(self, run: Run) -> bool:
        return aligns(config_of(run))

    def check(self, run: Run) -> None:
        if run.state.num_processes > 1:
            raise UserError(
                "after_training names align, which runs in one process; train with after_training=[], then run this command "
                "again without accelerate launch"
            )
        if scenario := config_of(run).align.scenario:
            class_of_items(run.dataset, scenario.column, scenario.value)

    def recipe(self, run: Run) -> tuple[Any, ...]:
        align = config_of(run).align
        unused = {"judge_half"} if align.exposures.weight else {"judge_half", "exposures"}
        settings = (align.model_dump(exclude=unused), run.config.seed)
        return settings if self.rewarding is not None else (None, *settings)

    def make(self, run: Run, folder: Path) -> Facts:
        config, seed = config_of(run).align, run.config.seed
        exposures = self.exposures(run)
        set_threads(run.config.threads, run.config.generator.width)
        torch.manual_seed(seed)
        policy = load_generator(run, self.start).generator
        rewards, prompts = load_rewards(run) if config.rewards.used else None, align_prompts(run)
        drawn = [] if rewards is None else [f"{config.batch_size} of {len(prompts):,} prompts"]
        if exposures is not None:
            drawn.append(f"{config.exposures.batch_size} of {len(exposures):,} exposures")
        run.say(f"{config.objective}: {config.steps} steps of {' and '.join(drawn)}")
        loop = AlignLoop(
            policy,
            next_code_windows(run),
            prompts,
            rewards,
            config,
            folder,
            seed=seed,
            exposures=exposures,
            wandb_project=run.wandb_project,
        )
        position = loop.run()
        aligned: Generator = policy.cpu().eval()
        aligned.save_pretrained(folder / MODEL_FOLDER)
        facts: dict[str, Any] = {
            "objective": config.objective,
            "generator": run.key(GeneratorStage.name),
            "start": self.start,
            "parameters": sum(parameter.numel() for parameter in aligned.parameters()),
            "train_seconds": position.seconds,
            "steps": position.step,
            "prompts": 0 if rewards is None else len(prompts),
        }
        return facts if exposures is None else {**facts, "exposures": exposures.facts}

    def exposures(self, run: Run) -> Exposures | None:
        """The exposures to learn from, found once; see `align_exposures`."""
        if self._exposures is None:
            self._exposures = align_exposures(run)
        return self._exposures

    def models(self, run: Run) -> Iterable[Model]:
        if run.artefact(self.name).done:
            yield aligned_model(run)

    def notes(self, run: Run) -> Iterable[str]:
        yield UNTOUCHED_TEST
        if self.rewarding is not None:
            yield VALIDATION_LEARNT


def aligned_name(config: AlignmentRunConfig) -> str:
    """The stage that aligns by the config's objective; also the name of its folder."""
    return f"aligned_{config.align.objective}"


def aligned_model(run: Run) -> Model:
    """The aligned generator, whose lists are its beam."""
    config = config_of(run)
    stage = run.stages[aligned_name(config)]
    assert isinstance(stage, AlignStage)
    return generator_model(
        run,
        stage.name,
        name="onerec_aligned",
        label="OneRec aligned",
        description=f"the generator after alignment ({config.align.objective}), constrained beam search",
        lists_folder=Path(stage.name) / "lists",
        behind=stage.behind,
    )


def align_generator(run: Run) -> Path:
    """Align the trained generator, or continue where a killed run stopped, and return the stage's folder.

    Missing reward models are trained first. If the config has a section rsft, alignment starts from the generator after RSFT.

    Raises:
        UserError: the generator to start from is not trained, there are several processes, the log lacks what exposures need, or
            alignment has stopped itself.
    """
    if run.state.num_processes > 1:
        raise UserError("onerec align runs in one process; run it without accelerate launch")
    check_alignment_start(run)
    config = config_of(run)
    name, rewarding, judging = aligned_name(config), rewarding_name(config), judging_name(config)
    stage = run.stages[name]
    if isinstance(stage, AlignStage) and not run.artefact(name).done:
        stage.exposures(run)  # refuses a log without play times before any reward model is trained
    if rewarding is not None:
        for reward_model in (rewarding, judging):
            if reward_model is not None:
                run.make(reward_model)
    return run.make(name)


def align_prompts(run: Run) -> Requests:
    """The histories that groups are generated for. Raises UserError if there are none."""
    config = config_of(run).align.prompts
    prompts = training_prompts(
        run.sequences, choice=config.choice, per_user=config.per_user, at_most=config.at_most, seed=run.config.seed
    )
    if not len(prompts):
        raise UserError(
            f"{run.dataset.folder}: no user has two training events, so there are no prompts to generate for"
        )
    return run.reading.of(prompts)


def align_exposures(run: Run) -> Exposures | None:
    """The exposures to learn from, or None if the config leaves them out. Raises UserError if there are none."""
    return training_exposures(run) if config_of(run).align.exposures.weight else None


def load_aligned(run: Run, objective: str) -> GeneratorRecommender:
    """The generator that was aligned by an objective, ready to recommend. Raises UserError; see `load_later`."""
    return load_later(run, f"aligned_{objective}", f"onerec align --objective {objective}")
