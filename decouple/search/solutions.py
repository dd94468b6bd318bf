"""Searching whole splits: many batches, many solutions, each shard a unit that is done once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from decouple import settings
from decouple.config import SearchConfig, is_searched
from decouple.data.images import Split, as_float
from decouple.device import check_workers
from decouple.errors import ConfigError, NetworkError, RunDirectoryError, expect
from decouple.files import write_bytes
from decouple.networks.checks import check_batches, check_fit, check_repeatable
from decouple.networks.stages import Stages
from decouple.networks.state import state_of
from decouple.search.algorithm import Algorithm, SearchPoint
from decouple.search.engine import Budget
from decouple.search.es import EvolutionStrategy
from decouple.search.gradient import GradientAscent
from decouple.search.judge import Judge
from decouple.search.paper import PaperSearch
from decouple.search.random_search import RandomSearch
from decouple.search.store import Shard, TargetStore
from decouple.search.tasks import Plan, Task
from decouple.seeds import derive, generator
from decouple.settings import fingerprint
from decouple.tensors import whole_number
from decouple.torch_state import device_of, plain_torch
from decouple.training.batches import even_batches

PILOT = 32
"""Images that tell whether the network can judge candidates at all."""


def algorithm_of(config: SearchConfig, seed: int) -> Algorithm:
    """The algorithm that the settings name, for the solution with this seed."""
    if config.algorithm in ("pgpe", "cem"):
        from decouple.search.stock import Cem, Pgpe  # EvoTorch takes seconds to import

        return {"pgpe": Pgpe, "cem": Cem}[config.algorithm](config.es)
    if config.algorithm == "paper":
        return PaperSearch(config.paper)
    if config.algorithm == "random":
        return RandomSearch(config.es)
    if config.algorithm == "gradient":
        return GradientAscent(config.es)
    return EvolutionStrategy(config.es, shared_seed=seed)


def generations_of(config: SearchConfig, point: SearchPoint) -> int:
    """Generations at a point, if nothing stops the search earlier."""
    searched = is_searched(config.blocks, point.index, point.count)
    return algorithm_of(config, seed=0).generations(point) if searched else 0


def scored(config: SearchConfig, point: SearchPoint, *, coupled: bool) -> int:
    """Candidates of an image that the search scores at a point; `coupled`: they influence each other (see `Judge`)."""
    if (generations := generations_of(config, point)) == 0:
        return 0
    if config.algorithm == "gradient":
        return generations
    if config.algorithm == "random":
        return generations * (config.es.population + 1)
    if config.algorithm != "paper":  # the last generation only scores the centre
        return max(0, generations - 1) * (config.es.population + 1) + min(1, generations)
    known = 0 if coupled else config.paper.parents  # keep their score
    return generations * (config.paper.population - known) + known


def shards_of(split: Split, config: SearchConfig, folder: Path, *, seed: int, solution: int, identity: str) -> list[Shard]:
    """The shards that the search of one solution over a split consists of."""
    return [
        Shard(
            path=Path(folder) / f"solution-{solution}" / f"batch-{number:05d}.safetensors",
            unit=f"search/{identity}/seed-{seed}/solution-{solution}/batch-{number}",
            bounds=bounds,
        )
        for number, bounds in enumerate(even_batches(len(split), config.batch))
    ]


def target_bytes(shapes: Sequence[tuple[int, ...]], config: SearchConfig) -> int:
    """What the targets of an image take, by the shapes of its search points."""
    return (
        sum(torch.Size(shape).numel() for shape in shapes)
        * torch.empty(0, device="cpu", dtype=getattr(torch, config.dtype)).element_size()
    )


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
    workers: int = 1,
    ray_address: str | None = None,
    advance: Callable[[int], None] = lambda images: None,
) -> TargetStore:
    """Search targets for every image of `split`; what `folder` holds already is not searched again.

    Args:
        network: untrained, and left as it is; evaluated on the device that it is on.
        split: images and labels.
        folder: where the targets go, a file a batch; those of another search in it stay.
        config: batch size, BatchNorm mode, stored type, the algorithm and its settings.
        algorithm: your own, in place of the one that `config` names; at the points that `config.blocks` has evolved.
        seed: of the run.
        solution: number of this solution: other numbers, other solutions.
        dtype: arithmetic of the scoring.
        identity: names network, data and settings in each file, so that files of another search are not taken for this
            one's; default: a digest of all of them.
        workers: processes that search at once; more than one are Ray's.
        ray_address: a Ray cluster that is there already, to search on in place of this machine: "host:port" or "auto".
        advance: called with the number of images after each batch, for a progress bar.

    Raises:
        ConfigError: a setting is out of its range, a number is not whole, or the Ray cluster cannot be used.
        DataError: no images, or a negative label.
        NetworkError: the network does not take such images, has too few logits for the labels, gives something other than a tensor
            with a row an image, or other values each time.
        NotFiniteError: the network's own output is not finite.
        RunDirectoryError: the folder cannot be written, or its disk is too small.
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
        workers=workers,
        ray_address=ray_address,
        advance=advance,
    )[0]


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
    workers: int = 1,
    ray_address: str | None = None,
    advance: Callable[[int], None] = lambda images: None,
) -> list[TargetStore]:
    """What `search_solution` gives for each of `solutions`; the workers share the batches of all of them."""
    expect(split, Split, "split", "pass data.train, say")
    expect(config, SearchConfig, "config", "an EsConfig goes into SearchConfig(es=…)")
    expect(dtype, torch.dtype, "dtype", "such as torch.bfloat16")
    if algorithm is not None:
        _check_algorithm(algorithm)
    check_workers(workers := whole_number(workers, "workers"))
    config = settings.check_section(config)
    seed, solutions = whole_number(seed, "seed"), [whole_number(solution, "solution") for solution in solutions]
    points = _check_network(network, split, config.batch)
    distributed = workers > 1 or ray_address is not None
    if distributed:
        from decouple.search import workers as pool  # it takes Ray, which one process does without

        pool.prepare(ray_address)  # before EvoTorch imports Ray
    seeds = [derive(seed, "search", solution) for solution in solutions]
    algorithms = tuple(algorithm or algorithm_of(config, of_solution) for of_solution in seeds)
    identities = [identity or _identity(network, split, config, each, dtype) for each in algorithms]
    shards = [
        # A run keeps its folders apart; elsewhere the targets of another network, seed or setting may be in it, and stay.
        shards_of(
            split,
            config,
            Path(folder) / ("" if identity else f"{name}-seed{seed}"),
            seed=seed,
            solution=solution,
            identity=name,
        )
        for solution, name in zip(solutions, identities, strict=True)
    ]
    missing = []
    for solution, of_solution in enumerate(shards):
        for number, shard in enumerate(of_solution):
            task = Task(shard, solution, derive(seeds[solution], number))
            if shard.is_whole():
                advance(task.images)
            else:
                missing.append(task)

    def keep(task: Task, contents: bytes) -> None:
        write_bytes(task.shard.path, contents)
        advance(task.images)

    if missing:
        check_repeatable(network, split.images[:16].to(device_of(network)))
        image_bytes = target_bytes(points, config)
        _refuse_small_disk(Path(folder), image_bytes * sum(task.images for task in missing))
        pilot = split.images[: config.batch].to(device_of(network))
        judge = Judge(network, statistics=config.statistics, dtype=dtype, pilot=pilot, chunk=config.chunk)
        _check_judge(judge, pilot[:PILOT], config.blocks)
        # Where several batches are searched at once each may take longer, and has fewer cores: a solution's time stays.
        share = min(workers, len(shards[0])) / len(shards[0])
        seconds = None if config.max_seconds is None else config.max_seconds * share
        budget = Budget(evaluations=config.max_evaluations, seconds=seconds, target=config.target)
        plan = Plan(judge, algorithms, budget, getattr(torch, config.dtype), config.blocks)
        if distributed:
            size = missing[0].images * image_bytes
            pool.distribute_search(plan, missing, split, keep, workers=workers, address=ray_address, result_bytes=size)
        else:
            for task in missing:
                keep(task, plan.search(task, split.subset(range(*task.shard.bounds))))
    return [TargetStore(of_solution) for of_solution in shards]


