"""Several runs beside each other, from the command line, and the trajectories that a run has."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from decouple.cli import run_command
from decouple.config import RunConfig
from decouple.errors import ConfigError, DataError, NetworkError
from decouple.pipeline import RunDirectory, run
from decouple.pipeline.compare_runs import _labels
from decouple.settings import from_builtins


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch, no_report: None) -> None:
    """Leave the pictures out: they take longer than all else, and tests/report draws them."""
    names = ("distances", "entropies", "map", "pairs", "families")
    monkeypatch.setattr(
        "decouple.report.comparison_page.draw_comparison", lambda found, unit: dict.fromkeys(names, Figure())
    )
    monkeypatch.setattr("decouple.report.style.render", lambda figure, kind: b"")


@pytest.fixture
def other(tiny: RunConfig, tmp_path: Path) -> Path:
    """A run of another seed, as far as its comparison."""
    folder = tmp_path / "other"
    run(dataclasses.replace(tiny, seed=1), folder)
    return folder


def test_runs_are_compared_and_their_population_is_recorded(
    finished: Path, other: Path, tmp_path: Path, stamps, capsys: pytest.CaptureFixture[str]
) -> None:
    before = stamps(finished)
    out = tmp_path / "compared"
    assert run_command(["compare", str(finished), str(other), "--out", str(out), "--quiet"]) == 0
    assert f"Comparison: {out / 'comparison.html'}" in capsys.readouterr().out
    found = json.loads((out / "comparison.json").read_text())
    names = [f"{label}/{name}" for label in ("run", "other") for name in ("search-0", "search-1", "sgd-1", "q0-0", "q0-1")]
    assert list(found["networks"]) == names
    assert found["networks"]["run/q0-1"]["steps"] == [4, 6, 8, 10], "from where the learned network ended"
    assert found["networks"]["other/search-1"]["solution"] == "other/search-1"
    assert found["families"]["other solutions, other starts"]["pairs"] == 6
    assert {d["other"] for d in found["differences"]} == {"sgd, other starts", "q0, other starts"}
    own = json.loads((finished / "curves.json").read_text())["trajectories"]["search-1"]["cosine_distance"]
    assert found["trajectories"]["run/search-1"]["cosine_distance"] == own, "as the run's own report has it"
    pair = next(p for p in found["pairs"] if (p["one"], p["other"]) == ("run/search-0", "run/sgd-1"))
    reported = json.loads((finished / "results.json").read_text())["compare"]
    assert reported["cka"]["sgd-1"]["search-0"] == pytest.approx(pair["cka"][found["headline"]], abs=1e-9)
    assert reported["disagreement"]["sgd-1"]["search-0"] == pair["disagreement"]
    after = stamps(finished)
    assert {name: after[name] for name in before} == before, "nothing is done again"
    assert {name.split("/")[0] for name in set(after) - set(before)} == {"compare"}

    assert run_command(["compare", str(finished), str(other), "--out", str(out), "--quiet"]) == 0
    assert json.loads((out / "comparison.json").read_text()) == found
    assert stamps(finished) == after, "recorded once"


def test_one_run_is_compared_with_itself(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["compare", str(finished), "--quiet"]) == 0
    assert "compare: done." in capsys.readouterr().out
    found = json.loads((finished / "comparison" / "comparison.json").read_text())
    assert list(found["networks"]) == ["search-0", "search-1", "sgd-1", "q0-0", "q0-1"]
    assert run_command(["report", str(finished), "--quiet"]) == 0
    assert run_command(["compare", str(finished), "--out", str(finished / "elsewhere"), "--quiet"]) == 0
    assert json.loads((finished / "elsewhere" / "comparison.json").read_text()) == found


def test_networks_that_are_trained_again_for_other_records_are_counted_before(
    finished: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    note = "Note: 3 networks will be trained again, since activations are recorded while a network is trained"
    assert run_command(["learn", str(finished)]) == 0
    assert run_command(["learn", str(finished), "--learn.epochs", "1"]) == 0
    assert "trained again" not in capsys.readouterr().err, "other networks are trained, not the same ones again"
    assert run_command(["learn", str(finished), "--learn.epochs", "4"]) == 0

    def stop(*_: object, **__: object) -> None:
        raise DataError("begun")

    monkeypatch.setattr("decouple.pipeline.learning.fit", stop)
    assert run_command(["compare", str(finished), "--compare.records", "2"]) == 1
    said = capsys.readouterr().err
    assert note in said
    assert said.index(note) < said.index("begun")


@pytest.mark.parametrize(("error", "status"), [(ConfigError, 2), (NetworkError, 1), (ValueError, 1)])
def test_only_what_the_measures_refuse_is_laid_on_the_networks(
    finished: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: type[Exception], status: int
) -> None:
    def stop(*_: object) -> None:
        raise error("the reason")

    shutil.rmtree(finished / "compare")
    monkeypatch.setattr("decouple.pipeline.comparing.probe_targets", stop)
    assert run_command(["compare", str(finished), "--quiet"]) == status
    said = capsys.readouterr().err
    assert "the reason" in said
    assert ("has a network collapsed" in said) == (error is ValueError)


def test_runs_of_one_seed_share_their_solutions(finished: Path, tiny: RunConfig, tmp_path: Path) -> None:
    config = from_builtins({"learn": {"epochs": 2}}, tiny)
    run(config, tmp_path / "again")
    assert run_command(["compare", str(finished), str(tmp_path / "again"), "--out", str(tmp_path / "out"), "--quiet"]) == 0
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert found["networks"]["again/search-1"]["solution"] == "run/search-1"
    pairs = {(pair["one"], pair["other"]): pair["family"] for pair in found["pairs"]}
    assert pairs["run/search-0", "again/search-0"] == "same solution, same start"


def test_other_images_and_other_mistakes_are_answered_in_a_line(
    finished: Path,
    tiny: RunConfig,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun = {"more": {"compare": {"images": 24}}, "wide": {"network": {"width": 9}}}
    for name, values in begun.items():  # of which nothing is done yet
        with RunDirectory.create(tmp_path / name, from_builtins(values, tiny), resume=False) as directory:
            directory.log("begun")
    monkeypatch.setattr("decouple.search.shards.search_batches", lambda *a, **k: pytest.fail("compute was spent"))
    assert run_command(["compare", str(finished), str(tmp_path / "more"), "--quiet"]) == 1
    assert "'run' and 'more' cannot be compared: 20 samples against 24" in capsys.readouterr().err
    assert run_command(["compare", str(finished), str(tmp_path / "wide"), "--quiet"]) == 1
    shapes = "what is searched at 'block0' has the shape (8, 3, 3) in one and (9, 3, 3) in the other"
    assert f"'run' and 'wide' cannot be compared: {shapes}" in capsys.readouterr().err
    assert run_command(["compare", str(finished), str(finished), "--quiet"]) == 2
    assert "is given twice" in capsys.readouterr().err
    assert run_command(["compare", str(finished), str(tmp_path / "nowhere"), "--quiet"]) == 1
    assert "is not a run directory" in capsys.readouterr().err
    assert run_command(["compare", str(finished), str(tmp_path / "more"), "--learn.epochs", "3"]) == 2
    assert "unknown option '--learn.epochs'" in capsys.readouterr().err


def test_networks_of_other_kinds_share_the_logits(finished: Path, tiny: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    own = {"network": {"name": f"{tmp_path}/mine.py:build", "points": ["hidden", "out"]}, "search": {"points": "last"}}
    run(from_builtins({**own, "learn": {"supervise": "last"}}, tiny), tmp_path / "own")
    out = str(tmp_path / "compared")
    code = f"{tmp_path}/mine.py:build"
    assert run_command(["compare", str(finished), str(tmp_path / "own"), "--code", code, "--out", out, "--quiet"]) == 0
    found = json.loads((tmp_path / "compared" / "comparison.json").read_text())
    pair = next(p for p in found["pairs"] if (p["one"], p["other"][:4]) == ("run/search-0", "own/"))
    assert list(pair["cka"]) == ["logits"]
    assert 0 <= pair["disagreement"] <= 1


MINE = """
from torch import nn
from collections import OrderedDict


def build(num_classes):
    layers = [("flat", nn.Flatten()), ("hidden", nn.Linear(64, 8)), ("active", nn.ReLU()), ("out", nn.Linear(8, num_classes))]
    return nn.Sequential(OrderedDict(layers))
"""


def test_images_without_activations_at_a_narrow_point_stop_no_run(tiny: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE.replace("8", "3"))
    own = {"name": f"{tmp_path}/mine.py:build", "points": ["active", "out"]}
    short = {"search": {"solutions": 2}, "learn": {"epochs": 1}, "sgd": {"epochs": 1}}
    found = run(from_builtins({"network": own, **short}, tiny), tmp_path / "narrow")
    curves = json.loads((tmp_path / "narrow" / "curves.json").read_text())["trajectories"]
    assert curves["search-0"]["left_out"]["active"] > 0
    assert 1 <= found.diversity.n_eff["active"] <= 2


def test_runs_are_named_by_what_tells_them_apart(tmp_path: Path) -> None:
    assert _labels([tmp_path / "a"]) == [""]
    assert _labels([tmp_path / "a", tmp_path / "b"]) == ["a/", "b/"]
    assert _labels([tmp_path / "one" / "a", tmp_path / "two" / "a"]) == ["one/a/", "two/a/"]
