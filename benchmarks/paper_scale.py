"""The paper's Tables 1 and 2 and Fig. 4 at its settings, in pieces: for a GPU, in as many sittings as it takes.

    python -m benchmarks.paper_scale --minutes 9 --out RUNS --data-root DATA    # again and again, until nothing is left
    python -m benchmarks.paper_scale --minutes 0 --out RUNS                     # what is left, in its order, and for how long

A piece is one network: of a data set, a row of its table and a seed. A run's own stages search, learn and test it in a run directory
in --out, so a later call continues what an earlier one has begun: a search after its last batch, a training after its last epoch. A
call ends before its time is over, between two batches or epochs. The order:

1. SGD, and the default (es with live search), on CIFAR-10 (90 epochs, augmented), on MNIST (100 epochs; the paper's 1000 come last)
   and, where it is there, on CIFAR-100
2. es with stored targets only
3. the paper's algorithm on 2000 images, with both readings of the regression's norm, beside SGD and ours: small batches, 50 epochs
4. more seeds of 1 and 2, and SGD with other depths
5. the paper's algorithm on all images; with and without a target of block 0, where images are augmented
6. Table 1: the same data sets without augmentation
7. Fig. 4, on the last data set: accuracy by population and generations of the paper's algorithm, on 2000 images and then on all
8. MNIST with the paper's 1000 epochs

Expected times are counts, as those of `decouple estimate`: operations at 297 TFLOP/s (bfloat16, 30 % of an H100's data sheet), but at
least 8 µs a kernel. Once pieces are done, the times are multiplied by what these took over what was expected of them. Rows have the
settings of the presets and are not tuned. Writes paper_scale.json, .md, .png and .svg into --out.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any, Literal

from benchmarks.accuracy_scaling import curves_of, picture
from benchmarks.command import launch
from benchmarks.common import Placed, key, label, named, save_pictures
from benchmarks.paper_plan import EVERY, GPU, PAPER, SCALES, Piece, Scale, base_of, expected, few_of, figure_of, plain, plan
from benchmarks.receipt import write_receipt, write_table
from benchmarks.rows import as_markdown, opened, summary, trained
from decouple import device as devices
from decouple.cli.signals import Interrupted, on_signal, unwind
from decouple.config import RunConfig
from decouple.errors import DataError
from decouple.files import save_record, try_record
from decouple.formats import rough_duration
from decouple.pipeline import Run
from decouple.progress import Advance, Progress
from decouple.report.paper import reference
from decouple.settings import to_builtins

NAME = "paper_scale"


@dataclass(frozen=True)
class Arguments(Placed):
    minutes: float
    """Time of this call; 0: only say what is left."""
    out: Path
    """Folder of the runs and of the table, which a later call continues."""
    data: tuple[str, ...] = ()
    """Data sets, as --data.name takes them (folder:PATH/cifar10, …); default: cifar10, mnist, and cifar100 where it is there."""
    data_root: Path | None = None
    """Folder of the data sets."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:n."""
    scale: Literal["tiny", "paper"] = "paper"
    """tiny: digits, to try the program."""


class Clock(Progress):
    """Ends work between two of its units, where the next one would not end in time."""

    def __init__(self, until: float) -> None:
        super().__init__()
        self.until, self.what, self.share = until, "", 0.0
        """When to end, by `time.monotonic`; and the stage that came last, with the share of it that is done."""

    @contextmanager
    def task(self, what: str, total: int, unit: str) -> Iterator[Advance]:
        done, before = 0, time.monotonic()
        self.what, self.share = what.partition(",")[0], 0.0
        with super().task(what, total, unit) as show:

            def advance(count: int) -> None:
                nonlocal done, before
                show(count)
                done, now = done + count, time.monotonic()
                self.share, took, before = done / total, now - before, now
                if done < total and now + 1.3 * took > self.until:
                    unwind(signal.SIGALRM)

            yield advance


