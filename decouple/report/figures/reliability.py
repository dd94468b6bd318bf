"""Reliability diagrams: how often answers of a confidence are right."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from decouple.report import style
from decouple.results import Reliability


@style.styled
def reliability_figure(diagrams: Mapping[str, Reliability]) -> Figure:
    """A panel for each diagram, by its title: accuracy against confidence above, and the share of the answers below."""
    figure = style.new_figure(3.0, style.WIDTH if len(diagrams) > 1 else style.WIDTH / 2)
    grid = figure.subplots(2, len(diagrams), sharex=True, sharey="row", squeeze=False, height_ratios=(4, 1))
    for (above, below), (title, diagram) in zip(grid.T, diagrams.items(), strict=True):
        _panel(above, below, diagram)
        calibration = f"ECE {diagram.ece:.3f}"
        above.set_title(style.plain(f"{title}: {calibration}" if title else calibration))
    grid[0, 0].set_ylabel("accuracy")
    grid[1, 0].set_ylabel("share (%)")
    return figure


def _panel(above: Axes, below: Axes, diagram: Reliability) -> None:
    bins, total = len(diagram.counts), sum(diagram.counts)
    edges = [(place + 0.5) / bins for place in range(bins)]
    above.plot([0, 1], [0, 1], color=style.GREY, lw=1, ls=(0, (4, 2)))
    filled = [place for place in range(bins) if diagram.counts[place]]
    above.plot([diagram.confidence[i] for i in filled], [diagram.accuracy[i] for i in filled], color=style.BLUE, marker="o")
    below.bar(edges, [100 * count / total for count in diagram.counts], width=0.9 / bins, color=style.BLUE, alpha=0.6)
    above.set_xlim(0, 1)
    above.set_ylim(0, 1.02)
    below.set_xlabel("confidence")
