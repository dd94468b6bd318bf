"""The page of a comparison of trajectories, with its numbers as JSON and CSV and its figures."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from decouple import formats
from decouple.errors import expect
from decouple.files import write_json, write_text
from decouple.report import style
from decouple.report.figures import OF_COMPARISONS, draw_comparison
from decouple.report.figures.pairs import by_kind, headline_correlations, spelled
from decouple.report.pages import write_page
from decouple.results import Interval, to_json
from decouple.trajectories.curves import note_left_out
from decouple.trajectories.pairs import SAME_SOLUTION
from decouple.trajectories.results import Correlation, Difference, TrajectoryComparison

NAMES = {"search": "searched networks", "sgd": "SGD networks", "": "the networks", "networks": "the networks"}
"""Of the kinds that decouple trains, and of none."""


def write_comparison(found: TrajectoryComparison, folder: Path | str, *, unit: str = "epoch", title: str = "") -> Path:
    """Write comparison.json, trajectories.csv, pairs.csv, figures/ (PNG and SVG) and comparison.html into `folder`.

    Args:
        found: from `compare_recordings`.
        unit: what a step is, in singular.
        title: what was compared, for the page's head.

    Returns:
        The path of the page, which needs no network and no script. Equal comparisons give equal bytes.

    Raises:
        RunDirectoryError: the folder cannot be written.
    """
    expect(found, TrajectoryComparison, "found", "it comes from compare_recordings")
    folder = Path(folder)
    write_json(folder / "comparison.json", to_json(found))
    write_text(folder / "trajectories.csv", _csv(*_trajectories(found, unit)))
    write_text(folder / "pairs.csv", _csv(*_pairs(found)))
    looks = style.looks(network.kind for network in found.networks.values())
    values = {
        "found": found,
        "title": title,
        "unit": unit,
        "names": by_kind(found),
        "looks": looks,
        "answers": answers(found),
        "spelled": spelled,
        "distances": [["1 − CKA", f"at {layer}"] for layer in found.layers],
        "several": {kind: sum(network.kind == kind for network in found.networks.values()) for kind in looks},
    }
    figures = draw_comparison(found, unit)
    return write_page(folder / "comparison.html", "comparison_page.html.j2", figures, values, OF_COMPARISONS)


def answers(found: TrajectoryComparison) -> list[str]:
    """What the comparison shows, in sentences with numbers and intervals."""
    texts = _towards_targets(found)
    texts += [text for difference in found.differences for text in _apart(found, difference)]
    if not found.differences:
        texts.append(
            "These trainings do not show whether different searched solutions make networks more different than different seeds of "
            "SGD do. That takes two networks that learned different solutions and two SGD networks from different seeds, all of one "
            "architecture."
        )
    texts += [_correlated(entry) for entry in headline_correlations(found)]
    return texts + ([note] if (note := note_left_out(found.trajectories, found.samples)) else [])


def _towards_targets(found: TrajectoryComparison) -> list[str]:
    texts = []
    for kind in dict.fromkeys(network.kind for network in found.networks.values()):
        curves = [found.trajectories[name] for name, network in found.networks.items() if network.kind == kind]
        if not all(found.headline in curve.cosine_distance for curve in curves):
            continue
        ends = [sum(curve.cosine_distance[found.headline][end] for curve in curves) / len(curves) for end in (0, -1)]
        texts.append(
            f"The cosine distance of {name_of(kind, len(curves))} to the searched targets at {found.headline} goes from "
            f"{ends[0]:.2f} to {ends[1]:.2f}."
        )
    return texts


def _apart(found: TrajectoryComparison, difference: Difference) -> list[str]:
    pairs = (found.families[difference.one].pairs, found.families[difference.other].pairs)
    measures: list[tuple[str, Interval | None]] = [
        (f"their representations (1 − CKA at {found.headline})", difference.distance[found.headline]),
        ("their predictions (disagreement)", difference.disagreement),
    ]
    if difference.other == SAME_SOLUTION:
        than = "than networks that learned one solution from different starts"
    else:
        than = f"than {name_of(difference.other.removesuffix(', other starts'), 2)} from different starts"
    return [
        f"Networks that learned different solutions are {verdict(bounds)} {than} in {what}: the difference is {between(bounds)} "
        f"({formats.plural(pairs[0], 'pair')} against {pairs[1]})."
        for what, bounds in measures
        if bounds is not None
    ]


def _correlated(entry: Correlation) -> str:
    measure = "cosine distance" if entry.targets == "cosine" else "1 − CKA"
    texts = [
        f"{between(bounds)} with how far apart their {what} are"
        for what, bounds in (("representations", entry.representations), ("predictions", entry.predictions))
        if bounds is not None
    ]
    if not texts:
        return f"At {entry.layer}, the targets or the networks do not vary enough to be correlated."
    return (
        f"Over {formats.plural(entry.pairs, 'pair')} ({entry.family}), how far apart two targets at {entry.layer} are ({measure}) has "
        f"Spearman's correlation {', and '.join(texts)}."
    )


def verdict(bounds: Interval) -> str:
    """What an interval tells about a difference.

    >>> verdict(Interval(value=0.2, low=0.1, high=0.3)), verdict(Interval(value=0.0, low=-0.1, high=0.1))
    ('more different', 'neither more nor less different, as far as these samples tell,')
    """
    if bounds.low > 0:
        return "more different"
    return "less different" if bounds.high < 0 else "neither more nor less different, as far as these samples tell,"


def between(bounds: Interval) -> str:
    """A figure with its interval.

    >>> between(Interval(value=0.2, low=-0.1, high=0.3))
    '+0.200 (95\\u202f% interval −0.100 to +0.300)'
    """
    value, low, high = (formats.signed(x) for x in (bounds.value, bounds.low, bounds.high))
    return f"{value} (95{formats.SPACE}% interval {low} to {high})"


def name_of(kind: str, count: int) -> str:
    """Networks of a kind, in words."""
    return NAMES.get(kind, f"{kind} networks").removesuffix("s" if count == 1 else "")


Row = Sequence[str | float | int | None]


def _trajectories(found: TrajectoryComparison, unit: str) -> tuple[Row, Iterable[Row]]:
    head = ("network", "kind", "solution", "start", unit, "layer", "cosine_distance", "within_entropy", "between_entropy")

    def rows() -> Iterable[Row]:
        for name, curve in found.trajectories.items():
            network = found.networks[name]
            for place, step in enumerate(curve.epochs):
                for layer in found.layers:
                    series = (curve.cosine_distance, curve.within_entropy, curve.between_entropy)
                    values = [by_layer[layer][place] if layer in by_layer else None for by_layer in series]
                    yield name, network.kind, network.solution, network.start, step, layer, *values, *curve.position[place]

    return (*head, "x", "y"), rows()


def _pairs(found: TrajectoryComparison) -> tuple[Row, Iterable[Row]]:
    head = ("one", "other", "family", "layer", "cka", "disagreement", "error_overlap")
    return head, (
        (pair.one, pair.other, pair.family, layer, cka, pair.disagreement, pair.error_overlap)
        for pair in found.pairs
        for layer, cka in pair.cka.items()
    )


def _csv(head: Row, rows: Iterable[Row]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows([head, *rows])
    return text.getvalue()
