"""The stage of a run that aligns its trained generator with rewards.

The Technical Report's post-training (arXiv 2506.13695): groups of the model's own generations, rewards, a policy objective, and
the next-code loss trained along; or OneRec's iterative preference alignment (arXiv 2502.18965), DPO on best against worst.
"""

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
from rl.prompts import Prompts, training_prompts
from rl.reward_model import reward_stage
from rl.rsft_stage import TRAINING_FILE, alignment_start, check_alignment_start, load_later, next_code_windows

MODEL_FOLDER = "model"


def align_stage(run: Run) -> Stage:
    """Where the generator that is aligned by the config's objective lies: `aligned_<objective>`."""
    align, rewarding = run.config.align, rewarding_section(run)
    reward_key = None if rewarding is None else reward_stage(run, rewarding).key
    settings = align.model_dump(exclude={"judge_half"})
    key = key_of("align", alignment_start(run).key, reward_key, settings, run.config.seed)
    return Stage(run.folder / f"aligned_{align.objective}", key)


def align_generator(run: Run) -> None:
    """Align the trained generator, or go on where a killed run stopped; reward models that are missing are trained first.

    Where the config has a section rsft it is the generator after RSFT that is aligned.

    Raises:
        UserError: that generator is not trained, there are several processes, or alignment has stopped by itself.
    """
    check_alignable(run)
    train_reward_models(run)
    stage = align_stage(run)
    if stage.done:
        return
    config, seed = run.config.align, run.config.seed
    set_threads(run.config.threads, run.config.generator.width)
    torch.manual_seed(seed)
    policy = run.load_generator(alignment_start(run).folder.name).generator
    rewards, prompts = load_rewards(run), align_prompts(run)
    stage.begin()
    run.say(f"{config.objective}: {config.steps} steps of {config.batch_size} of {len(prompts):,} prompts")
    loop = AlignLoop(
        policy,
        next_code_windows(run),
        prompts,
        rewards,
        config,
        stage.folder,
        seed=seed,
        wandb_project=run.wandb_project,
    )
    position = loop.run()
    aligned: Generator = policy.cpu().eval()
    aligned.save_pretrained(stage.folder / MODEL_FOLDER)
    facts = {
        "objective": config.objective,
        "generator": run.generator_stage.key,
        "start": alignment_start(run).folder.name,
        "parameters": sum(parameter.numel() for parameter in aligned.parameters()),
        "train_seconds": position.seconds,
        "steps": position.step,
        "prompts": len(prompts),
    }
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


def load_aligned(run: Run, objective: str) -> GeneratorRecommender:
    """The generator that was aligned by an objective, whatever the other settings of the config on file are, ready to recommend.

    Raises:
        UserError: there is none, or it was made from another generator than the run's.
    """
    return load_later(run, f"aligned_{objective}", f"onerec align --objective {objective}")
