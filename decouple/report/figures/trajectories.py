"""How the representations move during training: towards the searched targets, and in collision entropy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from decouple.report import style
from decouple.results import Curves, Results, TrajectoryCurve


@style.styled
def trajectories_figure(results: Results, curves: Curves) -> Figure:
    """Cosine distance to the searched targets, a panel for each search point."""
    points = results.search.points
    rows = 1 if len(points) <= 4 else 2
    columns = -(-len(points) // rows)
    figure = style.new_figure(2.5 if rows == 1 else 4.2)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes, point in zip(panels.flat, points, strict=False):
        _families(axes, results, curves, lambda curve, p=point: curve.cosine_distance[p])  # type: ignore[misc]
        axes.set_title(point)
    for axes in panels.flat[len(points) :]:
        axes.set_visible(False)
    for place, axes in enumerate(panels.flat[: len(points)]):
        # Where a panel has none below it, it carries the epochs.
        if place + columns >= len(points):
            axes.xaxis.set_tick_params(labelbottom=True)
    every = [v for curve in curves.trajectories.values() for values in curve.cosine_distance.values() for v in values]
    panels[0, 0].set_ylim(min(0.0, *every), 1.08 * max(every))
    figure.supylabel("cosine distance", fontsize=8.5)
    figure.supxlabel("epoch", fontsize=8.5)
    _legend(figure, panels[0, 0])
    return figure


@style.styled
def entropy_figure(results: Results, curves: Curves) -> Figure:
    """Collision entropy within a class (above) and between classes (below), a column for each search point."""
    points = results.search.points
    figure = style.new_figure(3.9)
    panels = figure.subplots(2, len(points), sharex=True, sharey="row", squeeze=False)
    for column, point in enumerate(points):
        _families(panels[0, column], results, curves, lambda c, p=point: c.within_entropy[p])  # type: ignore[misc]
        _families(panels[1, column], results, curves, lambda c, p=point: c.between_entropy[p])  # type: ignore[misc]
        panels[0, column].set_title(point)
        panels[1, column].set_xlabel("epoch")
    panels[0, 0].set_ylabel("within a class (nats)")
    panels[1, 0].set_ylabel("between classes (nats)")
    figure.align_ylabels(panels[:, 0])
    _legend(figure, panels[0, 0])
    return figure


def _families(axes: Axes, results: Results, curves: Curves, values_of: Callable[[TrajectoryCurve], Sequence[float]]) -> None:
    """For each kind of training its mean line and, where there are several networks, their range as a band."""
    last = 0
    for kind, look in style.LOOKS.items():
        members = [curves.trajectories[name] for name, n in results.networks.items() if n.kind == kind]
        if not members:
            continue
        epochs = members[0].epochs
        # Networks of a kind share their records; interpolation is for curves that were put together by hand.
        values = np.array([np.interp(epochs, member.epochs, values_of(member)) for member in members])
        line: Mapping[str, Any] = {"color": look.color, "ls": look.line, "marker": look.marker, "ms": 3.2}
        text = look.label if len(members) == 1 else f"{look.label}, mean and range of {len(members)}"
        axes.plot(epochs, values.mean(0), label=text, **line)
        if len(members) > 1:
            axes.fill_between(epochs, values.min(0), values.max(0), color=look.color, alpha=0.18, lw=0)
        last = max(last, *epochs)
    style.whole_axis(axes, 0, last, ticks=4, room=0.03)


def _legend(figure: Figure, axes: Axes) -> None:
    """One legend above all panels, where it covers nothing."""
    handles, texts = axes.get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside upper left", ncols=2)
