"""The learned prior: weights over the members of a population, fitted on data that no member trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from decouple.errors import NotFiniteError
from decouple.seeds import generator
from decouple.tensors import as_tensor
from decouple.torch_state import torch_defaults

FLOOR = 1e-12
"""Smallest probability: an example that all members rule out costs 27.6 nats, not infinitely many, and does not stop the fit."""


@dataclass(frozen=True)
class Prior:
    """Weights over M members, and how good they are on the data that they were fitted on."""

    weights: Tensor
    """(M,) float64 on the CPU, at least 0, sum 1."""
    nll: float
    """Negative log-likelihood of the mixture, nats."""
    uniform_nll: float
    """That of the mixture with equal weights, nats."""
    gap: float
    """Duality gap, a bound on how far the objective is above the best possible, nats. Without `strength` the objective is
    `nll`, and the gap max_m mean_n P[m, n]/(w·P)[n] − 1."""
    iterations: int
    strength: float = 0.0
    """Examples' worth of pull toward equal weights."""


@torch_defaults()
def fit_prior(
    p_truth: Tensor, *, method: str = "exact", strength: float = 0.0, gap: float = 1e-6, max_iterations: int = 200
) -> Prior:
    """Weights that minimise −mean_n log Σ_m w_m P[m, n] on the simplex, which is a convex problem.

    With few examples the optimum puts nearly all weight on the member that happened to do best. `strength` s adds s examples
    that want equal weights: the objective is −(Σ_n log(w·P)_n + s·mean_m log w_m)/(N + s), a Dirichlet prior on w. For
    any s the `nll` is at most `uniform_nll`; `cross_validated_strength` finds one.

    - "exact": the optimum, to a duality gap of `gap`. It starts from equal weights and never gets worse, so its `nll` is
      at most `uniform_nll`; members that do not help get exactly 0. Should `max_iterations` not suffice, the `gap` of
      the result says so.
    - "softmax": as q0's public code does. w = softmax(a), AdamW with lr 0.5 and no weight decay, 300 steps, gradient
      norm clipped to 1. It starts at a = 0 (the public code adds noise of 1e-4), so equal members stay equal; no weight
      is ever exactly 0, and nothing but `gap` says how near the optimum it got.

    Probabilities below 1e-12 are raised to it. Source: Mandal et al., arXiv 2606.03938, and its public code.

    >>> p_truth = torch.tensor([[0.9, 0.8, 0.1], [0.2, 0.3, 0.9], [0.1, 0.1, 0.1]])
    >>> prior = fit_prior(p_truth)
    >>> [round(weight, 3) for weight in prior.weights.tolist()]
    [0.61, 0.39, 0.0]
    >>> prior.nll < prior.uniform_nll
    True

    Args:
        p_truth: (M, N) probability that member m gives to the true class (or token) of held-out example n, 0..1.
        method: "exact" or "softmax".
        strength: s, in examples, at least 0; infinite: equal weights. For "exact" alone.
        gap: duality gap in nats at which "exact" stops, above 0.
        max_iterations: of "exact", at least 1.

    Raises:
        ValueError: not (M, N), values that are no probabilities, or an argument out of its range.
        NotFiniteError: NaN or infinity in `p_truth`; names member and example.
    """
    if method not in ("exact", "softmax"):
        raise ValueError(f"method = {method!r}: expected 'exact' or 'softmax'")
    if not gap > 0:
        raise ValueError(f"gap = {gap}: expected a number of nats above 0")
    if max_iterations < 1:
        raise ValueError(f"max_iterations = {max_iterations}: expected at least 1")
    if not strength >= 0 or (strength > 0 and method != "exact"):
        raise ValueError(
            f"strength = {strength} with method = {method!r}: expected a number of at least 0, and 0 for 'softmax'"
        )
    p = _floored(p_truth)
    return _fit(p, method, strength, gap, max_iterations)


@dataclass(frozen=True)
class Strength:
    """How strong a pull toward equal weights serves examples that the weights were not fitted on."""

    strength: float
    """The best one; infinite where no learned weights beat equal ones."""
    candidates: tuple[float, ...]
    nll: tuple[float, ...]
    """Of each candidate, on held-out folds, nats."""


