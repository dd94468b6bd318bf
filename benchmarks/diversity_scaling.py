"""How many different solutions independent searches find, against their number (the paper's Fig. 3).

    python -m benchmarks.diversity_scaling --data-root DATA                              # two CPU cores
    python -m benchmarks.diversity_scaling --data-root DATA --data mnist folder:cifar10  # CIFAR-10 as a folder of images
    python -m benchmarks.diversity_scaling --data-root DATA --scale paper                # CIFAR-100, a GPU

Each block is evolved alone, from the network's own activations, as in the fitness figure (the paper's text leaves open
whether earlier blocks were evolved; if they were, solutions of a later block would differ by where they start as well).
The best of each run is kept where p(correct) > 0.5. N_eff, the exponential of the collision entropy of the cosine Gram
matrix, is taken image by image over what is kept of the first R runs, and averaged over the images that have any; of

- targets: the maps themselves, as the paper has it. They share most of what the network made of the image;
- displacements: target − start, both with zero mean and unit variance per sample. They say how the *searches* differ.

Each seed is another network, with runs of its own. Writes figures/diversity_scaling.json, .png and .svg.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise, product
from typing import Any, Literal

import torch
from torch import Tensor

from benchmarks.command import launch
from benchmarks.common import (
    PAPER_NETWORK,
    Common,
    Parts,
    Problem,
    Size,
    displacement,
    draw,
    key,
    label,
    leave,
    problem_of,
    searched,
    settings_for,
    starts_of,
)
from benchmarks.receipt import spread
from decouple import device as devices
from decouple.analysis import effective_solutions
from decouple.config import PaperConfig

NAME = "diversity_scaling"
ALGORITHMS = ("paper", "es")
KINDS = ("targets", "displacements")


@dataclass(frozen=True, kw_only=True)
class DiversitySize(Size):
    population: int
    generations: int
    runs: tuple[int, ...]
    """Numbers of runs, R; as many searches as the largest."""
    alpha: float | dict[str, float] = field(default_factory=lambda: PaperConfig().alpha)
    """The paper's mutation strengths for CIFAR, for every data set: its 0.1 for MNIST would need more generations than there are
    here to get any image to p(correct) > 0.5."""


SCALES = {
    "tiny": DiversitySize(data=("digits",), images=12, batch=12, population=24, generations=12, runs=(1, 2, 4)),
    "small": DiversitySize(
        data=("mnist", "cifar10"), images=24, batch=24, population=48, generations=24, runs=(1, 2, 4, 8, 16)
    ),
    "paper": DiversitySize(
        data=("cifar100",),
        images=128,
        batch=64,
        population=240,
        generations=100,
        runs=(1, 2, 4, 8, 16, 32),
        network=PAPER_NETWORK,
    ),
}


@dataclass(frozen=True)
class Arguments(Common):
    scale: Literal["tiny", "small", "paper"] = "small"
    """tiny: digits, to try the program; small: MNIST and CIFAR-10, 32 channels; paper: CIFAR-100, 256 channels."""


def measure(problem: Problem, size: DiversitySize, algorithm: str, block: int) -> dict[str, Any]:
    """N_eff of one network's block against the number of runs."""
    config = settings_for(
        algorithm, problem.source, population=size.population, updates=(size.generations,), alpha=size.alpha
    )
    config = replace(config, points=(problem.points[block].name,))
    every = torch.arange(len(problem.split))
    with tempfile.TemporaryDirectory() as folder:
        stores = searched(problem, config, folder, solutions=range(max(size.runs)))
        targets = [store.rows(every)[block - store.first_searched] for store in stores]
        start = starts_of(problem, stores[0].rows(every))[block].cpu()
        probability = torch.stack([(-store.diagnostics()["after"][block]).exp() for store in stores])
    moves = torch.stack([displacement(target, start) for target in targets])
    kept = (probability > 0.5) & (moves.flatten(2).norm(dim=2) > 0)
    return {
        "probability": float(probability.mean()),
        "kept": float(kept.float().mean()),
        "targets": number_of_solutions(torch.stack(targets), kept, size.runs),
        "displacements": number_of_solutions(moves, kept, size.runs),
    }


