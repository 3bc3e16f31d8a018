"""Schedule: learning rate and rate weight along a training run."""

from __future__ import annotations

import math

_WARM_UP_STEPS = 50
_LAST_SHARE = 0.01


def learning_rate_share(step: int, steps: int, decay_from: float) -> float:
    """Share of the peak learning rate: a short rise, a plateau, and a cosine from `decay_from` on."""
    progress = min(step / max(steps, 1), 1.0)
    rise = min(1.0, (step + 1) / _WARM_UP_STEPS)
    if progress <= decay_from:
        return rise
    fall = (progress - decay_from) / (1 - decay_from)
    return rise * max(0.5 * (1 + math.cos(math.pi * fall)), _LAST_SHARE)


def rate_share(step: int, steps: int, warm_up: float) -> float:
    """Share of its full value that the rate's weight has.

    It rises from 1 % to all, geometrically, so that latents live before they cost: those that cost too early fall
    silent and stay so.
    """
    if warm_up <= 0:
        return 1.0
    return float(0.01 ** max(0.0, 1.0 - step / max(steps * warm_up, 1.0)))
