"""The learned prior: weights over the members of a population, fitted on data that no member trained on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

FLOOR = 1e-12
"""Smallest probability: a member that rules the truth out costs 27.6 nats, not infinitely many."""


@dataclass(frozen=True)
class Prior:
    """Weights over M members."""

    weights: Tensor
    """(M,) float64, at least 0, sum 1."""
    nll: float
    """Of the mixture on the fitting data, nats."""
    uniform_nll: float
    """Of the uniform mixture there."""
    gap: float
    """Bound on how far nll is above the optimum: max_m mean_n(P[m,n] / (w·P)[n]) − 1, nats."""
    iterations: int


def fit_prior(p_truth: Tensor, *, method: str = "exact", gap: float = 1e-6, max_iterations: int = 20_000) -> Prior:
    """Minimise −mean_n log Σ_m w_m P[m, n] over the simplex.

    "exact" runs EM, w ← w · mean_n(P / (w·P)), which never leaves the simplex and never gets worse, until the duality gap
    is below `gap`. "softmax" does as the public code: w = softmax(a), AdamW from a = 0, lr 0.5, 300 steps, clip 1.

    Args:
        p_truth: (M, N) probability that member m gives to the true class of example n.

    Raises:
        ValueError: not (M, N), or values outside 0..1.
    """
    if p_truth.dim() != 2 or 0 in p_truth.shape:
        raise ValueError(f"p_truth has shape {tuple(p_truth.shape)}: expected (M, N), neither of them 0")
    if not bool(((p_truth >= 0) & (p_truth <= 1 + 1e-6)).all()):
        raise ValueError("p_truth holds values that are not probabilities (NaN, or outside 0..1)")
    if method not in ("exact", "softmax"):
        raise ValueError(f"method = {method!r}: expected 'exact' or 'softmax'")
    p = p_truth.detach().to("cpu", torch.float64).clamp_min(FLOOR)
    uniform = torch.full((len(p),), 1 / len(p), dtype=torch.float64)
    weights, iterations = _softmax(p) if method == "softmax" else _exact(p, uniform, gap, max_iterations)
    return Prior(weights, _nll(weights, p), _nll(uniform, p), _gap(weights, p), iterations)


def _exact(p: Tensor, weights: Tensor, gap: float, max_iterations: int) -> tuple[Tensor, int]:
    for iteration in range(max_iterations):
        gain = (p / (weights @ p)).mean(1)
        if float(gain.max()) - 1 <= gap:
            return weights, iteration
        weights = weights * gain
        weights = weights / weights.sum()
    return weights, max_iterations


def _softmax(p: Tensor) -> tuple[Tensor, int]:
    logits = torch.zeros(len(p), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.AdamW([logits], lr=0.5)
    for _ in range(300):
        optimizer.zero_grad()
        loss = -(logits.softmax(0) @ p).log().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([logits], 1.0)
        optimizer.step()
    return logits.detach().softmax(0), 300


def select_members(weights: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The `k` heaviest members (the first of equals) and their weights, renormalised.

    >>> indices, share = select_members(torch.tensor([0.2, 0.5, 0.3]), 2)
    >>> indices.tolist(), share.tolist()
    ([1, 2], [0.625, 0.375])
    """
    if not 1 <= k <= len(weights):
        raise ValueError(f"k = {k}: expected 1 … M = {len(weights)}")
    indices = weights.argsort(descending=True, stable=True)[:k]
    chosen = weights[indices]
    return indices, chosen / chosen.sum()


def mixture(probabilities: Tensor, weights: Tensor) -> Tensor:
    """Average probabilities (M, N, C) with weights (M,): (N, C)."""
    return torch.einsum("m,mnc->nc", weights.to(probabilities), probabilities)


def _nll(weights: Tensor, p: Tensor) -> float:
    return float(-(weights @ p).log().mean())


def _gap(weights: Tensor, p: Tensor) -> float:
    return float((p / (weights @ p)).mean(1).max()) - 1
