"""The command line: what it answers, and that bad input costs one line, not a traceback or compute."""

import json
import subprocess
import sys
from pathlib import Path

import filelock
import pytest
import torch

import decouple
from decouple import own_code, settings
from decouple.cli import run_command
from decouple.cli.commands import default_out
from decouple.cli.entry import explained
from decouple.errors import ConfigError, NotFiniteError
from decouple.presets import PRESETS, preset
from decouple.settings import from_builtins

TINY_OF_ANY = [
    *("--data.train", "60", "--data.validation", "40", "--data.prior", "40", "--data.test", "60"),
    *("--search.es.population", "4", "--search.es.generations", "2", "--search.batch", "30", "--learn.epochs", "2"),
    *("--sgd.epochs", "2", "--compare.images", "20", "--compare.records", "2", "--q0.cycles", "2", "--q0.epochs", "1"),
    "--quiet",
]
TINY = [*TINY_OF_ANY, "--network.width", "8", "--sgd.groups", "1"]


def _error(capsys: pytest.CaptureFixture[str], *argv: str, status: int = 2) -> str:
    """The one or two lines that a wrong command prints."""
    assert run_command(list(argv)) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert 1 <= len(captured.err.strip().splitlines()) <= 2, captured.err
    assert captured.err.startswith("decouple: ")
    return captured.err


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["rum", "digits"], "there is no command 'rum'; did you mean 'run'?"),
        (["run"], "'decouple run' needs a preset first"),
        (["run", "--seed", "3"], "'decouple run' needs a preset first"),
        (["run", "digit"], "there is no preset 'digit'; did you mean 'digits'?"),
        (["run", "digits", "--sed", "3"], "unknown option '--sed'; did you mean '--seed'?"),
        (["run", "digits", "--serch.batch", "3"], "unknown option '--serch.batch'; did you mean '--search.batch'?"),
        (["run", "digits", "--seed", "three"], "--seed = 'three': expected a whole number ≥ 0"),
        (
            ["run", "digits", "--search.algorithm", "cma"],
            "--search.algorithm = 'cma': expected one of es, paper, pgpe, cem, random, gradient, or code",
        ),
        (["run", "digits", "stray"], "unexpected argument 'stray': settings are given as --section.name value"),
        (["q0", "plan", "32"], "unexpected argument '32': see --help"),
        (
            ["run", "digits", "--learn.live", "1"],
            "'--learn.live' is a section of settings: give --learn.live.weight, --learn",
        ),
        (["export", "RUN", "--distill", "--distill-epochs", "0"], "--distill-epochs = 0: expected a whole number ≥ 1"),
        (["q0", "text", "--data", "x", "--q0.perturb", "1"], "--q0.perturb = 1.0: expected 0 with restart = new"),
        (["q0", "text", "--data", "x", "--q0.members", "9"], "--q0.members = 9: expected at most 8, the snapshots of 2 × 4"),
        (
            ["run", "digits", "--network", "torchvision:resnet18", "--network.width", "64"],
            "--network.width is of the paper's network, and --network is torchvision:resnet18: leave it out",
        ),
        (["run", "digits", "--network.width", "0"], "--network.width = 0: expected a whole number ≥ 1"),
        (["run", "digits", "--learn.epochs", "-3"], "--learn.epochs = -3: expected a whole number ≥ 1"),
        (
            ["run", "digits", "--search.paper.population", "10"],
            "--search.paper.population = 10: expected at least 120, for ",
        ),
        (["run", "digits", "--config", "settings.ini"], "type '.ini' is not one of .json"),
        (["run", "digits", "--config", "a.json", "--config", "b.json"], "--config is given twice: give one value"),
        (["run", "digits", "--seed", "1", "--seed=2"], "--seed is given twice"),
        (["run", "digits", "--data_root", "a", "--data-root", "b"], "--data-root is given twice"),
        (["run", "digits", "--rounds.count", "1", "--rounds.count", "2"], "--rounds.count is given twice"),
        (["q0", "text", "--data", "a", "--data", "b"], "--data is given twice"),
        (["run", "digits", "--out", ""], "--out = '': expected a path or none"),
        (["run", "digits", "--out="], "--out = '': expected a path"),
        (["run", "digits", "--data.name", ""], "--data.name = '': expected a string that is not empty"),
        (["run", "digits", "--", "--seed", "3"], "unexpected argument '--'"),
        (["run", "digits", "--seed", "-1"], "--seed = -1: expected a whole number ≥ 0"),
        (
            ["run", "digits", "--seed", str(2**63)],
            "expected a whole number ≥ 0 and ≤ 9223372036854775807",
        ),
        (["run", "digits", "--search.es.generations", "--quiet"], "--search.es.generations = []: expected a whole number"),
        (
            ["run", "digits", "--learn.weight-decay", "nan"],
            "--learn.weight-decay = nan: expected a number ≥ 0",
        ),
        (["run", "--seed", "3", "digits"], "'decouple run' needs a preset first"),
        (
            ["run", "digits", "--network.module", "3"],
            "unknown option '--network.module'; known: --network.args, --network.b",
        ),
        (["run", "digits", "--search.module", "3"], "unknown option '--search.module'; see --help"),
        (["run", "digits", "--zzz", "3"], "unknown option '--zzz'; see --help"),
        (["run", "digits", "--config", "nowhere.json"], "nowhere.json cannot be read"),
        (["learn"], "'decouple learn' needs a run directory first"),
        (["learn", "nowhere"], "nowhere is not a run directory"),
        (["estimate", "mnst"], "there is no preset 'mnst'; did you mean"),
    ],
)
def test_wrong_commands_are_answered_in_a_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: list[str], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    status = 1 if argv == ["learn", "nowhere"] else 2
    assert expected in _error(capsys, *argv, status=status)
    assert not (tmp_path / "runs").exists(), "nothing was begun"


