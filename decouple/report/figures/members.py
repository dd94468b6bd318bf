"""The q0 population: its members with their weights, and ensembles of any size."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from decouple.report import style
from decouple.report.labels import Label, label_line_ends
from decouple.results import NOTICEABLE_WEIGHT, Curves, Q0Results

NAMED = 4
"""Trajectories up to which each is named."""


@style.styled
def population_figure(q0: Q0Results, curves: Curves) -> Figure:
    """Test NLL of each snapshot (area: weight) on the left, of ensembles on the right, on one scale."""
    figure = style.new_figure(3.3)
    members, sizes = figure.subplots(1, 2, sharey=True)
    trajectories = _members(members, q0)
    ensembles = _sizes(sizes, q0, curves)
    members.set_ylabel("test NLL (nats)")
    for axes, labels in ((members, trajectories), (sizes, ensembles)):
        if labels:
            label_line_ends(axes, labels)
    return figure


def _members(axes: Axes, q0: Q0Results) -> list[Label]:
    """Draws the left panel; returns names for its lines."""
    trajectories = sorted({member.trajectory for member in q0.members})
    crowd = len(trajectories) > NAMED
    most = max(max(member.weight for member in q0.members), 1e-12)
    # Many members get smaller bubbles, and each trajectory its own place in a cycle, or they would hide one another.
    largest = 150 if len(q0.members) <= 24 else 60
    labels = []
    for place, trajectory in enumerate(trajectories):
        own = sorted((m for m in q0.members if m.trajectory == trajectory), key=lambda m: m.cycle)
        at = np.array([m.cycle for m in own]) + (0.7 * (place + 0.5) / len(trajectories) - 0.35 if crowd else 0)
        nll, weight = np.array([m.test_nll for m in own]), np.array([m.weight for m in own])
        used = weight >= NOTICEABLE_WEIGHT
        axes.plot(at, nll, color="#C4C4C4", lw=0.6 if crowd else 1, zorder=1)
        # The least weights get a bubble that can be seen at all.
        bubbles: dict[str, Any] = {"color": style.BLUE, "alpha": 0.85, "linewidths": 0.5, "edgecolors": "white", "zorder": 3}
        axes.scatter(at[used], nll[used], s=np.maximum(largest * weight[used] / most, 6), **bubbles)
        axes.plot(at[~used], nll[~used], "x", color=style.GREY, ms=3 if crowd else 4, mew=0.8, zorder=2)
        labels.append(Label(at[-1], nll[-1], f"trajectory {trajectory}", style.GREY))
    axes.axhline(q0.test_nll.single, color=style.INK, ls=":", lw=1.1, zorder=0)
    axes.set_title("snapshots (area: learned weight; ×: none)")
    axes.set_xlabel("cycle")
    cycles = [member.cycle for member in q0.members]
    style.whole_axis(axes, min(cycles), max(cycles), room=0.09 if crowd else 0.06)
    return labels if 1 < len(labels) <= NAMED else []


def _sizes(axes: Axes, q0: Q0Results, curves: Curves) -> list[Label]:
    """Draws the right panel; returns names for its lines."""
    looks = {
        "uniform": ("uniform", style.GREEN, (0, (4, 1.6)), "s"),
        "greedy": ("greedy", style.VERMILLION, (0, (1, 1)), "^"),
        "learned_prior": ("learned prior", style.BLUE, "-", "o"),
        "calibrated": ("calibrated", style.PURPLE, "-", "D"),
    }
    count = len(q0.members)
    labels = [Label(count, q0.test_nll.single, "best single", style.INK)]
    axes.axhline(q0.test_nll.single, color=style.INK, ls=":", lw=1.1)
    for key, (text, color, line, marker) in looks.items():
        if (nll := curves.q0_size.get(key)) is None:
            continue  # a text is not calibrated
        at = np.arange(1, len(nll) + 1)
        few = len(nll) <= 24
        axes.plot(at, nll, color=color, ls=line, marker=marker if few else "", ms=3.2)
        reported = {"learned_prior": q0.members_used, "calibrated": q0.members_used, "uniform": q0.size}.get(key, 0)
        if 1 <= reported <= len(nll):
            axes.plot(reported, nll[reported - 1], marker, color=color, mec="white", mew=0.8, ms=8, zorder=3)
        labels.append(Label(count, nll[-1], text, color))
    axes.set_title("ensembles (large mark: reported)")
    axes.set_xlabel("members")
    style.whole_axis(axes, 1, count, room=0.04)
    if count > 16:
        axes.set_xscale("log")
        ticks = [t for t in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if t <= count]
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.set_xlim(0.93, 1.07 * count)
    return labels
