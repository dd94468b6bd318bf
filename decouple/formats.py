"""Numbers as a reader wants them, on the command line, in reports and in figures."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

SPACE = "\u202f"
"""Narrow no-break space, between a number and its unit."""


class Measure(NamedTuple):
    """How a figure on test data is written."""

    title: str
    factor: float
    digits: int


MEASURES = {
    "accuracy": Measure("accuracy (%)", 100, 2),
    "nll": Measure("NLL (nats)", 1, 3),
    "bits_per_byte": Measure("bits per byte", 1, 4),
}
"""By the name that results give the figure."""


def percent_digits(images: int) -> int:
    """Decimals of a percentage that `images` can tell apart."""
    return 1 if images < 2000 else 2


def percent(share: float, digits: int = 1) -> str:
    """A share of 1 in per cent, without the sign.

    >>> percent(0.9527), percent(0.9527, 2)
    ('95.3', '95.27')
    """
    return f"{100 * share:.{digits}f}"


def standard_error(share: float, images: int) -> float:
    """Binomial standard error of an accuracy; two right and two wrong answers are added (Agresti and Coull), so that it
    is not zero at 100 %.

    >>> round(standard_error(0.95, 400), 3), standard_error(1.0, 400) > 0
    (0.011, True)
    """
    adjusted = (share * images + 2) / (images + 4)
    return math.sqrt(adjusted * (1 - adjusted) / (images + 4))


def nats(value: float) -> str:
    """Cross-entropies and likelihoods.

    >>> nats(0.1234), nats(0.0002), nats(0.0)
    ('0.123', '<0.001', '0.000')
    """
    return "<0.001" if 0 < value < 0.0005 else f"{value:.3f}"


def count(value: int) -> str:
    """Thousands set off by commas: in a table of large numbers a space is easily lost.

    >>> count(1347000)
    '1,347,000'
    """
    return f"{value:,}"


def magnitude(value: float) -> str:
    """A large count to one decimal, with the prefix of a unit.

    >>> magnitude(2.54e12), magnitude(512)
    ('2.5 T', '512')
    """
    for limit, prefix in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= limit:
            return f"{value / limit:.1f} {prefix}"
    return f"{value:.0f}"


def signed(value: float, digits: int = 3) -> str:
    """A difference or a correlation, with its sign.

    >>> signed(0.2), signed(-0.1234, 2)
    ('+0.200', '−0.12')
    """
    return f"{value:+.{digits}f}".replace("-", "−")


def plural(value: int, noun: str, nouns: str | None = None) -> str:
    """A number with its noun.

    >>> plural(1, "solution"), plural(2, "search", "searches")
    ('1 solution', '2 searches')
    """
    return f"{count(value)} {noun if value == 1 else nouns or noun + 's'}"


def size(value: int) -> str:
    """Bytes, in powers of 1024.

    >>> size(900), size(5 * 1024**2)
    ('900 bytes', '5.0 MiB')
    """
    if value < 1024:
        return f"{value} bytes"
    amount = float(value)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if amount < 1024:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1024:.1f} TiB"


def duration(seconds: float) -> str:
    """Time that something took.

    >>> duration(4.21), duration(75), duration(8040)
    ('4.2 s', '1 min 15 s', '2 h 14 min')
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min"


def rough_duration(seconds: float) -> str:
    """Time that something may take.

    >>> rough_duration(0.2), rough_duration(75), rough_duration(8040), rough_duration(1e6)
    ('< 1 s', '75 s', '2.2 h', '12 days')
    """
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 1 else "< 1 s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days"


def aligned(rows: Iterable[Sequence[str]], *, right: bool = False) -> str:
    """Rows in left-aligned columns; `right`: all but the first are right-aligned, as suits numbers.

    >>> print(aligned([("", "NLL"), ("one", "10.2")], right=True))
          NLL
    one  10.2
    """
    rows = list(rows)
    width, *widths = (max(map(len, column)) for column in zip(*rows, strict=True))
    further = str.rjust if right else str.ljust
    lines = ([first.ljust(width), *map(further, cells, widths)] for first, *cells in rows)
    return "\n".join("  ".join(line).rstrip() for line in lines)


def html_table(rows: Iterable[Sequence[str]], head: Sequence[str] = ()) -> str:
    """A table for a notebook.

    >>> html_table([("a", "<b>")])
    '<table><tr><td>a</td><td>&lt;b&gt;</td></tr></table>'
    """
    lines = [("th", head)] * bool(head) + [("td", row) for row in rows]
    cells = ("".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in line) for tag, line in lines)
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in cells)}</table>"
