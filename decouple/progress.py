"""Progress with time left: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import rich.console
import rich.progress

Advance = Callable[[int], None]

LINE_SECONDS = 15.0
"""Time between two lines where there is no terminal."""


class Progress:
    """Shows how far long work has come. `quiet` shows nothing."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._console = rich.console.Console(stderr=True, quiet=quiet)

    def say(self, text: str) -> None:
        """Print a line."""
        if not self._quiet:
            print(text, file=sys.stderr, flush=True)

    @contextmanager
    def task(self, what: str, total: int, unit: str) -> Iterator[Advance]:
        """Gives a function to call with the number of units done since its last call."""
        if self._console.is_terminal:
            columns = (
                rich.progress.TextColumn("{task.description}", justify="left"),
                rich.progress.BarColumn(),
                rich.progress.MofNCompleteColumn(),
                rich.progress.TextColumn(unit),
                rich.progress.TextColumn("·"),
                rich.progress.TimeElapsedColumn(),
                rich.progress.TextColumn("· left"),
                rich.progress.TimeRemainingColumn(),
            )
            with rich.progress.Progress(*columns, console=self._console) as bars:
                task = bars.add_task(f"{what:<28}", total=total)
                yield lambda count: bars.update(task, advance=count)
        else:
            yield self._lines(what, total, unit)

    def _lines(self, what: str, total: int, unit: str) -> Advance:
        began = last = time.monotonic()
        done = measured = 0

        def advance(count: int) -> None:
            nonlocal last, done, measured
            now = time.monotonic()
            # What is found done already comes at once: it says nothing about the speed.
            measured += count if now - began > 0.2 else 0
            done += count
            if now - last >= LINE_SECONDS or done >= total:
                left = (total - done) * (now - began) / measured if measured else 0.0
                self.say(
                    f"{what}: {done}/{total} {unit}, {now - began:.0f} s" + (f", {left:.0f} s left" if done < total else "")
                )
                last = now

        return advance
