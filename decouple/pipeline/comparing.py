"""The compare stage: the trajectories of the searched and the SGD-trained networks, and freshly searched targets.

Trajectories are measured on validation images, which are searched too and on which no network is trained.
"""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor

from decouple.data.images import Split
from decouple.device import search_dtype
from decouple.errors import DataError, DecoupleError
from decouple.files import save_record, try_record
from decouple.pipeline.context import Run
from decouple.pipeline.learning import Trained, probe_of
from decouple.pipeline.searching import refuse_unnamed_code, search_identity
from decouple.results import Comparison, Record, TrajectoryCurve, to_json
from decouple.search import search_solution
from decouple.settings import fingerprint
from decouple.trajectories import check_same_samples
from decouple.trajectories.curves import curve_of, joint_map, note_left_out
from decouple.trajectories.pairs import distances_of, pairs_of


class Compared(Record):
    comparison: Comparison
    trajectories: dict[str, TrajectoryCurve]


def compare(run: Run, networks: list[Trained]) -> Compared:
    """Compare the recorded trajectories; a comparison that was made with the same settings is read back."""
    # The last part keeps records of earlier versions, which held the biased CKA, from being read.
    known = [(trained.name, trained.identity) for trained in networks]
    identity = fingerprint(search_identity(run), run.config.compare, known, "unbiased CKA")
    path, unit = run.folder("compare", identity) / "comparison.json", f"compare/{identity}"
    with run.timed("compare", identity):
        record = try_record(path, unit=unit)
        if record is not None:
            return msgspec.convert(record, Compared)
        try:
            found = _compare(run, networks)
        except DecoupleError:  # some are ValueErrors too, and say themselves what is to be done
            raise
        except ValueError as error:
            raise DataError(
                f"the trajectories cannot be compared ({error}): has a network collapsed? Try a lower learn.lr or sgd.lr"
            ) from error
        save_record(path, to_json(found), unit=unit)
    return found


def _compare(run: Run, networks: list[Trained]) -> Compared:
    probe = probe_of(run)
    targets = probe_targets(run, probe)
    recordings = [trained.recording() for trained in networks]
    check_same_samples(recordings)
    body, logits = run.network_to_search.names[-2:]
    trajectories = {}
    for recording, position in zip(recordings, joint_map(recordings, body), strict=True):
        # A searched network is compared with the targets of its own solution, a baseline with those of every solution.
        own = list(targets.values()) if recording.solution is None else [targets[recording.solution]]
        trajectories[recording.name] = curve_of(recording, own, position)
    if note := note_left_out(trajectories, len(probe)):
        run.progress.say(note)
    cka: dict[str, dict[str, float]] = {name: {} for name in trajectories}
    disagreement: dict[str, dict[str, float]] = {name: {} for name in trajectories}
    for pair in pairs_of(recordings, distances_of([recording.last() for recording in recordings], [body], logits)):
        for one, other in ((pair.one, pair.other), (pair.other, pair.one)):
            cka[one][other] = pair.cka[body]
            if pair.disagreement is not None:
                disagreement[one][other] = pair.disagreement
    distances = {
        name: {layer: values[-1] for layer, values in curve.cosine_distance.items()} for name, curve in trajectories.items()
    }
    comparison = Comparison(images=len(probe), cosine_distance=distances, cka=cka, disagreement=disagreement)
    return Compared(comparison=comparison, trajectories=trajectories)


def probe_targets(run: Run, probe: Split) -> dict[str, dict[str, Tensor]]:
    """Targets of the probe images, by the network that learns them and by evolved search point; searched where they are missing."""
    config = run.config.search.for_solutions()
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
            names = run.network_to_search.names[store.first_searched :]
            targets[f"search-{solution}"] = {name: values.float() for name, values in zip(names, rows, strict=True)}
            advance(1)
    return targets
