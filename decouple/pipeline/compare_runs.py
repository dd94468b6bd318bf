"""Comparing the trajectories of several runs: `decouple compare RUN RUN …`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from decouple.data import load_data
from decouple.errors import ConfigError, DataError
from decouple.files import try_tensors
from decouple.pipeline.comparing import probe_targets
from decouple.pipeline.context import Run, open_run
from decouple.pipeline.directory import RunDirectory
from decouple.pipeline.learning import Trained, networks_of, probe_of, probe_recorder, recorder_of
from decouple.pipeline.population import image_population, origin_of
from decouple.pipeline.searching import search_identity
from decouple.pipeline.stages import run_stages
from decouple.progress import Progress
from decouple.search import search_points
from decouple.search.algorithm import chosen
from decouple.settings import fingerprint
from decouple.torch_state import torch_defaults
from decouple.trajectories import Recording, compare_recordings
from decouple.trajectories.compare import check_comparable
from decouple.trajectories.curves import ByLayer


@torch_defaults()
def compare_runs(
    folders: Sequence[Path],
    out: Path,
    *,
    device: str = "auto",
    data_root: Path | str | None = None,
    code: Collection[str] = (),
    progress: Progress | None = None,
) -> Path:
    """Compare all recorded trajectories of runs, and write numbers, figures and a page into `out`: see `write_comparison`.

    Stages that a run lacks up to its comparison are run first. Snapshots of q0 are recorded where a run has them. `progress` also
    prints what the comparison shows.

    Args:
        code: the user's own code that the runs name and that may be run (see `RunConfig.code`).

    Returns:
        The path of the page.

    Raises:
        ConfigError: a run is given twice.
        DataError: the runs have different validation images (`data.*`, `compare.images`), or targets of other shapes.
        RunDirectoryError: a folder is not a run directory, or is in use.
    """
    from decouple.report import answers, write_comparison  # matplotlib takes a while to import

    progress = progress or Progress()
    recordings, targets = _collected(folders, device, data_root, code, progress)
    compared = compare_recordings(recordings, targets=targets, logger=progress)
    for sentence in answers(compared):
        progress.say(sentence)
    return write_comparison(compared, out, title=", ".join(Path(folder).resolve().name for folder in folders))


def _collected(
    folders: Sequence[Path], device: str, data_root: Path | str | None, code: Collection[str], progress: Progress
) -> tuple[list[Recording], dict[str, ByLayer]]:
    """The recordings of all runs, and the targets by the names that their networks give them; runs what is missing."""
    recordings: list[Recording] = []
    targets: dict[str, ByLayer] = {}
    known: dict[tuple[str, int], str] = {}
    """Solutions by what decides them: runs may share one."""
    with ExitStack() as stack:
        runs = _opened(stack, folders, device=device, data_root=data_root, code=code, progress=progress)
        for label, run in runs.items():
            run_stages(run, "compare")
            names, called = {}, _common(runs, run)
            for number, (name, solution) in enumerate(probe_targets(run, probe_of(run)).items()):
                names[name] = known.setdefault((search_identity(run), number), label + name)
                targets[names[name]] = {called.get(layer, layer): values for layer, values in solution.items()}
            for found in recordings_of(run):
                solution_name = None if found.solution is None else names[found.solution]
                recordings.append(replace(found.renamed(called), name=label + found.name, solution=solution_name))
    return recordings, targets


def _opened(stack: ExitStack, folders: Sequence[Path], *, code: Collection[str], **how: Any) -> dict[str, Run]:
    """All runs by their labels, once it is clear that they can be compared; `how` as in `open_run`."""
    labels = _labels(folders)
    directories = [stack.enter_context(RunDirectory.open(folder)) for folder in folders]
    configs = [directory.read_config() for directory in directories]
    load, runs = cache(load_data), {}  # most runs have the same data
    for label, directory, config in zip(labels, directories, configs, strict=True):
        named = [setting for setting, address in config.code.items() if address in code]
        runs[label] = stack.enter_context(open_run(directory, config, named=named, load=load, **how))
    _check(runs)
    return runs


def _check(runs: Mapping[str, Run]) -> None:
    """Refuse runs whose recordings could not be compared."""
    names = [label.rstrip("/") or "the run" for label in runs]
    check_comparable(
        [
            replace(recorder_of(run, networks_of(run)[0]).planned().renamed(_common(runs, run)), name=name)
            for name, run in zip(names, runs.values(), strict=True)
        ]
    )
    first, *others = map(_searched_shapes, runs.values())
    for name, shapes in zip(names[1:], others, strict=True):
        for layer, shape in first.items():
            if shapes.get(layer, shape) != shape:
                raise DataError(
                    f"'{names[0]}' and '{name}' cannot be compared: what is searched at '{layer}' has the shape {shape} in one and "
                    f"{shapes[layer]} in the other"
                )


def _common(runs: Mapping[str, Run], run: Run) -> dict[str, str]:
    """What a run's layers are called in the comparison, where it is another name: networks of different kinds share the logits."""
    ends = {each.network_to_search.names[-1] for each in runs.values()}
    return {run.network_to_search.names[-1]: "logits"} if len(ends) > 1 else {}


