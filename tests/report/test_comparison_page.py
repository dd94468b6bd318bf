"""The page of a comparison: whole, self-contained, true to its numbers; figures whose letters stay apart."""

from __future__ import annotations

import base64
import csv
import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from decouple.report import write_comparison
from decouple.report.comparison_page import answers
from decouple.report.figures import OF_COMPARISONS, draw_comparison
from decouple.results import Interval, TrajectoryCurve, to_json
from decouple.trajectories.results import (
    FORMAT,
    Correlation,
    Difference,
    EnsembleScore,
    Family,
    Network,
    Pair,
    TrajectoryComparison,
)

from .reading import Page, check_letters


def bounds(value: float, width: float = 0.02) -> Interval:
    return Interval(value=value, low=value - width, high=value + width)


def made_up(*, each: int = 3, layers: int = 3, kinds: tuple[str, ...] = ("search", "sgd", "mine")) -> TrajectoryComparison:
    """A comparison that agrees with itself."""
    names = [f"block{i}" for i in range(layers - 1)] + ["logits"]
    networks, curves = {}, {}
    for k, kind in enumerate(kinds):
        for i in range(each):
            name = f"run{i}/{kind}-{i}"
            networks[name] = Network(
                kind=kind,
                solution=name if kind == "search" else None,
                start=str(i),
                architecture="a",
                steps=[0, 4, 9],
                accuracy=0.9 + 0.01 * i,
                effective_rank=dict.fromkeys(names, 12.5 + k),
            )
            falling = {layer: [0.98, 0.8 - 0.2 * k, 0.7 - 0.2 * k + 0.01 * i] for layer in names}
            curves[name] = TrajectoryCurve(
                epochs=[0, 4, 9],
                cosine_distance=falling,
                within_entropy=falling,
                between_entropy=falling,
                position=[[0.0, 0.0], [0.2 * k, 0.3], [0.3 * k + 0.05 * i, 0.5 - 0.1 * i]],
            )
    family = Family(pairs=3, distance={layer: bounds(0.25) for layer in names}, disagreement=bounds(0.07))
    families = {"other solutions, other starts": family, "sgd, other starts": family, "sgd and search": family}
    difference = Difference(
        one="other solutions, other starts",
        other="sgd, other starts",
        distance={layer: bounds(0.1) for layer in names},
        disagreement=bounds(-0.001),
    )
    correlation = Correlation(
        family="other solutions, other starts",
        pairs=4,
        layer=names[0],
        targets="cosine",
        representations=bounds(-0.4, 0.3),
        predictions=None,
        points=[(0.1 * i, 0.2 * i, 0.3) for i in range(4)],
    )
    return TrajectoryComparison(
        format=FORMAT,
        samples=100,
        digest="1a2b",
        layers=names,
        logits="logits",
        headline=names[-2],
        draws=50,
        networks=networks,
        trajectories=curves,
        pairs=[
            Pair(one=a, other=b, family="some", cka=dict.fromkeys(names, 0.8), disagreement=0.05, error_overlap=0.4)
            for a, b in combinations(networks, 2)
        ],
        families=families,
        differences=[difference],
        correlations=[correlation],
        ensembles={"sgd": EnsembleScore(networks=each, members=0.12, ambiguity=0.02, ensemble=0.1)},
    )


SHAPES: dict[str, dict[str, Any]] = {
    "usual": {},
    "least": {"each": 1, "layers": 2, "kinds": ("search",)},
    "most": {"each": 7, "layers": 5, "kinds": ("search", "sgd", "q0", "mine", "yours")},
    "many layers": {"layers": 10},
}


@pytest.fixture(scope="module", params=SHAPES)
def drawn(request: pytest.FixtureRequest) -> dict[str, Figure]:
    return draw_comparison(made_up(**SHAPES[request.param]), "epoch")


def test_letters_stay_apart_and_inside(drawn: dict[str, Figure]) -> None:
    check_letters(drawn)
    assert set(drawn) <= set(OF_COMPARISONS)