def _check_network(network: Stages, split: Split, batch: int) -> list[tuple[int, ...]]:
    """The shapes at the search points, of a network that can be searched.

    Raises:
        NetworkError: it cannot, or its targets could not be found again; says why.
    """
    points = check_fit(network, split, "split")
    for name, shape in zip(network.names, points, strict=True):
        if not 1 <= len(shape) <= 3:
            raise NetworkError(
                f"the values of an image at '{name}' have shape {shape}: expected (C, H, W), (T, D) or (D,); cut the network elsewhere"
            )
    state_of(network)
    check_batches(network, split, batch, "split")
    return points


@torch.no_grad()
def _check_judge(judge: Judge, pilot: Tensor, blocks: str) -> None:
    """Refuse a judge that cannot tell candidates apart, whose targets would be those of chance.

    Args:
        pilot: (B, C, H, W) on the judge's device.

    Raises:
        NetworkError: names the search point.
    """
    values = as_float(pilot)
    for point in judge.points(values[:2])[:-1]:
        values = judge.advance(point.index, values)
        if not is_searched(blocks, point.index, point.count):
            continue
        stream = generator(0, "pilot", device=values.device)
        noise = torch.randn(values.shape, generator=stream, dtype=torch.float32, device=values.device)
        size = values.float().std()
        moved = (values + noise * (size if size > 0 else 1)).to(values.dtype)
        if torch.allclose(judge.logits(point, values), judge.logits(point, moved), rtol=1e-5, atol=1e-6, equal_nan=False):
            raise NetworkError(
                f"the network's logits do not depend on the values at '{point.name}' (a head that begins with zeros?), so no search "
                "can tell better ones; give the layers behind it random weights"
            )


