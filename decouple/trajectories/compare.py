"""Comparing recorded trainings, whatever trained them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from decouple import analysis
from decouple.analysis.cka import FEWEST as FEWEST_OF_CKA
from decouple.analysis.rows import centred_rows
from decouple.errors import ConfigError, DataError, NetworkError, did_you_mean, expect
from decouple.loggers import LoggerLike, Loggers
from decouple.progress import Advance
from decouple.seeds import generator
from decouple.tensors import as_tensor, whole_number
from decouple.trajectories import pairs as of_pairs
from decouple.trajectories.curves import ByLayer, curve_of, joint_map
from decouple.trajectories.recording import Recording, check_same_samples
from decouple.trajectories.results import FORMAT, EnsembleScore, Network, TrajectoryComparison

DRAWS = 400
"""Half-samples behind an interval."""

FEWEST = 2 * FEWEST_OF_CKA - 1
"""Samples of which half are enough for CKA."""

UNEVEN = 1e4
"""How many times further a sample lies from the others than they from each other, so that a Gram matrix may hide them."""


def compare_recordings(
    recordings: Sequence[Recording],
    *,
    targets: Mapping[str, ByLayer] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    logger: LoggerLike = None,
) -> TrajectoryComparison:
    """Compare trainings that were recorded on the same samples.

    A training that learned a solution (`Recording.solution`) is measured against the targets of that solution, any other training
    against those of all solutions. Time grows with (records · samples)², memory with records · samples², where records are the
    recorded steps of all trainings: a few hundred samples, a few dozen trainings.

    Args:
        recordings: of at least 7 samples, with different names. Layers that some of them lack are left out.
        targets: by solution and layer, (N, …): what was searched for the recorded samples.
        draws: half-samples behind each interval.
        seed: draws them.
        logger: a `decouple.Progress` shows a bar.

    Raises:
        ConfigError: objects that are no recordings, or a number of draws that is not whole.
        DataError: different samples, or in a different order; no layer in common; targets that do not fit; activations that
            cannot be compared, such as those of a network that has collapsed.
    """
    layers = check_comparable(recordings)
    draws = whole_number(draws, "draws", least=1)
    for name, target in (targets or {}).items():
        expect(target, Mapping, f"targets of the solution '{name}'", "by layer: {layer: tensor}")  # type: ignore[type-abstract]
    solutions: dict[str, ByLayer] = {
        name: {layer: as_tensor(values, f"targets of '{layer}'").cpu() for layer, values in target.items()}
        for name, target in (targets or {}).items()
    }
    _check_solutions(recordings, solutions)
    try:
        with Loggers(logger).task("compare", len(recordings), "trajectories") as advance:
            return _compare(recordings, layers, solutions, draws, seed, advance)
    except (ConfigError, DataError, NetworkError):
        raise
    except (ValueError, ArithmeticError) as error:
        raise DataError(f"the trajectories cannot be compared ({error}): {_cause(recordings, layers)}") from error


def check_comparable(recordings: Sequence[Recording]) -> list[str]:
    """The layers that all recordings have; their activations are not looked at. Raises ConfigError, DataError: see
    `compare_recordings`."""
    check_same_samples(recordings)
    first = recordings[0]
    layers = [layer for layer in first.layers if all(layer in other.layers for other in recordings)]
    if not layers:
        raise DataError(
            "the recordings share no layer: "
            + "; ".join(f"'{each.name}' has {', '.join(each.layers)}" for each in recordings)
            + ". Give layers that are to be compared the same names in each Recorder, or by Recording.renamed"
        )
    if len(first.ids) < FEWEST:
        raise DataError(
            f"there are {len(first.ids)} recorded samples: expected at least {FEWEST}, half of which can be compared"
        )
    return layers


def _cause(recordings: Sequence[Recording], layers: Sequence[str]) -> str:
    """Why measures refuse the activations: rounding has hidden how samples differ, or the training has collapsed."""
    for recording in recordings:
        for layer, values in recording.last().items():
            rows = values.flatten(1).double()
            apart = (rows - rows.median(0).values).abs().amax(1)
            if layer in layers and 0 < UNEVEN * float(apart.median()) < float(apart.max()):
                return (
                    f"in layer '{layer}' of '{recording.name}' a sample is apart from the others by up to {float(apart.max()):.1e}, "
                    "beside which their own differences are lost in rounding; leave out the layer or the sample"
                )
    return "has a network collapsed? Try a lower learning rate"


def _compare(
    recordings: Sequence[Recording],
    layers: list[str],
    solutions: dict[str, ByLayer],
    draws: int,
    seed: int,
    advance: Advance,
) -> TrajectoryComparison:
    first = recordings[0]
    logits = first.logits if first.logits in layers and all(r.logits == first.logits for r in recordings) else None
    headline = [layer for layer in layers if layer != logits][-1] if len(layers) > 1 else layers[0]
    trajectories, finals = {}, []
    for recording, position in zip(recordings, joint_map(recordings, headline), strict=True):
        own = [solutions[recording.solution]] if solutions and recording.solution is not None else list(solutions.values())
        trajectories[recording.name] = curve_of(recording, own, position)
        finals.append({layer: values for layer, values in recording.last().items() if layer in layers})
        advance(1)
    halves = analysis.half_samples(len(first.ids), draws, generator(seed, "half-samples"))
    distances = of_pairs.distances_of(finals, layers, logits, halves)
    families = of_pairs.families_of(recordings)
    return TrajectoryComparison(
        format=FORMAT,
        samples=len(first.ids),
        digest=first.samples,
        layers=layers,
        logits=logits,
        headline=headline,
        draws=draws,
        networks={r.name: _network(r, final, logits) for r, final in zip(recordings, finals, strict=True)},
        trajectories=trajectories,
        pairs=of_pairs.pairs_of(recordings, distances),
        families={name: of_pairs.family(pairs, distances) for name, pairs in families.items()},
        differences=of_pairs.differences_of(families, distances),
        correlations=of_pairs.correlations_of(recordings, families, distances, solutions, halves) if solutions else [],
        ensembles=_ensembles(recordings, finals, logits),
    )


def _check_solutions(recordings: Sequence[Recording], solutions: Mapping[str, ByLayer]) -> None:
    known = {layer for recording in recordings for layer in recording.layers}
    for name, targets in solutions.items():
        for layer in targets:
            if layer not in known:
                raise DataError(
                    f"the targets of the solution '{name}' have a layer '{layer}', which no recording has"
                    f"{did_you_mean(layer, known)}"
                )
    for recording in recordings:
        if solutions and recording.solution is not None and recording.solution not in solutions:
            raise DataError(
                f"'{recording.name}' learned the solution '{recording.solution}', whose targets are not given (there are "
                f"{', '.join(solutions)}); give the targets of every solution, or none"
            )


def _network(recording: Recording, final: Mapping[str, Tensor], logits: str | None) -> Network:
    accuracy = None
    if logits is not None and recording.labels is not None:
        accuracy = float((final[logits].argmax(1) == recording.labels).double().mean())
    return Network(
        kind=recording.kind,
        solution=recording.solution,
        start=recording.start,
        architecture=recording.architecture,
        steps=list(recording.steps),
        accuracy=accuracy,
        effective_rank={
            layer: float(analysis.effective_rank(centred_rows(values, f"'{recording.name}', layer '{layer}'")))
            for layer, values in final.items()
        },
    )


def _ensembles(recordings: Sequence[Recording], finals: Sequence[ByLayer], logits: str | None) -> dict[str, EnsembleScore]:
    """By kind of training with at least two networks."""
    labels, found = recordings[0].labels, {}
    if logits is None or labels is None:
        return {}
    for kind in dict.fromkeys(recording.kind for recording in recordings):
        members = [final[logits] for recording, final in zip(recordings, finals, strict=True) if recording.kind == kind]
        if len(members) > 1:
            _check_scores(members, labels, f"the class scores '{logits}' of networks of kind '{kind}'")
            split = analysis.ambiguity_decomposition(torch.stack(members).double().softmax(2), labels)
            values = {name: float(value) for name, value in split._asdict().items()}
            found[kind] = EnsembleScore(networks=len(members), **values)
    return found


def _check_scores(members: Sequence[Tensor], labels: Tensor, what: str) -> None:
    shapes = sorted({tuple(scores.shape[1:]) for scores in members})
    if len(shapes) > 1 or len(shapes[0]) != 1:
        raise DataError(
            f"{what} have shapes (N, {'), (N, '.join(', '.join(map(str, s)) for s in shapes)}): expected (N, classes)"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= shapes[0][0]:
        raise DataError(f"{what} are of {shapes[0][0]} classes, but the labels go from {low} to {high}: they count from 0")
