"""The joint two-dimensional map of all trajectories."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from decouple.report import style
from decouple.report.labels import Label, label_points
from decouple.results import Curves, Results


@style.styled
def map_figure(results: Results, curves: Curves) -> Figure:
    """From the initial network (ring) over every record (dot) to the last epoch (large mark, with the name)."""
    figure = style.new_figure(4.2)
    axes = figure.subplots()
    paths: list[NDArray[np.float64]] = []
    ends: list[Label] = []
    starts: list[Label] = []
    for kind, look in style.LOOKS.items():
        names = [name for name, network in results.networks.items() if network.kind == kind]
        for name, color in zip(names, style.shades(look.color, len(names), 0.4), strict=True):
            path = np.array(curves.trajectories[name].position, dtype=float).reshape(-1, 2)
            axes.plot(*path.T, color=color, ls=look.line, lw=1.3)
            axes.plot(*path[1:-1].T, ".", color=color, ms=3)
            axes.plot(*path[0], "o", mfc="white", mec=style.INK, ms=6, zorder=3)
            axes.plot(*path[-1], look.marker, color=color, mec="white", mew=0.7, ms=7.5, zorder=4)
            paths.append(path)
            ends.append(Label(path[-1, 0], path[-1, 1], name, style.INK))
            if len(path) > 1 and not any(np.allclose(path[0], (s.x, s.y), atol=1e-3) for s in starts):
                starts.append(Label(path[0, 0], path[0, 1], "start", style.GREY))
    # Equal units in both directions: distances are what the map is about.
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.12)
    axes.set_xlabel("first principal component (unit-norm Gram matrices)")
    axes.set_ylabel("second principal component")
    # A cloud of starts would need as many labels again; the page says what a ring is.
    label_points(axes, [*ends, *(starts if len(starts) <= 4 else [])], paths)
    return figure
