"""The figures of a report: each takes what `results.json` and `curves.json` hold and returns a matplotlib figure."""

from __future__ import annotations

from matplotlib.figure import Figure

from decouple.report.figures.diversity import diversity_figure
from decouple.report.figures.map import map_figure
from decouple.report.figures.population import population_figure
from decouple.report.figures.search import search_figure
from decouple.report.figures.training import training_figure
from decouple.report.figures.trajectories import entropy_figure, trajectories_figure
from decouple.results import Curves, Results

__all__ = [
    "diversity_figure",
    "draw_figures",
    "entropy_figure",
    "map_figure",
    "population_figure",
    "search_figure",
    "training_figure",
    "trajectories_figure",
]


def draw_figures(results: Results, curves: Curves) -> dict[str, Figure]:
    """Every figure of the report, by name, in the page's order."""
    return {
        "search": search_figure(results, curves),
        "training": training_figure(results, curves),
        "trajectories": trajectories_figure(results, curves),
        "entropy": entropy_figure(results, curves),
        "map": map_figure(results, curves),
        "diversity": diversity_figure(results),
        "population": population_figure(results, curves),
    }
