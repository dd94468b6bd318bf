"""A trajectory as curves, and all of them on one map."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import mean

import torch
from sklearn.decomposition import KernelPCA
from torch import Tensor

from decouple import analysis
from decouple.analysis.rows import centred_rows
from decouple.errors import DataError
from decouple.results import TrajectoryCurve
from decouple.trajectories.recording import Recording

LARGEST_ENTROPY = 50.0
"""Nats. Classes that are exactly orthogonal have an infinite entropy between them, which JSON does not hold."""

ByLayer = Mapping[str, Tensor]
"""Activations of the recorded samples, or targets that were searched for them: by layer, (N, …)."""


def curve_of(recording: Recording, targets: Sequence[ByLayer], position: list[list[float]]) -> TrajectoryCurve:
    """Cosine distance to the targets, mean over samples and over solutions, and entropies within and between classes, by step.

    Args:
        targets: of each solution to measure against; none: no distances.
        position: of each step, from `joint_map`.

    Raises:
        DataError: targets that do not fit the recorded activations.
        ValueError, NotFiniteError: activations that have no direction; see `decouple.analysis`."""
    layers = [layer for layer in recording.layers if targets and all(layer in solution for solution in targets)]
    curve = TrajectoryCurve(
        epochs=list(recording.steps),
        cosine_distance={layer: [] for layer in layers},
        within_entropy={} if recording.labels is None else {layer: [] for layer in recording.layers},
        between_entropy={} if recording.labels is None else {layer: [] for layer in recording.layers},
        position=position,
    )
    for step in recording.steps:
        values = recording.at(step)
        for layer in layers:
            curve.cosine_distance[layer].append(mean(_distance(recording, step, layer, values, t) for t in targets))
        if recording.labels is not None:
            for layer in recording.layers:
                with naming(recording, step, layer):
                    within, between = analysis.class_entropy(values[layer], recording.labels)
                curve.within_entropy[layer].append(float(within))
                curve.between_entropy[layer].append(min(float(between), LARGEST_ENTROPY))
    return curve


def _distance(recording: Recording, step: int, layer: str, found: ByLayer, searched: ByLayer) -> float:
    values, target = found[layer], searched[layer]
    if values.shape != target.shape:
        raise DataError(
            f"the targets of layer '{layer}' have shape {tuple(target.shape)}, the activations of '{recording.name}' "
            f"{tuple(values.shape)}: expected the same; give the targets of the recorded samples"
        )
    with naming(recording, step, layer):
        return float(analysis.cosine_distance(values, target).mean())


@contextmanager
def naming(recording: Recording, step: int, layer: str) -> Iterator[None]:
    """Adds the recording, the step and the layer to the message of a measure that refuses values inside."""
    try:
        yield
    except DataError:
        raise
    except (ValueError, ArithmeticError) as error:
        raise ValueError(f"'{recording.name}', step {step}, layer '{layer}': {error}") from error


def joint_map(recordings: Sequence[Recording], layer: str) -> list[list[list[float]]]:
    """A joint two-dimensional map of all steps of all recordings, by recording and step: [x, y].

    Classical scaling of the distances √(2 − 2·CKA), by scikit-learn: CKA is the inner product of centred Gram matrices of
    unit norm, so these are their principal components. It does not depend on the basis that a network happens to use.
    Raises ValueError: activations that are the same for every sample; names the recording."""
    grams = torch.stack([_gram(recording, step, layer) for recording in recordings for step in recording.steps])
    kernel = (grams @ grams.T).double().numpy()
    if len(kernel) < 3:  # one or two points lie on a line
        places = iter([[0.0, 0.0], [max(0.0, 2 - 2 * float(kernel[0, -1])) ** 0.5, 0.0]])  # rounding: CKA may be above 1
    else:
        found = KernelPCA(2, kernel="precomputed", eigen_solver="dense").fit_transform(kernel)
        places = iter([[*row, 0.0][:2] for row in found.round(6).tolist()])
    return [[next(places) for _ in recording.steps] for recording in recordings]


def _gram(recording: Recording, step: int, layer: str) -> Tensor:
    """(N·N,) float32 of unit norm."""
    rows = centred_rows(recording.at(step)[layer], f"'{recording.name}', step {step}, layer '{layer}'")
    gram = (rows @ rows.T).flatten()
    return (gram / gram.norm()).float()
