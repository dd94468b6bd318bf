"""Files that are used without decouple: they answer as the model does, also where decouple cannot be imported."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import decouple
from decouple import Ensemble, Stages
from decouple.config import GptConfig
from decouple.errors import ConfigError, NetworkError
from decouple.q0 import export as exporting
from decouple.q0.export import export
from decouple.text.gpt import Gpt

OWN = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(256, 3)

    def forward(self, images):
        return self.fc(self.relu(self.conv(images)).flatten(1))
"""
"""A file of the user's own, which does not know decouple."""
ELSEWHERE = """
import sys
sys.modules["decouple"] = None  # whoever imports it fails
import safetensors.torch, torch
from own import Net
expected = safetensors.torch.load_file("expected.safetensors")
images = expected["images"]
net = Net().eval()
net.load_state_dict(safetensors.torch.load_file("net.safetensors"))
assert torch.equal(net(images), expected["logits"])
for batch in (images, images[:1], images.repeat(3, 1, 1, 1)):
    program = torch.export.load("net.pt2").module()
    torch.testing.assert_close(program(batch), net(batch))
extra = {"about.json": ""}
program = torch.export.load("ensemble.pt2", extra_files=extra)
torch.testing.assert_close(program.module()(images), expected["mixture"])
print(extra["about.json"])
"""
IMAGES = torch.rand(9, 1, 8, 8, generator=torch.Generator().manual_seed(0))
NAMES = ("ant", "bee", "cat")


def _net() -> nn.Module:
    scope: dict[str, type[nn.Module]] = {}
    exec(OWN, scope)
    torch.manual_seed(0)
    return scope["Net"]()


def _cut(seed: int = 0) -> Stages:
    network = Stages.from_module(_net(), ["relu", "fc"])
    torch.manual_seed(seed)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    network.train_on(torch.rand(4, 1, 8, 8), NAMES)
    return network.eval()


@torch.no_grad()
def test_files_load_where_decouple_cannot_be_imported(tmp_path: Path) -> None:
    network, ensemble = _cut(), Ensemble([_cut(0), _cut(1)], [0.3, 0.7])
    (tmp_path / "own.py").write_text(OWN)
    assert export(network, tmp_path / "net.safetensors", IMAGES, network=_net()) == tmp_path / "net.safetensors"
    export(network, tmp_path / "net.pt2", IMAGES)
    export(ensemble, tmp_path / "ensemble.pt2", IMAGES)
    expected = {"images": IMAGES, "logits": network(IMAGES), "mixture": ensemble(IMAGES)}
    safetensors.torch.save_file(expected, tmp_path / "expected.safetensors")
    done = subprocess.run([sys.executable, "-c", ELSEWHERE], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"classes": list(NAMES), "unit_scale": True}


def test_onnx_answers_alike(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    export(Ensemble([_cut(0), _cut(1)], [0.3, 0.7]), tmp_path / "e.onnx", IMAGES)  # which compares the answers
    properties = {entry.key: json.loads(entry.value) for entry in onnx.load(tmp_path / "e.onnx").metadata_props}
    assert properties["classes"] == list(NAMES)


def test_a_package_that_onnx_needs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'decouple-learn\[onnx\]'"):
        export(_cut(), tmp_path / "net.onnx", IMAGES)


def test_a_sequential_gets_its_own_names(tmp_path: Path) -> None:
    whole = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3)).eval()
    export(Stages.from_sequential(whole, [2, 4]), tmp_path / "net.safetensors", IMAGES, network=whole)
    state = safetensors.torch.load_file(tmp_path / "net.safetensors")
    assert state.keys() == whole.state_dict().keys()
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in state.items())


def test_a_file_of_one_network_is_an_ensemble_of_one(network: Stages, tmp_path: Path) -> None:
    export(_cut(), tmp_path / "own.safetensors", IMAGES)
    found = Ensemble.load(tmp_path / "own.safetensors", network=_net())
    assert torch.equal(found.member_logits(IMAGES)[0], _cut()(IMAGES))
    assert found.classes == NAMES
    export(network, tmp_path / "paper.safetensors", IMAGES)
    again = Ensemble.load(tmp_path / "paper.safetensors", network=network)
    assert torch.equal(again.member_logits(IMAGES)[0], network.eval()(IMAGES))


