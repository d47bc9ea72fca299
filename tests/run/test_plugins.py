"""Packages add sections, stages, models and figures to runs; without any, a run is what `onerec` alone makes of it."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from command_line import GENERATOR_ONLY, TINY, results_of

from onerec.cli import main
from onerec.data.candidates import Lists
from onerec.data.requests import Requests
from onerec.errors import UserError
from onerec.run import plugins as module
from onerec.run.config import RunConfig
from onerec.run.config_files import load_config
from onerec.run.models import Judge, Model
from onerec.run.plugins import Plugin, config_class, plugins
from onerec.run.run import Facts, Run, Stage
from rl.plugin import PLUGIN as RL

OWN = [text for text in TINY if not text.startswith("after_training")]


class FavouritesConfig(RunConfig):
    """With a section of another package: items that are always listed, by number."""

    favourites: list[int] = []


class Favourites:
    """Lists the favourites, whoever asks."""

    def __init__(self, items: np.ndarray) -> None:
        self.items = items

    def recommend(self, requests: Requests, k: int, *, exclude_seen: bool) -> Lists:
        lists = Lists.empty(len(requests), k)
        lists.items_CK[:, : len(self.items)], lists.scores_CK[:, : len(self.items)] = self.items, 0
        return lists


class FavouritesStage(Stage):
    """Writes the favourites down, and recommends them."""

    name = kind = "favourites"
    needs = ("semantic_ids",)

    def asked(self, run: Run) -> bool:
        return bool(self.recipe(run)[0])

    def recipe(self, run: Run) -> tuple[Any, ...]:
        assert isinstance(run.config, FavouritesConfig)
        return (run.config.favourites,)

    def make(self, run: Run, folder: Path) -> Facts:
        np.save(folder / "items.npy", np.array(self.recipe(run)[0]))
        return {}

    def models(self, run: Run) -> Iterator[Model]:
        artefact = run.artefact(self.name)
        yield Model(
            name="favourites",
            label="Favourites",
            description="the same for everyone",
            own=True,
            key=artefact.key,
            load=lambda: Favourites(np.load(artefact.folder / "items.npy")),
            facts=dict,
            lists_folder=Path(self.name) / "lists",
        )

    def notes(self, run: Run) -> Iterator[str]:
        yield "Favourites were never fitted."


def check(run: Run) -> None:
    items = run.stages["favourites"].recipe(run)[0]
    if items and max(items) >= len(run.item_ids):
        raise UserError(f"favourites: there is no item {max(items)}")


def listed_share(requests: Requests, items_CK: np.ndarray) -> np.ndarray:
    return (items_CK[:, :10] == 7).any(axis=1).astype(float)


FAVOURITES = Plugin(
    config=FavouritesConfig,
    stages=lambda config: [FavouritesStage()],
    check=check,
    judge=lambda run: Judge("friend of item 7", listed_share),
    results=lambda run: {"favourites": run.stages["favourites"].recipe(run)[0]},
)


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Says which plugins there are."""

    def installed(*entries: tuple[str, Plugin]) -> None:
        found = [SimpleNamespace(name=name, load=lambda plugin=plugin: plugin) for name, plugin in entries]
        monkeypatch.setattr(module, "entry_points", lambda group: found if group == "onerec.plugins" else [])
        plugins.cache_clear()
        config_class.cache_clear()

    yield installed
    monkeypatch.undo()
    plugins.cache_clear()
    config_class.cache_clear()


@pytest.fixture
def config(chain_dataset: Path, tmp_path: Path) -> Path:
    """A config without the section of any plugin."""
    path = tmp_path / "bare.yaml"
    path.write_text(f"name: bare\ndataset:\n  folder: {chain_dataset}\n", encoding="utf-8")
    return path


def done(config: Path, *overrides: str) -> dict[str, Any]:
    """The results of a run with that config."""
    settings = [*TINY, *GENERATOR_ONLY, "selection=null", "train.epochs=1", *overrides]
    assert main(["run", str(config), *settings, "--runs", str(config.parent)]) == 0
    return results_of(config.parent / "bare")


def test_a_run_without_plugins_has_their_sections_and_stages_not(
    install: Any, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install()
    assert type(load_config(config)) is RunConfig
    results = done(config)
    assert list(results["models"]) == ["onerec", "content_knn"]
    assert results["judge"] is None and "reward_models" not in results
    assert "reward" not in results["run"]["config"]
    assert (config.parent / "bare" / "report.html").is_file()
    assert main(["evaluate", str(config.parent / "bare")]) == 0
    assert main(["run", str(config), "after_training=[align]", "--runs", str(config.parent)]) == 2
    assert 'unknown key "after_training"' in capsys.readouterr().err


def test_the_stages_of_a_plugin_are_made_measured_and_shown(install: Any, config: Path) -> None:
    install(("favourites", FAVOURITES))
    results = done(config, "favourites=[7, 3]")
    assert list(results["models"]) == ["onerec", "favourites", "content_knn"]
    assert results["favourites"] == results["run"]["config"]["favourites"] == [7, 3]
    assert results["judge"] == "friend of item 7"
    assert results["models"]["favourites"]["test"]["p_score@10"]["value"] == 1
    assert list(results["paired"]) == ["favourites - onerec", "favourites - content_knn", "onerec - content_knn"]
    assert results["notes"].count("Favourites were never fitted.") == 1
    assert "Favourites" in (config.parent / "bare" / "report.html").read_text(encoding="utf-8")


def test_plugins_stand_beside_each_other(install: Any, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(("rl", RL), ("favourites", FAVOURITES))
    loaded = load_config(config, ["favourites=[1]", "after_training=[reward]"])
    assert isinstance(loaded, FavouritesConfig) and isinstance(loaded, RL.config)
    assert plugins() == (FAVOURITES, RL), "by the names of their entry points, wherever they are installed"
    assert main(["run", str(config), "favourites=[99]", "--runs", str(config.parent)]) == 2
    assert capsys.readouterr().err == "onerec: favourites: there is no item 99\n"
    assert not (config.parent / "bare" / "semantic_ids").exists()
