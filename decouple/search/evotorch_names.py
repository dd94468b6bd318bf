"""The names of EvoTorch that are used here. Importing them takes seconds, and is silent."""

from __future__ import annotations

import warnings

from torch import Tensor, finfo

with warnings.catch_warnings():  # EvoTorch 0.6 scripts a function at import, which torch now deprecates
    warnings.simplefilter("ignore")
    from evotorch import Problem, SolutionBatch, algorithms
    from evotorch.algorithms import functional
    from evotorch.algorithms.searchalgorithm import SearchAlgorithm

__all__ = ["Problem", "SearchAlgorithm", "SolutionBatch", "algorithms", "finite", "functional"]


def finite(fitness: Tensor) -> Tensor:
    """Fitness with the lowest number in place of −inf: a population that is −inf throughout is taken for one that was never
    evaluated."""
    return fitness.clamp_min(finfo(fitness.dtype).min)
