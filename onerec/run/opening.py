"""From a config file to a run, new or made before."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from onerec.data.contract import parse_section
from onerec.errors import UserError
from onerec.files import write_json
from onerec.run.config import RunConfig
from onerec.run.plugins import config_class, plugins
from onerec.run.run import Run, Stage
from onerec.run.stages.baselines import baseline_stages
from onerec.run.stages.generator import GeneratorStage
from onerec.run.stages.selection import SelectionStage
from onerec.run.stages.semantic_ids import SemanticIdsStage
from onerec.run.stages.sequences import SequencesStage
from onerec.train.runtime import lone_process_note

CONFIG_FILE = "config.json"


def load_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a run config and apply overrides such as `train.epochs=10`.

    Raises:
        UserError: the file is missing or not YAML, a key is unknown (the nearest right name is given) or a value is wrong.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such config; the ones that come with the project lie in configs/")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: a run config is a mapping of keys; see configs/ for commented examples")
    for override in overrides:
        _apply(content, override)
    return parse_section(config_class(), content, str(path))


def _apply(content: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise UserError(f'override "{override}": write it as key.subkey=value, for example train.epochs=10')
    *sections, key = path.split(".")
    for section in sections:
        if content.get(section) is None:
            content[section] = {}  # a section that the file leaves out, or sets to null, begins with its defaults
        inner = content[section]
        if not isinstance(inner, dict):
            raise UserError(f'override "{override}": "{section}" is a value, it has no keys of its own')
        content = inner
    try:
        content[key] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f'override "{override}": the value is not YAML ({" ".join(str(error).split())})') from error


def own_stages() -> list[Stage]:
    """The stages of this package: those of `onerec train`."""
    return [SequencesStage(), SemanticIdsStage(), GeneratorStage(), SelectionStage(), *baseline_stages()]


def stages_of(config: RunConfig) -> dict[str, Stage]:
    """The stages of this package and of all plugins, by name."""
    added = [stage for plugin in plugins() for stage in plugin.stages(config)]
    return {stage.name: stage for stage in (*own_stages(), *added)}


def complete(run: Run) -> None:
    """Make every stage that the config asks for. Raises UserError before any work where one would fail."""
    for plugin in plugins():
        plugin.check(run)
    run.make_all()


def make_run(
    config: RunConfig, folder: Path, wandb_project: str | None = None, trained_with: RunConfig | None = None
) -> Run:
    """A run with all stages; nothing is written. Arguments as in `Run`."""
    return Run(config, folder, stages_of(config), wandb_project, trained_with)


def open_run(config: RunConfig, folder: Path, wandb_project: str | None = None) -> Run:
    """A run in its folder, which remembers the config for `onerec evaluate` and `onerec recommend`."""
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
    """A run that was trained before, with some keys changed.

    Raises:
        UserError: the folder holds no run, or its generator is not trained (to the end) with the config on file.
    """
    if not (folder / CONFIG_FILE).is_file():
        raise UserError(f"{folder}: not a run folder (no {CONFIG_FILE}); `onerec run CONFIG` makes one")
    stored = load_config(folder / CONFIG_FILE)
    run = make_run(load_config(folder / CONFIG_FILE, overrides), folder, trained_with=stored)
    if not run.artefact(GeneratorStage.name).done:
        raise UserError(
            f"{folder}: its generator is not trained to the end with the data and config on file; run it again"
        )
    return run
