"""Labels beside what they name, without overlap."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox, blended_transform_factory
from numpy.typing import NDArray

_RINGS = (7.0, 14.0, 24.0, 36.0, 50.0, 66.0, 84.0, 104.0)
"""Distances from a point, in points of type, at which a label is tried."""

_MARK = 4.0
"""Radius of the mark at a point, in points of type."""


class Label(NamedTuple):
    x: float
    y: float
    text: str
    color: str


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Positions at least `gap` apart, in the same order, as near to `wanted` as can be (least squares).

    >>> spread([0.0, 0.0, 10.0], 2.0)
    [-1.0, 1.0, 10.0]
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    # Without its rank's share of the gaps, a position must only not fall below the one before: isotonic regression,
    # solved by pooling neighbours that are out of order.
    pools: list[tuple[float, int]] = []
    for rank, i in enumerate(order):
        mean, size = wanted[i] - rank * gap, 1
        while pools and pools[-1][0] > mean:
            before, count = pools.pop()
            mean, size = (before * count + mean * size) / (count + size), count + size
        pools.append((mean, size))
    level = [mean for mean, size in pools for _ in range(size)]
    positions = [0.0] * len(wanted)
    for rank, i in enumerate(order):
        positions[i] = level[rank] + rank * gap
    return positions


def label_line_ends(axes: Axes, labels: Sequence[Label]) -> None:
    """Name lines to the right of the axes, each at the height where it ends, pushed apart where they would touch.

    Call it when everything is drawn: the places depend on the limits.
    """
    figure = _figure(axes)
    place = blended_transform_factory(axes.transAxes, axes.transData)
    texts = [
        axes.text(1.025, label.y, label.text, color=label.color, transform=place, va="center", ha="left") for label in labels
    ]
    figure.draw_without_rendering()  # the layout decides how many pixels a unit has
    height = max(text.get_window_extent().height for text in texts)
    to_pixels = axes.transData
    pixels = [float(to_pixels.transform((label.x, label.y))[1]) for label in labels]
    inverse = to_pixels.inverted()
    for text, label, own, pixel in zip(texts, labels, pixels, spread(pixels, 1.02 * height), strict=True):
        y = float(inverse.transform((0, pixel))[1])
        text.set_y(y)
        if abs(pixel - own) > 0.3 * height:
            # An artist, not a plot: it must not change the limits, or every position would be wrong again.
            leader = Line2D([1.003, 1.02], [label.y, y], color=label.color, lw=0.6, transform=place, clip_on=False)
            axes.add_artist(leader).set_clip_on(False)


def label_points(axes: Axes, labels: Sequence[Label], paths: Sequence[NDArray[np.float64]]) -> list[Annotation]:
    """Name points of a map: near them, inside the axes, clear of each other and, where possible, of the lines.

    Args:
        axes: whose limits are settled.
        labels: what to place, in order of importance.
        paths: (n, 2) data coordinates of each line that labels should not cover.
    """
    figure = _figure(axes)
    figure.draw_without_rendering()
    frame, point = axes.get_window_extent(), figure.dpi / 72
    ink = _along([axes.transData.transform(path) for path in paths], step=3 * point)
    ends = [axes.transData.transform((label.x, label.y)) for label in labels]
    marks = np.array(ends)
    taken: list[Bbox] = []
    placed = []

    def cost(place: tuple[float, Bbox]) -> float:
        ring, box = place
        found = ring + 4 * _inside(ink, box.padded(point)) + 10_000 * _outside(box, frame)
        found += 100 * _inside(marks, box.padded(_MARK * point))
        return found + 1000 * sum(box.padded(point).overlaps(other) for other in taken)

    for label, end in zip(labels, ends, strict=True):
        note = axes.annotate(label.text, (label.x, label.y), (0, 0), textcoords="offset points", color=label.color)
        ring, box = min(_places(end, note.get_window_extent(), point), key=cost)
        taken.append(box)
        note.set_position(((box.x0 - end[0]) / point, (box.y0 - end[1]) / point))
        note.set_in_layout(False)
        if ring > _RINGS[1]:
            nearest = np.clip(end, box.min, box.max)
            axes.annotate(
                "",
                (label.x, label.y),
                (nearest - end) / point,
                textcoords="offset points",
                arrowprops={"arrowstyle": "-", "color": label.color, "lw": 0.5, "alpha": 0.7, "shrinkA": 1, "shrinkB": 4},
            ).set_in_layout(False)
        placed.append(note)
    return placed


def _places(end: NDArray[np.float64], size: Bbox, point: float) -> Iterator[tuple[float, Bbox]]:
    """Boxes around `end`, with the ring on which each has the edge that faces it."""
    extent = np.array([size.width, size.height])
    for ring in _RINGS:
        for turn in range(16):
            way = np.array([math.cos(math.pi * turn / 8), math.sin(math.pi * turn / 8)])
            x, y = end + ring * point * way + extent * (way - 1) / 2
            yield ring, Bbox.from_bounds(x, y, size.width, size.height)


def _figure(axes: Axes) -> Figure:
    figure = axes.get_figure()
    if not isinstance(figure, Figure):
        raise TypeError("labels are placed on axes of a figure")
    return figure


def _along(paths: Sequence[NDArray[np.float64]], step: float) -> NDArray[np.float64]:
    """(n, 2) points every `step` pixels along the paths."""
    points = []
    for path in paths:
        points.append(path)
        for begin, end in pairwise(path):
            share = np.linspace(0, 1, 1 + int(np.hypot(*(end - begin)) / step))[:, None]
            points.append(begin + share * (end - begin))
    return np.concatenate(points)


def _inside(points: NDArray[np.float64], box: Bbox) -> int:
    return int(((points >= box.min) & (points <= box.max)).all(1).sum())


def _outside(box: Bbox, frame: Bbox) -> bool:
    return box.x0 < frame.x0 or box.y0 < frame.y0 or box.x1 > frame.x1 or box.y1 > frame.y1
