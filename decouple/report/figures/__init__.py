"""The figures of a run's report and of a comparison's page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from matplotlib.figure import Figure

from decouple.report import style
from decouple.report.figures.diversity import diversity_figure
from decouple.report.figures.map import Trajectories, map_figure
from decouple.report.figures.members import population_figure
from decouple.report.figures.pairs import correlation_figure, families_figure, headline_correlations, pairs_figure
from decouple.report.figures.reliability import reliability_figure
from decouple.report.figures.search import search_figure
from decouple.report.figures.training import training_figure
from decouple.report.figures.trajectories import distances_figure, entropies_figure
from decouple.results import Curves, NetworkResult, Results, TrajectoryCurve
from decouple.trajectories.results import Network, TrajectoryComparison

__all__ = ["OF_COMPARISONS", "OF_RUNS", "draw_comparison", "draw_figures"]

OF_RUNS = ("search", "training", "trajectories", "entropy", "map", "diversity", "population", "reliability")
"""Names of all figures that a run's report can have."""
OF_COMPARISONS = ("distances", "entropies", "map", "pairs", "families", "correlation")
"""Names of all figures that a comparison's page can have."""


def draw_figures(results: Results, curves: Curves, measure: str = "mean cross-entropy") -> dict[str, Figure]:
    """Every figure of a run's report, by name, in the page's order; `measure`: what the searches lower."""
    kinds = _by_kind(results.networks, curves.trajectories, style.LOOKS)
    families = {kind: list(own.values()) for kind, own in kinds.items()}
    known = next((curve.cosine_distance for own in families.values() for curve in own), {})
    points = results.search.points
    named = {"single": "best single member", "learned_prior": "learned prior", "calibrated": "calibrated"}
    diagrams = {named[way]: calibration.reliability for way, calibration in curves.calibration.items()}
    return {
        "search": search_figure(results, curves, measure),
        "training": training_figure(results, curves),
        "trajectories": distances_figure([point for point in points if point in known] or points, families, "epoch"),
        "entropy": entropies_figure(points, families, "epoch"),
        "map": map_figure(kinds),
        "diversity": diversity_figure(results),
        "population": population_figure(results.q0, curves),
        **({"reliability": reliability_figure(diagrams)} if diagrams else {}),
    }


def draw_comparison(found: TrajectoryComparison, unit: str) -> dict[str, Figure]:
    """Every figure that the comparison has numbers for, by name, in the page's order; `unit` of a step: epoch, say."""
    kinds = _by_kind(found.networks, found.trajectories, dict.fromkeys(n.kind for n in found.networks.values()))
    families = {kind: list(own.values()) for kind, own in kinds.items()}
    curves = list(found.trajectories.values())
    figures = {}
    if all(curve.cosine_distance for curve in curves):
        layers = [layer for layer in found.layers if all(layer in curve.cosine_distance for curve in curves)]
        figures["distances"] = distances_figure(layers, families, unit)
    if all(curve.within_entropy for curve in curves):
        figures["entropies"] = entropies_figure(found.layers, families, unit)
    figures["map"] = map_figure(kinds)
    if len(found.networks) > 1:
        figures["pairs"] = pairs_figure(found)
        figures["families"] = families_figure(found)
    if points := headline_correlations(found):
        figures["correlation"] = correlation_figure(points)
    return figures


def _by_kind(
    networks: Mapping[str, NetworkResult] | Mapping[str, Network],
    curves: Mapping[str, TrajectoryCurve],
    kinds: Iterable[str],
) -> Trajectories:
    return {kind: {name: curves[name] for name, network in networks.items() if network.kind == kind} for kind in kinds}
