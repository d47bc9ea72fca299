"""Opening a run: a new one from a config, or one that was made before from its folder."""

from collections.abc import Sequence
from pathlib import Path

from onerec.errors import UserError
from onerec.files import write_json
from onerec.run.config import RunConfig
from onerec.run.config_files import load_config
from onerec.run.plugins import plugins
from onerec.run.run import Run, Stage
from onerec.run.stages.baselines import baseline_stages
from onerec.run.stages.generator import GeneratorStage
from onerec.run.stages.selection import SelectionStage
from onerec.run.stages.semantic_ids import SemanticIdsStage
from onerec.run.stages.sequences import SequencesStage
from onerec.train.runtime import lone_process_note

CONFIG_FILE = "config.json"


def own_stages() -> list[Stage]:
    """The stages of this package, which are those of `onerec train`. A new stage is added here."""
    return [SequencesStage(), SemanticIdsStage(), GeneratorStage(), SelectionStage(), *baseline_stages()]


def stages_of(config: RunConfig) -> dict[str, Stage]:
    """The stages of this package and of all plugins, by name."""
    added = [stage for plugin in plugins() for stage in plugin.stages(config)]
    return {stage.name: stage for stage in (*own_stages(), *added)}


def complete(run: Run) -> None:
    """Make every stage that the config asks for. Raises UserError before any work if it can tell that a stage would fail."""
    for plugin in plugins():
        plugin.check(run)
    run.make_all()


def make_run(
    config: RunConfig, folder: Path, wandb_project: str | None = None, trained_with: RunConfig | None = None
) -> Run:
    """A run with all stages. Its folder is not written yet. Arguments are those of `Run`."""
    return Run(config, folder, stages_of(config), wandb_project, trained_with)


def open_run(config: RunConfig, folder: Path, wandb_project: str | None = None) -> Run:
    """A run whose folder keeps the config, for `onerec evaluate` and `onerec recommend`."""
    run = make_run(config, folder, wandb_project)
    if note := lone_process_note():
        run.say(note)
    if run.state.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        stored = config.model_dump(mode="json")
        stored["dataset"]["folder"] = str(config.dataset.folder.resolve())  # later commands may run from elsewhere
        write_json(folder / CONFIG_FILE, stored)
    return run


def reopen_run(folder: Path, overrides: Sequence[str]) -> Run:
    """A run that was trained before, with some keys overridden.

    Raises:
        UserError: the folder holds no run, or its generator is not trained to the end with the config on file.
    """
    if not (folder / CONFIG_FILE).is_file():
        raise UserError(f"{folder}: not a run folder (no {CONFIG_FILE}); `onerec run CONFIG` makes one")
    stored = load_config(folder / CONFIG_FILE)
    config = load_config(folder / CONFIG_FILE, overrides) if overrides else stored
    run = make_run(config, folder, trained_with=stored)
    if not run.artefact(GeneratorStage.name).done:
        raise UserError(
            f"{folder}: its generator is not trained to the end with the data and config on file; run it again"
        )
    return run
