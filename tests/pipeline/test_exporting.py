"""`decouple export`: what of a run it writes, and that code of the user's own is run only where it is named."""

import json
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch

import decouple
from decouple.cli import run_command
from decouple.config import RunConfig
from decouple.data import load_data
from decouple.pipeline import run
from decouple.pipeline.exporting import export_run
from decouple.q0.ensemble import Ensemble
from decouple.settings import from_builtins, located

OWN = """
from torch import nn


def build(num_classes, hidden=16):
    layers = nn.Sequential()
    layers.add_module("flat", nn.Flatten())
    layers.add_module("hidden", nn.Linear(64, hidden))
    layers.add_module("relu", nn.ReLU())
    layers.add_module("out", nn.Linear(hidden, num_classes))
    return layers
"""


def _export(capsys: pytest.CaptureFixture[str], *argv: object, status: int = 0) -> str:
    assert run_command(["export", *map(str, argv)]) == status
    printed = capsys.readouterr()
    return printed.out if status == 0 else printed.err


def test_a_population_is_exported_and_compressed(
    finished: Path, tiny: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, images = tmp_path / "two.safetensors", load_data(tiny.data).test.images
    assert _export(capsys, finished, "--to", out, "--members", 2) == f"{out}: 2 members\n"
    two = Ensemble.load(out)
    assert len(two.members) == 2
    assert two.classes == tuple("0123456789")
    assert "is there already" in _export(capsys, finished, "--to", out, status=2)
    _export(capsys, finished, "--to", tmp_path / "two.pt2", "--members", 2)
    program = torch.export.load(tmp_path / "two.pt2").module()
    torch.testing.assert_close(program(images), two(images))
    distilled = ["--distill", "--distill-epochs", 2]
    assert "members in one network" in _export(capsys, finished, "--to", out, "--overwrite", *distilled)
    assert len(Ensemble.load(out).members) == 1


def test_a_network_is_exported(finished: Path, tiny: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _export(capsys, finished, "--what", "sgd-1", "--to", tmp_path / "n.pt2") == f"{tmp_path / 'n.pt2'}: sgd-1\n"
    images = load_data(tiny.data).test.images
    program = torch.export.load(tmp_path / "n.pt2").module()
    torch.testing.assert_close(program(images), decouple.open(finished).networks["sgd-1"](images))


def test_other_images_than_the_runs_are_not_distilled_on(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are divided anew, and test images might be learned."""
    known = json.loads((finished / "run.json").read_text())
    known["data"]["digest"] = "another"
    (finished / "run.json").write_text(json.dumps(known))
    asked = [finished, "--to", tmp_path / "one.pt2", "--distill", "--distill-epochs", 1, "--device", "cpu"]
    assert "was made from different images than 'digits' holds now" in _export(capsys, *asked, status=1)


def test_a_run_that_does_not_say_what_its_images_are_is_named(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (finished / "run.json").unlink()
    said = _export(capsys, finished, "--to", tmp_path / "n.pt2", "--what", "sgd-1", status=1)
    assert "run.json does not hold data." in said


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "needs a file to write: --to FILE.safetensors, .pt2 or .onnx"),
        (["--to", "n.zip"], "n.zip ends in '.zip': expected one of"),
        (
            ["--to", "n.pt2", "--what", "sgd-2"],
            "--what sgd-2: expected ensemble, or one of the run's networks: search-0, search-1",
        ),
        (["--to", "n.pt2", "--what", "sgd-1", "--equal"], "--members, --equal and --distill go with an ensemble"),
        (["--to", "n.pt2", "--members", "99"], "99 members: expected a whole number from 1 to 6"),
    ],
)
def test_wrong_requests_are_answered_in_a_line(
    finished: Path, capsys: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    assert message in _export(capsys, finished, *argv, status=2)
    assert "needs a run directory first" in _export(capsys, "--to", "n.pt2", status=2)


def test_code_of_ones_own_is_run_only_where_it_is_named(
    tiny: RunConfig, tmp_path: Path, no_report: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    config = from_builtins({"network": {"name": "own.py:build", "points": ["relu", "out"]}}, tiny)
    run(located(config, None), tmp_path / "run")
    asked = ["run", "--what", "search-0", "--to", "n.safetensors"]
    assert "code that is only run when you name it: repeat the command with --network.name" in _export(
        capsys, *asked, status=2
    )
    _export(capsys, *asked, "--network", "own.py:build")
    state = safetensors.torch.load_file("n.safetensors")
    assert list(state) == ["hidden.bias", "hidden.weight", "out.bias", "out.weight"]
    _export(capsys, "run", "--to", "e.pt2", "--network", "own.py:build")
    assert len(Ensemble.load("run", network=decouple.open("run").config and _built()).members) > 1
    (tmp_path / "own.py").write_text(OWN + "\n")
    changed = _export(capsys, "run", "--to", "f.pt2", "--network", "own.py:build", status=1)
    assert "was made with another version of" in changed


def _built() -> torch.nn.Module:
    scope: dict[str, object] = {}
    exec(OWN, scope)
    return scope["build"](10)  # type: ignore[operator, no-any-return]


def test_a_file_of_an_ensemble_becomes_a_program(finished: Path, tmp_path: Path) -> None:
    Ensemble.load(finished, 2).save(tmp_path / "e.safetensors")
    shutil.rmtree(finished)
    assert export_run(tmp_path / "e.safetensors", tmp_path / "e.pt2") == f"{tmp_path / 'e.pt2'}: 2 members"
