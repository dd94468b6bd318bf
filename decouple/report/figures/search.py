"""Cross-entropy against generation: the search points one after another, as they are evolved."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure

from decouple.formats import nats
from decouple.report import style
from decouple.results import Curves, Results


@style.styled
def search_figure(results: Results, curves: Curves, measure: str = "mean cross-entropy") -> Figure:
    """`measure`, in nats: a panel for each search point that was evolved, a thin line for each solution, a thick one for the mean."""
    points = [point for point in results.search.points if len(curves.search[point][0]) > 1] or results.search.points
    generations = [len(curves.search[point][0]) - 1 for point in points]
    # The square root keeps ten generations of the logits visible beside three hundred of a block.
    widths = [math.sqrt(max(count, 1)) for count in generations]
    widths = [max(width, 0.45 * max(widths)) for width in widths]
    figure = style.new_figure(2.6)
    row = figure.subplots(1, len(points), sharey=True, squeeze=False, width_ratios=widths)[0]
    for axes, point, count in zip(row, points, generations, strict=True):
        lines = np.array(curves.search[point])
        mean = lines.mean(0)
        marker = style.LOOKS["search"].marker if count == 0 else ""
        if len(lines) > 1:
            axes.plot(lines.T, color=style.BLUE, lw=0.8, alpha=0.55, marker=marker)
        axes.plot(mean, color=style.BLUE, lw=2, marker=marker)
        # Curves fall, so the space above their end is free.
        axes.annotate(
            nats(mean[-1]), (count, lines[:, -1].max()), (0, 4), textcoords="offset points", ha="right", va="bottom"
        )
        axes.set_title(style.plain(point, style.LETTERS // len(points)))
        style.whole_axis(axes, 0, count, ticks=4 if count >= 0.5 * max(generations) else 2)
    first = np.array(curves.search[points[0]])
    if generations[0] > 0:
        row[0].annotate(nats(first[:, 0].mean()), (0, first[:, 0].max()), (3, 4), textcoords="offset points", va="bottom")
    row[0].set_ylim(0, 1.12 * max(np.max(curves.search[point]) for point in points))
    row[0].set_ylabel(f"{measure} (nats)")
    figure.supxlabel("generation at this search point", fontsize=8.5)
    return figure
