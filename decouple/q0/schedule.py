"""The cyclic schedule: learning rate and weight decay in anti-phase."""

from __future__ import annotations

import math


def cyclic_multipliers(
    step: int,
    cycle_steps: int,
    *,
    lr_floor: float = 0.08,
    wd_floor: float = 0.7,
    warmup: float = 0.0,
    warmdown: float = 0.0,
    shape: str = "linear",
) -> tuple[float, float]:
    """What the base learning rate and weight decay are multiplied with at `step` (0 … cycle_steps − 1) of a cycle.

    With both fractions 0, as in the public record run, a linear sawtooth: lr(s) = f + (1 − f)(1 − s/n), and
    wd(s) = w + (1 − w)(1 − lr(s))/(1 − f). A warm-up rises from f to 1; a warm-down falls from f to 0 along half a cosine,
    and only there the weight-decay multiplier exceeds 1. Source: Mandal et al., arXiv 2606.03938, and its public code.

    >>> cyclic_multipliers(0, 10)
    (1.0, 0.7)
    >>> [round(m, 3) for m in cyclic_multipliers(5, 10)]
    [0.54, 0.85]

    Raises:
        ValueError: an argument is out of its range.
    """
    if cycle_steps < 1 or not 0 <= step < cycle_steps:
        raise ValueError(f"step = {step}: expected 0 … cycle_steps − 1 = {cycle_steps - 1}")
    if not 0 <= lr_floor < 1:
        raise ValueError(f"lr_floor = {lr_floor}: expected 0 ≤ lr_floor < 1")
    if warmup < 0 or warmdown < 0 or warmup + warmdown >= 1:
        raise ValueError(f"warmup = {warmup}, warmdown = {warmdown}: expected fractions that sum to less than 1")
    if shape not in ("linear", "cosine"):
        raise ValueError(f"shape = {shape!r}: expected 'linear' or 'cosine'")
    rising, falling = warmup * cycle_steps, warmdown * cycle_steps
    middle = cycle_steps - rising - falling
    if step < rising:
        lr = lr_floor + (1 - lr_floor) * step / rising
    elif step < rising + middle:
        left = 1 - (step - rising) / middle
        if shape == "cosine":
            left = 0.5 * (1 - math.cos(math.pi * left))
        lr = lr_floor + (1 - lr_floor) * left
    else:
        lr = lr_floor * 0.5 * (1 + math.cos(math.pi * (step - rising - middle) / falling))
    return lr, wd_floor + (1 - wd_floor) * (1 - lr) / (1 - lr_floor)