@pytest.mark.parametrize(
    ("argv", "expected", "status"),
    [
        (["--log", "tensorbord"], "no logger 'tensorbord': expected tensorboard, wandb, mlflow, or several with commas", 2),
        (["--device", "gpu"], "device 'gpu' is unknown: expected auto, cpu, cuda or cuda:N", 2),
        (["--device", "cuda:77"], "device 'cuda:77' is not available: torch sees ", 2),
        (["--data.name", "cifer10"], "cifer10", 1),
        (["--data.name", "folder:/nowhere"], "/nowhere", 1),
        (["--data.train", "99999"], "99999", 1),
        (["--compare.images", "900"], "--compare.images = 900: expected at most data.validation = 150", 2),
        (["--data.name", "mnist", "--data-root", "."], "MNIST", 1),
    ],
)
def test_what_is_not_there_is_named_before_compute(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    argv: list[str],
    expected: str,
    status: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("decouple.search.shards.search_batches", lambda *a, **k: pytest.fail("compute was spent"))
    if "mnist" in argv:
        monkeypatch.setattr("decouple.data.sources.load_data.__defaults__", None, raising=False)
        monkeypatch.setattr("urllib.request.urlopen", _offline)
    assert expected in _error(capsys, "run", "digits", "--out", str(tmp_path / "out"), "--quiet", *argv, status=status)


def test_a_stage_does_not_advise_options_that_it_lacks(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    values = settings.to_builtins(preset("digits"))
    (tmp_path / "config.json").write_text(json.dumps({**values, "search": {**values["search"], "batch": 1}}))
    broken = _error(capsys, "report", str(tmp_path))
    assert "config.json: search.batch = 1: expected a whole number ≥ 2" in broken
    assert "--" not in broken

    (tmp_path / "config.json").write_text(json.dumps(values))
    poor = ["compare", str(tmp_path), "--compare.images", "400"]
    assert "--compare.images = 400: expected at most data.validation = 150" in _error(capsys, *poor), "an option of its own"
    unknown = _error(capsys, "report", str(tmp_path), "--seerch.batch", "3")
    assert "'--seerch.batch'; known: --data-root, --device, --log, --quiet, --ray-address, --workers" in unknown

    absent = _error(capsys, "learn", str(tmp_path), "--resume")
    assert absent == "decouple: unknown option '--resume'; see --help\n", "every command has --help"


def test_a_home_is_found_behind_an_equals_sign(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "file").touch()
    assert f"{tmp_path}/file is a file" in _error(capsys, "run", "digits", "--out=~/file", status=1)
    assert f"{tmp_path}/none.yaml cannot be read" in _error(capsys, "run", "digits", "--config=~/none.yaml")


def test_advice_for_a_poor_comparison_can_be_followed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    poor = ["run", "digits", "--out", str(tmp_path / "run"), "--quiet", "--compare.images", "7", "--data.validation"]
    assert _error(capsys, *poor, "7").endswith("give --data.validation and --compare.images at least 30\n")
    assert _error(capsys, *poor, "150").endswith("classes cannot be compared; give --compare.images at least 30\n")


def test_what_a_stage_lacks_is_where_the_run_was_made() -> None:
    error = ConfigError("data.train is too small; give --data.train more, or --q0.batch less")
    assert explained(error, "run", []) == error.message
    assert explained(error, "q0", ["text"]) == error.message
    assert explained(error, "q0", ["runs/a"]) == (
        f"{error.message} ('decouple q0' does not take --data.train; 'decouple run' with another --out does)"
    )


def _offline(*args: object, **kwargs: object) -> None:
    import urllib.error

    raise urllib.error.URLError("offline")


def test_a_folder_that_cannot_hold_a_run_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "is a file, not a folder" in _error(capsys, "run", "digits", "--out", str(tmp_path / "file"), status=1)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    assert "and is not a run directory" in _error(capsys, "run", "digits", "--out", str(tmp_path / "full"), status=1)
    assert (tmp_path / "full" / "thesis.tex").read_text() == "x"


def test_a_directory_in_use_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    tmp_path = tmp_path / "run"
    tmp_path.mkdir()
    with filelock.FileLock(tmp_path / ".lock"):
        script = f"from decouple.cli import run_command; raise SystemExit(run_command(['run', 'digits', '--out', {str(tmp_path)!r}]))"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1
    assert "is in use by another decouple process" in done.stderr


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["--help"]) == 0
    assert "decouple run PRESET" in capsys.readouterr().out
    for argv in (["run", "--help"], ["run", "mnist-small", "--help"], ["search", "--help"]):
        with pytest.raises(SystemExit) as stop:
            run_command(argv)
        assert stop.value.code == 0
        shown = capsys.readouterr().out
        assert "--search.es.population" in shown
        assert "Candidates a generation" in shown


def test_help_of_a_stage_explains_what_it_may_change(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_command(["learn", "--help"])
    shown = capsys.readouterr().out
    assert all(option in shown for option in ("--learn.lr", "--rounds.count", "--sgd.epochs"))
    assert not any(option in shown for option in ("--search.", "--q0.", "--data.", "--seed"))


def test_presets_are_listed_with_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["presets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(PRESETS)


def test_neither_the_command_line_nor_its_versions_import_torch() -> None:
    script = "import sys, decouple.cli as cli; raise SystemExit(cli.run_command(['version']) or 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"decouple {decouple.__version__}, torch {torch.__version__.partition('+')[0]}" in done.stdout


def test_a_run_its_stages_and_its_settings(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    assert run_command(["run", "digits", "--out", out, *TINY]) == 0
    printed = capsys.readouterr().out
    assert "learned prior" in printed
    assert str(tmp_path / "run" / "report.html") in printed
    first = json.loads((tmp_path / "run" / "results.json").read_text())

    assert "not empty: continue it with --resume" in _error(capsys, "run", "digits", "--out", out, *TINY, status=1)
    changed = _error(capsys, "run", "digits", "--out", out, *TINY, "--resume", "--learn.lr", "0.3", status=1)
    assert "different settings (learn.lr: 0.2 → 0.3)" in changed
    foreign = _error(capsys, "q0", out, "--learn.lr", "0.3")
    other = "'decouple learn RUN_DIR --learn.lr …' does"
    assert f"'decouple q0' does not change --learn.lr, which the run keeps; {other}\n" in foreign
    kept = _error(capsys, "q0", out, "--data.train", "50")
    assert "not change --data.train, which the run keeps; 'decouple run' with another --out does\n" in kept

    assert run_command(["learn", out, "--quiet"]) == 0
    learned = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith(("search-", "sgd-"))]
    found = {name: network["best_epoch"] for name, network in first["networks"].items()}
    assert {name: int(epoch) for name, _, epoch in learned} == found
    assert json.loads((tmp_path / "run" / "results.json").read_text()) == first, "the settings are the same"

    (tmp_path / "run" / "comparison").mkdir()
    assert run_command(["q0", out, "--q0.cycles", "3", "--quiet"]) == 0
    printed = capsys.readouterr().out
    assert f"'decouple report {out}' brings the results" in printed
    assert f"Those of the earlier settings are in {tmp_path / 'run' / 'outdated' / '1'}." in printed
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert not left & {"results.json", "curves.json", "report.html", "figures", "comparison"}, (
        "they are not those of the new settings"
    )
    assert json.loads((tmp_path / "run" / "outdated" / "1" / "results.json").read_text()) == first
    assert (tmp_path / "run" / "outdated" / "1" / "figures").is_dir()
    assert (tmp_path / "run" / "outdated" / "1" / "comparison").is_dir()
    assert (tmp_path / "run" / "outdated" / "1" / "population.json").is_file()
    population = [line for line in printed.splitlines() if line.startswith("q0: ") and "%" in line]
    assert len(population) == 4, "best member, uniform, learned prior, greedy"
    assert run_command(["report", out, "--quiet"]) == 0
    reported = capsys.readouterr().out
    assert all(" ".join(line.split()) in " ".join(reported.split()) for line in population)
    second = json.loads((tmp_path / "run" / "results.json").read_text())
    assert (len(first["q0"]["members"]), len(second["q0"]["members"])) == (4, 6)
    assert second["test_accuracy"] == first["test_accuracy"]

    assert run_command(["q0", out, "--q0.cycles", "2", "--quiet"]) == 0
    outdated = [json.loads((tmp_path / "run" / "outdated" / n / "results.json").read_text()) for n in ("1", "2")]
    assert outdated == [first, second], "none replaces another"
    assert run_command(["q0", out, "--q0.cycles", "3", "--quiet"]) == 0

    again = tmp_path / "again"
    config = str(tmp_path / "run" / "config.json")
    assert run_command(["run", "digits", "--config", config, "--out", str(again), "--quiet"]) == 0
    assert json.loads((again / "results.json").read_text()) == second, "a run's config.json repeats it"


OWN = """
from decouple.search import EvolutionStrategy


class Mine(EvolutionStrategy):
    pass
"""


def test_an_algorithm_of_ones_own_is_only_loaded_when_it_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("decouple.report.build_report", lambda folder: folder / "report.html")
    monkeypatch.chdir(tmp_path)
    file, out = tmp_path / "mine.py", str(tmp_path / "run")
    file.write_text(OWN)
    named = ["--search.algorithm", f"{file.resolve()}:Mine"]
    run = ["run", "digits", "--search.algorithm", "mine.py:Mine", "--out", out, *TINY]
    assert run_command(run) == 0
    made = json.loads((tmp_path / "run" / "run.json").read_text())["code"]["search.algorithm"]
    assert made["name"] == named[1]
    assert len(made["digest"]) == 16
    loaded = [name for name in sys.modules if name.startswith(own_code.FROM_FILE)]
    assert run_command([*run, "--resume"]) == 0, "what is named is loaded again"

    file.write_text("raise SystemExit('loaded')")
    assert run_command(["q0", out, "--quiet"]) == 0, "nothing is to be searched"
    capsys.readouterr()
    asked = _error(capsys, "search", out, "--search.batch", "20", "--quiet")
    assert f"{out} searches with {named[1]}, code that is only loaded when you name it: repeat the command with " in asked
    assert asked.endswith(f"with {' '.join(named)}\n")
    file.write_text(OWN + "\n\n")
    assert "was made with another version of " in _error(capsys, *run, "--resume", status=1)
    file.write_text(OWN)
    other = _error(capsys, "learn", out, "--search.algorithm", "es")
    assert f"the run was made with {named[1]}, which 'decouple learn' cannot change" in other
    assert run_command(["search", out, "--search.batch", "20", "--quiet", *named]) == 0
    assert [name for name in sys.modules if name.startswith(own_code.FROM_FILE)] == loaded


NETS = """
from torch import nn


def small(num_classes, width):
    return nn.Sequential(nn.Conv2d(1, width, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36 * width, num_classes))


def taller(num_classes, width):
    body = [nn.Conv2d(1, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, width, 3), nn.ReLU()]
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(36 * width, num_classes))
"""


def test_a_network_and_data_of_ones_own_are_only_run_when_they_are_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("decouple.report.build_report", lambda folder: folder / "report.html")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "mine.py").write_text(
        "import dataclasses, decouple\n\n\ndef digits(config):\n"
        "    return decouple.load_data(dataclasses.replace(config, name='digits'))\n"
    )
    out, code = str(tmp_path / "run"), ["--network.name", "nets.py:small", "--data.name", "mine.py:digits"]
    settings_of_code = ["--network", "nets.py:small", "--network.args", "width=3", *code[2:]]
    assert run_command(["run", "digits", *settings_of_code, "--out", out, *TINY_OF_ANY]) == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["network"]["name"] == f"{tmp_path.resolve() / 'nets.py'}:small"
    assert config["network"]["args"] == {"width": 3}
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["search"]["points"] == ["1", "3"]
    assert [name for name in results["networks"] if name.startswith("sgd")] == ["sgd-2"], "one baseline, of this network"
    assert results["networks"]["sgd-2"]["parameters"] == 3 * 10 + 108 * 10 + 10
    assert results["networks"]["sgd-2"]["groups"] is None
    capsys.readouterr()
    asked = _error(capsys, "q0", out, "--q0.cycles", "2")
    assert (
        f"was made with {tmp_path.resolve() / 'nets.py'}:small, code that is only run when you name it: repeat the" in asked
    )
    assert "does not take" not in asked
    assert run_command(["q0", out, "--q0.cycles", "2", "--quiet", *code]) == 0
    assert run_command(["compare", out, "--quiet", *code]) == 0
    with pytest.raises(
        decouple.ConfigError,
        match=r"nets.py:small builds this network, code that is not run here: give one like it, network=",
    ):
        decouple.Ensemble.load(out)
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(108, 10))
    ensemble = decouple.Ensemble.load(out, network=decouple.Stages.from_module(module, ["1", "3"]))
    assert ensemble(decouple.load_data("digits").test.images[:5]).exp().sum(1) == pytest.approx(1, abs=1e-5)
    capsys.readouterr()
    other = _error(capsys, "learn", out, *code[2:], "--network.name", "nets.py:large")
    assert "which 'decouple learn' cannot change: give --network.name " in other
    (tmp_path / "nets.py").write_text(NETS + "\n\n")
    assert "was made with another version of " in _error(capsys, "report", out, *code, status=1)


def test_tables_of_runs_and_what_makes_none(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("decouple.report.build_report", lambda folder: folder / "report.html")
    out = str(tmp_path / "seeds")
    assert run_command(["run", "digits", "--seeds", "0", "1", "--out", out, *TINY]) == 0
    printed = capsys.readouterr().out
    assert run_command(["table", f"{out}/seed-0", f"{out}/seed-1"]) == 0
    assert printed.startswith(capsys.readouterr().out)
    assert run_command(["table", out, "--format", "csv", "--out", str(tmp_path / "table")]) == 0
    assert (
        capsys.readouterr().out
        == (tmp_path / "table" / "table.csv").read_text()
        == (tmp_path / "seeds" / "table.csv").read_text()
    )
    assert "'decouple table' needs run directories first" in _error(capsys, "table")
    for stage in ("learn", "compare", "q0", "report"):
        assert f"{out} is a folder of runs (seed-0, seed-1), not one: give {out}/seed-0, say" in _error(
            capsys, stage, out, status=1
        )
    with pytest.raises(decouple.RunDirectoryError, match="is a folder of runs"):
        decouple.open(out)
    (tmp_path / "seeds" / "seed-1" / "results.json").unlink()
    unfinished = f"{out}/seed-1 is not finished, since it has no results.json; 'decouple report {out}/seed-1' finishes it"
    assert unfinished in _error(capsys, "table", out, status=1)
    assert run_command(["report", f"{out}/seed-1", "--quiet"]) == 0
    capsys.readouterr()
    assert run_command(["table", out]) == 0
    assert printed.startswith(capsys.readouterr().out)
    assert "--seeds = []: expected one or more values" in _error(capsys, "run", "digits", "--seeds", "--out", out)
    assert "--seed and --seeds are both given" in _error(
        capsys, "run", "digits", "--seeds", "0", "--seed", "1", "--out", out
    )
    assert "continue it with --resume" in _error(capsys, "run", "digits", "--seeds", "0", "--out", out, *TINY, status=1)


def test_points_lists_where_a_network_can_be_cut(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["points", "torchvision:resnet18", "--shape", "3", "64", "64", "--classes", "7"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == "Proposed (*): --network.points layer1 layer2 layer3 avgpool fc"
    assert "network.name = 'resnet18': expected paper, torchvision:NAME" in _error(capsys, "points", "resnet18")
    assert printed[-2].split() == ["*", "fc", "7", "3,591"]
    assert "needs a network first" in _error(capsys, "points")
    assert "--network.name" not in _error(capsys, "points", "resnet18")
    assert "the paper's network is cut at its blocks" in _error(capsys, "points", "paper")


def test_estimate_counts_before_anything_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["estimate", "digits", *TINY]) == 0
    printed = capsys.readouterr().out
    live = 2 * 32 * 2  # candidates a step for an image, by epochs
    assert f"evaluations    16,800 ({12 + live} an image and solution, 60 images)" in printed
    assert "gradient steps" in printed
    assert "H100" in printed
    assert run_command(["estimate", "digits", *TINY, "--device", "a100", "--seeds", "0", "1"]) == 0
    assert f"evaluations    33,600 ({12 + live} an image and solution, 60 images)" in capsys.readouterr().out
    assert run_command(["estimate", "digits", *TINY, "--rounds.count", "1"]) == 0
    assert f"({1070 + 2 * live:,} an image and solution, 60 images)" in capsys.readouterr().out, (
        "a round's search is counted too"
    )


def test_a_stage_that_fails_leaves_the_runs_settings_as_they_were(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = str(tmp_path / "run")
    assert run_command(["run", "digits", "--out", out, *TINY]) == 0
    before = (tmp_path / "run" / "config.json").read_bytes()
    capsys.readouterr()
    assert "is not available" in _error(capsys, "q0", out, "--q0.cycles", "5", "--device", "cuda:77")

    def diverge(*args: object, **kwargs: object) -> float:
        raise NotFiniteError("search-0, epoch 1: the loss is not finite at step 3")

    with monkeypatch.context() as patch:
        patch.setattr("decouple.training.loop.Loop.epoch", diverge)
        assert "not finite at step" in _error(capsys, "learn", out, "--learn.lr", "9", "--quiet", status=1)
    assert (tmp_path / "run" / "config.json").read_bytes() == before
    assert run_command(["report", out, "--quiet"]) == 0


def test_running_out_of_memory_says_what_to_lower(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def allocate(*args: object, **kwargs: object) -> None:
        torch.empty(2**62, dtype=torch.uint8)

    monkeypatch.setattr("decouple.search.shards.search_batches", allocate)
    error = _error(capsys, "run", "digits", "--out", str(tmp_path / "run"), *TINY, status=1)
    assert "out of memory" in error
    assert "lower --search.batch" in error


def test_bugs_are_not_taken_for_a_lack_of_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("decouple.search.shards.search_batches", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        run_command(["run", "digits", "--out", str(tmp_path / "run"), *TINY])


def test_a_run_is_named_by_its_preset_data_and_seed() -> None:
    names = {"digits": "digits-seed3", "mnist": "digits-mnist-seed3", "folder:/a/cats": "digits-cats-seed3"}
    for data, name in names.items():
        config = from_builtins({"seed": 3, "data": {"name": data}}, preset("digits"))
        assert default_out(config) == Path("runs") / name


IMPORTING = """
import os, signal, sys

class Finder:
    "Interrupts in the middle of an import, and swallows what is raised there, as some packages do."
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except BaseException:
                pass

sys.meta_path.insert(0, Finder())
from decouple.cli import run_command
from decouple.cli.commands import default_out
sys.exit(run_command(["run", "digits"]))
"""


def test_an_interruption_while_packages_are_imported_is_not_lost(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTING], capture_output=True, text=True, cwd=tmp_path, timeout=200)
    assert done.returncode == 130
    assert "decouple: stopped; finished work is kept: continue with  decouple run digits --resume" in done.stderr
    assert "Traceback" not in done.stderr
