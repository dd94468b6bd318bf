"""The compare stage: trajectories of the searched and the SGD-trained networks, beside freshly searched targets.

The yardstick are validation images that are searched too, and that no network is trained on.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import msgspec
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from decouple import analysis
from decouple.data.images import Split
from decouple.device import search_dtype
from decouple.errors import DataError
from decouple.files import load_tensors, save_record, try_record
from decouple.learn.fitting import recorded_epochs
from decouple.pipeline.context import Run
from decouple.pipeline.learning import Trained
from decouple.pipeline.searching import search_identity
from decouple.results import Comparison, TrajectoryCurve, to_json
from decouple.search import search_solution
from decouple.settings import fingerprint

LARGEST_ENTROPY = 50.0
"""Nats. Classes that are exactly orthogonal have an infinite entropy between them, which JSON does not hold."""


@dataclass(frozen=True)
class Compared:
    comparison: Comparison
    trajectories: dict[str, TrajectoryCurve]


def compare(run: Run, networks: list[Trained]) -> Compared:
    """Compare the recorded trajectories; what was compared with the same settings is read back."""
    identity = fingerprint(search_identity(run), run.config.compare, [(t.name, t.identity) for t in networks])
    path, unit = run.folder("compare", identity) / "comparison.json", f"compare/{identity}"
    with run.timed("compare", identity):
        record = try_record(path, unit=unit)
        if record is not None:
            return Compared(
                msgspec.convert(record["comparison"], Comparison),
                msgspec.convert(record["trajectories"], dict[str, TrajectoryCurve]),
            )
        try:
            found = _compare(run, networks)
        except ValueError as error:
            raise DataError(
                f"the trajectories cannot be compared ({error}): has a network collapsed? Try a lower learn.lr or sgd.lr"
            ) from error
        trajectories = {name: to_json(curve) for name, curve in found.trajectories.items()}
        save_record(path, {"comparison": to_json(found.comparison), "trajectories": trajectories}, unit=unit)
    return found


def _compare(run: Run, networks: list[Trained]) -> Compared:
    names = list(run.network_to_search.names)
    probe = run.data.validation.subset(torch.arange(run.config.compare.images))
    targets = _probe_targets(run, probe)
    records = {trained.name: _records(run, trained) for trained in networks}
    positions = _positions({name: [values[-2] for _, values in found] for name, found in records.items()})
    distances: dict[str, dict[str, float]] = {}
    trajectories = {}
    for trained in networks:
        found = records[trained.name]
        # A searched network is compared with its own solution's targets, a baseline with those of every solution.
        own = targets if trained.solution is None else [targets[trained.solution]]
        curve = TrajectoryCurve(
            epochs=[epoch for epoch, _ in found],
            cosine_distance={
                name: [
                    float(torch.stack([analysis.cosine_distance(values[i], t[i]).mean() for t in own]).mean())
                    for _, values in found
                ]
                for i, name in enumerate(names)
            },
            within_entropy={},
            between_entropy={},
            position=positions[trained.name],
        )
        for i, name in enumerate(names):
            entropies = [analysis.class_entropy(values[i], probe.labels) for _, values in found]
            curve.within_entropy[name] = [float(within) for within, _ in entropies]
            curve.between_entropy[name] = [min(float(between), LARGEST_ENTROPY) for _, between in entropies]
        trajectories[trained.name] = curve
        distances[trained.name] = {name: curve.cosine_distance[name][-1] for name in names}
    finals = {name: found[-1][1] for name, found in records.items()}
    cka: dict[str, dict[str, float]] = {name: {} for name in finals}
    disagreement: dict[str, dict[str, float]] = {name: {} for name in finals}
    for one, other in combinations(finals, 2):
        similarity = float(analysis.linear_cka(finals[one][-2], finals[other][-2]))
        differing = float(analysis.disagreement(finals[one][-1].argmax(1), finals[other][-1].argmax(1)))
        cka[one][other] = cka[other][one] = similarity
        disagreement[one][other] = disagreement[other][one] = differing
    return Compared(
        Comparison(images=len(probe), cosine_distance=distances, cka=cka, disagreement=disagreement), trajectories
    )


def _probe_targets(run: Run, probe: Split) -> list[list[Tensor]]:
    """By solution and search point: targets of the probe images."""
    config = run.config.search
    identity = fingerprint(search_identity(run), len(probe))
    targets = []
    with run.progress.task("compare, search of the probe", config.solutions, "solutions") as advance:
        for solution in range(config.solutions):
            store = search_solution(
                run.network_to_search,
                probe,
                run.folder("compare", identity),
                config=config,
                seed=run.config.seed,
                solution=solution,
                dtype=search_dtype(run.config.precision),
                identity=identity,
            )
            targets.append([rows.float() for rows in store.rows(torch.arange(len(probe)))])
            advance(1)
    return targets


def _records(run: Run, trained: Trained) -> list[tuple[int, list[Tensor]]]:
    """By recorded epoch: the activations at every search point."""
    found = []
    for epoch in recorded_epochs(trained.settings.epochs, run.config.compare.records):
        tensors = load_tensors(trained.record_path(epoch), unit=f"{trained.unit}/record-{epoch}")[0]
        found.append((epoch, [tensors[f"point.{i}"].float() for i in range(len(tensors) - 1)]))
    return found


def _positions(values: dict[str, list[Tensor]]) -> dict[str, list[list[float]]]:
    """A joint two-dimensional map of all records: principal components of their normalised, centred Gram matrices.

    The squared distance between two such matrices is 2 − 2·CKA, so this is classical scaling of a CKA distance, which
    does not depend on the basis that a network happens to use.
    """
    grams = []
    for records in values.values():
        for record in records:
            flat = record.flatten(1).double()
            flat = flat - flat.mean(0)
            gram = flat @ flat.T
            grams.append((gram / gram.norm().clamp_min(1e-12)).flatten())
    places = PCA(2, svd_solver="full").fit_transform(torch.stack(grams).numpy())
    places = iter(places.round(6).tolist())
    return {name: [next(places) for _ in records] for name, records in values.items()}