def _check_algorithm(algorithm: object) -> None:
    """Refuse what cannot search.

    Raises:
        ConfigError: a class, a name, or an object without one of the methods; names them.
    """
    if isinstance(algorithm, type):
        raise ConfigError(
            f"algorithm is the class {algorithm.__name__}: expected an object; call it, {algorithm.__name__}()"
        )
    methods = [name for name in vars(Algorithm) if not name.startswith("_")]
    if missing := [name for name in methods if not callable(getattr(algorithm, name, None))]:
        raise ConfigError(
            f"algorithm is a {type(algorithm).__name__} without {', '.join(missing)}: expected an object with the methods of "
            "decouple.search.Algorithm; decouple's own are named by SearchConfig(algorithm=…)"
        )


def _refuse_small_disk(folder: Path, needed: int) -> None:
    """Say so before the search, not in the middle of it.

    Raises:
        RunDirectoryError: so many bytes do not fit on the disk.
    """
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.exists(path))
    free = shutil.disk_usage(there).free
    if needed > free:
        raise RunDirectoryError(
            f"the targets need {needed / 2**30:.1f} GiB more, and {folder} has {free / 2**30:.1f} GiB free; choose a folder "
            "(--out) on another disk, or search fewer solutions (--search.solutions) or images (--data.train)"
        )


def _identity(network: Stages, split: Split, config: SearchConfig, algorithm: Algorithm, dtype: torch.dtype) -> str:
    """Names everything that decides the targets.

    Raises:
        ConfigError: an algorithm of the user's own that does not say what it is.
    """
    if type(algorithm).__repr__ is object.__repr__ or " at 0x" in repr(algorithm):
        raise ConfigError(
            f"{type(algorithm).__name__} has no representation that tells its settings (but not where they are in memory, as "
            "that of a function does), so targets could not be found again: "
            "make it a dataclass, give it a __repr__, or pass identity='a name of your own'"
        )
    # The state says nothing of the layers without weights, and of where the network is cut: its text does.
    return fingerprint(repr(algorithm), config, repr(dtype), network.digest, network.names, repr(network), split.digest)
