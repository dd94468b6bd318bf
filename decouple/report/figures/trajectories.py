"""How the representations move during training: towards the searched targets, and in collision entropy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from decouple.report import style
from decouple.results import TrajectoryCurve

Families = Mapping[str, Sequence[TrajectoryCurve]]
"""Trajectories by kind of training."""


@style.styled
def distances_figure(layers: Sequence[str], families: Families, unit: str) -> Figure:
    """Cosine distance to the targets against time in `unit`, a panel for each layer."""
    rows, columns = _grid(layers)
    figure = style.new_figure(2.5 if rows == 1 else 2.1 * rows)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes, layer in zip(panels.flat, layers, strict=False):
        _families(axes, families, lambda curve, name=layer: curve.cosine_distance[name])  # type: ignore[misc]
        axes.set_title(style.plain(layer, style.LETTERS // columns))
    for axes in panels.flat[len(layers) :]:
        axes.set_visible(False)
    for place, axes in enumerate(panels.flat[: len(layers)]):
        # Where a panel has none below it, it carries the epochs.
        if place + columns >= len(layers):
            axes.xaxis.set_tick_params(labelbottom=True)
    every = [v for curves in families.values() for c in curves for values in c.cosine_distance.values() for v in values]
    panels[0, 0].set_ylim(min(0.0, *every), 1.08 * max(every))
    figure.supylabel("cosine distance", fontsize=8.5)
    figure.supxlabel(style.plain(unit), fontsize=8.5)
    _legend(figure, families)
    return figure


@style.styled
def entropies_figure(layers: Sequence[str], families: Families, unit: str) -> Figure:
    """Collision entropy within a class (above) and between classes (below), a column for each layer; many layers take several rows
    of such columns."""
    rows, columns = _grid(layers)
    figure = style.new_figure(3.9 if rows == 1 else 3.6 * rows)
    panels = figure.subplots(2 * rows, columns, sharex=True, sharey="row", squeeze=False)
    for row in range(2, 2 * rows):
        panels[row, 0].sharey(panels[row % 2, 0])
    for place in range(rows * columns):
        row, column = divmod(place, columns)
        within, between = panels[2 * row : 2 * row + 2, column]
        if place >= len(layers):
            within.set_visible(False)
            between.set_visible(False)
            continue
        layer = layers[place]
        _families(within, families, lambda c, name=layer: c.within_entropy[name])  # type: ignore[misc]
        _families(between, families, lambda c, name=layer: c.between_entropy[name])  # type: ignore[misc]
        within.set_title(style.plain(layer, style.LETTERS // columns))
        if place + columns >= len(layers):  # there is none below it
            between.xaxis.set_tick_params(labelbottom=True)
            between.set_xlabel(style.plain(unit, style.LETTERS // columns))
    for row in range(rows):
        panels[2 * row, 0].set_ylabel("within a class (nats)")
        panels[2 * row + 1, 0].set_ylabel("between classes (nats)")
    figure.align_ylabels(panels[:, 0])
    _legend(figure, families)
    return figure


def _grid(layers: Sequence[str]) -> tuple[int, int]:
    """Rows and columns of panels for these layers: at most four columns."""
    rows = -(-len(layers) // 4)
    return rows, -(-len(layers) // rows)


def _families(axes: Axes, families: Families, values_of: Callable[[TrajectoryCurve], Sequence[float]]) -> None:
    """For each kind of training its mean line and, where there are several networks, their range as a band."""
    first, last = [], []
    for kind, look in style.looks(families).items():
        members = families[kind]
        if not members:
            continue
        # Where a training has no record it is interpolated; before and after its records it counts for nothing.
        epochs = sorted({epoch for member in members for epoch in member.epochs})
        values = np.array(
            [np.interp(epochs, member.epochs, values_of(member), left=np.nan, right=np.nan) for member in members]
        )
        line: Mapping[str, Any] = {"color": look.color, "ls": look.line, "marker": look.marker, "ms": 3.2}
        axes.plot(epochs, np.nanmean(values, 0), **line)
        if len(members) > 1:
            low, high = np.nanmin(values, 0), np.nanmax(values, 0)
            axes.fill_between(epochs, low, high, color=look.color, alpha=0.18, lw=0)
        first.append(min(epochs))
        last.append(max(epochs))
    style.whole_axis(axes, min(0, *first), max(last), ticks=4, room=0.03)


def _legend(figure: Figure, families: Families) -> None:
    kinds = [(look, len(families[kind])) for kind, look in style.looks(families).items() if families[kind]]
    handles = [Line2D([], [], color=look.color, ls=look.line, marker=look.marker, ms=3.2) for look, _ in kinds]
    texts = [style.plain(look.label) + (f", mean and range of {count}" if count > 1 else "") for look, count in kinds]
    style.legend(figure, handles, texts, columns=len(handles) if len(handles) <= 3 else 2)
