"""The base of all settings that a run config can hold."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Typed, immutable settings; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)
