"""How far apart trained networks are: every pair, by what two share, and against how far apart their targets are."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from decouple.report import style
from decouple.results import Interval
from decouple.trajectories.results import Correlation, TrajectoryComparison

NUMBERED = 10
"""Networks up to which each cell of a matrix holds its number."""

NAMED = 30
"""Networks up to which each line of a matrix is named."""


@style.styled
def pairs_figure(found: TrajectoryComparison) -> Figure:
    """CKA of every pair at the headline layer, and disagreement of their predictions; networks by kind of training."""
    names = by_kind(found)
    place = {name: i for i, name in enumerate(names)}
    cka, differ = np.eye(len(names)), np.zeros((len(names), len(names)))
    for pair in found.pairs:
        i, j = place[pair.one], place[pair.other]
        cka[i, j] = cka[j, i] = pair.cka[found.headline]
        differ[i, j] = differ[j, i] = np.nan if pair.disagreement is None else pair.disagreement
    panels = [(cka, f"CKA at {style.plain(found.headline, 20)}", 1.0)]
    if found.logits is not None:
        panels.append((differ, "disagreement of predictions", max(1e-9, float(np.nanmax(differ)))))
    ticks = _ticks(found, names)
    longest = max(len(text) for text in ticks.values())
    figure = style.new_figure(3.0 + 0.055 * longest)
    row = figure.subplots(1, len(panels), squeeze=False)[0]
    for number, (axes, (values, title, top)) in enumerate(zip(row, panels, strict=True)):
        # cividis is read alike by colour-blind readers, and its lightness says the same in grey.
        image = axes.imshow(values, cmap="cividis", vmin=min(0.0, float(np.nanmin(values))), vmax=top)
        axes.set_title(title)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        axes.set_xticks(list(ticks), list(ticks.values()), rotation=90, fontsize=7)
        axes.set_yticks(list(ticks), [text if number == 0 else "" for text in ticks.values()], fontsize=7)
        for _, first, _ in _runs(found, names)[1:]:
            axes.axhline(first - 0.5, color="white", lw=2)
            axes.axvline(first - 0.5, color="white", lw=2)
        if len(names) <= NUMBERED:
            _number(axes, values, top)
        figure.colorbar(image, ax=axes, shrink=0.75, pad=0.02).outline.set_visible(False)
    return figure


@style.styled
def families_figure(found: TrajectoryComparison) -> Figure:
    """Mean distance of the pairs of each family, with its interval: representations on the left, predictions on the right."""
    names = list(found.families)
    labels = [f"{style.plain(spelled(name), 55)} ({found.families[name].pairs})" for name in names]
    columns = [
        (f"1 − CKA at {style.plain(found.headline, 20)}", [found.families[name].distance[found.headline] for name in names])
    ]
    if found.logits is not None:
        columns.append(("disagreement", [b for name in names if (b := found.families[name].disagreement) is not None]))
    figure = style.new_figure(0.9 + 0.27 * len(names))
    row = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for axes, (title, values) in zip(row, columns, strict=True):
        _intervals(axes, values)
        axes.set_xlabel(title)
        axes.set_xlim(left=0)
    row[0].set_yticks(range(len(names)), labels)
    row[0].set_ylim(len(names) - 0.5, -0.5)
    return figure


@style.styled
def correlation_figure(entries: Sequence[Correlation]) -> Figure:
    """A dot for each pair of networks: how far apart their targets are, and how far apart they are."""
    rows = ["representations"] + ["predictions"] * any(point[2] is not None for entry in entries for point in entry.points)
    figure = style.new_figure(2.5 * len(rows))
    panels = figure.subplots(len(rows), len(entries), squeeze=False, sharex="col")
    for column, entry in enumerate(entries):
        for axes, what, height in zip(panels[:, column], rows, (1, 2), strict=False):
            bounds: Interval | None = getattr(entry, what)
            x, y = [point[0] for point in entry.points], [point[height] for point in entry.points]
            axes.plot(x, y, "o", color=style.BLUE, ms=4, alpha=0.75, mec="white", mew=0.4)
            rho = "does not vary" if bounds is None else f"ρ = {bounds.value:.2f} ({bounds.low:.2f} to {bounds.high:.2f})"
            rho = rho.replace("-", "−")
            axes.set_title(f"{style.plain(entry.layer, style.LETTERS // len(entries))}\n{rho}")
        panels[-1, column].set_xlabel(f"targets, {'cosine distance' if entry.targets == 'cosine' else '1 − CKA'}")
    for axes, what in zip(panels[:, 0], rows, strict=True):
        axes.set_ylabel("networks, 1 − CKA" if what == "representations" else "networks, disagreement")
    figure.align_ylabels(panels[:, 0])
    return figure


def headline_correlations(found: TrajectoryComparison) -> list[Correlation]:
    """The correlations that are drawn and told: of one start where there are such pairs, by cosine where targets have one."""
    families = [entry.family for entry in found.correlations]
    shown = [entry for entry in found.correlations if entry.family == families[0] and entry.layer != found.logits]
    measures = {entry.targets for entry in shown}
    return [entry for entry in shown if entry.targets == ("cosine" if "cosine" in measures else "cka")]


def spelled(family: str) -> str:
    """A family of pairs by the names that figures have for the kinds.

    >>> spelled("sgd and search"), spelled("sgd, other starts")
    ('SGD and searched', 'SGD, other starts')
    >>> spelled("sgd-long, other starts")
    'sgd-long, other starts'
    """
    for kind, look in style.LOOKS.items():
        family = re.sub(rf"(^| and ){kind}(?=$|,| and )", rf"\1{look.label}", family)
    return family


def by_kind(found: TrajectoryComparison) -> list[str]:
    """Names of the networks, those of a kind together."""
    kinds = list(dict.fromkeys(network.kind for network in found.networks.values()))
    return sorted(found.networks, key=lambda name: kinds.index(found.networks[name].kind))


def _intervals(axes: Axes, values: Sequence[Interval]) -> None:
    for place, bounds in enumerate(values):
        axes.plot([bounds.low, bounds.high], [place, place], color=style.BLUE, lw=2)
        axes.plot(bounds.value, place, "o", color=style.BLUE, ms=5, mec="white", mew=0.6)
        axes.annotate(
            f"{bounds.value:.3f}",
            (bounds.high, place),
            (5, 0),
            textcoords="offset points",
            va="center",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.2)


def _runs(found: TrajectoryComparison, names: Sequence[str]) -> list[tuple[str, int, int]]:
    """Kind, first and last position of each group."""
    groups: list[tuple[str, int, int]] = []
    for place, name in enumerate(names):
        kind = found.networks[name].kind
        if groups and groups[-1][0] == kind:
            groups[-1] = (kind, groups[-1][1], place)
        else:
            groups.append((kind, place, place))
    return groups


def _ticks(found: TrajectoryComparison, names: Sequence[str]) -> dict[float, str]:
    """What stands beside a matrix, by position: every name, or of many the groups."""
    if len(names) <= NAMED:
        return {float(place): style.plain(name, 28) for place, name in enumerate(names)}
    groups = _runs(found, names)
    looks = style.looks(kind for kind, _, _ in groups)
    return {(first + last) / 2: f"{last - first + 1} {style.plain(looks[kind].label)}" for kind, first, last in groups}


def _number(axes: Axes, values: NDArray[np.float64], top: float) -> None:
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            ink = "white" if value < 0.55 * top else style.INK
            axes.text(
                j, i, f"{value:.2f}".removeprefix("0") if value else "0", ha="center", va="center", color=ink, fontsize=6.5
            )
