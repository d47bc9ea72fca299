"""Learning rates as a pure function of the step, so a resumed run needs no scheduler state."""

import math


def learning_rate_at(step: int, *, peak: float, warmup_steps: int, total_steps: int, final_share: float) -> float:
    """Linear warm-up to `peak`, then half a cosine down to `final_share * peak`.

    Args:
        step: optimizer steps already taken.
        peak: highest learning rate.
        warmup_steps: steps until the peak is reached.
        total_steps: steps of the whole schedule; later steps stay at the final rate.
        final_share: final rate as a share of the peak, 0 to 1.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    return peak * (final_share + (1 - final_share) * 0.5 * (1 + math.cos(math.pi * progress)))


def learning_rate_for(parameters: int) -> float:
    """Peak learning rate of a model with this many parameters, without embedding tables: 5e-4 x (parameters / 1e8)^-1/2.

    OneRec-V2 (arXiv 2508.20900) lists sizes from 0.1 to 8 billion with their rates, and this line goes through all of them. At
    a fixed depth, parameters grow with the square of the width, so the rate falls as 1 / width.
    """
    return 5e-4 * (parameters / 1e8) ** -0.5