def _searched_shapes(run: Run) -> dict[str, tuple[int, ...]]:
    """By search point: the shape of a target."""
    points = search_points(run.network_to_search, run.data.image_shape)
    return {point.name: point.shape for point in points[chosen(points, run.config.search.points)[0].index :]}


def recordings_of(run: Run) -> list[Recording]:
    """The recorded trainings of a run whose comparison is up to date, and its q0 trajectories as far as they have been trained."""
    networks = networks_of(run)
    trained = [network.recording() for network in networks if network.kind != "earlier"]
    return trained + _population(run, networks)


def _population(run: Run, networks: list[Trained]) -> list[Recording]:
    """The snapshots of q0, recorded as trajectories that continue those of the networks that they started from."""
    config, images = run.config.q0, run.config.compare.images
    population = image_population(run, networks)
    identity = population.identity
    folder, found = run.folder("compare", fingerprint("q0", identity, images)), []
    for trajectory, snapshots in enumerate(population.snapshots):
        whole = [snapshot for snapshot in snapshots if snapshot.is_whole()]
        if not whole:
            continue
        origin = origin_of(run.config, networks, trajectory)
        called = f"q0-{trajectory}{origin.suffix}"
        unit = f"compare/{identity}/{images}/{called}"
        recorder = probe_recorder(run, folder / called, unit, kind="q0", start=f"{origin.seed}, q0 {trajectory}")
        begun = 0 if origin.learned is None else origin.learned.settings.epochs
        network = population.start(trajectory)
        for epochs, snapshot in [(0, None), *((config.epochs_before(s.cycle + 1), s) for s in whole)]:
            step = begun + epochs
            if try_tensors(recorder.path(step), unit=recorder.unit_of(step)) is None:
                if snapshot is not None:
                    snapshot.load_into(network)
                recorder(step, network)
        found.append(Recording.open(recorder.folder))
    return found


def _labels(folders: Sequence[Path]) -> list[str]:
    """A prefix for the names of each run: empty for a single run, else as much of its path as tells it from the others."""
    places = [Path(folder).resolve() for folder in folders]
    if len(set(places)) < len(places):
        twice = next(place for place in places if places.count(place) > 1)
        raise ConfigError(f"run directory {twice} is given twice; give each once")
    if len(places) == 1:
        return [""]
    for parts in range(1, max(len(place.parts) for place in places) + 1):
        labels = ["/".join(place.parts[-parts:]) for place in places]
        if len(set(labels)) == len(labels):
            return [f"{label}/" for label in labels]
    return [f"{place}/" for place in places]
