"""The stage of a run that aligns its trained generator with rewards.

The Technical Report's post-training (arXiv 2506.13695): groups of the model's own generations, rewards, a policy objective, and
the next-code loss trained along; or OneRec's iterative preference alignment (arXiv 2502.18965), DPO on best against worst. Beside
these, or alone, logged exposures with the duration-aware reward, OneRec-V2's user feedback (arXiv 2508.20900).
"""

from typing import Any

import torch

from onerec.artefacts import Stage, key_of
from onerec.decode.recommend import GeneratorRecommender
from onerec.errors import UserError
from onerec.files import write_json
from onerec.model.generator import Generator
from onerec.pipeline import Run
from onerec.train.runtime import set_threads
from rl.align_loop import CHECKPOINT_FILE, AlignLoop
from rl.align_rewards import load_rewards, rewarding_section, train_reward_models
from rl.exposures import Exposures, training_exposures
from rl.prompts import Prompts, training_prompts
from rl.reward_model import reward_stage
from rl.rsft_stage import TRAINING_FILE, alignment_start, check_alignment_start, load_later, next_code_windows

MODEL_FOLDER = "model"


def align_stage(run: Run) -> Stage:
    """Where the generator that is aligned by the config's objective lies: `aligned_<objective>`."""
    align, rewarding = run.config.align, rewarding_section(run)
    reward_key = None if rewarding is None else reward_stage(run, rewarding).key
    unused = {"judge_half"} if align.exposures.weight else {"judge_half", "exposures"}
    settings = align.model_dump(exclude=unused)
    key = key_of("align", alignment_start(run).key, reward_key, settings, run.config.seed)
    return Stage(run.folder / f"aligned_{align.objective}", key)


def align_generator(run: Run) -> None:
    """Align the trained generator, or go on where a killed run stopped; reward models that are missing are trained first.

    Where the config has a section rsft it is the generator after RSFT that is aligned.

    Raises:
        UserError: that generator is not trained, there are several processes, exposures that the config asks for cannot be learnt
            from, or alignment has stopped by itself.
    """
    check_alignable(run)
    stage = align_stage(run)
    # First of all: a log without play times is refused before any reward model is trained.
    exposures = None if stage.done else align_exposures(run)
    train_reward_models(run)
    if stage.done:
        return
    config, seed = run.config.align, run.config.seed
    set_threads(run.config.threads, run.config.generator.width)
    torch.manual_seed(seed)
    policy = run.load_generator(alignment_start(run).folder.name).generator
    rewards, prompts = load_rewards(run) if config.rewards.used else None, align_prompts(run)
    stage.begin()
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
        stage.folder,
        seed=seed,
        exposures=exposures,
        wandb_project=run.wandb_project,
    )
    position = loop.run()
    aligned: Generator = policy.cpu().eval()
    aligned.save_pretrained(stage.folder / MODEL_FOLDER)
    facts: dict[str, Any] = {
        "objective": config.objective,
        "generator": run.generator_stage.key,
        "start": alignment_start(run).folder.name,
        "parameters": sum(parameter.numel() for parameter in aligned.parameters()),
        "train_seconds": position.seconds,
        "steps": position.step,
        "prompts": 0 if rewards is None else len(prompts),
    }
    if exposures is not None:
        facts["exposures"] = exposures.facts
    write_json(stage.folder / TRAINING_FILE, facts)
    (stage.folder / CHECKPOINT_FILE).unlink(missing_ok=True)
    stage.finish(position.seconds)


def check_alignable(run: Run) -> None:
    """Refuse what could not be aligned. Raises UserError."""
    if run.state.num_processes > 1:
        raise UserError("onerec align runs in one process; start it without accelerate launch")
    check_alignment_start(run)


def align_prompts(run: Run) -> Prompts:
    """The histories that groups are generated for. Raises UserError where there are none."""
    config = run.config.align.prompts
    chosen = {"choice": config.choice, "per_user": config.per_user, "at_most": config.at_most}
    return training_prompts(run, **chosen, seed=run.config.seed)  # type: ignore[arg-type]


def align_exposures(run: Run) -> Exposures | None:
    """The exposures that are learnt from, or None where the config leaves them out. Raises UserError where there are none."""
    return training_exposures(run) if run.config.align.exposures.weight else None


def load_aligned(run: Run, objective: str) -> GeneratorRecommender:
    """The generator that was aligned by an objective, whatever the other settings of the config on file are, ready to recommend.

    Raises:
        UserError: there is none, or it was made from another generator than the run's.
    """
    return load_later(run, f"aligned_{objective}", f"onerec align --objective {objective}")
