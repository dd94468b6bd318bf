"""Runs side by side: each method's seeds, with their mean and standard deviation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from decouple.formats import MEASURES
from decouple.report import style

if TYPE_CHECKING:
    from decouple.report.table import Table


@style.styled
def table_figure(table: Table) -> Figure:
    """A line for each row of the table, a panel for each measure: a dot a seed, the mean, and a bar of one standard deviation."""
    rows = list(table.rows)
    figure = style.new_figure(0.8 + 0.24 * len(rows))
    panels = figure.subplots(1, len(table.measures), sharey=True, squeeze=False)[0]
    methods = list(dict.fromkeys(row.method for row in rows))
    looks = dict(zip(methods, style.looks(["sgd", "search", *methods[2:]]).values(), strict=False))
    for name, axes in zip(table.measures, panels, strict=True):
        title, factor, _ = MEASURES[name]
        for place, row in enumerate(rows):
            values, look = [factor * value for value in row.values(name)], looks[row.method]
            average, std = row.mean(name), row.std(name)
            if average is None:
                continue
            axes.plot(values, [place] * len(values), "o", color=look.color, ms=3, alpha=0.45, mew=0)
            axes.errorbar(
                factor * average, place, xerr=factor * (std or 0), color=look.color, marker=look.marker, ms=5, capsize=2
            )
        axes.set_xlabel(f"test {title}")
        axes.grid(axis="y", visible=False)
    panels[0].set_yticks(range(len(rows)), [style.plain(_label(row.method, row.settings), 60) for row in rows])
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    return figure


def _label(method: str, settings: object) -> str:
    named = ", ".join(f"{name.rpartition('.')[2]} {value}" for name, value in dict(settings).items())  # type: ignore[call-overload]
    return f"{named}: {method}" if named else method
