"""The effective number of different solutions."""

from __future__ import annotations

from matplotlib.figure import Figure

from decouple.report import style
from decouple.results import Results


def evolved(results: Results) -> list[str]:
    """Points at which the search changed something; all, if it did so nowhere."""
    search = results.search
    return [point for point in search.points if search.displacement[point]] or search.points


@style.styled
def diversity_figure(results: Results) -> Figure:
    """N_eff of each search point from 1 (all alike), with the number of solutions marked (all orthogonal)."""
    points, most = evolved(results), results.diversity.solutions
    values = [results.diversity.n_eff[point] for point in points]
    figure = style.new_figure(0.95 + 0.27 * len(points))
    axes = figure.subplots()
    places = range(len(points))
    axes.hlines(places, 1, values, color=style.BLUE, lw=2)
    axes.plot(values, list(places), "o", color=style.BLUE, ms=6)
    for place, value in zip(places, values, strict=True):
        axes.annotate(
            f"{value:.2f}",
            (value, place),
            (7, 0),
            textcoords="offset points",
            va="center",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )
    axes.axvline(most, color=style.INK, ls="--", lw=1)
    axes.annotate(
        f"{most} solution{'s' * (most > 1)}: the maximum",
        (most, 1.0),
        (4 if most == 1 else -4, 3),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha="left" if most == 1 else "right",
        va="bottom",
    )
    axes.set_yticks(list(places), [style.plain(point) for point in points])
    axes.set_ylim(len(points) - 0.5, -0.5)
    style.whole_axis(axes, 1, max(most, 2), room=0.04)
    axes.set_xticks(range(1, max(most, 2) + 1, max(1, -(-most // 10))))
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("effective number of solutions, $N_\\mathrm{eff}$ (1: all alike)")
    return figure
