"""The search stage: every solution of the training set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from decouple import registry
from decouple.analysis import solution_diversity
from decouple.config import SearchConfig, SearchedNetwork, identity
from decouple.data.images import Split
from decouple.device import search_dtype
from decouple.errors import ConfigError
from decouple.files import save_record, try_record
from decouple.pipeline.context import Placed, Run, base_of
from decouple.results import BeforeAfter, Diversity, SearchResults
from decouple.search import TargetStore, search_points, search_solutions
from decouple.search.algorithm import Algorithm
from decouple.search.solutions import shards_of, target_bytes
from decouple.settings import fingerprint
from decouple.training.batches import even_batches

REASONS = {
    "generations": "all generations were done",
    "target": "every image had the wanted probability",
    "evaluations": "the evaluations were used up",
}


def search_identity(run: Placed) -> str:
    """Fingerprint of what a solution depends on: of how many there are only whether it is the only one."""
    return fingerprint(base_of(run), used_settings(run.config.search), run.algorithm_digest)


def used_settings(config: SearchConfig) -> dict[str, object]:
    """The settings that decide a solution: those of another algorithm do not, nor another network that there is none of."""
    sections = Algorithm.sections  # of code that may not be loaded here, any may be used
    used = sections if registry.is_code(config.algorithm) else registry.load(config.algorithm).sections
    unused = set(sections) - set(used) | ({"network"} if config.network == SearchedNetwork() else set())
    return {name: value for name, value in identity(config.for_solutions()).items() if name not in unused}


def refuse_unnamed_code(run: Run, split: Split, folder: Path, solutions: Sequence[int], identity: str) -> None:
    """Before anything is searched with code that only the run directory names. Raises ConfigError: says which option names
    it."""
    config = run.config.search
    if "search.algorithm" in run.named or not registry.is_code(config.algorithm):
        return
    for solution in solutions:
        shards = shards_of(split, config, folder, seed=run.config.seed, solution=solution, identity=identity)
        if not all(shard.is_whole() for shard in shards):
            raise ConfigError(
                f"{run.directory.path} searches with {config.algorithm}, code that is only loaded when you name it: repeat the "
                f"command with --search.algorithm {config.algorithm}"
            )


def search(run: Run) -> list[TargetStore]:
    """The targets of every solution; searches what is not there yet."""
    config, identity = run.config.search, search_identity(run)
    folder, solutions = run.folder("search", identity), range(config.solutions)
    refuse_unnamed_code(run, run.data.train, folder, solutions, identity)
    _say_size(run)
    with run.timed("search", fingerprint(identity, config.solutions)):
        return search_solutions(
            run.network_to_search,
            run.data.train,
            folder,
            solutions=solutions,
            config=config,
            seed=run.config.seed,
            dtype=search_dtype(run.config.precision),
            identity=identity,
            execution=replace(run.execution, logger=run.watchers),
        )


def _stop_reason(stores: list[TargetStore]) -> str:
    """Why the searches ended, and how often."""
    stops: Counter[str] = sum((store.stops() for store in stores), Counter())
    if set(stops) == {"generations"}:
        return "every search point had all of its generations"
    total = stops.total()
    return "; ".join(f"{REASONS[reason]} ({count} of {total} times)" for reason, count in stops.most_common())


def _say_size(run: Run) -> None:
    """Targets can be large: those of all blocks, at 256 channels, about 140 KB an image."""
    points = search_points(run.network_to_search, run.data.image_shape)
    needed = target_bytes(points, run.config.search) * len(run.data.train)
    if needed > 2**30:
        run.progress.say(f"The targets of a solution take {needed / 2**30:.1f} GiB on disk.")


def search_results(run: Run, stores: list[TargetStore]) -> tuple[SearchResults, Diversity, dict[str, list[list[float]]]]:
    """What the searches achieved, how much their solutions differ, and the curves by search point."""
    names = list(run.network_to_search.names)
    found = [store.diagnostics() for store in stores]
    mean = {name: torch.stack([f[name].float().mean(1) for f in found]).mean(0).tolist() for name in found[0]}
    results = SearchResults(
        points=names,
        cross_entropy={
            n: BeforeAfter(before=b, after=a) for n, b, a in zip(names, mean["before"], mean["after"], strict=True)
        },
        solved=dict(zip(names, mean["solved"], strict=True)),
        displacement=dict(zip(names, mean["displacement"], strict=True)),
        cosine=dict(zip(names, mean["cosine"], strict=True)),
        failed_generations=sum(store.failed for store in stores),
        evaluations_per_image=round(sum(store.evaluations for store in stores) / len(stores)),
        stop_reason=_stop_reason(stores),
    )
    by_solution = [store.curves() for store in stores]
    curves = {name: [c[i].tolist() for c in by_solution] for i, name in enumerate(names)}
    return results, Diversity(solutions=len(stores), n_eff=_effective(run, stores, names)), curves


def _effective(run: Run, stores: list[TargetStore], names: list[str]) -> dict[str, float]:
    """By search point: N_eff among the solutions, mean over the images but those with a target that is all 0; 1 where all have the
    network's own activations."""
    if len(stores) == 1:
        return dict.fromkeys(names, 1.0)
    path = run.folder("search", search_identity(run)) / f"diversity-of-{len(stores)}.json"
    unit = f"diversity/{search_identity(run)}/{len(stores)}"
    if (known := try_record(path, unit=unit)) is not None:
        return known
    first = stores[0].first_searched
    sums, counts = dict.fromkeys(names[first:], 0.0), dict.fromkeys(names[first:], 0)
    for start, end in even_batches(len(run.data.train), run.config.search.batch):
        rows = [store.rows(torch.arange(start, end)) for store in stores]
        for name, *of_point in zip(names[first:], *rows, strict=True):
            targets = torch.stack([of_solution.float() for of_solution in of_point])
            kept = (targets != 0).flatten(2).any(2).all(0)
            if bool(kept.any()):
                sums[name] += float(solution_diversity(targets[:, kept]).sum())
                counts[name] += int(kept.sum())
    found = dict.fromkeys(names, 1.0) | {name: sums[name] / count for name, count in counts.items() if count}
    save_record(path, found, unit=unit)
    return found
