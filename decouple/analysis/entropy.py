"""How spread representations are: collision entropy and the effective number of different ones."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from decouple.analysis.rows import flat_rows

BLOCK = 2048
"""Rows of the Gram matrix that are held at a time."""


def collision_entropy(reps: Tensor) -> Tensor:
    """H = −log(Σ_ij K_ij² / (Σ_i K_ii)²) of the cosine Gram matrix K of (N, …), in nats: a scalar, 0 … log N.

    Rényi's entropy of order 2 of K/N; its exponential is the Vendi score of order 2 (Friedman and Dieng 2023). Source:
    Vegesna and Dahal, arXiv 2509.10973, after Skean et al. 2025. Σ K_ij² is also ‖XᵀX‖² of the normalised rows: the
    smaller of the two products is taken, N×N in blocks of rows.

    >>> round(float(collision_entropy(torch.eye(4)).exp()), 6)
    4.0
    """
    rows = _unit_rows(flat_rows(reps, "reps"))
    count, features = rows.shape
    if features < count:
        total = (rows.T @ rows).square().sum()
    else:
        total = sum(((block @ rows.T).square().sum() for block in rows.split(BLOCK)), rows.new_zeros(()))
    return 2 * torch.tensor(float(count), dtype=rows.dtype).log() - total.log()


def effective_solutions(reps: Tensor) -> Tensor:
    """exp of the collision entropy of (N, …): 1 for equal representations, N for orthogonal ones."""
    return collision_entropy(reps).exp()


def solution_diversity(targets: Tensor) -> Tensor:
    """Effective number of different solutions of each image: (S, N, …) → (N,), 1 … S."""
    if targets.dim() < 3:
        raise ValueError(f"targets have shape {tuple(targets.shape)}: expected (S, N, …)")
    solutions = targets.transpose(0, 1).flatten(2)
    solutions = solutions if solutions.dtype == torch.float64 else solutions.float()
    norms = solutions.norm(dim=2, keepdim=True)
    unit = solutions / norms.clamp_min(torch.finfo(solutions.dtype).tiny)
    similarity = unit @ unit.transpose(1, 2)
    return similarity.diagonal(dim1=1, dim2=2).sum(1).square() / similarity.square().sum((1, 2))


def class_entropy(reps: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Within-class and between-class collision entropy of (N, …) with classes (N,), nats.

    Within: −log of the mean of K_ij² over i, j of a class (which is the collision entropy of that class, since K_ii = 1),
    averaged over the classes with at least two samples. Between: the same with i of one class and j of another, averaged
    over the pairs of classes. The paper says "averaged over pairs" and leaves the rest open; this is our reading.

    Raises:
        ValueError: other lengths, or no class with two samples.
    """
    rows = _unit_rows(flat_rows(reps, "reps"))
    if labels.shape != rows.shape[:1]:
        raise ValueError(f"labels have shape {tuple(labels.shape)}: expected ({len(rows)},)")
    groups = {int(label): rows[labels == label] for label in labels.unique()}
    large = [group for group in groups.values() if len(group) > 1]
    if not large:
        raise ValueError("no class has two samples: its entropy is undefined; give more samples")
    within = torch.stack([collision_entropy(group) for group in large]).mean()
    pairs = [-(a @ b.T).square().mean().log() for a, b in combinations(groups.values(), 2)]
    return within, torch.stack(pairs).mean() if pairs else within.new_zeros(())


def _unit_rows(rows: Tensor) -> Tensor:
    norms = rows.norm(dim=1, keepdim=True)
    if bool((norms == 0).any()):
        raise ValueError(f"row {int((norms == 0).nonzero()[0, 0])} is all zeros: its cosine is undefined")
    return rows / norms
