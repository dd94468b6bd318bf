"""Linear centred kernel alignment (CKA) from unbiased estimates of HSIC: of one pair, or of every pair of many at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from decouple.analysis.rows import centred_rows, same_samples
from decouple.tensors import as_tensor
from decouple.torch_state import autocast_off

FEWEST = 4
"""Samples that CKA needs: the unbiased estimate of HSIC divides by N − 3."""


def unbiased_cka(a: Tensor, b: Tensor) -> Tensor:
    """CKA of (N, …) and (N, …): 1 for representations that are equal up to rotation and scale, near 0 for unrelated ones.

    It is taken from the unbiased estimates of HSIC. The usual, biased estimate is also high for unrelated representations
    that have many features and few samples. Source: Kornblith et al., "Similarity of neural network representations
    revisited" (2019), eq. 4; Song et al., "Feature selection via dependence maximization" (2012), eq. 5; Nguyen, Raghu and
    Kornblith, "Do wide and deep networks learn the same things?" (2021).

    >>> a = torch.randn(10, 5, generator=torch.Generator().manual_seed(0))
    >>> round(float(unbiased_cka(a, -2 * a.flip(1) + 1)), 6)
    1.0

    Args:
        a: (N, …), N ≥ 4. Memory grows with N².
        b: (N, …), the same samples in the same order; the number of features may differ.

    Returns:
        A scalar up to 1, float64; somewhat below 0 where nothing is shared.

    Raises:
        ValueError: fewer than 4 samples, different numbers of samples, activations that do not vary, or samples that are all
            equally similar to one another, so that nothing is left to align.
        NotFiniteError: NaN or infinity; names the row.
    """
    return cka_matrix(_grams({"a": a, "b": b}))[0, 1]


def centred_grams(reps: Sequence[Tensor]) -> Tensor:
    """Gram matrices of representations of the same N samples, for `cka_matrix`: (M, N, N) float64.

    The rows are centred and scaled to Frobenius norm 1, and the diagonal is 0.

    Args:
        reps: M tensors (N, …), each with any number of features.

    Raises:
        ValueError: no tensors, fewer than 4 samples, different numbers of samples, or activations that do not vary.
        NotFiniteError: NaN or infinity; names the row.
    """
    if not len(reps):
        raise ValueError("there are no representations: expected at least one tensor (N, …)")
    return _grams({f"representation {number}": values for number, values in enumerate(reps)})


@autocast_off()
def cka_matrix(grams: Tensor, samples: Tensor | None = None) -> Tensor:
    """`unbiased_cka` of every pair of M representations: (M, N, N) of `centred_grams` → (M, M) float64, diagonal 1.

    Args:
        grams: from `centred_grams`.
        samples: (n,) positions of the samples to use, n ≥ 4, none twice; None: all.

    Raises:
        ValueError: fewer than 4 samples, or ones that are all equally similar to one another.
    """
    if samples is not None:
        grams = grams[:, samples][:, :, samples]
    count = grams.shape[1]
    _check_count(count)
    flat, rows = grams.flatten(1), grams.sum(2)
    sums = rows.sum(1)
    hsic = flat @ flat.T - 2 / (count - 2) * rows @ rows.T + torch.outer(sums, sums) / ((count - 1) * (count - 2))
    own = hsic.diagonal()
    if float(own.min()) <= 1e-12 * float(flat.square().sum(1).min()):
        raise ValueError(
            "the samples are all equally similar to one another: nothing is left to align; give other or more samples"
        )
    return (hsic / torch.outer(own, own).sqrt()).clamp(-1, 1)


@autocast_off()
def _grams(reps: Mapping[str, Tensor]) -> Tensor:
    tensors = {name: as_tensor(values, name) for name, values in reps.items()}
    first = next(iter(tensors.values()))
    for values in tensors.values():
        same_samples(first, values)
    count = len(first)
    _check_count(count)
    grams = torch.empty(len(tensors), count, count, dtype=torch.float64, device=first.device)
    for gram, (name, values) in zip(grams, tensors.items(), strict=True):
        rows = centred_rows(values, name)
        gram.copy_(rows @ rows.T).fill_diagonal_(0)
    return grams


def _check_count(count: int) -> None:
    if count < FEWEST:
        raise ValueError(f"N = {count} samples: too few for CKA, give at least {FEWEST}")
