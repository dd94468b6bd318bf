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

SHOWN = 5
"""Layers that a note names."""

ByLayer = Mapping[str, Tensor]
"""Activations of the recorded samples, or targets that were searched for them: by layer, (N, …)."""


def curve_of(recording: Recording, targets: Sequence[ByLayer], position: list[list[float]]) -> TrajectoryCurve:
    """Cosine distance to the targets, mean over samples and over solutions, and entropies within and between classes, by step.

    Samples without a direction, whose activations or targets at a layer are all 0, are left out of that layer's means.

    Args:
        targets: of each solution to measure against; none: no distances.
        position: of each step, from `joint_map`.

    Raises:
        DataError: targets that do not fit the recorded activations, or too few samples with a direction in two classes.
        ValueError, NotFiniteError: fewer than two samples with a direction; see `decouple.analysis`."""
    layers = [layer for layer in recording.layers if targets and all(layer in solution for solution in targets)]
    curve = TrajectoryCurve(
        epochs=list(recording.steps),
        cosine_distance={layer: [] for layer in layers},
        within_entropy={} if recording.labels is None else {layer: [] for layer in recording.layers},
        between_entropy={} if recording.labels is None else {layer: [] for layer in recording.layers},
        position=position,
        left_out={},
    )
    for step in recording.steps:
        values = recording.at(step)
        for layer in layers:
            _check_shapes(recording, layer, values, targets)
            with naming(recording, step, layer):
                distances = [_distance(curve, layer, values[layer], target[layer]) for target in targets]
                curve.cosine_distance[layer].append(mean(distances))
        if recording.labels is not None:
            for layer in recording.layers:
                with naming(recording, step, layer):
                    kept = _with_direction(curve, layer, values[layer])
                    within, between = analysis.class_entropy(values[layer][kept], recording.labels[kept])
                curve.within_entropy[layer].append(float(within))
                curve.between_entropy[layer].append(min(float(between), LARGEST_ENTROPY))
    return curve


def _check_shapes(recording: Recording, layer: str, found: ByLayer, targets: Sequence[ByLayer]) -> None:
    for searched in targets:
        if found[layer].shape != searched[layer].shape:
            raise DataError(
                f"the targets of layer '{layer}' have shape {tuple(searched[layer].shape)}, the activations of '{recording.name}' "
                f"{tuple(found[layer].shape)}: expected the same; give the targets of the recorded samples"
            )


def _distance(curve: TrajectoryCurve, layer: str, values: Tensor, target: Tensor) -> float:
    kept = _with_direction(curve, layer, values, target)
    return float(analysis.cosine_distance(values[kept], target[kept]).mean())


def has_direction(values: Tensor) -> Tensor:
    """Which samples of (N, …) have a direction: (N,), False where all activations are 0 and a cosine is undefined."""
    return (values != 0).flatten(1).any(1)


def check_directions(kept: Tensor) -> None:
    """Raises ValueError if fewer than two samples have a direction."""
    if int(kept.sum()) < 2:
        raise ValueError(f"{int((~kept).sum())} of {len(kept)} samples are all zeros: their cosines are undefined")


def _with_direction(curve: TrajectoryCurve, layer: str, *values: Tensor) -> Tensor:
    """Samples that have a direction in all of `values`; how many have none is noted in the curve."""
    kept = torch.stack([has_direction(each) for each in values]).all(0)
    check_directions(kept)
    if missing := int((~kept).sum()):
        curve.left_out[layer] = max(missing, curve.left_out.get(layer, 0))
    return kept


def note_left_out(trajectories: Mapping[str, TrajectoryCurve], samples: int) -> str:
    """A sentence that says how many samples the measures of some trajectories leave out; empty: none."""
    found = [
        f"{count} of {samples} at '{layer}' of {name}"
        for name, curve in trajectories.items()
        for layer, count in curve.left_out.items()
    ]
    if not found:
        return ""
    shown = ", ".join(found[:SHOWN]) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
    return f"Samples whose activations or targets are all 0 are left out of cosine distances and entropies: up to {shown}."


@contextmanager
def naming(recording: Recording, step: int, layer: str) -> Iterator[None]:
    """Adds the recording, the step and the layer to the message of a measure that refuses values inside."""
    try:
        yield
    except DataError as error:
        raise DataError(f"'{recording.name}', step {step}, layer '{layer}': {error}") from error
    except (ValueError, ArithmeticError) as error:
        raise ValueError(f"'{recording.name}', step {step}, layer '{layer}': {error}") from error


def joint_map(recordings: Sequence[Recording], layer: str) -> list[list[list[float]]]:
    """A joint two-dimensional map of all steps of all recordings, by recording and step: [x, y].

    Classical scaling of the distances √(2 − 2·CKA), by scikit-learn: CKA is the inner product of centred Gram matrices of
    unit norm, so these are their principal components. It does not depend on the basis that a network happens to use. The Gram
    matrices take 4 · records · samples² bytes, and their products (records · samples)² operations.

    Raises ValueError: activations that are the same for every sample; names the recording."""
    records = [(recording, step) for recording in recordings for step in recording.steps]
    flat = torch.empty(len(records), len(recordings[0].ids) ** 2, dtype=torch.float32, device="cpu")
    for place, (recording, step) in enumerate(records):
        rows = centred_rows(recording.at(step)[layer], f"'{recording.name}', step {step}, layer '{layer}'")
        gram = (rows @ rows.T).flatten()
        flat[place] = gram / gram.norm()
    kernel = (flat @ flat.T).double().numpy()
    if len(kernel) < 3:  # one or two points lie on a line
        places = iter([[0.0, 0.0], [max(0.0, 2 - 2 * float(kernel[0, -1])) ** 0.5, 0.0]])  # rounding: CKA may be above 1
    else:
        found = KernelPCA(2, kernel="precomputed", eigen_solver="dense").fit_transform(kernel)
        places = iter([[*row, 0.0][:2] for row in found.round(6).tolist()])
    return [[next(places) for _ in recording.steps] for recording in recordings]
