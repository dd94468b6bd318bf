"""The figures: every shape of run is drawn without a warning, shows its values and keeps its letters apart."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from itertools import pairwise
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from decouple.report import figures, style
from decouple.report.figures.diversity import diversity_figure
from decouple.report.figures.members import population_figure
from decouple.report.figures.search import search_figure
from decouple.report.figures.training import training_figure
from decouple.report.figures.trajectories import distances_figure
from decouple.report.labels import spread
from decouple.results import TrajectoryCurve

from .made_up import made_up
from .reading import check_letters, texts_of

SHAPES: dict[str, dict[str, Any]] = {
    "usual": {},
    "least": {
        "solutions": 1, "cycles": 1, "sgd": 1, "epochs": 1, "records": 1, "points": 2, "generations": (0,),
    },
    "most": {"solutions": 16, "cycles": 6, "points": 6, "generations": (300, 100, 100, 10), "epochs": 90, "sgd": 3},
    "long": {"solutions": 1, "trajectories": 1, "cycles": 100, "points": 3, "records": 2},
}  # fmt: skip


@pytest.fixture(scope="module", params=SHAPES)
def drawn(request: pytest.FixtureRequest) -> dict[str, Figure]:
    return figures.draw_figures(*made_up(**SHAPES[request.param]))


def test_letters_stay_apart_and_inside(drawn: dict[str, Figure]) -> None:
    check_letters(drawn)


def test_every_figure_has_units(drawn: dict[str, Figure]) -> None:
    for name, figure in drawn.items():
        words = " ".join(text.get_text() for text in texts_of(figure))
        wanted = {"search": "(nats)", "reliability": "(%)", "training": "(%)", "entropy": "(nats)", "population": "(nats)"}
        assert wanted.get(name, "") in words


def test_search_draws_every_solution_and_their_mean() -> None:
    results, curves = made_up(solutions=3)
    for axes, point in zip(search_figure(results, curves).axes, results.search.points, strict=True):
        lines = np.array([line.get_ydata() for line in axes.lines])
        np.testing.assert_allclose(lines[:3], curves.search[point])
        np.testing.assert_allclose(lines[3], np.mean(curves.search[point], axis=0))


def test_training_marks_the_kept_epoch() -> None:
    results, curves = made_up(solutions=1, sgd=1)
    axes = training_figure(results, curves).axes[0]
    marks = {tuple(line.get_xydata()[0]) for line in axes.lines if len(line.get_xydata()) == 1}
    for name, network in results.networks.items():
        share = curves.training[name].validation_accuracy[network.best_epoch - 1]
        assert (network.best_epoch, 100 * share) in marks


def test_trajectories_draw_means_and_ranges() -> None:
    results, curves = made_up(solutions=3, points=3)
    figure = figures.draw_figures(results, curves)["trajectories"]
    own = np.array([curves.trajectories[f"search-{i}"].cosine_distance["block0"] for i in range(3)])
    axes = figure.axes[0]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), own.mean(0))
    edge = axes.collections[0].get_paths()[0].vertices
    assert np.asarray(edge)[:, 1].min() == pytest.approx(own.min())
    assert np.asarray(edge)[:, 1].max() == pytest.approx(own.max())


def test_trainings_of_other_lengths_are_drawn_as_far_as_they_go() -> None:
    """The longest has the fewest records."""
    lengths = {(0, 1, 2): [1.0, 0.9, 0.8], (0, 10): [0.6, 0.4], (2, 4): [0.4, 0.2]}
    family = [
        TrajectoryCurve(
            epochs=list(epochs), cosine_distance={"one": values}, within_entropy={}, between_entropy={}, position=[]
        )
        for epochs, values in lengths.items()
    ]
    axes = distances_figure(["one"], {"sgd": family}, "epoch").axes[0]
    np.testing.assert_allclose(axes.lines[0].get_xdata(), [0, 1, 2, 4, 10])
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [0.8, 0.74, (0.8 + 0.56 + 0.4) / 3, (0.52 + 0.2) / 2, 0.4])
    edge = np.asarray(axes.collections[0].get_paths()[0].vertices)
    assert edge[edge[:, 0] == 4][:, 1].tolist() == pytest.approx([0.2, 0.52])
    assert edge[:, 0].max() == 10


def test_map_draws_and_names_each_path() -> None:
    results, curves = made_up()
    figure = figures.draw_figures(results, curves)["map"]
    axes = figure.axes[0]
    paths = [np.asarray(line.get_xydata()) for line in axes.lines]
    for curve in curves.trajectories.values():
        assert any(path.shape == np.shape(curve.position) and np.allclose(path, curve.position) for path in paths)
    assert {text.get_text() for text in figure.legends[0].get_texts()} == set(results.networks)


def test_diversity_draws_each_point_and_the_maximum() -> None:
    results, _ = made_up(solutions=4)
    axes = diversity_figure(results).axes[0]
    values = [results.diversity.n_eff[point] for point in results.search.points]
    np.testing.assert_allclose(np.asarray(axes.lines[0].get_xdata()), values)
    np.testing.assert_allclose(np.asarray(axes.lines[1].get_xdata()), [4, 4])


def test_population_bubbles_grow_with_weight_and_crosses_have_none() -> None:
    results, curves = made_up(solutions=2, cycles=6)
    members, sizes = population_figure(results.q0, curves).axes
    weights = {m.test_nll: m.weight for m in results.q0.members}
    bubbles = [b for c in members.collections for b in zip(np.asarray(c.get_offsets())[:, 1], c.get_sizes(), strict=True)]
    assert {float(nll) for nll, _ in bubbles} == {nll for nll, weight in weights.items() if weight >= 5e-4}
    by_weight = [size for _, size in sorted(bubbles, key=lambda bubble: weights[float(bubble[0])])]
    assert by_weight == sorted(by_weight)
    drawn = [list(line.get_ydata()) for line in sizes.lines]
    assert curves.q0_size["uniform"] in drawn
    assert curves.q0_size["learned_prior"] in drawn


def test_untested_networks_are_drawn_like_others() -> None:
    results, _ = made_up(sgd=3)
    assert sum(network.test_accuracy is None for network in results.networks.values()) == 2
    training_figure(*made_up(sgd=3))


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_equal_bytes_whatever_is_set_outside(kind: str) -> None:
    results, curves = made_up(points=2)
    before = dict(matplotlib.rcParams)
    plain = style.render(search_figure(results, curves), kind)
    assert dict(matplotlib.rcParams) == before
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9, "svg.hashsalt": "other", "savefig.dpi": 50}):
        assert style.render(search_figure(results, curves), kind) == plain
    assert b"http://matplotlib" not in plain
    assert b"https://matplotlib" not in plain


def test_looks_differ_in_grey() -> None:
    def lightness(color: str) -> float:
        return float(np.dot(to_rgb(color), (0.2126, 0.7152, 0.0722)))

    searched, sgd = style.LOOKS["search"], style.LOOKS["sgd"]
    assert searched.line != sgd.line
    assert searched.marker != sgd.marker
    grey = [lightness(color) for color in style.shades(style.BLUE, 4)]
    assert all(after - before > 0.05 for before, after in pairwise(grey))


def test_spread_keeps_distance_and_order() -> None:
    draw = random.Random(0)
    for _ in range(50):
        wanted = [draw.uniform(0, 10) for _ in range(draw.randint(1, 12))]
        got = spread(wanted, 1.0)
        order = sorted(range(len(wanted)), key=lambda i: wanted[i])
        assert all(got[b] - got[a] >= 1 - 1e-9 for a, b in pairwise(order))
        assert np.mean(got) == pytest.approx(np.mean(wanted))
    assert spread([1.0, 5.0, 3.0], 1.0) == [1.0, 5.0, 3.0]


BACKEND = """
import os
from decouple.report import style
assert style.render(style.new_figure(1), "png")[1:4] == b"PNG"
import matplotlib
print(os.environ["MPLBACKEND"], matplotlib.get_backend())
"""


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("module://matplotlib_inline.backend_inline", None),  # refused where the notebook's packages are missing
        ("module://no_such_notebook.backend", "module://no_such_notebook.backend"),
    ],
)
def test_the_backend_of_a_notebook_neither_breaks_figures_nor_is_changed(wanted: str, found: str | None) -> None:
    """A notebook leaves its backend in the environment of whatever it starts."""
    environment = {**os.environ, "MPLBACKEND": wanted}
    done = subprocess.run([sys.executable, "-c", BACKEND], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    left, backend = done.stdout.split()
    assert left == wanted
    assert found is None or backend == found
