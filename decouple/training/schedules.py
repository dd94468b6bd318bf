"""Schedules as functions of the step: the triangle of one training, and the cycles in which weight decay mirrors the learning rate."""

from __future__ import annotations

import math

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


def cyclic_multipliers(
    step: int,
    cycle_steps: int,
    *,
    lr_floor: float = 0.0,
    wd_floor: float = 0.7,
    warmup: float = 0.0,
    warmdown: float = 0.0,
    shape: str = "linear",
) -> tuple[float, float]:
    """What the base learning rate and weight decay are multiplied with at `step` of a cycle.

    With f = lr_floor, the learning rate warms up linearly from f to 1, decays over n steps from 1 to f, as f + (1 − f)(1 − s/n) or
    half a cosine, and warms down along half a cosine from f to 0.
    The weight decay mirrors it: w + (1 − w)(1 − lr)/(1 − f), w = wd_floor, which is above 1 only in a warm-down. Without warm-up
    and warm-down the cycle is a plain sawtooth. Source: Mandal et al., arXiv 2606.03938, and its public code.

    >>> cyclic_multipliers(0, 10)
    (1.0, 0.7)

    Args:
        step: 0 … cycle_steps − 1.
        lr_floor: learning-rate multiplier that the decay falls to, 0 ≤ lr_floor < 1. The public code has 0.08.
        wd_floor: weight-decay multiplier where the learning rate is at its peak, 0..1.
        warmup, warmdown: shares of the cycle that rise, and fall to 0; their sum is at most 1.
        shape: of the decay, "linear" or "cosine".

    Returns:
        Of the learning rate (0..1), and of the weight decay (from wd_floor up).

    Raises:
        ValueError: an argument is out of its range; names it.
    """
    _check_cycle(step, cycle_steps, lr_floor, wd_floor, warmup, warmdown)
    if shape not in ("linear", "cosine"):
        raise ValueError(f"shape = {shape!r}: expected 'linear' or 'cosine'")
    rising, falling = warmup * cycle_steps, warmdown * cycle_steps
    decaying = cycle_steps - rising - falling
    if step < rising:
        lr = lr_floor + (1 - lr_floor) * step / rising
    elif step < rising + decaying:
        left = 1 - (step - rising) / decaying
        if shape == "cosine":
            left = 0.5 * (1 - math.cos(math.pi * left))
        lr = lr_floor + (1 - lr_floor) * left
    else:
        lr = lr_floor * 0.5 * (1 + math.cos(math.pi * (step - rising - decaying) / falling))
    return lr, wd_floor + (1 - wd_floor) * (1 - lr) / (1 - lr_floor)


def _check_cycle(step: int, cycle_steps: int, lr_floor: float, wd_floor: float, warmup: float, warmdown: float) -> None:
    if cycle_steps < 1:
        raise ValueError(f"cycle_steps = {cycle_steps}: expected at least 1")
    if not 0 <= step < cycle_steps:
        raise ValueError(f"step = {step}: expected 0 … cycle_steps − 1 = {cycle_steps - 1}")
    if not 0 <= lr_floor < 1:
        raise ValueError(f"lr_floor = {lr_floor}: expected 0 ≤ lr_floor < 1")
    if not 0 <= wd_floor <= 1:
        raise ValueError(f"wd_floor = {wd_floor}: expected 0..1")
    if not (warmup >= 0 and warmdown >= 0 and warmup + warmdown <= 1):
        raise ValueError(f"warmup = {warmup}, warmdown = {warmdown}: expected fractions 0..1 that sum to at most 1")
