"""Why targets are kept as safetensors shards: writing, and reading random rows, beside other formats that are maintained.

    pip install zarr tensordict        # those that are there are compared
    python -m benchmarks.target_store

A solution of 32 channels at 28x28 (13.7 KB an image, float16). Rows are read as a learner does, a random batch at a time,
from files that the operating system has cached. Writes figures/target-store.json.
"""

from __future__ import annotations

import importlib.util
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.command import launch
from benchmarks.receipt import write_receipt
from decouple.data import Split
from decouple.files import write_bytes
from decouple.search import BatchResult, TargetStore, store
from decouple.search.store import Shard

SHAPES = ((32, 13, 13), (32, 6, 6), (32, 3, 3), (10,))
SHARD = 125
"""Images of a search batch."""


@dataclass(frozen=True)
class Arguments:
    images: int = 10_000
    batch: int = 128
    """Rows read at once."""
    repeats: int = 5


Read = Callable[[Tensor], list[Tensor]]


class Format(NamedTuple):
    """One way to keep shards."""

    write: Callable[[Path, int, list[Tensor]], None]
    """Shard `number` with these targets into a folder."""
    open: Callable[[Path, int], Read]
    """What reads rows of so many images."""


def main(arguments: Arguments) -> None:
    formats = {
        "safetensors, checked (ours)": Format(_write_ours, _open_ours),
        "torch.save": Format(_write_torch, _open_torch),
    }
    if importlib.util.find_spec("zarr"):
        formats["zarr, a shard a chunk"] = Format(_write_zarr(SHARD), _open_zarr)
        formats["zarr, an image a chunk"] = Format(_write_zarr(1), _open_zarr)
    if importlib.util.find_spec("tensordict"):
        formats["tensordict, memory map"] = Format(_write_tensordict(arguments.images), _open_tensordict)
    times: dict[str, dict[str, list[float]]] = {name: {"write": [], "open": [], "rows": []} for name in formats}
    stream = torch.Generator().manual_seed(0)
    targets = [torch.randn(SHARD, *shape, generator=stream).half() for shape in SHAPES]
    store.IN_MEMORY_BYTES = 0  # ours from the disk too
    for _ in range(arguments.repeats):
        for name, form in formats.items():
            with tempfile.TemporaryDirectory() as scratch:
                folder = Path(scratch)
                began = time.perf_counter()
                for number in range(arguments.images // SHARD):
                    form.write(folder, number, targets)
                times[name]["write"].append(time.perf_counter() - began)
                began = time.perf_counter()
                read = form.open(folder, arguments.images)
                times[name]["open"].append(time.perf_counter() - began)
                order = torch.randperm(arguments.images, generator=stream)
                batches = order[: 10 * arguments.batch].split(arguments.batch)
                began = time.perf_counter()
                for batch in batches:
                    rows = read(batch)
                times[name]["rows"].append((time.perf_counter() - began) / len(batches))
                assert torch.equal(rows[0], targets[0][batches[-1] % SHARD]), name
                shutil.rmtree(folder, ignore_errors=True)
    size = sum(target.nbytes for target in targets) * (arguments.images // SHARD)
    figures: dict[str, Any] = {}
    for name, found in times.items():
        median = {what: statistics.median(values) for what, values in found.items()}
        rows_mb = size / arguments.images * arguments.batch / median["rows"] / 1e6
        figures[name] = {"write_mb_per_s": size / median["write"] / 1e6, "open_s": median["open"], "rows_mb_per_s": rows_mb}
        print(
            f"{name:<28} write {figures[name]['write_mb_per_s']:7.0f} MB/s   rows {rows_mb:7.0f} MB/s   open {median['open']:.3f} s"
        )
    settings = {"images": arguments.images, "batch": arguments.batch, "repeats": arguments.repeats, "bytes": size}
    print(write_receipt("target-store", figures, settings=settings))


def _shards(folder: Path, images: int) -> list[Shard]:
    return [Shard(folder / f"{n}.safetensors", f"{n}", (n * SHARD, (n + 1) * SHARD)) for n in range(images // SHARD)]


def _write_ours(folder: Path, number: int, targets: list[Tensor]) -> None:
    before, after, solved, displacement, cosine = torch.zeros(5, len(targets), SHARD).unbind()
    curves = [torch.zeros(2) for _ in targets]
    stops = ["generations"] * len(targets)
    result = BatchResult(
        targets, before.clone(), after.clone(), solved.bool(), displacement.clone(), cosine.clone(), curves, stops, 1, 0
    )
    images = Split(torch.zeros(SHARD, 1, 1, 1), torch.zeros(SHARD, dtype=torch.int64), torch.arange(SHARD) + number * SHARD)
    shard = _shards(folder, (number + 1) * SHARD)[number]
    write_bytes(shard.path, shard.contents(result, images, torch.float16))


def _open_ours(folder: Path, images: int) -> Read:
    return TargetStore(_shards(folder, images)).rows


def _write_torch(folder: Path, number: int, targets: list[Tensor]) -> None:
    torch.save(targets, folder / f"{number}.pt")


def _open_torch(folder: Path, images: int) -> Read:
    read = [torch.load(folder / f"{n}.pt", mmap=True, weights_only=True) for n in range(images // SHARD)]
    return lambda rows: [torch.stack([read[r // SHARD][p][r % SHARD] for r in rows.tolist()]) for p in range(len(SHAPES))]


def _write_zarr(chunk: int) -> Callable[[Path, int, list[Tensor]], None]:
    def write(folder: Path, number: int, targets: list[Tensor]) -> None:
        import zarr

        for point, target in enumerate(targets):
            name = str(folder / f"{number}-{point}")
            chunks = (chunk, *target.shape[1:])
            made = zarr.create_array(name, shape=target.shape, chunks=chunks, dtype="float16", compressors=None)
            made[:] = target.numpy()

    return write


def _open_zarr(folder: Path, images: int) -> Read:
    import zarr

    read = [
        [zarr.open_array(str(folder / f"{n}-{p}"), mode="r") for p in range(len(SHAPES))] for n in range(images // SHARD)
    ]

    def rows(positions: Tensor) -> list[Tensor]:
        found = []
        for point in range(len(SHAPES)):
            values = [torch.from_numpy(read[r // SHARD][point][r % SHARD]) for r in positions.tolist()]
            found.append(torch.stack(values))
        return found

    return rows


def _write_tensordict(images: int) -> Callable[[Path, int, list[Tensor]], None]:
    def write(folder: Path, number: int, targets: list[Tensor]) -> None:
        from tensordict import TensorDict

        if number == 0:  # one map for all, as its documentation has it
            like = TensorDict({str(p): t[:1].expand(images, *t.shape[1:]) for p, t in enumerate(targets)}, [images])
            like.memmap_like(folder / "all")
        whole = TensorDict.load_memmap(folder / "all")
        part = TensorDict({str(p): t for p, t in enumerate(targets)}, [SHARD])
        whole[number * SHARD : (number + 1) * SHARD] = part

    return write


def _open_tensordict(folder: Path, images: int) -> Read:
    from tensordict import TensorDict

    whole = TensorDict.load_memmap(folder / "all")

    def rows(positions: Tensor) -> list[Tensor]:
        found = whole[positions]
        return [found[str(point)] for point in range(len(SHAPES))]

    return rows


if __name__ == "__main__":
    launch(main, Arguments, __doc__)