def test_a_calibrated_ensemble_of_one_keeps_its_temperature(tmp_path: Path) -> None:
    one = Ensemble([_cut()], [1.0], temperature=0.5)
    export(one, tmp_path / "one.safetensors", IMAGES)
    found = Ensemble.load(tmp_path / "one.safetensors", network=_net())
    assert found.temperature == 0.5
    torch.testing.assert_close(found(IMAGES), one(IMAGES))


def test_bytes_are_taken_as_floats(tmp_path: Path) -> None:
    images = (IMAGES * 255).byte()
    export(_cut(), tmp_path / "net.pt2", images)
    program = torch.export.load(tmp_path / "net.pt2").module()
    torch.testing.assert_close(program(images.float() / 255), _cut()(images))


def test_a_gpt_takes_up_to_its_context(tmp_path: Path) -> None:
    gpt = Gpt(GptConfig(context=16, width=16, layers=1, heads=2), vocabulary=20, seed=0)
    nn.init.normal_(gpt.blocks[0].mlp.out.weight)
    tokens = torch.randint(20, (3, 16))
    export(Ensemble([gpt, gpt], [0.5, 0.5]), tmp_path / "gpt.pt2", tokens)
    program = torch.export.load(tmp_path / "gpt.pt2").module()
    torch.testing.assert_close(program(tokens[:1, :5]), gpt.eval()(tokens[:1, :5]).log_softmax(-1))


def test_nothing_is_overwritten_in_silence(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    path.write_text("a thesis")
    with pytest.raises(ConfigError, match="is there already: choose another file, or replace it with overwrite"):
        export(_cut(), path, IMAGES)
    assert path.read_text() == "a thesis"
    export(_cut(), path, IMAGES, overwrite=True)
    assert safetensors.torch.load_file(path).keys() == _net().state_dict().keys()


def test_the_model_stays_as_it_is(tmp_path: Path) -> None:
    network = _cut().train()
    before = network.digest
    export(network, tmp_path / "net.pt2", IMAGES)
    assert network.training
    assert network.digest == before


class Fixed(nn.Module):
    """Takes batches of one size only."""

    def forward(self, images: Tensor) -> Tensor:
        return images.reshape(9, 64)[:, :3]


class Decides(nn.Module):
    """A program cannot look at values."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :3] * (2 if bool(images.sum() > 0) else 3)


@pytest.mark.parametrize("model", [Fixed(), Decides()])
def test_what_cannot_be_exported_is_named_and_leaves_nothing(tmp_path: Path, model: nn.Module) -> None:
    with pytest.raises(NetworkError, match=f"{type(model).__name__} cannot be exported as .pt2"):
        export(model, tmp_path / "net.pt2", IMAGES)
    assert not list(tmp_path.iterdir())


def test_a_file_that_answers_otherwise_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(exporting.WRITERS, ".pt2", lambda model, examples, own: (b"", lambda images: model(images) + 0.01))
    with pytest.raises(NetworkError, match=r"net.pt2 does not answer as the Stages does \(0.0\d+ apart\), and is not kept"):
        export(_cut(), tmp_path / "net.pt2", IMAGES)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "examples", "message"),
    [
        ("net.bin", torch.rand(2, 1, 8, 8), "ends in '.bin': expected one of .safetensors, .pt2, .onnx"),
        ("net.pt2", torch.rand(1, 1, 8, 8), "examples must be a tensor .* of at least 2 images"),
        ("net.pt2", "images", "examples must be a tensor"),
    ],
)
def test_wrong_requests_are_named(tmp_path: Path, name: str, examples: Tensor, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        export(_cut(), tmp_path / name, examples)


def test_another_network_is_no_check(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match=r"do not fit the network: .*fc.weight"):
        export(_cut(), tmp_path / "net.safetensors", IMAGES, network=nn.Linear(64, 3))
    several = Ensemble([_cut(0), _cut(1)], [0.5, 0.5])
    with pytest.raises(ConfigError, match="an ensemble of 2 members is not one network: distil it"):
        export(several, tmp_path / "e.safetensors", IMAGES)
    assert decouple.export is export
