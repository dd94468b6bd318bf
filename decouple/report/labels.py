"""Labels beside the lines that they name, without overlap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import blended_transform_factory
from sklearn.isotonic import isotonic_regression


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
    order, ranks = np.argsort(wanted, kind="stable"), np.arange(len(wanted))
    # Without its rank's share of the gaps, a position must only not fall below the one before.
    positions = np.empty(len(wanted))
    positions[order] = isotonic_regression(np.asarray(wanted)[order] - ranks * gap) + ranks * gap
    return [float(position) for position in positions]


def label_line_ends(axes: Axes, labels: Sequence[Label]) -> None:
    """Name lines to the right of the axes, each at the height where it ends, pushed apart where they would touch.

    Call it when everything is drawn: the places depend on the limits.
    """
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
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
