"""Other networks than the paper's go through every stage, from the command line."""

from pathlib import Path

import numpy as np
import pytest

import decouple
from decouple.cli import run_command

VIT = """
from torch import nn
from torchvision.models import VisionTransformer


def vit(num_classes, layers=2):
    network = VisionTransformer(32, 16, layers, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=num_classes)
    nn.init.trunc_normal_(network.heads.head.weight, std=0.02)
    return network
"""
FEW = [
    *("--data.validation", "12", "--data.prior", "10", "--search.solutions", "1", "--search.batch", "20", "--quiet"),
    *("--search.es.population", "4", "--search.es.generations", "1", "--learn.epochs", "1", "--sgd.epochs", "1"),
    *(
        "--learn.live.directions",
        "2",
        "--compare.images",
        "12",
        "--compare.records",
        "2",
        "--q0.cycles",
        "1",
        "--q0.epochs",
        "1",
    ),
]


@pytest.fixture(autouse=True)
def few_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_report: None) -> None:
    monkeypatch.chdir(tmp_path)
    images, labels = np.random.default_rng(0).integers(0, 256, (54, 32, 32, 3), dtype=np.uint8), np.arange(54) % 2
    np.savez("few.npz", x_train=images[:42], y_train=labels[:42], x_test=images[42:], y_test=labels[42:])
    Path("vit.py").write_text(VIT)


def test_a_network_of_torchvision_goes_through_a_run() -> None:
    network = ["--network", "torchvision:resnet18", "--network.points", "layer3", "layer4", "fc"]
    assert run_command(["run", "digits", "--data.name", "npz:few.npz", *network, "--out", "run", *FEW]) == 0
    assert decouple.open("run").targets["search-0"].shapes == [(512, 1, 1), (2,)], "from the first searched point on"


def test_every_stage_takes_a_transformer() -> None:
    named = ["--network", "vit.py:vit"]
    assert run_command(["run", "digits", "--data.name", "npz:few.npz", *named, "--out", "run", *FEW]) == 0
    changes = {
        "search": ["--search.es.generations", "2"],
        "learn": ["--learn.lr", "0.1"],
        "compare": ["--compare.records", "3"],
        "q0": ["--q0.cycles", "2"],
        "report": [],
    }
    for stage, change in changes.items():
        assert run_command([stage, "run", *change, *named, "--quiet"]) == 0
    opened = decouple.open("run")
    assert len(opened.recordings["search-0"].steps) == 2
    assert len(opened.results.q0.members) == 2  # type: ignore[union-attr]
    assert opened.targets["search-0"].shapes[-1] == (2,)


def test_another_network_is_searched_and_its_code_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    searched = ["--search.network", "vit.py:vit", "--search.network.args", "layers=1"]
    points = ["encoder.layers.encoder_layer_0", "heads"]
    run = ["run", "digits", "--data.name", "npz:few.npz", "--network", "vit.py:vit", *searched, "--out", "run", *FEW]
    assert run_command([*run, "--network.points", *points]) == 1
    assert "expected as many of the same shapes; choose them with --search.network.points" in capsys.readouterr().err
    assert not Path("run").exists()
    assert run_command([*run, "--network.points", "encoder.layers", "heads", "--search.network.points", *points]) == 0
    opened = decouple.open("run")
    assert opened.recordings["search-0"].layers == ("encoder.layers", "heads"), "the names of the network that learns"
    capsys.readouterr()
    assert run_command(["q0", "run", "--network", "vit.py:vit"]) == 2
    assert f"--search.network.name {Path('vit.py').resolve()}:vit" in capsys.readouterr().err
    assert run_command(["q0", "run", "--network", "vit.py:vit", "--search.network", "vit.py:vit", "--quiet"]) == 0
