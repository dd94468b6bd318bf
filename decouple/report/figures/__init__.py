"""The figures of a run's report and of a comparison's page."""

from __future__ import annotations

from matplotlib.figure import Figure

from decouple.report.figures.diversity import diversity_figure
from decouple.report.figures.map import map_figure, paths_figure
from decouple.report.figures.members import population_figure
from decouple.report.figures.pairs import correlation_figure, families_figure, headline_correlations, pairs_figure
from decouple.report.figures.search import search_figure
from decouple.report.figures.training import training_figure
from decouple.report.figures.trajectories import distances_figure, entropies_figure, entropy_figure, trajectories_figure
from decouple.results import Curves, Results, TrajectoryCurve
from decouple.trajectories.results import TrajectoryComparison

__all__ = [
    "diversity_figure",
    "draw_comparison",
    "draw_figures",
    "entropy_figure",
    "map_figure",
    "population_figure",
    "search_figure",
    "training_figure",
    "trajectories_figure",
]


def draw_figures(results: Results, curves: Curves) -> dict[str, Figure]:
    """Every figure of a run's report, by name, in the page's order."""
    return {
        "search": search_figure(results, curves),
        "training": training_figure(results, curves),
        "trajectories": trajectories_figure(results, curves),
        "entropy": entropy_figure(results, curves),
        "map": map_figure(results, curves),
        "diversity": diversity_figure(results),
        "population": population_figure(results, curves),
    }


def draw_comparison(found: TrajectoryComparison, unit: str) -> dict[str, Figure]:
    """Every figure that the comparison has numbers for, by name, in the page's order; `unit` of a step: epoch, say."""
    by_kind: dict[str, dict[str, TrajectoryCurve]] = {}
    for name, network in found.networks.items():
        by_kind.setdefault(network.kind, {})[name] = found.trajectories[name]
    families = {kind: list(curves.values()) for kind, curves in by_kind.items()}
    curves = list(found.trajectories.values())
    figures = {}
    if all(curve.cosine_distance for curve in curves):
        layers = [layer for layer in found.layers if all(layer in curve.cosine_distance for curve in curves)]
        figures["distances"] = distances_figure(layers, families, unit)
    if all(curve.within_entropy for curve in curves):
        figures["entropies"] = entropies_figure(found.layers, families, unit)
    figures["map"] = paths_figure({kind: {n: c.position for n, c in own.items()} for kind, own in by_kind.items()})
    if len(found.networks) > 1:
        figures["pairs"] = pairs_figure(found)
        figures["families"] = families_figure(found)
    if points := headline_correlations(found):
        figures["correlation"] = correlation_figure(points)
    return figures
