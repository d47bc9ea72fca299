"""The stage that continues the generator's training on the better sessions, and the starting point of alignment.

In the Technical Report (arXiv 2506.13695, post-training), RSFT and alignment run side by side. Here RSFT comes first, and
the next-code loss of alignment uses only the targets that RSFT keeps.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from onerec.data.windows import Windows
from onerec.errors import UserError
from onerec.recommenders.generator import GeneratorRecommender
from onerec.run.models import Model
from onerec.run.run import TRAINING_FILE, Facts, Run, Stage
from onerec.run.stages.generator import (
    GeneratorStage,
    check_trained,
    generator_model,
    generator_windows,
    load_generator,
    train_generator,
    training_facts,
)
from onerec.train.runtime import set_threads
from rl.config.rsft import RsftConfig
from rl.config.run import AlignmentRunConfig, config_of
from rl.reward_model.selection import UNTOUCHED_TEST
from rl.rsft.sessions import kept_windows, sessions_of


class RsftStage(Stage):
    """Continues the generator's training on the sessions that are kept."""

    name = kind = "rsft"
    needs = ("generator",)
    processes = "all"

    def asked(self, run: Run) -> bool:
        config = config_of(run)
        return config.rsft is not None and not {"rsft", "align"}.isdisjoint(config.after_training)

    def recipe(self, run: Run) -> tuple[Any, ...]:
        return (rsft_section(config_of(run)).model_dump(), run.config.seed)

    def make(self, run: Run, folder: Path) -> Facts:
        section, config = rsft_section(config_of(run)), run.config
        sessions = sessions_of(run, section)
        windows = kept_windows(run, sessions)
        targets, left = int(generator_windows(run).target_counts.sum()), int(windows.target_counts.sum())
        known = {
            "generator": run.key(GeneratorStage.name),
            "sessions": len(sessions.dropped_S),
            "dropped_sessions": int(sessions.dropped_S.sum()),
            "targets": targets,
            "dropped_targets": targets - left,
        }
        run.say(
            f"rsft: {known['dropped_sessions']:,} of {known['sessions']:,} sessions dropped; "
            f"{left:,} of {targets:,} targets kept"
        )
        set_threads(config.threads, config.generator.width, run.state.num_processes)
        torch.manual_seed(config.seed)
        generator = load_generator(run).generator
        return {**train_generator(run, folder, generator, self.name, section.train, windows), **known}

    def models(self, run: Run) -> Iterable[Model]:
        if run.artefact(self.name).done:
            yield rsft_model(run)

    def notes(self, run: Run) -> Iterable[str]:
        yield UNTOUCHED_TEST


def rsft_model(run: Run) -> Model:
    """The generator after RSFT, whose lists are its beam."""
    return generator_model(
        run,
        RsftStage.name,
        name="onerec_rsft",
        label="OneRec RSFT",
        description="the generator after RSFT, constrained beam search",
        lists_folder=Path(RsftStage.name) / "lists",
        behind=(GeneratorStage.name, RsftStage.name),
    )


def rsft_section(config: AlignmentRunConfig) -> RsftConfig:
    """The run's settings of RSFT. Raises UserError if the config says rsft: null."""
    if config.rsft is None:
        raise UserError(
            "the config says rsft: null; add a section rsft that says what a session is, such as "
            "rsft.session_gap=1800 (configs/demo.yaml explains its keys)"
        )
    return config.rsft


def train_rsft(run: Run) -> Path:
    """Continue the training of the trained generator, and return the stage's folder; see `RsftStage`.

    Raises:
        UserError: the config has no section rsft, the generator is not trained, the log lacks play times or what sessions need,
            or no target is left.
    """
    rsft_section(config_of(run))
    check_trained(run)
    return run.make(RsftStage.name)


def alignment_start(config: AlignmentRunConfig) -> str:
    """The stage that alignment starts from: RSFT if the config has a section rsft, otherwise the generator's training."""
    return GeneratorStage.name if config.rsft is None else RsftStage.name


def check_alignment_start(run: Run) -> None:
    """Refuse to align a generator that is not trained. Raises UserError that names the command to run first."""
    check_trained(run)
    start = run.artefact(alignment_start(config_of(run)))
    if not start.done:
        raise UserError(
            f"{start.folder}: the config has a section rsft, but RSFT has not been run with it; "
            "run `onerec rsft` first, or align without it: rsft=null"
        )


def next_code_windows(run: Run) -> Windows:
    """The windows of alignment's next-code loss; with a section rsft, only the targets that RSFT keeps count."""
    section = config_of(run).rsft
    return generator_windows(run) if section is None else kept_windows(run, sessions_of(run, section))


def load_later(run: Run, folder: str, command: str) -> GeneratorRecommender:
    """The generator in the folder of a stage after training, ready to recommend. Settings of that stage do not matter.

    Args:
        run: with a trained generator.
        folder: name of the stage's folder.
        command: the command that makes it, for messages.

    Raises:
        UserError: there is none, or it was made from another generator than the run's.
    """
    path = run.folder / folder
    if not (path / TRAINING_FILE).is_file():
        raise UserError(f"{path}: no generator there, or not trained to the end; `{command}` makes one")
    facts = training_facts(path)
    if facts["generator"] != run.key(GeneratorStage.name):
        raise UserError(f"{path}: made from another generator than the run's; run `{command}` again")
    return load_generator(run, folder)


def load_rsft(run: Run) -> GeneratorRecommender:
    """The generator after RSFT, ready to recommend. Raises UserError; see `load_later`."""
    return load_later(run, RsftStage.name, "onerec rsft")