@contextmanager
def stopping(until: float) -> Iterator[None]:
    """Ends what does not look at the clock as Ctrl-C and SIGTERM do. Raises Interrupted."""
    before = signal.signal(signal.SIGALRM, lambda number, frame: unwind(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, max(1e-3, until - time.monotonic()))
        with on_signal(unwind):
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def record_of(arguments: Arguments, piece: Piece) -> Any:
    """What an earlier call has measured; None: nothing."""
    return try_record(arguments.out / "rows" / f"{piece.unit}.json", unit=piece.unit)


Stopped = tuple[Piece, str, float]
"""A piece, its stage and the share of it that is done."""


def work(arguments: Arguments, pieces: list[Piece], until: float) -> Stopped | None:
    """Do what is not done yet, until the time is over or a signal comes; None: everything is done.

    Pieces are taken from the list if their data are not there and nobody has asked for them.
    """
    piece, clock = pieces[0], Clock(until)
    runs: dict[str, Run] = {}
    try:
        with stopping(until), ExitStack() as stack:
            for piece in list(pieces):
                if piece not in pieces or record_of(arguments, piece) is not None:
                    continue
                clock.what, clock.share = "", 0.0
                if piece.folder not in runs:
                    try:
                        run = stack.enter_context(
                            opened(arguments.out / piece.folder, piece.config, progress=clock, **arguments.place)
                        )
                    except DataError as error:
                        if arguments.data:
                            raise
                        clock.say(f"{piece.config.data.name} is left out: {error}")
                        pieces[:] = [other for other in pieces if other.config.data.name != piece.config.data.name]
                        continue
                    runs[piece.folder] = run
                found = trained(replace(runs[piece.folder], config=piece.config), sgd=piece.sgd)
                save_record(arguments.out / "rows" / f"{piece.unit}.json", found, unit=piece.unit)
    except Interrupted:
        return piece, clock.what, clock.share
    if not pieces:
        raise DataError("none of the data sets is there: give their folder by --data-root, or folders of images by --data")
    return None


def left(arguments: Arguments, pieces: Sequence[Piece], stopped: Stopped | None = None) -> str:
    """What is to be done yet, in its order, with the expected time."""
    wanted = {piece.unit: expected(piece) for piece in pieces}
    records = {piece.unit: record_of(arguments, piece) for piece in pieces}
    taken = {unit: record for unit, record in records.items() if record is not None}
    factors = {}
    for stage in ("search", "learn"):
        pairs = [
            (record[f"{stage}_seconds"], wanted[unit][stage]) for unit, record in taken.items() if stage in wanted[unit]
        ]
        factors[stage] = sum(own for own, _ in pairs) / sum(other for _, other in pairs) if pairs else 1.0
    lines, total = [], 0.0
    searched = {piece.searched for piece in pieces if piece.unit in taken and not piece.sgd}
    for piece in pieces:
        if piece.unit not in taken:
            seconds = {stage: factors[stage] * value for stage, value in wanted[piece.unit].items()}
            if not piece.sgd and (piece.searched in searched or (stopped is not None and stopped[:2] == (piece, "learn"))):
                seconds["search"] = 0.0
            if stopped is not None and stopped[0] is piece:
                seconds[stopped[1] or "learn"] *= 1 - stopped[2]
            searched |= set() if piece.sgd else {piece.searched}
            total += sum(seconds.values())
            lines.append(f"  {rough_duration(sum(seconds.values())):>8}  {piece.name}")
    if not lines:
        return "Nothing is left."
    how = "as those that are done" if taken else f"on an {GPU.name}, not measured"
    return "\n".join([f"Left: {len(lines)} of {len(pieces)} pieces, about {rough_duration(total)} ({how})", *lines])


def entries_of(arguments: Arguments, pieces: Sequence[Piece]) -> list[dict[str, Any]]:
    """What has been measured: an entry for each data set, number of images and epochs."""
    entries: dict[tuple[str, str], dict[str, dict[int, Any]]] = {}
    for piece in pieces:
        if (record := record_of(arguments, piece)) is not None:
            rows = entries.setdefault((piece.folder, piece.entry), {})
            rows.setdefault(piece.row, {})[piece.config.seed] = record
    firsts = {(piece.folder, piece.entry): piece for piece in reversed(pieces)}
    supervised = {(piece.folder, piece.entry, piece.row): piece.config.learn.supervise for piece in pieces}
    found = []
    for place, rows in entries.items():
        data, augmented = firsts[place].config.data, "augmented" in place[1]
        published = None if data.train else reference(key(data.name), augment=augmented)
        summaries = {}
        for row, seeds in rows.items():
            both = [seed for seed in seeds if seed in rows.get("SGD", {})]
            against = [rows["SGD"][seed] for seed in both]
            theirs = published and (
                published.sgd if row == "SGD" else published.searched(supervised[place[0], place[1], row])
            )
            shown = str(theirs) if theirs and row in ("SGD", PAPER, EVERY) else ""
            costs = [_seconds(seeds.values(), f"{stage}_seconds") for stage in ("search", "learn")]
            about = {"seeds": seeds, "cells": [len(seeds), shown, *costs]}
            summaries[row] = summary([seeds[seed] for seed in both] or [*seeds.values()], against) | about
        name = f"{label(data.name, arguments.data_root)}{place[1]}"
        found.append(
            {"data": name, "train": next(iter(rows.values()))[firsts[place].config.seed]["images"], "rows": summaries}
        )
    return found


def _seconds(seeds: Iterable[dict[str, Any]], name: str) -> str:
    known = [seed[name] for seed in seeds if name in seed]
    return f"{mean(known):.0f}" if known else ""


def draw_figure(arguments: Arguments, scale: Scale, base: RunConfig) -> None:
    """Fig. 4 as far as there is all of it."""
    curves = []
    for of in (few_of(base, scale), plain(base)):
        found = {place: record_of(arguments, piece) for place, piece in figure_of(of, scale).items()}
        if all(record is not None for record in found.values()):
            measured = {place: [100 * record["validation"]] for place, record in found.items()}
            images = found[next(iter(found))]["images"]
            name = f"{label(base.data.name, arguments.data_root)}, {images} images"
            curves += [{"data": name, **curve} for curve in curves_of(measured, scale.figure, "paper")]
    if curves:
        save_pictures(picture(curves, scale.figure), NAME, arguments.out)


def main(arguments: Arguments) -> None:
    began, scale = time.monotonic(), SCALES[arguments.scale]
    devices.prepare()
    sources = arguments.data or scale.data
    pieces, stopped = plan(sources, scale), None
    if arguments.minutes > 0:  # and the rest for the table
        stopped = work(arguments, pieces, began + 60 * arguments.minutes - min(30.0, 6 * arguments.minutes))
    if entries := entries_of(arguments, pieces):
        draw_figure(arguments, scale, base_of(sources[-1], scale))
        settings = {"scale": arguments.scale, "data": named(sources), **to_builtins(scale)}
        path = write_receipt(NAME, {"entries": entries}, settings=settings, device=arguments.device, folder=arguments.out)
        write_table(path, as_markdown(entries, ("seeds", "the paper's (%)", "search (s)", "learning (s)")))
    print(left(arguments, pieces, stopped))


if __name__ == "__main__":
    launch(main, Arguments, __doc__)
