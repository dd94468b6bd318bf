"""The joint two-dimensional map of all trajectories."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from decouple.report import style
from decouple.results import TrajectoryCurve

Trajectories = Mapping[str, Mapping[str, TrajectoryCurve]]
"""By kind of training and by name."""

NAMED = 12
"""Trajectories up to which each is named; of more, each kind."""


@style.styled
def map_figure(trajectories: Trajectories) -> Figure:
    """From the initial network (ring) over every record (dot) to the last one (large mark)."""
    figure = style.new_figure(4.2)
    axes = figure.subplots()
    shown: list[tuple[Line2D, str]] = []
    crowd = sum(len(named) for named in trajectories.values()) > NAMED
    for kind, look in style.looks(trajectories).items():
        named = trajectories[kind]
        for name, color in zip(named, style.shades(look.color, len(named), 0.4), strict=True):
            path = np.array(named[name].position, dtype=float).reshape(-1, 2)
            axes.plot(*path.T, color=color, ls=look.line, lw=0.8 if crowd else 1.3)
            axes.plot(*path[1:-1].T, ".", color=color, ms=2 if crowd else 3)
            axes.plot(*path[0], "o", mfc="white", mec=style.INK, ms=4.5 if crowd else 6, zorder=3)
            axes.plot(*path[-1], look.marker, color=color, mec="white", mew=0.7, ms=6 if crowd else 7.5, zorder=4)
            shown.append((Line2D([], [], color=color, ls=look.line, marker=look.marker), style.plain(name)))
        if crowd and named:
            shown[-len(named) :] = [(shown[-len(named)][0], f"{len(named)} {style.plain(look.label)}")]
    # Equal units in both directions: distances are what the map is about.
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.12)
    axes.set_xlabel("first principal component (unit-norm Gram matrices)")
    axes.set_ylabel("second principal component")
    style.legend(figure, [line for line, _ in shown], [text for _, text in shown], columns=6)
    return figure
