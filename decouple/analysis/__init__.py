"""Measures of representations: how near, how spread, how alike. Pure functions of tensors (N, …), on any device.

Half-precision input is computed in float32; float64 stays float64.
"""

from decouple.analysis.agreement import disagreement
from decouple.analysis.entropy import class_entropy, collision_entropy, effective_solutions, solution_diversity
from decouple.analysis.rank import effective_rank
from decouple.analysis.similarity import cosine_distance, linear_cka, procrustes_distance

__all__ = [
    "class_entropy",
    "collision_entropy",
    "cosine_distance",
    "disagreement",
    "effective_rank",
    "effective_solutions",
    "linear_cka",
    "procrustes_distance",
    "solution_diversity",
]
