"""Trials of a tuning: validation accuracy against each setting, with the chosen trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from decouple.report import style

Tried = tuple[Mapping[str, Any], float | None]
"""The values of a trial's settings, by their whole names, and its validation accuracy, 0..1; None: it diverged."""


@style.styled
def tuning_figure(trials: Mapping[str, Sequence[Tried]], best: Mapping[str, int]) -> Figure:
    """A row for each method, a panel for each of its settings: a dot a trial, and a ring around the chosen one.

    Args:
        trials: by method.
        best: by method, the position of the chosen trial.
    """
    columns = max(len(tried[0][0]) for tried in trials.values())
    figure = style.new_figure(2.1 * len(trials))
    grid = figure.subplots(len(trials), columns, sharey=True, squeeze=False)
    looks = {"sgd": style.LOOKS["sgd"], "learn": style.LOOKS["search"], **style.looks(["q0"])}
    for row, (method, tried) in zip(grid, trials.items(), strict=True):
        names = list(tried[0][0])
        for axes, name in zip(row, names, strict=False):
            _panel(axes, name, tried, best[method], looks[method])
        for axes in row[len(names) :]:
            axes.remove()
        row[0].set_ylabel("validation\naccuracy (%)")
    return figure


def _panel(axes: Axes, name: str, tried: Sequence[Tried], best: int, look: style.Look) -> None:
    values = [trial[name] for trial, _ in tried]
    ticks: list[Any] = (
        sorted(set(values)) if not any(isinstance(value, str) for value in values) else list(dict.fromkeys(values))
    )
    log = all(not isinstance(value, str) and value > 0 for value in ticks)
    places = values if log else [ticks.index(value) for value in values]  # evenly, where no logarithm shows the steps so
    shown = [(place, 100 * accuracy) for place, (_, accuracy) in zip(places, tried, strict=True) if accuracy is not None]
    axes.plot(*zip(*shown, strict=True), look.marker, color=look.color, alpha=0.6, mew=0)
    accuracy = tried[best][1]
    if accuracy is not None:
        axes.plot(places[best], 100 * accuracy, "o", mfc="none", mec=style.INK, ms=9)
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(
        ticks if log else range(len(ticks)), [style.plain(f"{t}" if isinstance(t, str) else f"{t:g}") for t in ticks]
    )
    axes.set_title(style.plain(name))
