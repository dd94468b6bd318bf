"""Tuning: fair, the same however it is interrupted, and blind to the test part."""

import dataclasses
import json
import math
import pickle
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import decouple
from decouple.cli import run_command
from decouple.cli.commands import _preset_settings
from decouple.cli.options import RunOptions
from decouple.config import RunConfig, TuneConfig
from decouple.data import load_data
from decouple.errors import ConfigError, NotFiniteError
from decouple.pipeline import RunDirectory, open_run, run_stages, tune as module
from decouple.pipeline.trials import Trial, Tuning, grids_of
from decouple.settings import flattened, from_builtins

FEW = TuneConfig(trials=2, epochs=2, extensions=0)
WRITTEN = ("tune.json", "tune.txt", "tune.csv", "tune.md", "best.json")

Score = Callable[[str, dict[str, Any]], list[float]]


@pytest.fixture
def small(tiny: RunConfig) -> RunConfig:
    return dataclasses.replace(tiny, network=dataclasses.replace(tiny.network, groups=1))


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn, but not written, which takes longer than all else."""
    monkeypatch.setattr("decouple.report.style.render", lambda figure, kind: b"")


@pytest.fixture
def scored(no_pictures: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[Score], list[str]]:
    """Puts a function of method and settings in place of training and of its pictures; gives the units that were asked for."""

    def use(score: Score) -> list[str]:
        asked: list[str] = []

        def scored(shared: object, device: str, plan: Any) -> list[float]:
            asked.append(plan.unit)
            return score(plan.method, flattened(plan.config))

        monkeypatch.setattr(module, "_score", scored)
        monkeypatch.setattr(module, "search", lambda run: [None])
        return asked

    return use


def peak(lr: float, weight_decay: float = 0.02) -> Score:
    """Accuracy that falls with the distance from these values."""

    def score(method: str, values: dict[str, Any]) -> list[float]:
        steps = math.log2(values[f"{method}.lr"] / lr), math.log2(values[f"{method}.weight_decay"] / weight_decay)
        return [0.1, 0.9 - 0.05 * abs(steps[0]) - 0.01 * abs(steps[1])]

    return score


def sent(value: Any) -> Any:
    """As another process gets it."""
    return pickle.loads(pickle.dumps(value))  # noqa: S301


def files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in WRITTEN}


def test_a_trial_trains_what_a_run_trains(tiny: RunConfig, finished: Path, tmp_path: Path) -> None:
    found = decouple.tune(tiny, tmp_path / "tuned", tuning=TuneConfig(trials=2, epochs=4, methods=("learn",), extensions=0))
    known = json.loads((finished / "results.json").read_text())["networks"]["search-0"]["validation_accuracy"]
    (first, second) = found.trials
    assert first.values == {"learn.lr": 0.2, "learn.weight_decay": 0.02}, "its own values come first"
    assert first.accuracy == known
    assert second.accuracy is not None
    assert all((tmp_path / "tuned" / f"tune.{kind}").stat().st_size > 1000 for kind in ("png", "svg"))
    assert not list(tmp_path.rglob("checkpoint.safetensors"))


@pytest.mark.parametrize("init", ["searched", "random"])
def test_a_trial_of_q0_trains_the_trajectory_of_a_run(tiny: RunConfig, tmp_path: Path, no_pictures: None, init: str) -> None:
    own = {"search": {"solutions": 1}, "learn": {"epochs": 3}, "q0": {"init": init, "epochs": 1, "trajectories": 1}}
    config = from_builtins(own, tiny)
    found = decouple.tune(config, tmp_path / "tuned", tuning=TuneConfig(trials=2, epochs=3, methods=("q0",), extensions=0))
    with RunDirectory.create(tmp_path / "run", config, resume=False) as directory, open_run(directory, config) as run:
        run_stages(run, "q0")
        known = decouple.accuracy(decouple.Ensemble.load(tmp_path / "run"), run.data.validation)
    assert found.trials[0].accuracy == known


def test_a_killed_tuning_resumes_to_the_same_table(
    small: RunConfig, tmp_path: Path, scored, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw() -> list[str]:
        return scored(peak(lr=3.2))

    draw()
    whole = decouple.tune(small, tmp_path / "whole", tuning=TuneConfig(trials=8))
    for after in (0, 3, 17):
        asked = draw()
        through = module._score

        def killed(*arguments: Any, asked=asked, through=through, after=after) -> list[float]:
            if len(asked) == after:
                raise KeyboardInterrupt
            return through(*arguments)

        monkeypatch.setattr(module, "_score", killed)
        with pytest.raises(KeyboardInterrupt):
            decouple.tune(small, tmp_path / f"{after}", tuning=TuneConfig(trials=8))
        monkeypatch.setattr(module, "_score", through)
        resumed = decouple.tune(small, tmp_path / f"{after}", tuning=TuneConfig(trials=8), resume=True)
        assert resumed.trials == whole.trials
        assert files(tmp_path / f"{after}") == files(tmp_path / "whole")
        assert len(asked) == len(set(asked)) == len(whole.trials), "nothing is done twice"


def test_test_images_are_never_looked_at(
    small: RunConfig, tmp_path: Path, no_pictures: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def corrupted(*arguments: Any, **options: Any) -> decouple.ImageData:
        data = load_data(*arguments, **options)
        wrong = dataclasses.replace(data.test, images=data.test.images.flip(0) * 0, labels=(data.test.labels + 1) % 10)
        return dataclasses.replace(data, test=wrong)

    tuning = dataclasses.replace(FEW, methods=("sgd", "learn", "q0"), epochs=3)
    small = dataclasses.replace(small, q0=dataclasses.replace(small.q0, prior="exact"))
    decouple.tune(small, tmp_path / "right", tuning=tuning)
    monkeypatch.setattr("decouple.pipeline.context.load_data", corrupted)
    decouple.tune(small, tmp_path / "wrong", tuning=tuning)
    assert files(tmp_path / "right") == files(tmp_path / "wrong")


def test_the_first_draw_depends_on_no_result(small: RunConfig, tmp_path: Path, scored) -> None:
    def first(found: Tuning) -> list[tuple[str, dict[str, Any]]]:
        return [(trial.method, trial.values) for trial in found.trials if trial.extension == 0]

    scored(peak(lr=0.2))
    one = decouple.tune(small, tmp_path / "one", tuning=TuneConfig(trials=8))
    scored(peak(lr=50))
    other = decouple.tune(small, tmp_path / "other", tuning=TuneConfig(trials=8))
    assert first(one) == first(other)
    grids = grids_of(small, TuneConfig())
    empty = Tuning(small, grids, (), 40)
    assert empty.draw("learn", 20)[:8] == empty.draw("learn", 8), "more trials begin with the fewer"
    assert len({tuple(values.items()) for values in empty.draw("learn", 25)}) == 25
    other_seed = dataclasses.replace(empty, base=dataclasses.replace(small, seed=1))
    assert other_seed.draw("learn", 8) != empty.draw("learn", 8)


def test_nothing_is_added_where_the_best_lies_inside(small: RunConfig, tmp_path: Path, scored) -> None:
    scored(peak(lr=0.2))
    found = decouple.tune(small, tmp_path / "out", tuning=TuneConfig(trials=25))
    assert [len(found.of(method)) for method in ("sgd", "learn")] == [25, 25]
    assert all(found.best(method).values == {f"{method}.lr": 0.2, f"{method}.weight_decay": 0.02} for method in found.grids)
    assert found.remarks() == [
        f"{method}: lr = 0.2, weight_decay = 0.02 is best (90.0 % of 40 validation images, 25 trials)"
        for method in found.grids
    ]


def test_an_edge_extends_every_method_alike(small: RunConfig, tmp_path: Path, scored) -> None:
    """SGD's best lies two steps beyond its grid, and learning's inside."""
    scored(lambda method, values: peak(lr=3.2 if method == "sgd" else 0.2)(method, values))
    found = decouple.tune(small, tmp_path / "out", tuning=TuneConfig(trials=12, extensions=4))
    assert found.best("sgd").values["sgd.lr"] == 3.2
    assert found.grids["sgd"]["sgd.lr"] == (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4), (
        "one step at a time, until it is inside"
    )
    assert found.grids["learn"]["learn.lr"] == (0.05, 0.1, 0.2, 0.4, 0.8)
    assert len(found.of("sgd")) == len(found.of("learn")) == 12 + 3 * 3
    assert "may be better" not in str(found)


def test_an_edge_that_stays_is_named(small: RunConfig, tmp_path: Path, scored) -> None:
    scored(lambda method, values: peak(lr=100 if method == "sgd" else 0.2)(method, values))
    found = decouple.tune(small, tmp_path / "out", tuning=TuneConfig(trials=20, extensions=3))
    assert len(found.of("sgd")) == len(found.of("learn")) == 25, "as many as learning has combinations"
    assert json.loads((tmp_path / "out" / "tune.json").read_text())["at_edge"] == {"sgd": ["sgd.lr"], "learn": []}
    text = (tmp_path / "out" / "tune.md").read_text()
    assert "sgd.lr = 1.6 is the largest that was tried, and a larger one may be better" in text


def test_a_setting_ends_at_the_edge_of_its_range(small: RunConfig) -> None:
    grids = grids_of(
        small, TuneConfig(grid={"sgd.momentum": (0, 0.9), "sgd.batch": (20, 30), "learn.live.weight": (0, 1, 2)})
    )
    assert grids["learn"]["learn.live.weight"] == (0.0, 1.0, 2.0)
    values = {"sgd.lr": 0.2, "sgd.weight_decay": 0.02, "sgd.momentum": 0.9, "sgd.batch": 30}
    others = {"sgd.lr": 0.1, "sgd.weight_decay": 0.01, "sgd.momentum": 0.0, "sgd.batch": 20}
    found = Tuning(small, grids, [Trial("sgd", values, 0, 0.5), Trial("sgd", others, 0, 0.4)], 40)
    assert found.beyond(found.trials[0]) == [("sgd.lr", 0.4), ("sgd.weight_decay", 0.04), ("sgd.batch", 45)]
    assert found.beyond(found.trials[1]) == [("sgd.lr", 0.05), ("sgd.weight_decay", 0.005), ("sgd.batch", 13)]


def test_values_that_contradict_each_other_are_left_out(small: RunConfig) -> None:
    grids = grids_of(
        small, TuneConfig(grid={"learn.target_weight": (0, 1), "learn.live.weight": (0, 1), "learn.lr": (0.1,)})
    )
    drawn = Tuning(small, grids, (), 40).draw("learn", 100)
    assert len(drawn) == 5 * 3, "a body that learns from nothing is no trial"
    assert all(values["learn.target_weight"] + values["learn.live.weight"] for values in drawn)


def test_of_equals_one_inside_is_chosen(small: RunConfig) -> None:
    grids = grids_of(
        small, TuneConfig(grid={"sgd.lr": (0.1, 0.2, 0.4), "sgd.weight_decay": (0.02,)}, trials=3, methods=("sgd",))
    )
    trials = [Trial("sgd", {"sgd.lr": lr, "sgd.weight_decay": 0.02}, 0, a) for lr, a in ((0.4, 0.9), (0.2, 0.9), (0.1, 0.8))]
    assert Tuning(small, grids, trials, 40).best("sgd") is trials[1]


def test_a_diverged_trial_is_shown_and_never_chosen(
    small: RunConfig, tmp_path: Path, no_pictures: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = module.fit

    def sometimes(network: Any, train: Any, validation: Any, objective: Any, settings: Any, **options: Any) -> Any:
        if settings.lr == 0.2:
            raise NotFiniteError("the loss is NaN")
        return fit(network, train, validation, objective, settings, **options)

    monkeypatch.setattr(module, "fit", sometimes)
    found = decouple.tune(small, tmp_path / "out", tuning=dataclasses.replace(FEW, methods=("sgd",), extensions=0))
    assert found.trials[0].accuracy is None
    assert found.best("sgd") is found.trials[1]
    assert "diverged" in str(found)
    every = dataclasses.replace(found, trials=found.trials[:1])
    assert every.remarks() == ["sgd: every trial diverged; try smaller values (--grid sgd.lr=…)"]
    assert every.config() == every.base


def test_workers_find_the_same(small: RunConfig, tmp_path: Path, no_pictures: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def distribute(function: Any, shared: Any, jobs: Sequence[Any], *, device: str, **how: Any) -> None:
        for job in jobs:
            job.keep(sent(function(sent(shared), device, *sent(job.arguments()))))

    decouple.tune(small, tmp_path / "one", tuning=FEW)
    monkeypatch.setattr(module, "distribute", distribute)
    search, alone = module.search, decouple.Execution()
    monkeypatch.setattr(module, "search", lambda run: search(dataclasses.replace(run, execution=alone)))
    decouple.tune(small, tmp_path / "two", tuning=FEW, workers=2)
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_the_best_settings_are_a_config_of_a_run(
    small: RunConfig, tmp_path: Path, scored, capsys: pytest.CaptureFixture[str]
) -> None:
    scored(peak(lr=0.4, weight_decay=0.01))
    (tmp_path / "small.json").write_text(json.dumps(decouple.settings.to_builtins(small)))
    argv = ["tune", "digits", "--config", str(tmp_path / "small.json"), "--out", str(tmp_path / "out"), "--quiet"]
    own = ["--trials", "5", "--epochs", "6", "--methods", "sgd", "learn", "q0", "--settings", "learn.target-weight"]
    assert run_command([*argv, *own, "--q0.init", "random", "--grid", "learn.lr=0.1,0.4", "sgd.weight-decay=0.01"]) == 0
    assert f"decouple run digits --config {tmp_path / 'out' / 'best.json'}" in capsys.readouterr().out
    _, config = _preset_settings("run", ["digits", "--config", str(tmp_path / "out" / "best.json")], RunOptions())
    assert (config.sgd.lr, config.sgd.weight_decay, config.learn.lr) == (0.4, 0.01, 0.4)
    assert (config.sgd.epochs, config.learn.epochs, config.q0.epochs * config.q0.cycles) == (6, 6, 6)
    assert config.search == small.search
    assert config.data.train == small.data.train


def test_optuna_gets_the_trials(small: RunConfig) -> None:
    grids = grids_of(small, TuneConfig())
    trials = [Trial("sgd", values, 0, n / 10) for n, values in enumerate(Tuning(small, grids, (), 40).draw("sgd", 3))]
    study = Tuning(small, grids, trials, 40).study("sgd")
    assert study.best_value == 0.2
    assert study.best_params == trials[2].values


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {"settings": ("learn.lrr",)},
            "'learn.lrr' is no setting of sgd and learn that can be tuned; did you mean 'learn.lr'",
        ),
        ({"settings": ("q0.alpha",)}, "'q0.alpha' is no setting of sgd and learn that can be tuned"),
        ({"grid": {"learn.epochs": (2, 4)}}, "'learn.epochs' is no setting of sgd and learn that can be tuned"),
        ({"grid": {"learn.lr": (0.1, -1)}}, "learn.lr = -1: expected a number > 0"),
        ({"grid": {"learn.lr": ("high",)}}, "learn.lr = 'high': expected a number"),
        ({"settings": ("learn.augment",)}, "learn.augment = 'none' has no values around it to try: name them by grid"),
        ({"trials": 26}, "trials = 26: sgd has 25 combinations of values; give fewer trials"),
        ({"methods": ("q0",), "epochs": 4}, "4 epochs a trial: q0 takes a multiple of its 3 cycles"),
    ],
)
def test_what_cannot_be_tuned_is_refused_at_once(
    small: RunConfig, tmp_path: Path, options: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ConfigError, match=expected):
        decouple.tune(small, tmp_path / "out", tuning=TuneConfig(**options))
    assert not (tmp_path / "out").exists()


def test_what_is_missing_is_named(small: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"methods = \['sgd', 'sgd'\]: expected each once"):
        TuneConfig(methods=("sgd", "sgd"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="a tuning has many: use workers"):
        decouple.tune(small, tmp_path / "out")
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"needs the package optuna: pip install 'decouple-learn\[tune\]'"):
        decouple.tune(from_builtins({}), tmp_path / "out")


def test_ways_to_fit_the_prior_are_trials_of_their_own(small: RunConfig, tmp_path: Path, scored: Any) -> None:
    """Though no snapshot depends on them."""
    config = from_builtins({"q0": {"init": "random", "cycles": 2}}, small)
    asked = scored(lambda method, values: [0.5 if values["q0.prior"] == "exact" else 0.6])
    grid = {"q0.prior": ("shrunk", "exact"), "q0.lr": (0.1,), "q0.weight_decay": (0.05,)}
    tuning = TuneConfig(trials=2, epochs=4, methods=("q0",), grid=grid, extensions=0)
    found = decouple.tune(config, tmp_path, tuning=tuning)
    assert len(set(asked)) == 2
    assert {trial.values["q0.prior"]: trial.accuracy for trial in found.trials} == {"shrunk": 0.6, "exact": 0.5}
