"""Measures of representations: how near, how spread, how alike. Pure functions of tensors (N, …), on any device.

Half-precision input is computed in float32; float64 stays float64.
"""

from decouple.analysis.agreement import Ambiguity, ambiguity_decomposition, disagreement, error_overlap
from decouple.analysis.calibration import brier_score, p_truth, reliability
from decouple.analysis.cka import centred_grams, cka_matrix, unbiased_cka
from decouple.analysis.entropy import class_entropy, collision_entropy, effective_solutions, solution_diversity
from decouple.analysis.rank import effective_rank
from decouple.analysis.resampling import bootstrap_mean, half_samples, interval
from decouple.analysis.similarity import cosine_distance
from decouple.analysis.temperature import fit_temperature, tempered
from decouple.results import Interval

__all__ = [
    "Ambiguity",
    "Interval",
    "ambiguity_decomposition",
    "bootstrap_mean",
    "brier_score",
    "centred_grams",
    "cka_matrix",
    "class_entropy",
    "collision_entropy",
    "cosine_distance",
    "disagreement",
    "effective_rank",
    "effective_solutions",
    "error_overlap",
    "fit_temperature",
    "half_samples",
    "interval",
    "p_truth",
    "reliability",
    "solution_diversity",
    "tempered",
    "unbiased_cka",
]
