"""Trials of a tuning: validation accuracy against each setting, with the chosen trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
            _panel(axes, name, tried, best[method], looks[method], columns)
        for axes in row[len(names) :]:
            axes.remove()
        row[0].set_ylabel("validation\naccuracy (%)")
    return figure


def _panel(axes: Axes, name: str, tried: Sequence[Tried], best: int, look: style.Look, columns: int) -> None:
    """Values evenly, in their order, which shows the steps of a grid alike; as many are labelled as fit into a column."""
    values: list[Any] = list(dict.fromkeys(trial[name] for trial, _ in tried))
    values = values if any(isinstance(value, str) for value in values) else sorted(values)
    for form, some in (
        ({"marker": look.marker, "color": look.color, "alpha": 0.6, "mew": 0}, tried),
        ({"marker": "o", "mfc": "none", "mec": style.INK, "ms": 9}, [tried[best]]),
    ):
        dots = [(values.index(trial[name]), 100 * accuracy) for trial, accuracy in some if accuracy is not None]
        axes.plot([place for place, _ in dots], [reached for _, reached in dots], ls="", **form)  # type: ignore[arg-type]
    places = range(0, len(values), -(-len(values) // max(2, 15 // columns)))
    axes.set_xticks(places, [style.plain(v if isinstance(v, str) else f"{v:g}", 8) for v in map(values.__getitem__, places)])
    axes.set_xlim(-0.5, len(values) - 0.5)
    axes.set_title(style.plain(name, style.LETTERS // columns))
