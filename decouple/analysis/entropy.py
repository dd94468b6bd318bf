"""How spread representations are: collision entropy and the effective number of different ones."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from decouple.analysis.rows import BLOCK, classes_of, unit_rows, with_direction
from decouple.errors import DataError
from decouple.tensors import as_tensor
from decouple.torch_state import autocast_off


@autocast_off()
def collision_entropy(reps: Tensor, *, block: int = BLOCK) -> Tensor:
    """H = −log(Σ_ij K_ij² / (Σ_i K_ii)²) of the cosine Gram matrix K of (N, …): a scalar, 0 … log N nats.

    Rényi's entropy of order 2 of the eigenvalues of K/N; its exponential is the Vendi score of order 2 with the cosine
    kernel (Friedman and Dieng 2023). Source: Vegesna and Dahal, arXiv 2509.10973, after Skean et al. 2025.

    Σ_ij K_ij² is the same for X·Xᵀ and Xᵀ·X, X the rows scaled to length 1. The smaller of the two is taken, one half of
    it (it is symmetric), and at most block × block of it at a time; no scaled copy of all rows is made.

    >>> round(float(collision_entropy(torch.eye(4))), 6) == round(math.log(4), 6)
    True

    Args:
        reps: (N, …).
        block: rows, or features, of the Gram matrix that are held at a time.

    Raises:
        ValueError: a row of zeros, no samples or no features.
        NotFiniteError: NaN or infinity; names the row.
    """
    rows, lengths = with_direction(reps, "reps")
    count, features = rows.shape

    def unit(start: int) -> Tensor:
        """Rows, or features, from `start` on: (block, D) or (block, N)."""
        if count <= features:
            return _unit(rows, lengths, start, block)
        return (rows[:, start : start + block].to(lengths.dtype) / lengths).T

    total = lengths.new_zeros(())
    smaller = min(count, features)
    for i in range(0, smaller, block):
        one = unit(i)
        total += (one @ one.T).square().sum()
        for j in range(i + block, smaller, block):
            total += 2 * (one @ unit(j).T).square().sum()
    return (2 * math.log(count) - total.log()).clamp(0, math.log(count))  # but for rounding it lies there


def effective_solutions(reps: Tensor, *, block: int = BLOCK) -> Tensor:
    """N_eff = exp of the collision entropy of (N, …): 1 for equal representations, N for orthogonal ones.

    >>> round(float(effective_solutions(torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]]))), 6)
    1.8

    Raises:
        ValueError, NotFiniteError: as `collision_entropy`.
    """
    return collision_entropy(reps, block=block).exp()


@autocast_off()
def solution_diversity(targets: Tensor, *, block: int = 128) -> Tensor:
    """Effective number of different solutions of each sample: (S, N, …) → (N,), 1 … S.

    `effective_solutions` of the S representations of each of N samples.

    >>> targets = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[3.0, 0.0], [0.0, 1.0]]])
    >>> [round(number, 6) for number in solution_diversity(targets).tolist()]
    [1.0, 2.0]

    Args:
        targets: (S, N, …).
        block: samples that are worked on at a time.

    Raises:
        ValueError: other dimensions, or a representation of zeros; names solution and sample.
        NotFiniteError: NaN or infinity; names solution and sample.
    """
    targets = as_tensor(targets, "targets")
    if targets.dim() < 3 or targets.numel() == 0:
        raise ValueError(f"targets have shape {tuple(targets.shape)}: expected (S, N, …), none of them 0")
    found = []
    for start in range(0, targets.shape[1], block):
        part = targets[:, start : start + block]
        names = [f"targets, solution {i}, samples {start} and on" for i in range(len(part))]
        unit = torch.stack([unit_rows(rows, name) for rows, name in zip(part, names, strict=True)], dim=1)
        similarity = unit @ unit.transpose(1, 2)
        found.append((len(targets) ** 2 / similarity.square().sum((1, 2))).clamp(1, len(targets)))
    return torch.cat(found)


@autocast_off()
def class_entropy(reps: Tensor, labels: Tensor, *, block: int = BLOCK) -> tuple[Tensor, Tensor]:
    """Within-class and between-class collision entropy of (N, …) with classes (N,): two scalars, nats.

    With K the cosine Gram matrix and S(c, d) = mean of K_ij² over i of class c and j of class d,

    - within = mean over classes c of −log S(c, c), which is the mean of their collision entropies, since K_ii = 1;
    - between = mean over pairs c < d of −log S(c, d): 0 where both classes lie on one line, infinite where they are orthogonal.

    Classes with fewer than two samples are left out of both. Memory is as in `collision_entropy`. Source: Vegesna and Dahal,
    arXiv 2509.10973, figures 6 and 7; our reading, since its text only says "averaged over pairs".

    >>> reps = torch.tensor([[1.0, 0.0], [2.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
    >>> within, between = class_entropy(reps, torch.tensor([0, 0, 1, 1]))
    >>> round(float(within), 6), round(float(between), 6) == round(math.log(2), 6)
    (0.0, True)

    Args:
        reps: (N, …).
        labels: (N,) integers.
        block: rows of the Gram matrix that are held at a time.

    Raises:
        ValueError: other lengths, or a row of zeros.
        DataError: fewer than two classes with at least two samples.
        NotFiniteError: NaN or infinity; names the row.
    """
    rows, lengths = with_direction(reps, "reps")
    labels = classes_of(labels, "labels", rows.device)
    if labels.shape != rows.shape[:1] or labels.is_floating_point():
        raise ValueError(
            f"labels have shape {tuple(labels.shape)} and type {labels.dtype}: expected (N,) = ({len(rows)},) integers"
        )
    classes, sizes = labels.unique(return_counts=True)
    classes, sizes = classes[sizes > 1], sizes[sizes > 1]
    if len(classes) < 2:
        raise DataError(
            f"{len(classes)} classes have at least two samples: the entropy within and between classes needs two such "
            "classes; give more samples"
        )
    share = (labels[:, None] == classes).to(lengths) / sizes.to(lengths)  # (N, C): averages over the samples of a class
    parts = range(0, len(rows), block)
    square = lengths.new_zeros(len(classes), len(classes))  # S
    for i in parts:
        one = _unit(rows, lengths, i, block)
        for j in parts[i // block :]:
            part = share[i : i + block].T @ (one @ _unit(rows, lengths, j, block).T).square() @ share[j : j + block]
            square += part if i == j else part + part.T  # K is symmetric
    entropy = -square.log()
    pairs = torch.triu_indices(len(classes), len(classes), 1, device=rows.device)
    return entropy.diagonal().mean().clamp_min(0), entropy[pairs[0], pairs[1]].mean().clamp_min(0)


def _unit(rows: Tensor, lengths: Tensor, start: int, block: int) -> Tensor:
    """Rows from `start` on, scaled to length 1."""
    return rows[start : start + block].to(lengths.dtype) / lengths[start : start + block]
