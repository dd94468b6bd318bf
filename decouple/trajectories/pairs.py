"""Pairs of networks at the end of their training: what the two share, and how far apart they are, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from scipy.stats import rankdata
from torch import Tensor

from decouple import analysis
from decouple.results import Interval
from decouple.trajectories.curves import ByLayer, check_directions, has_direction
from decouple.trajectories.recording import Recording
from decouple.trajectories.results import Correlation, Difference, Family, Pair

SAME_SOLUTION = "same solution, other starts"
OTHER_SOLUTIONS = "other solutions, other starts"
SAME_START = "other solutions, same start"
FEWEST_POINTS = 4
"""Pairs that a rank correlation needs to mean anything."""


def family_of(one: Recording, other: Recording) -> str:
    """What two trainings share, of the same architecture:

    - "other solutions, other starts", "other solutions, same start" or "same solution, …": both learned searched solutions (a start
      is the initialisation and the batches);
    - "KIND, other starts" or "KIND, same start": of one kind, such as sgd, and not both did;
    - "KIND and KIND": of two kinds. Where the architectures differ, the name says so.
    """
    if one.kind == other.kind and one.solution is not None and other.solution is not None:
        solutions = "same solution" if one.solution == other.solution else "other solutions"
        name = f"{solutions}, {'same start' if one.start == other.start else 'other starts'}"
    elif one.kind == other.kind:
        name = f"{one.kind or 'networks'}, {'same start' if one.start == other.start else 'other starts'}"
    else:
        name = " and ".join(sorted([one.kind or "others", other.kind or "others"], reverse=True))
    return name if one.architecture == other.architecture else f"{name}, other architectures"


@dataclass(frozen=True)
class Distances:
    """Distances of M networks, from all samples (first) and from each half-sample: (1 + draws, M, M)."""

    representations: Mapping[str, Tensor]
    """By layer: 1 − CKA."""
    predictions: Tensor | None
    """Disagreement."""
    classes: Tensor | None
    """(M, N) what the networks predict."""


def distances_of(
    finals: Sequence[ByLayer], layers: Sequence[str], logits: str | None, halves: Sequence[Tensor] | Tensor = ()
) -> Distances:
    """Distances of networks from their activations, at some layers; `halves` from `analysis.half_samples`."""
    representations = {layer: _cka_distances([final[layer] for final in finals], halves) for layer in layers}
    if logits is None:
        return Distances(representations, None, None)
    classes = torch.stack([final[logits].argmax(1) for final in finals])
    return Distances(representations, _means((classes[:, None] != classes).double(), halves), classes)


def _cka_distances(values: Sequence[Tensor], halves: Sequence[Tensor] | Tensor) -> Tensor:
    grams = analysis.centred_grams(values)
    return 1 - torch.stack([analysis.cka_matrix(grams), *(analysis.cka_matrix(grams, half) for half in halves)])


def _means(each: Tensor, halves: Sequence[Tensor] | Tensor) -> Tensor:
    """(M, M, N) → (1 + draws, M, M): means over all samples, and over each half of them."""
    return torch.stack([each.mean(2), *(each[:, :, half].mean(2) for half in halves)])


def pairs_of(recordings: Sequence[Recording], distances: Distances) -> list[Pair]:
    """Every pair of networks, measured on all samples."""
    classes, labels, found = distances.classes, recordings[0].labels, []
    for i, j in combinations(range(len(recordings)), 2):
        overlap = None
        if classes is not None and labels is not None:
            overlap = float(analysis.error_overlap(classes[i], classes[j], labels))
        found.append(
            Pair(
                one=recordings[i].name,
                other=recordings[j].name,
                family=family_of(recordings[i], recordings[j]),
                cka={layer: float(1 - values[0, i, j]) for layer, values in distances.representations.items()},
                disagreement=None if distances.predictions is None else float(distances.predictions[0, i, j]),
                error_overlap=overlap,
            )
        )
    return found


def families_of(recordings: Sequence[Recording]) -> dict[str, list[tuple[int, int]]]:
    """Positions of the pairs of each family, in order of appearance."""
    found: dict[str, list[tuple[int, int]]] = {}
    for i, j in combinations(range(len(recordings)), 2):
        found.setdefault(family_of(recordings[i], recordings[j]), []).append((i, j))
    return found


def family(pairs: Sequence[tuple[int, int]], distances: Distances) -> Family:
    """Mean distances of some pairs."""
    distance, disagreement = _intervals(distances, pairs)
    return Family(pairs=len(pairs), distance=distance, disagreement=disagreement)


def differences_of(families: Mapping[str, Sequence[tuple[int, int]]], distances: Distances) -> list[Difference]:
    """How much more different solutions separate networks than different starts do: of SGD (or another kind), and of one solution."""
    found = []
    for other, pairs in families.items():
        if OTHER_SOLUTIONS in families and other.endswith(", other starts") and other != OTHER_SOLUTIONS:
            distance, disagreement = _intervals(distances, families[OTHER_SOLUTIONS], pairs)
            found.append(Difference(one=OTHER_SOLUTIONS, other=other, distance=distance, disagreement=disagreement))
    return found


def _intervals(
    distances: Distances, pairs: Sequence[tuple[int, int]], others: Sequence[tuple[int, int]] = ()
) -> tuple[dict[str, Interval], Interval | None]:
    """Mean distance of `pairs`, less that of `others`: of the representations by layer, and of the predictions."""

    def mean(values: Tensor) -> Interval:
        own = _pick(values, pairs).mean(1)
        return _interval(own - _pick(values, others).mean(1) if others else own)

    of_layers = {layer: mean(values) for layer, values in distances.representations.items()}
    return of_layers, None if distances.predictions is None else mean(distances.predictions)


def correlations_of(
    recordings: Sequence[Recording],
    families: Mapping[str, Sequence[tuple[int, int]]],
    distances: Distances,
    targets: Mapping[str, ByLayer],
    halves: Tensor,
) -> list[Correlation]:
    """Whether solutions that lie further apart give networks that do too: see `Correlation`."""
    found = []
    names = list(targets)
    for name in (SAME_START, OTHER_SOLUTIONS):
        pairs = families.get(name, [])
        if len(pairs) < FEWEST_POINTS:
            continue
        at = [(names.index(str(recordings[i].solution)), names.index(str(recordings[j].solution))) for i, j in pairs]
        for layer, own in distances.representations.items():
            if not all(layer in targets[solution] for solution in names):
                continue
            values = [targets[solution][layer] for solution in names]
            apart = {"cka": _cka_distances(values, halves)}
            if len({tuple(value.shape) for value in values}) == 1:
                apart["cosine"] = _cosine_distances(values, halves)
            between = _pick(own, pairs)
            differ = None if distances.predictions is None else _pick(distances.predictions, pairs)
            for measure, all_targets in sorted(apart.items()):
                searched = _pick(all_targets, at)
                points = zip(
                    searched[0].tolist(),
                    between[0].tolist(),
                    [None] * len(pairs) if differ is None else differ[0].tolist(),
                    strict=True,
                )
                found.append(
                    Correlation(
                        family=name,
                        pairs=len(pairs),
                        layer=layer,
                        targets=measure,
                        representations=_correlated(searched, between),
                        predictions=None if differ is None else _correlated(searched, differ),
                        points=list(points),
                    )
                )
    return found


def _cosine_distances(values: Sequence[Tensor], halves: Tensor) -> Tensor:
    """(1 + draws, S, S): mean over the samples of the cosine distance of two solutions' targets, without samples that are all 0."""
    count = len(values)
    kept = torch.stack([has_direction(each) for each in values]).all(0)
    check_directions(kept)
    each = torch.zeros(count, count, len(values[0]), dtype=torch.float64, device=values[0].device)
    for i, j in combinations(range(count), 2):
        each[i, j, kept] = each[j, i, kept] = analysis.cosine_distance(values[i][kept], values[j][kept]).double()
    share = _means(kept.double()[None, None], halves)
    return _means(each, halves) / share  # a half without any sample left has no mean: NaN


def _pick(values: Tensor, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """(1 + draws, pairs)."""
    one, other = torch.tensor(pairs, device=values.device).T
    return values[:, one, other]


def _interval(values: Tensor) -> Interval:
    """A figure (1 + draws,), of all samples first, with its interval."""
    return analysis.interval(float(values[0]), values[1:])


def _correlated(a: Tensor, b: Tensor) -> Interval | None:
    """Spearman's correlation along the pairs; None where a side does not vary."""
    ranks = [torch.from_numpy(rankdata(side.numpy(), axis=1)) for side in (a, b)]
    centred = [rank - rank.mean(1, keepdim=True) for rank in ranks]
    norms = [side.norm(dim=1) for side in centred]
    vary = (norms[0] > 0) & (norms[1] > 0)
    if not bool(vary[0]) or int(vary.sum()) < 2:
        return None
    rho = ((centred[0] * centred[1]).sum(1) / (norms[0] * norms[1]))[vary]
    found = _interval(rho)
    return Interval(value=found.value, low=max(found.low, -1.0), high=min(found.high, 1.0))
