"""Progress with time left: a bar on a terminal and in a notebook, now and then a line elsewhere."""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import rich.console
import rich.progress

Advance = Callable[[int], None]

LINE_SECONDS, BAR_SECONDS = 15.0, 0.5
"""Time between two lines where there is no terminal, and between two states of a notebook's bar."""


class Progress:
    """A logger (see `decouple.Logger`) that shows a progress bar with the latest metrics. With `quiet` it shows nothing."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._console = rich.console.Console(stderr=True, quiet=quiet)
        self._figures = ""

    def log(self, stage: str, unit: str, step: int, values: Mapping[str, float]) -> None:
        """Show the figures beside the bar from its next state on."""
        self._figures = "".join(f", {name.replace('_', ' ')} {value:.4g}" for name, value in values.items())

    def say(self, text: str) -> None:
        """Print a line."""
        if not self._quiet:
            print(text, file=sys.stderr, flush=True)

    @contextmanager
    def task(self, what: str, total: int, unit: str) -> Iterator[Advance]:
        """Gives a function to call with the number of units done since its last call."""
        self._figures = ""
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
                rich.progress.TextColumn("{task.fields[figures]}"),
            )
            with rich.progress.Progress(*columns, console=self._console) as bars:
                task = bars.add_task(f"{what:<28}", total=total, figures="")
                yield lambda count: bars.update(task, advance=count, figures=self._figures)
        elif self._console.is_jupyter and not self._quiet:
            bar = _notebook_bar(what, total)
            yield _paced(what, total, unit, lambda text, done: bar(text + self._figures, done), BAR_SECONDS)
        else:
            yield _paced(what, total, unit, lambda text, done: self.say(text + self._figures), LINE_SECONDS)


def _notebook_bar(what: str, total: int) -> Callable[[str, int], None]:
    """Shows a text and a bar, of HTML: rich's and tqdm's bars need ipywidgets on both sides, the kernel's and the page's."""
    from IPython.display import HTML, display

    def bar(text: str, done: int) -> HTML:
        return HTML(f'<progress value="{done}" max="{total}"></progress> {html.escape(text)}')

    shown = display(bar(what, 0), display_id=True)
    return lambda text, done: shown.update(bar(text, done))


def _paced(what: str, total: int, unit: str, show: Callable[[str, int], None], seconds: float) -> Advance:
    """Shows the text and the number of units done, at most once in so many `seconds` and at the end."""
    began = last = time.monotonic()
    done = measured = 0

    def advance(count: int) -> None:
        nonlocal last, done, measured
        now = time.monotonic()
        # What is found done already comes at once: it says nothing about the speed.
        measured += count if now - began > 0.2 else 0
        done += count
        if now - last >= seconds or done >= total:
            left = (total - done) * (now - began) / measured if measured else 0.0
            show(
                f"{what}: {done}/{total} {unit}, {now - began:.0f} s" + (f", {left:.0f} s left" if done < total else ""),
                done,
            )
            last = now

    return advance
