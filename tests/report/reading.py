"""What a page and a figure hold, for tests to look at."""

from __future__ import annotations

from collections.abc import Mapping
from html.parser import HTMLParser
from itertools import combinations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text


class Page(HTMLParser):
    """Checks that what opens closes, and collects what a page refers to."""

    EMPTY = frozenset({"meta", "img", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def values(self) -> set[str]:
        return {attributes["value"] or "" for tag, attributes in self.found if tag == "data"}


def check_letters(drawn: Mapping[str, Figure]) -> None:
    """Fails where letters of a figure are cut off, or cover each other."""
    for name, figure in drawn.items():
        figure.draw_without_rendering()
        boxes = [(text.get_text(), text.get_window_extent()) for text in texts_of(figure)]
        for text, box in boxes:
            frame = figure.bbox.padded(1)
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            assert inside, f"{name}: {text!r} is cut off"
        for (one, box), (other, second) in combinations(boxes, 2):
            # Letters do not fill their boxes: a pixel's overlap is air.
            assert not box.padded(-1).overlaps(second.padded(-1)), f"{name}: {one!r} covers {other!r}"


def texts_of(figure: Figure) -> list[Text]:
    """Every text that is drawn."""
    found = [*figure.texts, *(text for legend in figure.legends for text in legend.get_texts())]
    for axes in figure.axes:
        if axes.get_visible():
            found += [*axes.texts, axes._left_title, axes.xaxis.label, axes.yaxis.label]  # type: ignore[attr-defined]
            found += _tick_labels(axes)
    return [text for text in found if text.get_visible() and text.get_text()]


def _tick_labels(axes: Axes) -> list[Text]:
    found = []
    for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        low, high = min(low, high), max(low, high)
        room = 1e-9 * (high - low)
        found += [t.label1 for t in axis.get_major_ticks() if low - room <= t.get_loc() <= high + room]
    return found
