"""What to run first on a GPU: that every stage gives there what it gives on the CPU, and what it takes.

    python -m benchmarks.gpu_check --out gpu                # at most 9 minutes; repeat it for what is left
    python -m benchmarks.gpu_check --out tiny --scale tiny --device cpu

Correctness comes first, in float32 without TF32: scores of candidates, an update of the search, SGD, learning from targets, live
search, q0 and its ensemble beside the CPU's; a killed training resumed to the last bit; steps and search batches that wait for
nothing; too little memory as one line. Then speed: steps a second and the share of the device's peak, the search beside the bare
passes of its candidates, memory, and trainings side by side. Each piece is kept in DIR as it is done. Writes DIR/gpu-check.json.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from benchmarks.command import launch
from benchmarks.gpu_correctness import CHECKS, CheckError, Piece, Setting, in_float32
from benchmarks.receipt import write_receipt
from benchmarks.search_passes import Case, measure
from benchmarks.timing import SHAPES, made_up, say, timed
from decouple import device as devices
from decouple.config import LearnConfig, LiveConfig, NetworkConfig, TrainConfig
from decouple.data import Split
from decouple.estimate import GPUS, Gpu
from decouple.estimate.stages import Zeros, counted_step
from decouple.estimate.work import of_images
from decouple.files import save_record, try_record
from decouple.learn import CrossEntropy
from decouple.learn.objective import regression
from decouple.networks import Stages, paper_network
from decouple.training.batches import epoch_batches
from decouple.training.loop import Loop
from decouple.training.objectives import Objective, fetch_of
from decouple.training.optimizers import make_optimizer
from decouple.training.stream import ImageLoader


@dataclass(frozen=True)
class Arguments:
    out: Path
    """Folder of what is measured; what it holds is not measured again."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:n."""
    minutes: float = 9.0
    """After which no further piece is begun."""
    scale: Literal["tiny", "full"] = "full"
    """tiny: the speed of networks so small that a CPU takes seconds."""


@dataclass(frozen=True)
class Size:
    """What speed is measured on."""

    width: int
    """Channels."""
    batch: int
    """Images a step."""
    steps: int
    """Timed together."""
    searched: int
    """Images a search batch."""
    generations: int


SIZES = {
    "tiny": (Size(8, 32, 3, 8, 2),),
    "full": (Size(32, 512, 40, 128, 16), Size(64, 512, 40, 128, 16), Size(256, 1000, 20, 128, 16)),
}
SHAPE = "32x32"
PRECISIONS = ("float32", "bfloat16")


def measure_steps(size: Size, setting: Setting) -> dict[str, Any]:
    """Steps a second of SGD, of learning from targets at the last block and of the same with live search; the share of the
    device's peak, for a GPU whose data sheet is known; and the most memory that was taken."""
    train = made_up(size.batch * size.steps, SHAPES[SHAPE])
    network = paper_network(train.images, 10, NetworkConfig(width=size.width), groups=2, seed=0)
    targets, gpu = _Held(network.shapes(SHAPES[SHAPE]), dtype=torch.float16), _data_sheet(setting.device)
    objectives: dict[str, Objective] = {
        "sgd": CrossEntropy(),
        "targets": regression(targets, LearnConfig(live=LiveConfig(weight=0.0)), 3),
        "live": regression(targets, LearnConfig(), 3),
    }
    rows: list[dict[str, Any]] = []
    for name, objective in objectives.items():
        work = of_images(functools.partial(counted_step, network.cpu(), objective, train), size.batch)
        network.to(setting.device)
        for precision in PRECISIONS:
            _forget(setting.device)
            seconds = _seconds_a_step(network, train, objective, size, precision, setting.device)
            row = {"step": name, "width": size.width, "batch": size.batch, "precision": precision}
            row |= {"steps_per_second": 1 / seconds, "images_per_second": size.batch / seconds}
            row |= {"share_of_peak": gpu and work.flops / seconds / gpu.peak(precision), "bytes": _most(setting.device)}
            rows.append(row)
            say(f"{name}, {size.width} channels, batch {size.batch}, {precision}: {1 / seconds:.1f} steps/s")
    return {"rows": rows}


def _seconds_a_step(
    network: Stages, train: Split, objective: Objective, size: Size, precision: str, device: torch.device
) -> float:
    batches = epoch_batches(len(train), size.batch, seed=0, epoch=0)
    loop = Loop(network, make_optimizer(network, TrainConfig(), batch=size.batch), objective, 0.0, precision)
    fetch = fetch_of(objective, device)
    loader = ImageLoader(network, train, fetch, augmentation="flip-crop", precision=precision, seed=0)

    def epoch() -> None:
        loop.epoch(loader, batches, before_step=lambda step: None, seed=0, what="speed")

    epoch()
    return min(timed(epoch, device)[0] for _ in range(2)) / size.steps


