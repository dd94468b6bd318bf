"""Names of the user's, whatever they hold, are shown as they are: in figures, the page, tables and numbers."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest
from matplotlib.figure import Figure

from decouple.report import figures, style, write_comparison
from decouple.report.figures import draw_comparison
from decouple.report.figures.pairs import spelled
from decouple.results import Curves, Results, to_json
from decouple.trajectories.results import TrajectoryComparison

from . import made_up as runs
from .reading import Page, check_letters, texts_of
from .test_comparison_page import made_up

NAMES = {
    "dollars": "cost$5_to_$",
    "one dollar": "b$_{$",
    "escaped": r"a\$b$",
    "underscore": "_mine",
    "nolegend": "_nolegend_",
    "markup": r"a{b}_^\frac$x$%s{}",
    "lines": "one\ntwo\r\nthree\rfour",
    "control": "tab\tbell\x07",
    "long": "a very long name, " * 20,
    "wide": "W" * 300,
    "script": "中文网络",
    "right to left": "شبكة עברית",
    "emoji": "😀🚀👩‍🔬",
    "html": "<b>&amp;\"'",
    "formula": "=1+1",
    "table": 'x|y,"z"',
    "path": "../etc/passwd",
    "keys": "items",
    "number": "1e5",
    "and": "this and that, and more",
}


def renamed(value: Any, names: dict[str, str]) -> Any:
    """What JSON holds, with other texts."""
    if isinstance(value, dict):
        return {names.get(key, key): renamed(entry, names) for key, entry in value.items()}
    if isinstance(value, list):
        return [renamed(entry, names) for entry in value]
    return names.get(value, value) if isinstance(value, str) else value


def compared(name: str) -> TrajectoryComparison:
    """A comparison with a kind, two trainings, a layer, a solution and a family of this name."""
    plain = made_up(kinds=("search", "mine"), each=2)
    names = {
        "mine": name,
        "run0/mine-0": name,
        "run1/mine-1": f"{name}1",
        "block1": name,
        "run0/search-0": f"{name} searched",
        "sgd, other starts": f"{name}, other starts",
        "sgd and search": f"{name} and search",
        "sgd": name,
    }
    return msgspec.convert(renamed(to_json(plain), names), TrajectoryComparison)


def compared_all() -> TrajectoryComparison:
    """A comparison with a kind and a training of each name, and layers and families of some."""
    plain = made_up(kinds=tuple(f"kind{i}" for i in range(len(NAMES))), each=1, layers=4)
    names = {f"kind{i}": name for i, name in enumerate(NAMES.values())}
    names |= {f"run0/kind{i}-0": name for i, name in enumerate(NAMES.values())}
    names |= dict(zip(("block0", "block1", "block2"), (NAMES[name] for name in LAYERS), strict=True))
    names |= {"sgd, other starts": f"{NAMES['one dollar']}, other starts", "sgd and search": f"{NAMES['long']} and search"}
    return msgspec.convert(renamed(to_json(plain), names), TrajectoryComparison)


LAYERS = ("dollars", "underscore", "script")


def shown(figure: Figure) -> list[str]:
    """The letters that each text of a figure comes to; those that matplotlib takes for mathematics fail."""
    found = []
    for text in texts_of(figure):
        letters, math = text._preprocess_math(text.get_text())  # type: ignore[attr-defined]
        assert math is False or "N_\\mathrm{eff}" in letters
        found.append(letters)
    return found


def expected(name: str, longest: int = 40) -> str:
    """The letters of a name in a figure: all of them on one line, or its two ends."""
    line = " ".join(name.replace("\x07", " ").replace("\u200d", " ").split())
    return line if len(line) <= longest else f"{line[: longest // 2]}…{line[-((longest - 1) // 2) :]}"


def test_every_figure_of_a_comparison_shows_every_name() -> None:
    drawn = draw_comparison(compared_all(), NAMES["one dollar"])
    texts = {}
    for title, figure in drawn.items():
        ElementTree.fromstring(style.render(figure, "svg"))  # without a warning, which would be an error here
        texts[title] = shown(figure)
    every = [expected(name) for name in NAMES.values()]
    layers = [expected(NAMES[name]) for name in LAYERS]
    for title in ("distances", "entropies"):
        assert [text for text in texts[title] if text in layers][-3:] == layers
        legend = drawn[title].legends[0]
        assert [text._preprocess_math(text.get_text())[0] for text in legend.get_texts()] == every
    assert [f"1 {name}" for name in every] == texts["map"][: len(every)]
    ticks = [expected(name, 28) for name in NAMES.values()]
    assert [text for text in texts["pairs"] if text in ticks][: len(ticks)] == ticks
    assert f"CKA at {layers[2]}" in texts["pairs"]
    assert f"{NAMES['one dollar']}, other starts (3)" in texts["families"]
    assert any(text.startswith(f"{layers[0]}\nρ") for text in texts["correlation"])


def test_letters_of_long_names_stay_apart_and_inside() -> None:
    check_letters(draw_comparison(compared(NAMES["long"]), "epoch"))


def test_the_figures_of_a_run_show_search_points_and_networks_of_any_name() -> None:
    results, curves = runs.made_up(points=3, cycles=1)
    names = {"block0": NAMES["dollars"], "block1": NAMES["underscore"], "search-0": NAMES["script"], "sgd-1": NAMES["lines"]}
    results = msgspec.convert(renamed(to_json(results), names), Results)
    curves = msgspec.convert(renamed(to_json(curves), names), Curves)
    texts = {}
    for title, figure in figures.draw_figures(results, curves).items():
        ElementTree.fromstring(style.render(figure, "svg"))
        texts[title] = shown(figure)
    for title in ("search", "trajectories", "entropy", "diversity"):
        assert {expected(names["block0"]), expected(names["block1"])} <= set(texts[title])
    for title in ("training", "map"):
        assert {expected(names["search-0"]), "one two three four"} <= set(texts[title])


def test_the_page_and_the_numbers_have_every_name_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("decouple.report.comparison_page.draw_comparison", lambda found, unit: {"map": style.new_figure(1)})
    for name in NAMES.values():
        page = write_comparison(compared(name), tmp_path, unit=name, title=name)
        text = " ".join(Page(page.read_text()).text.split())
        assert text.count(" ".join(name.split())) >= 8
        assert set(json.loads((tmp_path / "comparison.json").read_text())["networks"]) >= {name, f"{name}1"}
        with (tmp_path / "trajectories.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert {row["network"] for row in rows} == set(compared(name).networks)
        assert {row["kind"] for row in rows} == {"search", name}
        assert {row["layer"] for row in rows} == {"block0", name, "logits"}
        assert {len(row) for row in rows} == {len(rows[0])}
        assert None not in rows[0]
        pairs = list(csv.reader(io.StringIO((tmp_path / "pairs.csv").read_bytes().decode(), newline="")))
        assert {len(row) for row in pairs} == {7}


def test_kinds_are_told_from_words_of_the_same_letters() -> None:
    assert spelled("sgd, same start, other architectures") == "SGD, same start, other architectures"
    assert spelled("sgd and q0, other architectures") == "SGD and q0, other architectures"
    for kind in ("my-sgd", "sgd.2", "re search", "search2"):
        assert spelled(f"{kind}, other starts") == f"{kind}, other starts"
        assert spelled(f"{kind} and search") == f"{kind} and searched"
