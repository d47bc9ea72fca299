"""The config sections that this package adds to runs: `reward`, `rsft`, `align` and `after_training`."""

from typing import Literal

from onerec.run.config import RunConfig
from onerec.run.run import Run
from onerec.scorers.preference_config import RewardConfig
from rl.config.alignment import AlignConfig
from rl.config.rsft import RsftConfig

LaterStage = Literal["rsft", "reward", "align"]


class AlignmentRunConfig(RunConfig):
    """A run config with what comes after training."""

    reward: RewardConfig | None = RewardConfig()
    rsft: RsftConfig | None = None
    align: AlignConfig = AlignConfig()
    after_training: list[LaterStage] = []


def config_of(run: Run) -> AlignmentRunConfig:
    """The run's config with the sections of this package."""
    assert isinstance(run.config, AlignmentRunConfig), "this run was opened without the plugin `rl`"
    return run.config
