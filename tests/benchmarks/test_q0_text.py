"""The text benchmark at its smallest: what it chooses, what it counts, what it leaves."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import q0_text
from benchmarks.q0_text import Bench, Recipe, filling, headline, line, methods, without
from decouple.config import TextQ0Config
from decouple.errors import ConfigError


def point(epochs: int, validation: float, test: float) -> dict[str, float]:
    return {"epochs": epochs, "members": 1, "trajectories": 1, "validation_uniform": validation, "test_uniform": test}


def test_a_line_is_chosen_on_validation_and_reported_on_test() -> None:
    made = {"a": [[point(4, 3.0, 3.5), point(8, 2.0, 2.5)]] * 2, "b": [[point(4, 2.9, 9.0), point(16, 2.1, 1.0)]] * 2}
    found = line(made, ["a", "b"], "uniform")
    assert [(p["epochs"], p["recipe"], p["test"]["mean"]) for p in found] == [(4, "b", 9.0), (8, "a", 2.5)]


def test_the_headline_is_what_each_needs_for_the_ensembles_best() -> None:
    def points(*values: tuple[int, float]) -> list[dict[str, Any]]:
        return [{"epochs": n, "test": {"mean": v}, "test_of_seeds": [v, v + 0.1]} for n, v in values]

    found = headline(points((8, 3.0), (16, 2.5), (64, 2.0)), points((4, 3.0), (16, 2.0), (32, 1.5)))
    assert (found["target"], found["ensemble_epochs"], found["q0_epochs"], found["ratio"]) == (2.0, 64, 16, 4.0)
    assert found["ratio_of_seeds"] == [4.0, 4.0]
    missed = headline(points((8, 3.0), (16, 1.0)), points((4, 2.0)))
    assert (missed["q0_epochs"], missed["ratio"]) == (None, None)


def test_baselines_are_alone_and_each_removal_changes_one_thing() -> None:
    size = q0_text.SCALES["small"]
    every = methods(size)
    assert all(recipe.q0.alpha == recipe.q0.perturb == 0 for recipe, _, _ in every if recipe.method != "q0")
    assert len({recipe.name for recipe, _, _ in every}) == len(every)
    main = filling(next(recipe for recipe, _, _ in every if recipe.method == "q0"), 1, size.budget)
    fields = TextQ0Config.__dataclass_fields__
    changed = [sum(getattr(r.q0, f) != getattr(main.q0, f) for f in fields) for r in without(main)]
    assert sorted(changed) == [1, 1, 1, 1, 1, 1, 2], "a new network has no noise"


@pytest.mark.parametrize("trajectories", [1, 2, 3])
def test_populations_fill_the_budget(trajectories: int) -> None:
    base = TextQ0Config(first_epochs=8, epochs=4, cycles=2)
    made = filling(Recipe("q0", "q0", base), trajectories, 128).q0
    spent = trajectories * (8 + 4 * (made.cycles - 1))
    assert made.trajectories == trajectories
    assert 128 - 4 * trajectories < spent <= 128


def test_tuning_takes_the_best_of_one_setting_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a bowl in (lr, dropout), whose least is (2, 0.5); nothing is measured twice."""
    bench, asked = object.__new__(Bench), []
    monkeypatch.setattr(bench, "_size", q0_text.SCALES["tiny"], raising=False)

    def measure(recipe: Recipe, seed: int) -> list[dict[str, float]]:
        asked.append((recipe.q0.lr, recipe.dropout, recipe.q0.trajectories, seed))
        return [{"validation_uniform": (recipe.q0.lr - 2) ** 2 + (recipe.dropout - 0.5) ** 2}]

    monkeypatch.setattr(bench, "measure", measure)
    start = Recipe("q0", "q0", TextQ0Config(lr=1.0))
    tuned = bench.tune(start, 3, {"lr": (1.0, 2.0, 4.0), "dropout": (0.0, 0.5)})
    assert (tuned["recipe"].q0.lr, tuned["recipe"].dropout) == (2.0, 0.5)
    assert asked == [(1.0, 0.0, 3, 0), (2.0, 0.0, 3, 0), (4.0, 0.0, 3, 0), (2.0, 0.5, 3, 0)]
    assert [trial["validation"] for trial in tuned["trials"]] == [1.25, 0.25, 4.25, 0.0]


def test_it_leaves_receipt_and_picture_and_goes_on_with_its_parts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    size = q0_text.SCALES["tiny"]
    monkeypatch.setitem(q0_text.SCALES, "tiny", replace(size, precision="float32"))
    monkeypatch.setattr(q0_text, "without", lambda main: without(main)[:1])
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"number {i}: {'tick tock ' * (i % 4 + 1)}" for i in range(200)))
    arguments = q0_text.Arguments(data=text, scale="tiny", device="cpu", out=tmp_path / "parts", figures=tmp_path)
    q0_text.main(arguments)
    receipt = json.loads((tmp_path / "q0_text-tiny.json").read_text())
    assert receipt["settings"]["seeds"] == [0, 1]
    assert [p["epochs"] for p in receipt["figures"]["regime"]] == [2, 4]
    everything = receipt["figures"]["all"]["q0, cycles of 1 epochs, 2 trajectories"][0]
    assert [(p["epochs"], p["members"]) for p in everything] == [(2, 1), (3, 2), (4, 2), (6, 4)]
    assert [tuned["method"] for tuned in receipt["figures"]["tuning"]] == ["single", "single", "ensemble", "snapshots", "q0"]
    assert list(receipt["figures"]["ablation"]) == ["q0 itself", "q0 without distillation"]
    assert (tmp_path / "q0_text-tiny.png").stat().st_size > 1000
    assert "what the ensemble reaches in" in capsys.readouterr().out

    def fail(*given: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(q0_text, "measure", fail)
    q0_text.main(arguments)
    again = json.loads((tmp_path / "q0_text-tiny.json").read_text())
    assert again["figures"]["lines"] == receipt["figures"]["lines"]


def test_a_text_is_asked_for() -> None:
    with pytest.raises(ConfigError, match="give a text"):
        q0_text.run(q0_text.Arguments(), q0_text.SCALES["tiny"])
