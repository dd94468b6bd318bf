"""Validation accuracy and training loss by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from decouple.report import style
from decouple.report.labels import Label, label_line_ends
from decouple.results import Curves, Results

NAMED = 6
"""Networks up to which each is named; more are drawn as two families."""

LOSSES = {"search": "training loss, searched", "sgd": "training loss (nats), SGD"}


@style.styled
def training_figure(results: Results, curves: Curves) -> Figure:
    """Accuracy on the left, with each network's best epoch; losses on the right, one panel for each kind of loss."""
    kinds = {kind: [name for name, n in results.networks.items() if n.kind == kind] for kind in style.LOOKS}
    kinds = {kind: names for kind, names in kinds.items() if names}
    crowd = len(results.networks) > NAMED
    figure = style.new_figure(3.1)
    panels: dict[str, Axes] = figure.subplot_mosaic([["accuracy", kind] for kind in kinds], width_ratios=[1.7, 1])
    for kind, names in kinds.items():
        look = style.LOOKS[kind]
        for name, color in zip(names, style.shades(look.color, len(names)), strict=True):
            curve = curves.training[name]
            line: dict[str, Any] = {"color": color, "ls": look.line, "lw": 0.9 if crowd else 1.6}
            mark: dict[str, Any] = {
                "color": color,
                "marker": look.marker,
                "mec": "white",
                "mew": 0.7,
                "ms": 4.5 if crowd else 6,
            }
            percent, best = [100 * share for share in curve.validation_accuracy], results.networks[name].best_epoch
            panels["accuracy"].plot(range(1, len(percent) + 1), percent, **line)
            if 1 <= best <= len(percent):
                panels["accuracy"].plot(best, percent[best - 1], zorder=3, **mark)
            panels[kind].plot(range(1, len(curve.loss) + 1), curve.loss, marker="o" if len(curve.loss) == 1 else "", **line)
        panels[kind].set_title(LOSSES[kind])
        losses = [curves.training[name].loss for name in names]
        _logarithmic(panels[kind], losses)
        style.whole_axis(panels[kind], 1, max(map(len, losses)))
    _settle(panels["accuracy"], [curve.validation_accuracy for curve in curves.training.values()])
    for kind in ("accuracy", list(kinds)[-1]):
        panels[kind].set_xlabel("epoch")
    label_line_ends(panels["accuracy"], _ends(curves, kinds, crowd))
    return figure


def _logarithmic(axes: Axes, losses: Sequence[Sequence[float]]) -> None:
    """A logarithmic axis with few plain numbers, where the losses allow one."""
    low, high = min(map(min, losses)), max(map(max, losses))
    if low <= 0 or low == high:
        return
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 50 * low else (1.0,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _settle(axes: Axes, shares: Sequence[Sequence[float]]) -> None:
    """Limits that leave out the climb from chance in the first quarter, beside which later differences are too small."""
    low, top = min(min(values[len(values) // 4 :]) for values in shares), max(map(max, shares))
    margin = max(0.06 * (top - low), 0.005)
    axes.set_ylim(100 * max(low - margin, 0), 100 * (top + margin))
    axes.set_title("validation accuracy (%)")
    style.whole_axis(axes, 1, max(map(len, shares)))


def _ends(curves: Curves, kinds: Mapping[str, list[str]], crowd: bool) -> list[Label]:
    """What to write where the accuracy lines end: every network, or of a crowd the two families."""
    labels = []
    for kind, names in kinds.items():
        look = style.LOOKS[kind]
        ends = {name: curves.training[name].validation_accuracy for name in names}
        if crowd and len(names) > 1:
            last = float(np.mean([values[-1] for values in ends.values()]))
            labels.append(Label(len(ends[names[0]]), 100 * last, f"{len(names)} {look.label}", look.color))
        else:
            labels += [Label(len(values), 100 * values[-1], style.plain(name), look.color) for name, values in ends.items()]
    return labels