@torch_defaults()
def cross_validated_strength(
    p_truth: Tensor, *, candidates: Sequence[float] | None = None, folds: int = 5, repeats: int = 2, seed: int = 0
) -> Strength:
    """The `strength` for `fit_prior` with the least negative log-likelihood on folds that the weights did not see.

    Among equals the strongest is taken. A candidate of s is fitted with s·(share of the examples that are fitted on), so that
    it pulls as hard on a fold as it will on all examples.

    Args:
        p_truth: (M, N) as in `fit_prior`, N at least 2.
        candidates: strengths, in examples; default: M/4, those from N/64 to 8·N by factors of 2 that are above it, and
            infinite. Not 0: folds are too small to hold the rare error of a member that is sure of itself, which then takes
            all the weight and pays for it elsewhere.
        folds: parts of the examples, each held out once; at most N.
        repeats: partitions to average over.
        seed: of the partitions.

    Raises:
        ValueError: as `fit_prior`, or fewer than 2 examples, folds or 1 repeat.
    """
    p = _floored(p_truth)
    count = p.shape[1]
    folds = min(folds, count)
    if folds < 2 or repeats < 1:
        raise ValueError(f"{count} examples, folds = {folds}, repeats = {repeats}: expected at least 2, 2 and 1")
    if candidates is None:
        least = len(p) / 4
        candidates = (least, *(s for s in (count * 2.0**power for power in range(-6, 4)) if s > least), math.inf)
    totals = torch.zeros(len(candidates), dtype=p.dtype)
    for repeat in range(repeats):
        order = torch.randperm(count, generator=generator(seed, "prior folds", repeat))
        for fold in range(folds):
            held = torch.zeros(count, dtype=torch.bool)
            held[order[fold::folds]] = True
            seen, unseen = p[:, ~held], p[:, held]
            for i, strength in enumerate(candidates):
                # A coarse gap: what is compared differs by far more.
                weights = _fit(seen, "exact", strength * seen.shape[1] / count, 1e-5, 200).weights
                totals[i] -= (weights @ unseen).log().sum()
    losses = (totals / (count * repeats)).tolist()
    best = max(range(len(losses)), key=lambda i: (-losses[i], candidates[i]))
    return Strength(candidates[best], tuple(candidates), tuple(losses))