class _Held(Zeros):
    """Made on the device, as targets that fit there are read from copies."""

    def rows_on(self, device: torch.device, limit: int, first: int = 0) -> Callable[[Tensor], list[Tensor]]:
        return lambda positions: self.rows(positions)[first:]


def measure_search(size: Size, setting: Setting) -> dict[str, Any]:
    """The search beside the bare passes of the candidates that it scores (see `benchmarks.search_passes`)."""
    rows: list[dict[str, Any]] = []
    for points, precision in itertools.product(("last", "all"), PRECISIONS):
        _forget(setting.device)
        case = Case("es", points, size.width, size.searched, 1, size.generations, dict.fromkeys(PRECISIONS, 1.0))
        rows.append(measure(case, SHAPE, precision, setting.device, repeats=2) | {"bytes": _most(setting.device)})
    return {"rows": rows}


def measure_side_by_side(setting: Setting) -> dict[str, Any]:
    """Seconds of four small runs one after the other, and in four processes at once."""
    seconds = {}
    for workers in (1, 4):
        with tempfile.TemporaryDirectory() as folder:
            began, running = time.perf_counter(), []
            for seed in range(4):
                options = ["--out", f"{folder}/{seed}", "--seed", str(seed), "--device", str(setting.device)]
                running.append(subprocess.Popen([sys.executable, "-m", "decouple", "run", "digits", *options]))
                if len(running) == workers:
                    if any(process.wait() for process in running):
                        raise CheckError("a run of digits has failed; see above")
                    running = []
            seconds[str(workers)] = time.perf_counter() - began
            say(f"4 runs, {workers} at once: {seconds[str(workers)]:.0f} s")
    return {"seconds": seconds}


def _data_sheet(device: torch.device) -> Gpu | None:
    """Of the GPU that this device is."""
    name = devices.name_of(device).lower().replace(" ", "") if device.type == "cuda" else ""
    return next((gpu for key, gpu in GPUS.items() if key in name), None)


def _forget(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def _most(device: torch.device) -> int | None:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def measured(scale: str) -> dict[str, Piece]:
    """The pieces that only measure."""
    pieces: dict[str, Piece] = {}
    for size in SIZES[scale]:
        pieces[f"steps, {size.width} channels"] = functools.partial(measure_steps, size)
        pieces[f"search, {size.width} channels"] = functools.partial(measure_search, size)
    return pieces | ({"side by side": measure_side_by_side} if scale == "full" else {})


def main(arguments: Arguments) -> None:
    device = devices.resolve(arguments.device)
    devices.prepare()
    setting, began = Setting(device, arguments.scale), time.monotonic()
    identity = f"{devices.name_of(device)}, torch {torch.__version__}, {arguments.scale}"
    figures: dict[str, Any] = {}
    left = []
    for name, piece in {**CHECKS, **measured(arguments.scale)}.items():
        kept, unit = arguments.out / f"{name.replace(',', '').replace(' ', '-')}.json", f"gpu-check/{identity}/{name}"
        found = try_record(kept, unit=unit)
        if found is None and time.monotonic() - began > 60 * arguments.minutes:
            left.append(name)
            continue
        if found is None:
            found = done(piece, setting, exact=name in CHECKS)
            if "failed" not in found:
                save_record(kept, found, unit=unit)
        figures[name] = found
        say(f"{name}: {found.get('failed', 'ok')}")
    settings = {"scale": arguments.scale, "sizes": [dataclasses.asdict(size) for size in SIZES[arguments.scale]]}
    print(write_receipt("gpu-check", figures, settings=settings, device=str(device), folder=arguments.out))
    if left:
        print(f"left for another call with --out {arguments.out}: {', '.join(left)}")
    if failed := [name for name, found in figures.items() if "failed" in found]:
        raise CheckError(f"not as on the CPU: {', '.join(failed)}; see {arguments.out / 'gpu-check.json'}")


def done(piece: Piece, setting: Setting, *, exact: bool) -> dict[str, Any]:
    """What a piece gives, with the seconds that it took; or why it failed."""
    began = time.perf_counter()
    try:
        with in_float32() if exact else contextlib.nullcontext():
            found = piece(setting)
    except Exception as error:  # whatever a driver or a library raises: the other pieces go on
        return {"failed": f"{type(error).__name__}: {error}"}
    return found | {"seconds": time.perf_counter() - began}


if __name__ == "__main__":
    launch(main, Arguments, __doc__)
