"""Settings of what is asked of activations."""

from __future__ import annotations

from dataclasses import dataclass

from decouple.config.base import NonNegative, Section


@dataclass(frozen=True)
class FitnessConfig(Section):
    similarity: NonNegative = 0.0
    """Weight of a second thing that is asked of activations, beside the label's log-probability: that images of one class have like
    features, and images of different classes have not. A search scores candidates by it; SGD follows its gradient. 0: off."""
