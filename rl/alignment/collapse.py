"""Stops an alignment whose policy has collapsed."""

from dataclasses import asdict, dataclass, field

from rl.config.alignment import LimitsConfig

ADVICE = {
    "legality": "raise align.format.weight, lower align.learning_rate, or raise align.next_code.weight",
    "entropy": "lower align.learning_rate, raise align.next_code.weight, or lower align.refresh_every",
}


@dataclass
class CollapseWatch:
    """Counts steps below the limits.

    Attributes:
        config: the limits.
        first_entropy: entropy of the first step, in nats; the limit of entropy is a share of it.
        low: for each figure, the number of steps in a row below its limit.
    """

    config: LimitsConfig
    first_entropy: float | None = None
    low: dict[str, int] = field(default_factory=lambda: {"legality": 0, "entropy": 0})

    def update(self, legality: float, entropy: float) -> str | None:
        """Count a step. Returns what has collapsed and what to do about it, or None."""
        if self.first_entropy is None:
            self.first_entropy = entropy
        least = {"legality": self.config.legality, "entropy": self.config.entropy * self.first_entropy}
        for name, value in (("legality", legality), ("entropy", entropy)):
            self.low[name] = self.low[name] + 1 if value < least[name] else 0
            if self.low[name] >= self.config.patience:
                return (
                    f"{name} has collapsed: it is {value:.3g} and has been below {least[name]:.3g} (align.limits.{name}) for "
                    f"{self.low[name]} steps; {ADVICE[name]}"
                )
        return None

    def state_dict(self) -> dict[str, object]:
        """The state for a checkpoint."""
        return {key: value for key, value in asdict(self).items() if key != "config"}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Continue from a state of `state_dict`."""
        for name, value in state.items():
            setattr(self, name, value)