def test_many_layers_take_several_rows_of_entropies_on_one_scale() -> None:
    found = made_up(layers=10)
    axes = [each for each in draw_comparison(found, "epoch")["entropies"].axes if each.get_visible()]
    assert len(axes) == 2 * 10
    assert len({round(each.get_position().x0, 3) for each in axes}) <= 4
    titled = [each for each in axes if each.get_title("left")]
    assert [each.get_title("left") for each in titled] == found.layers
    assert len({each.get_ylim() for each in titled}) == 1
    assert len({each.get_ylim() for each in axes if each not in titled}) == 1


def test_the_matrix_holds_every_pair_by_kind() -> None:
    found = made_up(kinds=("sgd", "search"))
    found.pairs[0].cka["block1"] = 0.25
    cka, differ = draw_comparison(found, "epoch")["pairs"].axes[:2]
    values = cka.images[0].get_array()
    assert values is not None
    assert values.shape == (6, 6)
    assert values[0, 1] == values[1, 0] == 0.25
    assert (values.diagonal() == 1).all()
    assert [text.get_text() for text in cka.get_yticklabels()] == list(found.networks)
    assert differ.images[0].get_array()[2, 3] == 0.05  # type: ignore[index]


def test_everything_is_written_and_the_page_needs_nothing_else(tmp_path: Path) -> None:
    found = made_up()
    page = write_comparison(found, tmp_path, unit="step", title="two & three")
    assert page == tmp_path / "comparison.html"
    shown = Page(page.read_text())
    for tag, attributes in shown.found:
        assert tag not in ("script", "link", "iframe", "object")
        assert (attributes.get("src") or "data:").startswith("data:")
        assert (attributes.get("href") or "#").startswith("#")
    names = ["distances", "entropies", "map", "families", "pairs", "correlation"]
    images = [a["src"] for tag, a in shown.found if tag == "img"]
    assert [base64.b64decode((image or "").split(",")[1]) for image in images] == [
        (tmp_path / "figures" / f"{name}.svg").read_bytes() for name in names
    ]
    assert all((tmp_path / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG") for name in names)
    assert json.loads((tmp_path / "comparison.json").read_text()) == json.loads(json.dumps(to_json(found)))
    for answer in answers(found):
        assert " ".join(answer.split()) in shown.text
    first = page.read_bytes()
    write_comparison(found, tmp_path, unit="step", title="two & three")
    assert page.read_bytes() == first

    rows = list(csv.DictReader((tmp_path / "trajectories.csv").read_text().splitlines()))
    assert len(rows) == 9 * 3 * 3
    assert rows[0]["step"] == "0"
    assert float(rows[2]["cosine_distance"]) == found.trajectories["run0/search-0"].cosine_distance["logits"][0]
    pairs = list(csv.DictReader((tmp_path / "pairs.csv").read_text().splitlines()))
    assert (len(pairs), pairs[0]["cka"], pairs[0]["layer"]) == (36 * 3, "0.8", "block0")


def test_answers_say_what_the_intervals_allow() -> None:
    texts = " ".join(answers(made_up()))
    assert "distance of searched networks to the searched targets at block1 goes from 0.98 to 0.71." in texts
    assert (
        "more different than SGD networks from different starts in their representations (1 − CKA at block1): the diff"
        in texts
    )
    assert "neither more nor less different, as far as these samples tell, than SGD networks from different starts" in texts
    assert "+0.100 (95\u202f% interval +0.080 to +0.120) (3 pairs against 3)" in texts
    assert "Spearman's correlation −0.400 (95\u202f% interval −0.700 to −0.100)" in texts
    alone = made_up()
    alone.differences = []
    assert "These trainings do not show whether" in " ".join(answers(alone))


def test_what_has_no_numbers_is_left_out(tmp_path: Path) -> None:
    found = made_up(each=1, kinds=("",))
    found.logits, found.headline, found.correlations, found.families, found.differences = None, "logits", [], {}, []
    for network in found.networks.values():
        network.accuracy = None
    for curve in found.trajectories.values():
        curve.cosine_distance = curve.within_entropy = curve.between_entropy = {}
    write_comparison(found, tmp_path)
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {"map"}
    Page((tmp_path / "comparison.html").read_text())
