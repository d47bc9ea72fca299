"""Plugins: packages that add config sections and stages to runs. Each is an entry point of the group `onerec.plugins`.

`rl` is one. `onerec` imports no plugin by name.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from pydantic import create_model

from onerec.run.config import RunConfig
from onerec.run.models import Judge
from onerec.run.run import Run, Stage

GROUP = "onerec.plugins"


@dataclass(frozen=True)
class Plugin:
    """What a package adds to runs.

    Attributes:
        config: a subclass of `RunConfig` with the package's sections.
        stages: gives the stages that a config can ask for, each after the stages it needs.
        check: refuses a config that contradicts itself, before `onerec run` does anything. Raises UserError.
        judge: gives the judge of a run's lists, or None.
        results: gives what the package adds to `results.json`, by key.
    """

    config: type[RunConfig]
    stages: Callable[[RunConfig], Sequence[Stage]]
    check: Callable[[Run], None]
    judge: Callable[[Run], Judge | None]
    results: Callable[[Run], dict[str, Any]]


@cache
def plugins() -> tuple[Plugin, ...]:
    """The plugins of all installed packages, by the name of their entry point."""
    return tuple(entry.load() for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name))


@cache
def config_class() -> type[RunConfig]:
    """The run config with the sections of all plugins."""
    bases = tuple(plugin.config for plugin in plugins())
    if len(bases) > 1:
        return create_model("RunConfig", __base__=bases)
    return bases[0] if bases else RunConfig
