"""Settings of a tuning: what is tried, and how often."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import msgspec

from decouple.config.base import Count, Name, Positive, Section, at_least


@dataclass(frozen=True)
class TuneConfig(Section):
    trials: Annotated[int, at_least(2)] = 12
    """Number of trials per method. Each is a combination of grid values, drawn with the seed before anything is trained."""
    methods: Annotated[tuple[Literal["sgd", "learn", "q0"], ...], msgspec.Meta(min_length=1)] = ("sgd", "learn")
    """What is tuned: SGD, learning from searched targets, one q0 trajectory."""
    epochs: Positive | None = None
    """Epochs of every trial, the same for all methods; None: learn.epochs."""
    settings: tuple[Name, ...] = ()
    """Settings to tune in addition to lr and weight_decay of each method, such as learn.target_weight."""
    grid: dict[str, tuple[int | float | str, ...]] = field(default_factory=dict)
    """Values of a setting to try: learn.lr=0.1,0.2,0.4. One value: it is not tuned. Default: a quarter, a half, one, two and four
    times the setting's own value."""
    extensions: Count = 2
    """How many times the grids may be extended. If a method's best value is the smallest or largest tried, every method gets a
    quarter more trials."""

    def _check(self) -> None:
        if len(set(self.methods)) < len(self.methods):
            self._refuse("methods", "each once")