@torch_defaults()
def greedy_members(p_truth: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Forward selection with replacement: `k` times, add the member that lowers the NLL of the plain average most.

    A member's weight is its share of the k picks, so at most k members are chosen; every pick is kept, also one that
    makes the NLL worse, for stopping at the best would select on noise. Source: Caruana et al., "Ensemble selection from
    libraries of models" (2004).

    >>> indices, weights = greedy_members(torch.tensor([[0.9, 0.8, 0.1], [0.2, 0.3, 0.9], [0.1, 0.1, 0.1]]), 3)
    >>> indices.tolist(), [round(weight, 3) for weight in weights.tolist()]
    ([0, 1], [0.667, 0.333])

    Args:
        p_truth: (M, N) probability that member m gives to the truth of held-out example n; floored as in `fit_prior`.
        k: picks, at least 1; may exceed M.

    Returns:
        Indices (K,) of the members chosen, heaviest first and the lower index first among equals, K ≤ min(k, M); their
        weights (K,), float64, sum 1.

    Raises:
        ValueError: not (M, N), values that are no probabilities, or k below 1.
        NotFiniteError: NaN or infinity in `p_truth`.
    """
    picks = torch.tensor(greedy_picks(p_truth, k))
    counts = torch.bincount(picks, minlength=len(p_truth)).double()
    return select_members(counts, len(picks.unique()))


@torch_defaults()
def greedy_picks(p_truth: Tensor, k: int) -> list[int]:
    """The members that `greedy_members` picks, in their order; it raises the same errors."""
    if k < 1:
        raise ValueError(f"k = {k}: expected at least 1")
    p = _floored(p_truth)
    picks: list[int] = []
    total = torch.zeros_like(p[0])
    for _ in range(k):
        # The sum ranks as the average does: log((total + p)/j) = log(total + p) − log j.
        picks.append(int((total + p).log().mean(1).argmax()))
        total += p[picks[-1]]
    return picks


def select_members(weights: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The `k` heaviest members and their weights, renormalised but not fitted again.

    >>> indices, share = select_members(torch.tensor([0.2, 0.5, 0.3]), 2)
    >>> indices.tolist(), share.tolist()
    ([1, 2], [0.625, 0.375])

    Args:
        weights: (M,), at least 0, not all 0.
        k: 1 … M.

    Returns:
        Indices (k,), heaviest first and the lower index first among equals; weights (k,), sum 1.

    Raises:
        ValueError: not (M,), a weight that is negative or not finite, no positive weight, or k out of its range.
    """
    weights = as_tensor(weights, "weights")
    _check_weights(weights)
    if not 1 <= k <= len(weights):
        raise ValueError(f"k = {k}: expected 1 … M = {len(weights)}")
    indices = weights.argsort(descending=True, stable=True)[:k]
    chosen = weights[indices]
    return indices, chosen / chosen.sum()


def mixture(probabilities: Tensor, weights: Tensor) -> Tensor:
    """Average the members' probabilities: (M, N, C) × (M,) → (N, C).

    >>> mixture(torch.tensor([[[1.0, 0.0]], [[0.5, 0.5]]]), torch.tensor([0.5, 0.5])).tolist()
    [[0.75, 0.25]]

    Args:
        probabilities: (M, N, C), or (M, N, T, C) for tokens; at least 0. Not logits, nor their logarithms.
        weights: (M,), at least 0, sum 1.

    Returns:
        (N, C) or (N, T, C) in the type of `probabilities`, half precision as float32.

    Raises:
        ValueError: shapes that do not fit, negative or NaN probabilities, or weights that do not sum to 1.
    """
    probabilities, weights = as_tensor(probabilities, "probabilities"), as_tensor(weights, "weights")
    _check_weights(weights)
    if probabilities.dim() < 2 or len(probabilities) != len(weights):
        raise ValueError(
            f"probabilities {tuple(probabilities.shape)} and weights {tuple(weights.shape)} do not fit: expected (M, N, C) "
            "and (M,)"
        )
    if not abs(float(weights.sum()) - 1) < 1e-4:
        raise ValueError(f"weights sum to {float(weights.sum()):.6g}: expected 1; divide them by their sum")
    if not bool((probabilities >= 0).all()):
        raise ValueError("probabilities holds negative values or NaN: give softmax outputs, not logits")
    dtype = torch.promote_types(probabilities.dtype, torch.float32)
    return torch.tensordot(weights.to(probabilities.device, dtype), probabilities.to(dtype), dims=1)


def nll(p_truth: Tensor) -> Tensor:
    """Mean negative log-likelihood over the last dimension, in nats: (…, N) → (…).

    >>> [round(value, 4) for value in nll(torch.tensor([[0.5, 0.5], [1.0, 0.0]])).tolist()]
    [0.6931, 13.8155]

    Args:
        p_truth: (…, N) probability given to the truth; values below 1e-12 count as 1e-12.
    """
    p_truth = as_tensor(p_truth, "p_truth")
    return -p_truth.to(torch.promote_types(p_truth.dtype, torch.float32)).clamp_min(FLOOR).log().mean(-1)


def _fit(p: Tensor, method: str, strength: float, gap: float, max_iterations: int) -> Prior:
    uniform = torch.full((len(p),), 1 / len(p), dtype=p.dtype)
    level = _nll(uniform, p)
    if math.isinf(strength):
        return Prior(uniform, level, level, 0.0, 0, strength)
    examples, shares = _with_pull(p, strength)
    weights, iterations = _softmax(p) if method == "softmax" else _exact(examples, shares, uniform, gap, max_iterations)
    reached = max(0.0, float((examples @ (shares / (weights @ examples))).max()) - 1)
    return Prior(weights, _nll(weights, p), level, reached, iterations, strength)


def _with_pull(p: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """Examples (M, N or N + M) and their shares: the pull toward equal weights is M examples, each explained by one member."""
    members, count = p.shape
    if strength == 0:
        return p, torch.full((count,), 1 / count, dtype=p.dtype)
    shares = torch.cat([p.new_full((count,), 1.0), p.new_full((members,), strength / members)])
    return torch.cat([p, torch.eye(members, dtype=p.dtype)], dim=1), shares / (count + strength)


def _exact(p: Tensor, shares: Tensor, weights: Tensor, gap: float, max_iterations: int) -> tuple[Tensor, int]:
    """Sequential quadratic programming with an active set: tens of iterations where EM needs up to millions.

    `shares` (N,), sum 1, is what each example counts in the means. In −mean_n log(w·P)_n + Σ_m w_m the simplex constraint may
    be dropped but for w ≥ 0: scaling shows that its minimum sums to 1. Around w, with R = P/(w·P), its quadratic model is
    ½ yᵀHy − cᵀy, H = mean_n RRᵀ, c = 2·mean_n R − 1.
    Source: Kim et al., "A fast algorithm for maximum likelihood estimation of mixture proportions using sequential
    quadratic programming" (2020); Wang (2007) for the same with another model of the constraint.
    """
    loss = -float((weights @ p).log() @ shares)
    for iteration in range(max_iterations):
        mixed = weights @ p
        gain = p @ (shares / mixed)
        if float(gain.max()) - 1 <= gap:
            return weights, iteration
        # Members at 0 that would not gain stay there, which keeps the quadratic problem small.
        considered = ((weights > 0) | (gain > 1)).nonzero().squeeze(1)
        ratio = p[considered] / mixed
        target = torch.zeros_like(weights)
        target[considered] = _nonnegative_minimum((ratio * shares) @ ratio.T, 2 * gain[considered] - 1)
        # From full to tiny steps towards it, and one EM step, which cannot make it worse should the model mislead.
        steps = [weights + (target - weights) / 2**halvings for halvings in range(12)]
        candidates = torch.stack([*steps, weights * gain])
        candidates /= candidates.sum(1, keepdim=True)
        losses = -((candidates @ p).log() @ shares)
        least = int(losses.argmin())
        if float(losses[least]) >= loss:  # what is left of it is rounding: go by the gap, which is seen more finely
            gaps = ((shares / (candidates @ p)) @ p.T).amax(1).masked_fill(losses > loss + 1e-15, torch.inf)
            least = int(gaps.argmin())
            if float(gaps[least]) >= float(gain.max()):
                return weights, iteration
        weights, loss = candidates[least], min(loss, float(losses[least]))
    return weights, max_iterations


def _nonnegative_minimum(hessian: Tensor, linear: Tensor) -> Tensor:
    """The y ≥ 0 that minimises ½ yᵀHy − cᵀy, by Lawson and Hanson's active-set method; H is positive semidefinite."""
    # Equal members make H singular; this little, which does not depend on their scale, decides between them.
    hessian = hessian + 1e-10 * hessian.diagonal().diag()
    # Where weights are pulled toward equal ones all are above 0, and nothing binds.
    unbound = torch.linalg.solve(hessian, linear)
    if bool((unbound > 1e-3 / len(linear)).all()):
        return unbound
    y = torch.zeros_like(linear)
    free = torch.zeros_like(linear, dtype=torch.bool)
    for _ in range(3 * len(linear)):
        slope = (linear - hessian @ y).masked_fill(free, -torch.inf)
        entering = int(slope.argmax())
        if float(slope[entering]) <= 1e-10:
            break
        free[entering] = True
        while True:
            best = torch.zeros_like(y)
            best[free] = torch.linalg.solve(hessian[free][:, free], linear[free])
            share = torch.where(free & (best <= 0), y / (y - best), torch.inf)
            leaving = int(share.argmin())
            if float(share[leaving]) > 1:
                break
            y = (y + share[leaving] * (best - y)).clamp_min(0)
            y[leaving], free[leaving] = 0, False
        y = best
        if not bool(free[entering]):  # rounding: in exact arithmetic it stays
            break
    return y


def _softmax(p: Tensor) -> tuple[Tensor, int]:
    steps = 300
    logits = torch.zeros(len(p), dtype=p.dtype, requires_grad=True)
    optimizer = torch.optim.AdamW([logits], lr=0.5, weight_decay=0.0)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = -(logits.softmax(0) @ p).log().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([logits], 1.0)
        optimizer.step()
    return logits.detach().softmax(0), steps


def _floored(p_truth: Tensor) -> Tensor:
    """(M, N) in float64 on the CPU, at least FLOOR."""
    p_truth = as_tensor(p_truth, "p_truth")
    if p_truth.dim() != 2 or 0 in p_truth.shape:
        raise ValueError(f"p_truth has shape {tuple(p_truth.shape)}: expected (M, N), neither of them 0")
    p = p_truth.detach().to("cpu", torch.float64)
    for wrong, error, what in (
        (~torch.isfinite(p), NotFiniteError, "NaN or infinity"),
        ((p < 0) | (p > 1 + 1e-3), ValueError, "no probability"),  # half precision may round a sum above 1
    ):
        if bool(wrong.any()):
            member, example = wrong.nonzero()[0].tolist()
            raise error(f"p_truth[{member}, {example}] = {float(p[member, example])} (member, example) is {what}")
    return p.clamp(FLOOR, 1)


def _check_weights(weights: Tensor) -> None:
    if weights.dim() != 1 or not len(weights):
        raise ValueError(f"weights have shape {tuple(weights.shape)}: expected (M,), M > 0")
    wrong = ~(torch.isfinite(weights) & (weights >= 0))
    if bool(wrong.any()):
        member = int(wrong.nonzero()[0])
        raise ValueError(f"weights[{member}] = {float(weights[member])}: expected finite numbers, at least 0")
    if not bool((weights > 0).any()):
        raise ValueError("every weight is 0: at least one must be positive")


def _nll(weights: Tensor, p: Tensor) -> float:
    return float(-(weights @ p).log().mean())
