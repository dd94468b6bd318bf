"""Linear centred kernel alignment (CKA): as it is, without its bias, in mini-batches, and for many at once.

All of them come from HSIC, which asks of linear kernels for no more than ‖AᵀB‖²: a sum over Gram matrices of samples, or
over the matrix of the features, whichever is cheaper, taken block by block.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from decouple.analysis.rows import BLOCK, centred_rows, flat_rows, inverse_power, same_samples
from decouple.errors import NotFiniteError
from decouple.tensors import as_tensor
from decouple.torch_state import autocast_off

FEWEST = 4
"""Samples: without its bias, HSIC divides by N − 3."""


@autocast_off()
def linear_cka(a: Tensor, b: Tensor, *, block: int = BLOCK) -> Tensor:
    """Linear centred kernel alignment of (N, …) and (N, …): ‖AᵀB‖² / (‖AᵀA‖·‖BᵀB‖) of the centred rows.

    1 for representations that are equal up to rotation and scale. It may be taken from Gram matrices of samples or of
    features; the cheaper of the two is, in blocks, so that no whole N×N or D×D matrix is held. This is the biased
    estimate: with few samples and many features it is high for unrelated representations too; `unbiased_cka` is not.
    Source: Kornblith et al., "Similarity of neural network representations revisited" (2019), eq. 4.

    >>> a = torch.randn(10, 5, generator=torch.Generator().manual_seed(0))
    >>> round(float(linear_cka(a, -2 * a.flip(1) + 1)), 6)
    1.0

    Args:
        a: (N, …), N ≥ 4.
        b: (N, …), the same samples in the same order; its features may be others.
        block: rows, or features, of the Gram matrices that are held at a time.

    Returns:
        A scalar, 0 … 1; float64 unless the input is huge.

    Raises:
        ValueError: fewer than 4 samples, other sample counts, or activations that do not vary.
        NotFiniteError: NaN or infinity; names the row.
    """
    a, b = _centred(a, b)
    ab, aa, bb = _products(a, b, block)
    return (ab / (aa * bb).sqrt()).clamp(0, 1)


@autocast_off()
def unbiased_cka(a: Tensor, b: Tensor, *, block: int = BLOCK) -> Tensor:
    """CKA of (N, …) and (N, …) from the unbiased estimates of HSIC: near 0 for unrelated representations, whatever N and D.

    With centred rows A and B, K̃ = AAᵀ without its diagonal has K̃1 = −‖a_i‖², so that the estimate of Song et al. becomes

        n(n−3)·HSIC = ‖AᵀB‖² − n/(n−2) · Σ_i ‖a_i‖²‖b_i‖² + ‖A‖²‖B‖² / ((n−1)(n−2))

    and no Gram matrix is needed beyond what `linear_cka` sums over. Source: Song et al., "Feature selection via dependence
    maximization" (2012), eq. 5; Nguyen, Raghu and Kornblith, "Do wide and deep networks learn the same things?" (2021).

    >>> stream = torch.Generator().manual_seed(0)
    >>> a, b = torch.randn(50, 400, generator=stream), torch.randn(50, 400, generator=stream)
    >>> bool(linear_cka(a, b) > 0.85), abs(round(float(unbiased_cka(a, b)), 1))
    (True, 0.0)

    Args:
        a: (N, …), N ≥ 4.
        b: (N, …), the same samples in the same order; its features may be others.
        block: rows, or features, of the Gram matrices that are held at a time.

    Returns:
        A scalar up to 1, and somewhat below 0 where nothing is shared; float64 unless the input is huge.

    Raises:
        ValueError: as `linear_cka`, or samples that are all equally similar to one another: nothing is left to align.
        NotFiniteError: NaN or infinity; names the row.
    """
    return _aligned(_hsic(a, b, block), "the samples")


@autocast_off()
def minibatch_cka(batches: Iterable[tuple[Tensor, Tensor]], *, block: int = BLOCK) -> Tensor:
    """Unbiased CKA of representations that come batch by batch: HSIC is averaged over the batches, then aligned.

    Each batch's HSIC is without bias, so its average is too, and the result does not depend on the batch size but for noise.
    Batches count by n(n−3), the weight that Song's estimate has. Source: Nguyen, Raghu and Kornblith (2021), eq. 3 and 4.

    Args:
        batches: pairs (B, …) and (B, …) of the same samples, B ≥ 4; the batches may differ in size.
        block: as in `unbiased_cka`.

    Returns:
        A scalar; of a single batch that of `unbiased_cka`.

    Raises:
        ValueError: no batches, or as `unbiased_cka`.
        NotFiniteError: NaN or infinity, names the row in its batch; or batches whose magnitudes are too far apart.
    """
    total: Tensor | None = None
    powers: list[float] = []
    for pair in batches:
        a, b = (as_tensor(values, name) for values, name in zip(pair, "ab", strict=True))
        # One scale for all batches: brought to one norm, a batch would count by how little it varies.
        powers = powers or [_inverse(a, "a"), _inverse(b, "b")]
        found = _hsic(a, b, block, powers)
        total = found if total is None else total + found
    if total is None:
        raise ValueError("there are no batches: expected pairs (a, b) of representations of the same samples")
    return _aligned(total, "the batches")


@autocast_off()
def centred_grams(reps: Sequence[Tensor]) -> Tensor:
    """Gram matrices of representations of the same N samples, for `cka_matrix`: (M, N, N) float64.

    The rows are centred and scaled to Frobenius norm 1, and the diagonal is 0.

    Args:
        reps: M tensors (N, …) of any features.

    Raises:
        ValueError: none at all, fewer than 4 samples, other sample counts, or activations that do not vary.
        NotFiniteError: NaN or infinity; names the row.
    """
    if not len(reps):
        raise ValueError("there are no representations: expected at least one tensor (N, …)")
    grams = []
    reps = [as_tensor(values, f"representation {number}") for number, values in enumerate(reps)]
    for number, values in enumerate(reps):
        same_samples(reps[0], values)
        _enough(values)
        rows = centred_rows(values, f"representation {number}")
        gram = (rows @ rows.T).double()
        grams.append(gram - gram.diagonal().diag())
    return torch.stack(grams)


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
    if count < FEWEST:
        raise ValueError(f"N = {count} samples: too few for CKA, give at least {FEWEST}")
    flat, rows = grams.flatten(1), grams.sum(2)
    sums = rows.sum(1)
    hsic = flat @ flat.T - 2 / (count - 2) * rows @ rows.T + torch.outer(sums, sums) / ((count - 1) * (count - 2))
    own = hsic.diagonal()
    _refuse_nothing(own.min(), flat.square().sum(1).min(), "the samples")
    return (hsic / torch.outer(own, own).sqrt()).clamp(-1, 1)


def _enough(values: Tensor) -> None:
    if len(values) < FEWEST:
        raise ValueError(f"a and b hold N = {len(values)} samples: too few for CKA, give at least {FEWEST}")


def _centred(a: Tensor, b: Tensor, powers: Sequence[float | None] = (None, None)) -> tuple[Tensor, Tensor]:
    a, b = as_tensor(a, "a"), as_tensor(b, "b")
    same_samples(a, b)
    _enough(a)
    return centred_rows(a, "a", power=powers[0]), centred_rows(b, "b", power=powers[1])


def _inverse(values: Tensor, name: str) -> float:
    largest = flat_rows(values, name)[1].max()
    return inverse_power(float(largest), largest.dtype)


def _hsic(a: Tensor, b: Tensor, block: int, powers: Sequence[float | None] = (None, None)) -> Tensor:
    """(2, 3) float64: n(n−3)·HSIC without bias of ab, aa and bb; and ‖AᵀB‖² and so on, beside which rounding is small."""
    a, b = _centred(a, b, powers)
    count = len(a)
    products = torch.stack([value.double() for value in _products(a, b, block)])
    lengths_a, lengths_b = (rows.double().square().sum(1) for rows in (a, b))
    pairs = [(lengths_a, lengths_b), (lengths_a, lengths_a), (lengths_b, lengths_b)]
    own = torch.stack([one @ other for one, other in pairs])
    sums = torch.stack([one.sum() * other.sum() for one, other in pairs])
    return torch.stack([products - count / (count - 2) * own + sums / ((count - 1) * (count - 2)), products])


def _aligned(hsic: Tensor, what: str) -> Tensor:
    (ab, aa, bb), (_, whole_a, whole_b) = hsic
    _refuse_nothing(aa, whole_a, what)
    _refuse_nothing(bb, whole_b, what)
    if not bool(torch.isfinite(aa * bb)):
        raise NotFiniteError(
            "a batch holds numbers too large to be added to those of the first one; scale all batches alike"
        )
    return (ab / (aa * bb).sqrt()).clamp(-1, 1)


def _refuse_nothing(own: Tensor, whole: Tensor, what: str) -> None:
    if float(own) <= 1e-12 * float(whole):
        raise ValueError(
            f"{what} are all equally similar to one another: nothing is left to align; give other or more samples"
        )


def _products(a: Tensor, b: Tensor, block: int) -> tuple[Tensor, Tensor, Tensor]:
    """‖AᵀB‖², ‖AᵀA‖², ‖BᵀB‖² of (N, D) and (N, E), the cheaper way."""
    (count, width_a), width_b = a.shape, b.shape[1]
    # Products that each way needs, over N; Gram matrices of samples are symmetric.
    if count * (width_a + width_b) / 2 < width_a**2 + width_a * width_b + width_b**2:
        return _by_samples(a, b, block)
    return _by_features(a, b, block), _by_features(a, a, block), _by_features(b, b, block)


def _by_samples(a: Tensor, b: Tensor, block: int) -> tuple[Tensor, Tensor, Tensor]:
    """As sums over N×N Gram matrices: ‖AᵀB‖² = Σ_ij (AAᵀ)_ij (BBᵀ)_ij."""
    sums = a.new_zeros(3)
    for i in range(0, len(a), block):
        for j in range(i, len(a), block):
            gram_a, gram_b = (rows[i : i + block] @ rows[j : j + block].T for rows in (a, b))
            part = torch.stack([(gram_a * gram_b).sum(), gram_a.square().sum(), gram_b.square().sum()])
            sums += part if i == j else 2 * part  # the matrices are symmetric
    ab, aa, bb = sums
    return ab, aa, bb


def _by_features(a: Tensor, b: Tensor, block: int) -> Tensor:
    """‖AᵀB‖² as a sum over the D×D matrix."""
    total = a.new_zeros(())
    for columns in a.split(block, dim=1):
        for others in b.split(block, dim=1):
            total += (columns.T @ others).square().sum()
    return total
