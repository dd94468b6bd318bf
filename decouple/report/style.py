"""How every figure looks, and how it becomes bytes.

Figures are made without pyplot, inside `styled`, so that neither a user's matplotlibrc nor another figure changes them,
and none of ours changes another. Colours are Okabe and Ito's, which colour-blind readers tell apart; lightness, line
style and marker differ as well, so that a grey print says the same.
"""

from __future__ import annotations

import functools
import io
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ParamSpec

import matplotlib
import matplotlib.style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

BLUE, VERMILLION, GREEN, PURPLE, INK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#222222", "#6E6E6E"

WIDTH = 7.2
"""Inches: the page's text width at its usual size, so that letters in a figure are as large as those around it."""

LETTERS = 96
"""That fit side by side into the width, beside an axis."""

_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters, and bytes, everywhere
    "font.size": 8.5,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 8.5,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8C8C8C",
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": "#8C8C8C",
    "ytick.color": "#8C8C8C",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "white",
    "savefig.dpi": 160,
    "svg.hashsalt": "decouple",  # without it the ids in an SVG are random, and two equal reports differ
    "svg.fonttype": "path",
}

Arguments = ParamSpec("Arguments")


@dataclass(frozen=True)
class Look:
    """How one training is drawn, in every figure."""

    label: str
    color: str
    line: Any
    marker: str


LOOKS = {"search": Look("searched", BLUE, "-", "o"), "sgd": Look("SGD", VERMILLION, (0, (4, 1.6)), "s")}
"""By `NetworkResult.kind`."""

_FURTHER = (
    ("#009E73", (0, (1, 1.2)), "^"),
    ("#CC79A7", (0, (6, 1.5, 1.5, 1.5)), "D"),
    ("#222222", (0, (8, 2)), "v"),
    ("#E69F00", "-", "P"),
    ("#56B4E9", (0, (3, 1, 1, 1, 1, 1)), "X"),
)


def looks(kinds: Iterable[str]) -> dict[str, Look]:
    """How trainings of these kinds are drawn: known ones as everywhere, others in the order given.

    >>> looks(["mine", "sgd"])["sgd"] is LOOKS["sgd"], looks(["mine"])["mine"].label
    (True, 'mine')
    """
    found, places = {}, 0
    for kind in kinds:
        if kind in LOOKS:
            found[kind] = LOOKS[kind]
            continue
        color, line, marker = _FURTHER[places % len(_FURTHER)]
        found[kind] = Look(kind or "networks", color, line, marker)
        places += 1
    return found


def plain(text: str, longest: int = 40) -> str:
    """A user's text as a figure shows it: on one line, not taken for mathematics, the middle of a long one left out.

    >>> plain("cost $5\\n"), plain("a_very_long_name", 9), plain("")
    ('cost \\\\$5', 'a_ve…name', '""')
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split()) or '""'
    if len(line) > longest:
        end = (longest - 1) // 2
        line = f"{line[: longest - 1 - end]}…{line[len(line) - end :]}"
    return line.replace("$", "\\$")


@contextmanager
def _ours() -> Iterator[None]:
    """Our style, and no warning of each letter that its font lacks: it is drawn as a box, and the page has the name."""
    with matplotlib.style.context(["default", _STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from|Matplotlib currently does not support")
        yield


def styled(draw: Callable[Arguments, Figure]) -> Callable[Arguments, Figure]:
    """Decorates a function that draws a figure: it sees only our style, whatever is set outside."""

    @functools.wraps(draw)
    def inside(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Figure:
        with _ours():
            return draw(*args, **kwargs)

    return inside


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """An empty figure, in inches, that leaves room for its labels by itself."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def render(figure: Figure, kind: str) -> bytes:
    """The figure as a "png" or "svg" file: equal figures give equal bytes."""
    # Neither a date nor matplotlib's version and address belong in the file.
    unnamed = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}[kind]
    data = io.BytesIO()
    with _ours():
        figure.savefig(data, format=kind, metadata=unnamed)
    return data.getvalue()


def legend(figure: Figure, handles: Sequence[Artist], texts: Sequence[str], columns: int) -> None:
    """One legend above all panels, where it covers nothing, in as many of the columns as fit beside each other.

    A figure grows by a legend of more than three rows.
    """
    for count in range(columns, 0, -1):
        made = figure.legend(handles, ["name"] * len(handles), loc="outside upper left", ncols=count)
        for shown, text in zip(made.get_texts(), texts, strict=True):
            shown.set_text(text)  # afterwards: some versions leave out what begins with an underscore
        if count == 1 or made.get_window_extent().width <= figure.bbox.width:
            break
        made.remove()
    figure.set_figheight(figure.get_figheight() + 0.17 * max(0, -(-len(handles) // count) - 3))


def shades(color: str, count: int, lightest: float = 0.5) -> list[str]:
    """`count` colours from `color` towards white, evenly; told apart in grey as well.

    >>> shades("#000000", 3)
    ['#000000', '#404040', '#808080']
    """
    steps = [lightest * i / max(count - 1, 1) for i in range(count)]
    red, green, blue = to_rgb(color)
    return [to_hex((red + (1 - red) * s, green + (1 - green) * s, blue + (1 - blue) * s)) for s in steps]


def whole_axis(axes: Axes, first: int, last: int, *, ticks: int = 6, room: float = 0.0) -> None:
    """An x axis from `first` to `last` with ticks at whole numbers only: there is no half epoch.

    Args:
        axes: whose x axis it is.
        first: where it begins.
        last: where it ends; if it is `first`, that position stands alone in the middle.
        ticks: how many steps between ticks at most.
        room: share of the length to leave free at each end.
    """
    if first == last:
        axes.set_xlim(first - 1, first + 1)
        axes.set_xticks([first])
        return
    axes.set_xlim(first - room * (last - first), last + room * (last - first))
    axes.xaxis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
