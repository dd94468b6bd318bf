"""Searching whole splits: many batches, many solutions, each shard a unit that is done once."""

from __future__ import annotations

import math
import os
import re
import shutil
from collections.abc import Iterable, Sequence, Sized
from pathlib import Path
from types import NoneType
from typing import Any

import torch
from torch import Tensor

from decouple import own_code, registry
from decouple.config import SearchConfig
from decouple.data.images import Split, as_float
from decouple.device import memory_for, whole_bytes
from decouple.errors import ConfigError, NetworkError, RunDirectoryError, did_you_mean, expect, first_line, is_out_of_memory
from decouple.files import write_bytes
from decouple.fitness import Terms, check_some_finite, terms_of
from decouple.formats import plural
from decouple.loggers import Loggers
from decouple.networks.checks import check_batches, check_fit, check_repeatable
from decouple.networks.stages import Stages
from decouple.networks.state import state_of
from decouple.networks.structure import structure_text
from decouple.search.algorithm import Algorithm, SearchPoint, chosen, points_of
from decouple.search.engine import NEEDED, Budget
from decouple.search.judge import Judge
from decouple.search.shards import Plan, ShardGroup, search_all
from decouple.search.store import Shard, TargetStore
from decouple.seeds import derive, generator
from decouple.settings import fingerprint
from decouple.tensors import whole_number
from decouple.torch_state import device_of, evaluated, plain_torch
from decouple.training.batches import even_batches
from decouple.workers import Execution, prepare

JOINED = 2**24
"""Values of candidates of the batches that a CPU searches together, at most: few enough to be written out if they have to be."""
JOINED_SHARE = 1 / 32
"""Of all memory of a GPU (not of what is free, for a resumed search joins the same), what these values may take there."""
PILOT = 32
"""Images that tell whether the network can judge candidates at all."""


def algorithm_of(config: SearchConfig, seed: int, solution: int = 0) -> Algorithm:
    """The algorithm that the settings name, for a solution of the run with this seed; code that they name is run."""
    return registry.load(config.algorithm).create(config, seed, solution)


def terms_for(config: SearchConfig, algorithm: Algorithm) -> Terms:
    """What a search asks of activations beside the label's log-probability, by its settings and by its algorithm."""
    return (*terms_of(config), *algorithm.terms)


def shards_of(split: Sized, config: SearchConfig, folder: Path, *, seed: int, solution: int, identity: str) -> list[Shard]:
    """The shards that the search of one solution over a split, or over as many images, consists of."""
    return [
        Shard(
            path=Path(folder) / f"solution-{solution}" / f"batch-{number:05d}.safetensors",
            unit=f"search/{identity}/seed-{seed}/solution-{solution}/batch-{number}",
            bounds=bounds,
        )
        for number, bounds in enumerate(even_batches(len(split), config.batch))
    ]


def target_bytes(points: list[SearchPoint], config: SearchConfig) -> int:
    """What the targets of an image take, at these search points of its network."""
    values = sum(math.prod(point.shape) for point in points[chosen(points, config.points)[0].index :])
    return values * torch.empty(0, device="cpu", dtype=getattr(torch, config.dtype)).element_size()


def search_solution(
    network: Stages,
    split: Split,
    folder: Path | str,
    *,
    config: SearchConfig = SearchConfig(),  # noqa: B008 (frozen)
    algorithm: Algorithm | None = None,
    seed: int = 0,
    solution: int = 0,
    dtype: torch.dtype = torch.float32,
    identity: str | None = None,
    execution: Execution = Execution(),  # noqa: B008 (frozen)
) -> TargetStore:
    """Search targets for every image of `split`, in its order; what `folder` holds already is not searched again.

    Args:
        network: the untrained network to search. It is not changed; the search runs on its device.
        split: images and labels to search for.
        folder: where the targets are saved, one file per search batch. Targets of other searches in it are kept.
        config: search points, batch size, BatchNorm statistics, stored type, the algorithm and its settings; not `config.network`.
        algorithm: an algorithm object to use instead of the one that `config` names.
        seed: seed of the run.
        solution: index of the solution; each index gives a different solution.
        dtype: type in which candidates are scored.
        identity: names network, data and settings in each file, so that files of another search are not taken for this
            one's, but made again: give each identity and seed a folder of its own. Default: a digest, and folders to match.
        execution: workers, Ray cluster and logger.

    Raises:
        ConfigError: a setting is out of its range, a number is not whole, the network lacks a search point that is named, the
            algorithm cannot be loaded, or the Ray cluster cannot be used.
        DataError: no images, or a negative label.
        NetworkError: the network does not take such images, has too few logits for the labels, gives something other than a tensor
            with a row an image, or other values each time.
        NotFiniteError: the network's own output is not finite.
        RunDirectoryError, MemoryLimitError: the folder cannot be written, its disk is too small, or the memory is.
        WorkerError: a batch's workers died again and again.
    """
    return search_solutions(
        network,
        split,
        folder,
        config=config,
        algorithm=algorithm,
        seed=seed,
        solutions=[solution],
        dtype=dtype,
        identity=identity,
        execution=execution,
    )[0]