def number_of_solutions(solutions: Tensor, kept: Tensor, runs: Sequence[int]) -> list[dict[str, Any]]:
    """N_eff for each number of runs, mean over the images.

    >>> number_of_solutions(torch.eye(2)[:, None], torch.tensor([[True], [True]]), [2])
    [{'n_eff': 2.0, 'std': 0.0, 'kept': 2.0, 'images': 1}]

    Args:
        solutions: (R, N, …).
        kept: (R, N) bool: which count.
        runs: how many of the R, from the first on.

    Returns:
        n_eff and its std over the images; kept: solutions an image, which is the most that n_eff can be; images: those
        with any solution. Without such an image the first three are None.
    """
    found: list[dict[str, Any]] = []
    for count in runs:
        members = [solutions[:count, image][kept[:count, image]] for image in range(solutions.shape[1])]
        members = [member for member in members if len(member)]
        if not members:
            found.append({"n_eff": None, "std": None, "kept": None, "images": 0})
            continue
        across = spread([float(effective_solutions(member)) for member in members])
        number = statistics.mean(float(len(member)) for member in members)
        found.append({"n_eff": across["mean"], "std": across["std"], "kept": number, "images": len(members)})
    return found


def run(arguments: Arguments, size: DiversitySize) -> list[dict[str, Any]]:
    """All curves: an entry for each data set, algorithm, block and kind."""
    parts = Parts(arguments.out, NAME, size)
    found = []
    for source in arguments.data or size.data:
        problems = [problem_of(arguments, size, source, seed) for seed in size.seeds]
        places = list(product(ALGORITHMS, problems[0].blocks))
        makers = {
            (key(source), algorithm, block.name, f"seed{problem.seed}"): partial(
                measure, problem, size, algorithm, block.index
            )
            for (algorithm, block), problem in product(places, problems)
        }
        made = parts.all(f"{NAME}, {key(source)}", makers)
        for algorithm, block in places:
            seeds = [made[key(source), algorithm, block.name, f"seed{seed}"] for seed in size.seeds]
            about = {"data": label(source, arguments.data_root), "algorithm": algorithm, "block": block.name}
            found += [{**about, "kind": kind, **curve_of(seeds, kind, size.runs)} for kind in KINDS]
    return found


def curve_of(seeds: list[dict[str, Any]], kind: str, runs: Sequence[int]) -> dict[str, Any]:
    """One curve, from what `measure` found for each seed."""
    entries = [[seed[kind][place] for seed in seeds] for place in range(len(runs))]
    known = [[entry for entry in of_seeds if entry["images"]] for of_seeds in entries]
    nothing: dict[str, Any] = {"mean": None, "std": None}
    across = [spread([entry["n_eff"] for entry in some]) if some else nothing for some in known]
    means = [value["mean"] for value in across if value["mean"] is not None]
    return {
        "runs": list(runs),
        "mean": [value["mean"] for value in across],
        "std": [value["std"] for value in across],
        "seeds": [[entry["n_eff"] for entry in seed[kind]] for seed in seeds],
        "std_over_images": [statistics.mean(e["std"] for e in some) if some else None for some in known],
        "solutions_kept": [statistics.mean(e["kept"] for e in some) if some else None for some in known],
        "images": [sum(entry["images"] for entry in of_seeds) for of_seeds in entries],
        "kept": spread([seed["kept"] for seed in seeds]),
        "probability": spread([seed["probability"] for seed in seeds]),
        "grows": len(means) == len(runs) and all(after > before for before, after in pairwise(means)),
    }


def main(arguments: Arguments) -> None:
    devices.prepare()
    size, began = SCALES[arguments.scale], time.monotonic()
    curves = run(arguments, size)
    seconds = time.monotonic() - began
    figures = {"all_grow": all(c["grows"] for c in curves), "seconds_of_last_sitting": seconds, "curves": curves}
    drawn = [{**curve, "axis": curve["kind"], "x": curve["runs"]} for curve in curves]
    axes = {kind: f"independent runs ({kind})" for kind in KINDS}
    picture = draw(drawn, axes, "block", "effective solutions, $N_\\mathrm{eff}$")
    path = leave(NAME, arguments, figures, settings=size.settings(arguments), picture=picture)
    for curve in curves:
        about = f"{curve['data']:<22} {curve['algorithm']:<6} {curve['block']:<7} {curve['kind']:<14}"
        about += f" kept {curve['kept']['mean']:4.0%}"
        if curve["mean"][-1] is not None:
            about += f"  R = {curve['runs'][-1]}: N_eff {curve['mean'][-1]:.3f} ± {curve['std'][-1]:.3f}"
            about += f" of {curve['solutions_kept'][-1]:.1f}  {'grows' if curve['grows'] else 'DOES NOT GROW'}"
        print(about)
    print(path)


if __name__ == "__main__":
    launch(main, Arguments, __doc__)
