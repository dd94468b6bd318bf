"""Learning-rate schedules as functions of the step."""

from __future__ import annotations

WARM_UP = 0.2
"""Fraction of the steps in which the triangle rises."""


def multiplier(schedule: str, step: int, steps: int) -> float:
    """What the peak learning rate is multiplied with at `step` of `steps` (0 … steps − 1).

    "triangle" rises linearly over the first fifth and falls linearly to zero; "constant" is 1.

    >>> [round(multiplier("triangle", s, 10), 3) for s in (0, 1, 2, 9)]
    [0.5, 1.0, 0.889, 0.111]
    """
    if schedule == "constant":
        return 1.0
    rise = max(1, round(WARM_UP * steps))
    if step < rise:
        return (step + 1) / rise
    return (steps - step) / (steps - rise + 1)