@memory_for(*NEEDED)
@plain_torch()
def search_solutions(
    network: Stages,
    split: Split,
    folder: Path | str,
    *,
    solutions: Sequence[int],
    config: SearchConfig = SearchConfig(),  # noqa: B008 (frozen)
    algorithm: Algorithm | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    identity: str | None = None,
    execution: Execution = Execution(),  # noqa: B008 (frozen)
) -> list[TargetStore]:
    """What `search_solution` gives for each of `solutions`, except that `es` lets each of several change only a part of the elements
    (`EsConfig.subspaces`); the workers share the batches of all of them. `solutions`: their numbers, such as range(3)."""
    expect(split, Split, "split", "pass data.train, say")
    expect(config, SearchConfig, "config", "an EsConfig goes into SearchConfig(es=…)")
    expect(dtype, torch.dtype, "dtype", "such as torch.bfloat16")
    expect(execution, Execution, "execution", "such as Execution(workers=2)")
    _check_algorithm(algorithm)
    if not isinstance(solutions, Iterable):
        raise ConfigError(f"solutions = {solutions!r}: expected their numbers, such as range(3)")
    config = config.for_solutions(len(solutions))
    seed, solutions = whole_number(seed, "seed"), [whole_number(solution, "solution") for solution in solutions]
    points, seeds = _check_network(network, split, config), [derive(seed, "search", solution) for solution in solutions]

    def algorithms() -> tuple[Algorithm, ...]:  # only where something is missing: it may run code that the settings name
        return tuple(algorithm or algorithm_of(config, seed, solution) for solution in solutions)

    if execution.distributed:  # before EvoTorch imports Ray, which one process does without
        prepare(execution.ray_address)
    if identity:
        names, folders = [identity] * len(seeds), [Path(folder)] * len(seeds)
    else:  # The targets of another network, seed or setting may be in the folder, and stay.
        searched = _searched(network, split)
        names = [_identity(searched, config, each, dtype, own=algorithm is None) for each in algorithms()]
        folders = [Path(folder) / f"{name}-seed{seed}" for name in names]
    shards = [
        shards_of(split, config, place, seed=seed, solution=solution, identity=name)
        for solution, place, name in zip(solutions, folders, names, strict=True)
    ]
    whole = [[shard.is_whole() for shard in of_solution] for of_solution in shards]
    if not all(map(all, whole)):
        size = target_bytes(points, config)
        plan = _plan(network, split, config, algorithms(), dtype, factored=execution.factored)
        missing = _missing(shards, whole, seeds, _joined(plan, config, points))
        _refuse_small_disk(Path(folder), size * sum(task.images for task in missing))
        _search_missing(plan, missing, split, execution, size)
    return [TargetStore(of_solution, checked=False) for of_solution in shards]


def _missing(shards: list[list[Shard]], whole: list[list[bool]], seeds: list[int], joined: int) -> list[ShardGroup]:
    """What is to be searched, of the shards of every solution, so many together.

    Which shards are searched together does not depend on what is there: rounding would tell.
    """
    missing = []
    for solution, of_solution in enumerate(shards):
        for first in range(0, len(of_solution), joined):
            together = slice(first, first + joined)
            if not all(whole[solution][together]):
                missing.append(ShardGroup(tuple(of_solution[together]), solution, derive(seeds[solution], first)))
    return missing


