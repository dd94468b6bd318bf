"""Measures of representations: how near, how spread, how alike."""

from decouple.analysis.entropy import class_entropy, collision_entropy, effective_solutions, solution_diversity
from decouple.analysis.similarity import cosine_distance, disagreement, linear_cka

__all__ = [
    "class_entropy",
    "collision_entropy",
    "cosine_distance",
    "disagreement",
    "effective_solutions",
    "linear_cka",
    "solution_diversity",
]
