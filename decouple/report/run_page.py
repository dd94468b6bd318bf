"""The report of a run: `figures/` and `report.html`, from what a run directory holds."""

from __future__ import annotations

import json
from itertools import combinations_with_replacement
from pathlib import Path
from statistics import mean
from typing import Any

from decouple import formats
from decouple.config import SearchConfig
from decouple.registry import about
from decouple.report import paper
from decouple.report.facts import limits, summary
from decouple.report.figures import OF_RUNS, draw_figures
from decouple.report.figures.diversity import evolved
from decouple.report.figures.members import population_figure
from decouple.report.inputs import Inputs, TextInputs, read_inputs
from decouple.report.pages import write_page
from decouple.report.style import LOOKS
from decouple.results import NOTICEABLE_WEIGHT, Results
from decouple.settings import flattened, to_builtins

IN_VIEW = 20
"""Rows up to which a table is open; a longer one is folded."""


def build_report(folder: Path) -> Path:
    """Draw the figures of a finished run and write its report.

    Args:
        folder: a run directory with config.json, run.json, results.json and curves.json.

    Returns:
        The path of report.html: one file that needs no network and no script. `figures/` holds each figure as PNG and
        as SVG. The same four files give the same bytes.

    Raises:
        DamagedFileError: one of the four is missing or damaged; the message says how to make it again.
        RunDirectoryError: the folder cannot be written.
    """
    folder = Path(folder)
    inputs = read_inputs(folder)
    common = _common(inputs)
    if isinstance(inputs, TextInputs):
        figures = {"population": population_figure(inputs.results.q0, inputs.curves)}
        again = {"again": "decouple q0 text --data FILE", "samples": "documents"}
        return write_page(folder / "report.html", "text_page.html.j2", figures, common | again, OF_RUNS)
    figures = draw_figures(inputs.results, inputs.curves, _lowered(inputs.config.search))
    return write_page(folder / "report.html", "run_page.html.j2", figures, common | _values(inputs), OF_RUNS)


TITLES = {
    "accuracy": ["Test accuracy", "(%)"],
    "ece": ["Test ECE"],
    "brier": ["Test Brier"],
    "bits_per_byte": ["Test bits", "per byte"],
}
"""Of a population's scores, by line."""


def _common(inputs: Inputs | TextInputs) -> dict[str, Any]:
    """What the pages of all runs show."""
    return {
        "config": inputs.config,
        "results": inputs.results,
        "run": inputs.run,
        "paper": paper,
        "in_view": IN_VIEW,
        "noticeable": NOTICEABLE_WEIGHT,
        "titles": {name: TITLES[name] for name in inputs.results.q0.scores},
        "settings": {name: json.dumps(value, ensure_ascii=False) for name, value in flattened(inputs.config).items()},
        "settings_json": json.dumps(to_builtins(inputs.config), indent=2),
    }


def _lowered(config: SearchConfig) -> str:
    """What a search lowers: minus the fitness."""
    return "mean cross-entropy" + (" and dissimilarity" if config.similarity else "")


def _values(inputs: Inputs) -> dict[str, Any]:
    config, results = inputs.config, inputs.results
    digits = formats.percent_digits(results.images["test"])
    return {
        "again": f"decouple run {config.preset}",
        "samples": "images",
        "summary": summary(config, results),
        "limits": limits(config, results, inputs.run),
        "algorithm": about(config.search.algorithm),
        "lowered": _lowered(config.search),
        "evolved": evolved(results),
        "parted": config.search.algorithm == "es" and config.search.for_solutions().es.subspaces != 1,
        "digits": digits,
        "validation_digits": formats.percent_digits(results.images["validation"]),
        "error": lambda share: formats.percent(formats.standard_error(share, results.images["test"]), digits),
        "searched": mean(results.test_accuracy.search),
        "baseline": next(
            (n for n, own in results.networks.items() if own.kind == "sgd" and own.test_accuracy is not None), None
        ),
        "published": _published(inputs),
        "kinds": LOOKS,
        "pairs": _pairs(results),
        "confused": calibration.confused if (calibration := inputs.curves.calibration.get("learned_prior")) else [],
    }


def _published(inputs: Inputs) -> dict[str, Any] | None:
    """The paper's figures for the baseline and the searched networks, where it has any; and what differs."""
    config, data = inputs.config, inputs.results.data
    sgd = paper.reference(data, augment=config.sgd.augment != "none")
    learned = paper.reference(data, augment=config.learn.augment != "none")
    if sgd is None and learned is None:
        return None
    return {
        "sgd": sgd and sgd.sgd,
        "search": learned and learned.searched(config.learn.supervise),
        "differences": paper.differences(config, inputs.results),
    }


def _pairs(results: Results) -> list[dict[str, Any]]:
    """CKA and disagreement summed up by the kinds of the two networks: many networks make a table nobody reads."""
    found = []
    names = list(results.networks)
    for one, other in combinations_with_replacement(LOOKS, 2):
        pairs = [
            (a, b)
            for i, a in enumerate(names)
            for b in names[i + 1 :]
            if {results.networks[a].kind, results.networks[b].kind} == {one, other}
        ]
        similar = [results.compare.cka[a][b] for a, b in pairs if b in results.compare.cka.get(a, {})]
        differ = [results.compare.disagreement[a][b] for a, b in pairs if b in results.compare.disagreement.get(a, {})]
        if similar and differ:
            label = f"{LOOKS[one].label} and {LOOKS[other].label}"
            found.append({"label": label, "count": len(similar), "cka": similar, "disagreement": differ})
    return found