def _joined(plan: Plan, config: SearchConfig, points: list[SearchPoint]) -> int:
    """How many batches are searched together: 1, unless the images of a batch do not depend on each other there."""
    first = chosen(points, config.points)[0]
    if config.target is not None or plan.judge.couples(first) or not all(each.joins for each in plan.algorithms):
        return 1
    elements = max(math.prod(point.shape) for point in points[first.index :])
    candidates = max(each.candidates(first) for each in plan.algorithms)
    device = device_of(plan.judge.network)
    values = int(JOINED_SHARE * whole_bytes(device)) // 4 if device.type == "cuda" else JOINED
    return max(1, values // (elements * candidates * config.batch))


def _plan(
    network: Stages,
    split: Split,
    config: SearchConfig,
    algorithms: tuple[Algorithm, ...],
    dtype: torch.dtype,
    *,
    factored: bool,
) -> Plan:
    """What all batches share. Raises NetworkError: the network does not give the same values twice, or cannot tell
    candidates apart."""
    check_repeatable(network, split.images[:16].to(device_of(network)))
    pilot = split.images[: config.batch].to(device_of(network))
    terms = terms_for(config, algorithms[0])
    if terms and config.target is not None:
        raise ConfigError(
            f"search.target = {config.target} is a probability of the class, and {type(algorithms[0]).__name__} searches with further "
            "terms of the fitness: expected none"
        )
    judge = Judge(network, statistics=config.statistics, dtype=dtype, pilot=pilot, factored=factored, terms=terms)
    few = min(PILOT, len(pilot))
    _check_judge(judge, pilot[:few], split.labels[:few].to(pilot.device), config.points)
    budget = Budget(evaluations=config.max_evaluations, target=config.target)
    return Plan(judge, algorithms, budget, getattr(torch, config.dtype), config.points)


def _search_missing(plan: Plan, missing: list[ShardGroup], split: Split, execution: Execution, image_bytes: int) -> None:
    """Search the batches that are not there, and write each as it comes."""
    logger, solutions = Loggers(execution.logger), len(plan.algorithms)
    total = solutions * len(split)

    def keep(task: ShardGroup, contents: list[bytes]) -> None:
        for shard, of_shard in zip(task.shards, contents, strict=True):
            write_bytes(shard.path, of_shard)
            if execution.logger is not None:
                found = shard.read(checked=False)[0]
                means = {name: float(found[name][-1].float().mean()) for name in ("after", "solved")}
                figures = {"cross_entropy": means["after"], "solved": means["solved"]}
                logger.log("search", shard.path.parent.name, shard.bounds[1], figures)
        advance(task.images)

    with logger.task(f"search, {plural(solutions, 'solution')}", total, "images") as advance:
        advance(total - sum(task.images for task in missing))
        search_all(plan, missing, split, keep, execution=execution, result_bytes=missing[0].images * image_bytes)


def _check_network(network: Stages, split: Split, config: SearchConfig) -> list[SearchPoint]:
    """The search points of a network that can be searched.

    Raises:
        ConfigError: a setting names a search point that it does not have.
        NetworkError: it cannot, or its targets could not be found again; says why.
    """
    shapes = check_fit(network, split, "split")
    points = points_of(network.names, shapes)
    state_of(network)
    check_batches(network, split, config.batch, "split")
    chosen(points, config.points)
    _check_names(points, config)
    return points


def _check_names(points: list[SearchPoint], config: SearchConfig) -> None:
    """Raise ConfigError if a setting by search point names one that is not there. Names such as block7 are accepted even if the
    network has fewer blocks: presets serve networks of any depth."""
    known = list(dict.fromkeys(name for point in points for name in point.names))
    for section in ("es", "paper"):
        for setting, value in vars(getattr(config, section)).items():
            for name in value if isinstance(value, dict) else ():
                if name not in known and not re.fullmatch(r"block\d+", name):
                    raise ConfigError(
                        f"search.{section}.{setting} has a value for '{name}', which is no search point of the network"
                        f"{did_you_mean(name, known)}"
                    )


@torch.no_grad()
def _check_judge(judge: Judge, pilot: Tensor, labels: Tensor, points: str | tuple[str, ...]) -> None:
    """Refuse a judge that cannot tell candidates apart, whose targets would be those of chance.

    Args:
        pilot, labels: (B, C, H, W) and (B,), on the judge's device.

    Raises:
        NetworkError: names the search point.
        NotFiniteError: the fitness is finite for no image, though the network's output is.
    """
    values = as_float(pilot)
    try:
        everywhere = judge.points(values[:2])
    except RuntimeError as error:
        if judge.dtype == torch.float32 or is_out_of_memory(error):
            raise
        kind = str(judge.dtype).removeprefix("torch.")
        raise NetworkError(
            f"the network cannot be computed in {kind} ({first_line(error)}): perhaps it fixes a type itself, or its output layer "
            "shares a weight with another; give --precision float32"
        ) from error
    evolved = chosen(everywhere, points)
    for point in everywhere[:-1]:
        values = judge.advance(point.index, values)
        if point not in evolved:
            continue
        stream = generator(0, "pilot", device=values.device)
        noise = torch.randn(values.shape, generator=stream, dtype=torch.float32, device=values.device)
        size = values.float().std()
        moved = (values + noise * (size if size > 0 else 1)).to(values.dtype)
        own, other = judge.logits(point, values), judge.logits(point, moved)
        if torch.allclose(own, other, rtol=1e-5, atol=1e-6, equal_nan=False):
            raise NetworkError(
                f"the network's logits do not depend on the values at '{point.name}' (are later weights all zero?), so candidates "
                "there cannot be ranked; initialise the layers after it at random"
            )
        if judge.terms and torch.isfinite(other).all():
            check_some_finite(
                judge.fitness(point, moved.unsqueeze(1), labels), f"the fitness at '{point.name}', its terms included,"
            )


def _check_algorithm(algorithm: object | None) -> None:
    """Refuse what cannot search. Raises ConfigError: a class, a name, or an object of another class."""
    if isinstance(algorithm, type):
        raise ConfigError(
            f"algorithm is the class {algorithm.__name__}: expected an object; call it, {algorithm.__name__}()"
        )
    if not isinstance(algorithm, (Algorithm, NoneType)):
        raise ConfigError(
            f"algorithm is a {type(algorithm).__name__}: expected an object of a subclass of decouple.search.Algorithm; decouple's "
            "own are named by SearchConfig(algorithm=…)"
        )


def _refuse_small_disk(folder: Path, needed: int) -> None:
    """Say so before the search, not in the middle of it. Raises RunDirectoryError: so many bytes do not fit on the disk."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.exists(path))
    free = shutil.disk_usage(there).free
    if needed > free:
        raise RunDirectoryError(
            f"the targets need {needed / 2**30:.1f} GiB more, and {folder} has {free / 2**30:.1f} GiB free; choose a folder "
            "(--out) on another disk, or search fewer solutions (--search.solutions) or images (--data.train)"
        )


def _searched(network: Stages, split: Split) -> tuple[Any, ...]:
    """What the targets of all solutions depend on; the network as it is searched, whatever mode it is in."""
    with evaluated(network):
        return network.digest, network.names, structure_text(network), split.digest


def _identity(
    searched: tuple[Any, ...], config: SearchConfig, algorithm: Algorithm, dtype: torch.dtype, *, own: bool
) -> str:
    """Names everything that decides the targets; `own`: the algorithm is the one that `config` names. Raises ConfigError:
    an algorithm of the user's own that does not say what it is."""
    if type(algorithm).__repr__ is object.__repr__ or " at 0x" in repr(algorithm):
        raise ConfigError(
            f"{type(algorithm).__name__} has no representation that shows its settings (memory addresses, as in that of a function, "
            "do not count), so its targets could not be found again: "
            "make it a dataclass, give it a __repr__, or pass identity='a name of your own'"
        )
    code = registry.digest_of(config.algorithm) if own else own_code.behaviour(type(algorithm)) or None
    return fingerprint(own_code.written(algorithm), code, config, repr(dtype), *searched)
