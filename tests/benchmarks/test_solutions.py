"""Different solutions and what is learned from them, on digits and in seconds."""

from pathlib import Path

import pytest

from benchmarks import solutions
from decouple.files import read_json


def test_solutions_with_a_part_each_differ_more(tmp_path: Path) -> None:
    tiny = solutions.SCALES["tiny"]
    size = solutions.replace(tiny, width=8, es=solutions.EsConfig(population=16, generations=20), solutions=3)
    of_seed = solutions.Seed.of(solutions.Arguments(device="cpu"), size, "digits", 0)
    one, each = (solutions.measure_searched(of_seed, parts) for parts in solutions.SPACES.values())
    assert 1 <= one["targets"] < each["targets"] <= 3
    assert one["displacements"] < each["displacements"]
    assert (
        {"member", "ensemble", "member_nll", "nll", "nll_calibrated", "disagreement"}
        == set(each["live"])
        == set(each["stored"])
    )


def test_it_goes_on_where_it_was_and_leaves_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = solutions.Arguments(scale="tiny", figures=tmp_path, out=tmp_path / "parts", device="cpu")
    solutions.main(arguments)
    once = read_json(tmp_path / "solutions-tiny.json")["figures"]
    for name in ("measure_sgd", "measure_searched"):
        monkeypatch.setattr(solutions, name, lambda *_: pytest.fail("it is there already"))
    solutions.main(arguments)
    assert read_json(tmp_path / "solutions-tiny.json")["figures"] == once
    rows = once["entries"][0]["rows"]
    assert list(rows) == ["SGD", *solutions.SPACES]
    table = (tmp_path / "solutions-tiny.md").read_text()
    assert f"{100 * rows['a part each']['live']['ensemble']['mean']:.1f}" in table
    assert table in capsys.readouterr().out


def test_without_learning_there_are_the_solutions_alone(tmp_path: Path) -> None:
    arguments = solutions.Arguments(scale="tiny", figures=tmp_path, device="cpu", search_only=True, name="search")
    solutions.main(arguments)
    rows = read_json(tmp_path / "solutions-tiny-search.json")["figures"]["entries"][0]["rows"]
    assert list(rows) == list(solutions.SPACES)
    assert "live" not in rows["a part each"]
    table = (tmp_path / "solutions-tiny-search.md").read_text()
    assert "N_eff" in table
    assert "member" not in table
