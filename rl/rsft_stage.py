"""The stage of a run that trains its generator on with the better sessions, and where alignment starts from.

The Technical Report (arXiv 2506.13695, post-training) goes from next-code training to RSFT and aligns beside it; here RSFT comes
first, and the next-code loss of alignment keeps to the targets that RSFT has left.
"""

import json

import torch

from onerec.artefacts import Stage, key_of
from onerec.data.windows import Windows
from onerec.decode.recommend import GeneratorRecommender
from onerec.errors import UserError
from onerec.pipeline import Run
from onerec.rsft_config import RsftConfig
from onerec.train.runtime import set_threads
from rl.rsft import kept_windows, rsft_windows, sessions_of

RSFT_FOLDER, TRAINING_FILE = "rsft", "training.json"


def rsft_section(run: Run) -> RsftConfig:
    """The run's settings of RSFT. Raises UserError where its config leaves it out."""
    if run.config.rsft is None:
        raise UserError(
            "the config says rsft: null; give it a section rsft that says what a session is, such as "
            "rsft.session_gap=1800 (configs/demo.yaml explains its keys)"
        )
    return run.config.rsft


def rsft_stage(run: Run) -> Stage:
    """Where the generator after RSFT lies. Raises UserError where the config has no section rsft."""
    key = key_of("rsft", run.generator_stage.key, rsft_section(run).model_dump(), run.config.seed)
    return Stage(run.folder / RSFT_FOLDER, key)


def train_rsft(run: Run) -> None:
    """Train the trained generator on with the sessions that are left, or go on where a killed run stopped.

    Raises:
        UserError: the config has no section rsft, the generator is not trained, sessions or their play time are not known, or no
            target is left.
    """
    stage, section = rsft_stage(run), rsft_section(run)
    check_trained(run)
    if stage.done:
        return
    sessions = sessions_of(run, section)
    windows = kept_windows(run, sessions)
    targets, left = int(run.generator_windows().target_counts.sum()), int(windows.target_counts.sum())
    facts = {
        "generator": run.generator_stage.key,
        "sessions": len(sessions.dropped_S),
        "dropped_sessions": int(sessions.dropped_S.sum()),
        "targets": targets,
        "dropped_targets": targets - left,
    }
    run.say(
        f"rsft: {facts['dropped_sessions']:,} of {facts['sessions']:,} sessions dropped; "
        f"{left:,} of {targets:,} targets left"
    )
    set_threads(run.config.threads, run.config.generator.width, run.state.num_processes)
    torch.manual_seed(run.config.seed)
    run.train_on(stage, run.load_generator().generator, section.train, windows, facts)


def check_trained(run: Run) -> None:
    """Refuse to go on from a generator that is not there. Raises UserError."""
    if not run.generator_stage.done:
        raise UserError(
            f"{run.generator_stage.folder}: no generator with the data and config on file; run `onerec train` first"
        )


def alignment_start(run: Run) -> Stage:
    """Where the generator that alignment starts from lies: RSFT's where the config has a section rsft, else the trained one."""
    return run.generator_stage if run.config.rsft is None else rsft_stage(run)


def check_alignment_start(run: Run) -> None:
    """Refuse to align what is not trained. Raises UserError that names the command to run first."""
    check_trained(run)
    start = alignment_start(run)
    if not start.done:
        raise UserError(
            f"{start.folder}: the config has a section rsft, and no generator is trained by it; "
            "run `onerec rsft` first, or align without it: rsft=null"
        )


def next_code_windows(run: Run) -> Windows:
    """What the next-code loss of alignment learns from: where the config has a section rsft, the targets that it leaves."""
    return run.generator_windows() if run.config.rsft is None else rsft_windows(run, run.config.rsft)


def load_later(run: Run, folder: str, command: str) -> GeneratorRecommender:
    """The generator that a stage after training left in a folder of the run, ready to recommend.

    The other settings of the config on file do not matter.

    Args:
        run: with a trained generator.
        folder: name of the stage's folder.
        command: what makes it, for messages.

    Raises:
        UserError: there is none, or it was made from another generator than the run's.
    """
    path = run.folder / folder
    try:
        facts = json.loads((path / TRAINING_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: no generator there, or not trained to the end; `{command}` makes one") from error
    if facts["generator"] != run.generator_stage.key:
        raise UserError(f"{path}: made from another generator than the run's; run `{command}` again")
    return run.load_generator(folder)


def load_rsft(run: Run) -> GeneratorRecommender:
    """The generator after RSFT, ready to recommend. Raises UserError as `load_later` does."""
    return load_later(run, RSFT_FOLDER, "onerec rsft")
