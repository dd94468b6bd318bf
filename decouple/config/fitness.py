"""Settings of the fitness."""

from __future__ import annotations

from dataclasses import dataclass

from decouple.config.base import NonNegative, Section


@dataclass(frozen=True)
class FitnessConfig(Section):
    similarity: NonNegative = 0.0
    """Weight of a similarity-matching term that is added to the log-probability of the true class: features should be similar within
    a class and dissimilar between classes. A search scores candidates by it; SGD follows its gradient. 0: off."""
