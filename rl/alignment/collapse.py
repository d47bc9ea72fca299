"""What ends an alignment that has gone wrong."""

from dataclasses import asdict, dataclass, field

from rl.config.alignment import LimitsConfig

ADVICE = {
    "legality": "give align.format.weight more, lower align.learning_rate, or give align.next_code.weight more",
    "entropy": "lower align.learning_rate, give align.next_code.weight more, or copy the policy more often (align.refresh_every)",
}


@dataclass
class CollapseWatch:
    """Counts steps below the limits.

    Attributes:
        config: the limits.
        first_entropy: of the first step, in nats; entropy's limit is a share of it.
        low: for each figure, how many steps in a row it has been below its limit.
    """

    config: LimitsConfig
    first_entropy: float | None = None
    low: dict[str, int] = field(default_factory=lambda: {"legality": 0, "entropy": 0})

    def seen(self, legality: float, entropy: float) -> str | None:
        """Take note of one more step; what has collapsed and what to do about it, or None."""
        if self.first_entropy is None:
            self.first_entropy = entropy
        least = {"legality": self.config.legality, "entropy": self.config.entropy * self.first_entropy}
        for name, value in (("legality", legality), ("entropy", entropy)):
            self.low[name] = self.low[name] + 1 if value < least[name] else 0
            if self.low[name] >= self.config.patience:
                return (
                    f"{name} has collapsed: {value:.3g}, and for {self.low[name]} steps below {least[name]:.3g} "
                    f"(align.limits.{name}); {ADVICE[name]}"
                )
        return None

    def state_dict(self) -> dict[str, object]:
        """What a checkpoint needs to go on counting."""
        return {key: value for key, value in asdict(self).items() if key != "config"}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Go on from what `state_dict` gave."""
        for name, value in state.items():
            setattr(self, name, value)
