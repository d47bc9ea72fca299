"""Opening a run: a new one from a config, or one that was made before from its folder."""

from collections.abc import Sequence
from pathlib import Path

from onerec.errors import UserError
from onerec.files import is_temporary, read_sealed, write_sealed
from onerec.locks import LOCK_FILE
from onerec.run.config import RunConfig
from onerec.run.config_files import config_from
from onerec.run.plugins import plugins
from onerec.run.run import DATASET_FILE, Run, Stage
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


def open_run(config: RunConfig, folder: Path, wandb_project: str | None = None, *, redo: bool = False) -> Run:
    """A run whose folder keeps the config, for `onerec evaluate` and `onerec recommend`.

    The config is written when the first stage has been made, so a command that is refused leaves the record of the former one.

    Args:
        config, folder, wandb_project, redo: see `Run`.

    Raises:
        UserError: the folder holds files and is no run folder.
    """
    _check_run_folder(folder)
    run = make_run(config, folder, wandb_project)
    run.redo = redo
    run.keep_config = lambda: _write_config(run)
    if note := lone_process_note():
        run.say(note)
    return run


def _write_config(run: Run) -> None:
    if run.state.is_main_process:
        run.keep_config = lambda: None  # once
        stored = run.config.model_dump(mode="json")
        stored["dataset"]["folder"] = str(run.config.dataset.folder.resolve())  # later commands may run from elsewhere
        write_sealed(run.folder / CONFIG_FILE, stored)


def _check_run_folder(folder: Path) -> None:
    """Refuse a folder with files of somebody else. What proves a run is a file that only this program can have written."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file, so no run can be kept there; choose another name=… or --runs")
    files = [path.name for path in folder.iterdir() if not is_temporary(path)] if folder.is_dir() else []
    proofs = (CONFIG_FILE, DATASET_FILE)
    if files and not any(read_sealed(folder / name) for name in proofs) and LOCK_FILE not in files:
        raise UserError(
            f"{folder}: holds files, and is not a run folder of this version (no intact {CONFIG_FILE}); choose another name=…; "
            "nothing was changed"
        )


def stored_config(folder: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """The config of a run that was made before, with some keys overridden.

    Raises:
        UserError: the folder holds no run, its config was changed since, or an override is wrong.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise UserError(f"{folder}: not a run folder (no {CONFIG_FILE}); `onerec run CONFIG` makes one")
    content = read_sealed(path)
    if content is None:
        raise UserError(
            f"{path}: changed or damaged since it was written; run the command that made the run again, which writes it anew"
        )
    return config_from(content, overrides, str(path))


def reopen_run(folder: Path, overrides: Sequence[str]) -> Run:
    """A run that was trained before, with some keys overridden.

    Raises:
        UserError: the folder holds no run, or its generator is not trained to the end with the config on file.
    """
    stored = stored_config(folder)
    config = stored_config(folder, overrides) if overrides else stored
    run = make_run(config, folder, trained_with=stored)
    generator = run.artefact(GeneratorStage.name)
    if generator.damage:
        raise UserError(f"{generator.damage}; run the command that made the run again")
    if not generator.done:
        raise UserError(
            f"{folder}: its generator is not trained to the end with the data and config on file; run it again"
        )
    return run
