"""The joint two-dimensional map of all trajectories."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from decouple.report import style
from decouple.report.labels import Label, label_points
from decouple.results import TrajectoryCurve

Trajectories = Mapping[str, Mapping[str, TrajectoryCurve]]
"""By kind of training and by name."""

NAMED = 12
"""Trajectories up to which each is named where it ends."""


@style.styled
def map_figure(trajectories: Trajectories) -> Figure:
    """From the initial network (ring) over every record (dot) to the last one (large mark, with the name)."""
    figure = style.new_figure(4.2)
    axes = figure.subplots()
    paths: list[NDArray[np.float64]] = []
    ends: list[Label] = []
    starts: list[Label] = []
    crowd = sum(len(named) for named in trajectories.values()) > NAMED
    for kind, look in style.looks(trajectories).items():
        named = trajectories[kind]
        for name, color in zip(named, style.shades(look.color, len(named), 0.4), strict=True):
            path = np.array(named[name].position, dtype=float).reshape(-1, 2)
            axes.plot(*path.T, color=color, ls=look.line, lw=0.8 if crowd else 1.3)
            axes.plot(*path[1:-1].T, ".", color=color, ms=2 if crowd else 3)
            axes.plot(*path[0], "o", mfc="white", mec=style.INK, ms=4.5 if crowd else 6, zorder=3)
            axes.plot(*path[-1], look.marker, color=color, mec="white", mew=0.7, ms=6 if crowd else 7.5, zorder=4)
            paths.append(path)
            ends.append(Label(path[-1, 0], path[-1, 1], style.plain(name), style.INK))
            if len(path) > 1 and not any(np.allclose(path[0], (s.x, s.y), atol=1e-3) for s in starts):
                starts.append(Label(path[0, 0], path[0, 1], "start", style.GREY))
    # Equal units in both directions: distances are what the map is about.
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.12)
    axes.set_xlabel("first principal component (unit-norm Gram matrices)")
    axes.set_ylabel("second principal component")
    if crowd:
        _legend(figure, trajectories)
    else:
        # A cloud of starts would need as many labels again; the page says what a ring is.
        label_points(axes, [*ends, *(starts if len(starts) <= 4 else [])], paths)
    return figure


def _legend(figure: Figure, trajectories: Trajectories) -> None:
    looks = style.looks(kind for kind, named in trajectories.items() if named)
    handles = [Line2D([], [], color=look.color, ls=look.line, marker=look.marker) for look in looks.values()]
    texts = [f"{len(trajectories[kind])} {style.plain(look.label)}" for kind, look in looks.items()]
    style.legend(figure, handles, texts, columns=len(handles))
