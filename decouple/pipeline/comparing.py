"""The compare stage: trajectories of the searched and the SGD-trained networks, beside freshly searched targets.

The yardstick are validation images that are searched too, and that no network is trained on.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import msgspec
import torch
from torch import Tensor

from decouple import analysis
from decouple.data.images import Split
from decouple.device import search_dtype
from decouple.errors import DataError
from decouple.files import save_record, try_record
from decouple.pipeline.context import Run
from decouple.pipeline.learning import Trained, probe_of
from decouple.pipeline.searching import refuse_unnamed_code, search_identity
from decouple.results import Comparison, TrajectoryCurve, to_json
from decouple.search import search_solution
from decouple.settings import fingerprint
from decouple.trajectories import check_same_samples
from decouple.trajectories.curves import curve_of, joint_map


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
    probe = probe_of(run)
    targets = probe_targets(run, probe)
    records = {trained.name: trained.recording() for trained in networks}
    check_same_samples(list(records.values()))
    body = run.network_to_search.names[-2]
    positions = joint_map(list(records.values()), body)
    trajectories = {}
    for trained, position in zip(networks, positions, strict=True):
        # A searched network is compared with its own solution's targets, a baseline with those of every solution.
        own = list(targets.values()) if trained.solution is None else [targets[f"search-{trained.solution}"]]
        trajectories[trained.name] = curve_of(records[trained.name], own, position)
    finals = {name: found.last() for name, found in records.items()}
    logits = run.network_to_search.names[-1]
    cka: dict[str, dict[str, float]] = {name: {} for name in finals}
    disagreement: dict[str, dict[str, float]] = {name: {} for name in finals}
    for one, other in combinations(finals, 2):
        similarity = float(analysis.linear_cka(finals[one][body], finals[other][body]))
        differing = float(analysis.disagreement(finals[one][logits].argmax(1), finals[other][logits].argmax(1)))
        cka[one][other] = cka[other][one] = similarity
        disagreement[one][other] = disagreement[other][one] = differing
    distances = {
        name: {layer: values[-1] for layer, values in curve.cosine_distance.items()} for name, curve in trajectories.items()
    }
    return Compared(
        Comparison(images=len(probe), cosine_distance=distances, cka=cka, disagreement=disagreement), trajectories
    )


def probe_targets(run: Run, probe: Split) -> dict[str, dict[str, Tensor]]:
    """By network that learns them and by search point that is evolved: targets of the probe images, searched if they are not there."""
    config = run.config.search
    identity = fingerprint(search_identity(run), len(probe))
    folder, solutions = run.folder("compare", identity), range(config.solutions)
    refuse_unnamed_code(run, probe, folder, solutions, identity)
    targets = {}
    with run.progress.task("compare, search of the probe", config.solutions, "solutions") as advance:
        for solution in solutions:
            store = search_solution(
                run.network_to_search,
                probe,
                folder,
                config=config,
                seed=run.config.seed,
                solution=solution,
                dtype=search_dtype(run.config.precision),
                identity=identity,
            )
            rows = store.rows(torch.arange(len(probe)))
            points = list(zip(run.network_to_search.names, rows, strict=True))[store.first_searched :]
            targets[f"search-{solution}"] = {name: values.float() for name, values in points}
            advance(1)
    return targets
