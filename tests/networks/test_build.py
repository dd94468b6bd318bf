"""Networks by name."""

from pathlib import Path

import pytest
import torch
from torch import nn

from decouple.errors import ConfigError, NetworkError
from decouple.networks import Stages
from decouple.networks.build import build_module, cut_module

DATA = {"classes": 7, "channels": 1, "seed": 3}
OWN = """
import torch
from torch import nn


def small(num_classes, width=4):
    return nn.Sequential(nn.Flatten(), nn.Linear(16, width), nn.ReLU(), nn.Linear(width, num_classes))


def images_in(in_chans):
    return nn.Conv2d(in_chans, 2, 1)


def nothing():
    return None


number = 3
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    (tmp_path / "nets.py").write_text(OWN)
    return str(tmp_path / "nets.py")


def test_networks_of_torchvision_have_the_classes_of_the_data() -> None:
    before = torch.random.get_rng_state()
    network = build_module("torchvision:resnet18", {}, **DATA)
    assert network.fc.out_features == 7  # type: ignore[union-attr]
    assert torch.equal(before, torch.random.get_rng_state())
    again = build_module("torchvision:resnet18", {}, **DATA)
    assert all(torch.equal(p, q) for p, q in zip(network.parameters(), again.parameters(), strict=True)), "the seed decides"
    assert build_module("torchvision:resnet18", {"num_classes": 3}, **DATA).fc.out_features == 3  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="torchvision has no network 'resnet81'; did you mean 'resnet18'"):
        build_module("torchvision:resnet81", {}, **DATA)
    with pytest.raises(ConfigError, match=r"cannot be built with num_classes=7, depth=3 \(.*unexpected keyword"):
        build_module("torchvision:resnet18", {"depth": 3}, **DATA)


def test_networks_of_timm_have_the_channels_too() -> None:
    pytest.importorskip("timm")
    network = build_module("timm:test_resnet", {}, **DATA)
    assert network(torch.zeros(2, 1, 32, 32)).shape == (2, 7)
    with pytest.raises(ConfigError, match="timm has no network 'test_resnett'; did you mean 'test_resnet'"):
        build_module("timm:test_resnett", {}, **DATA)


def test_functions_of_the_users_own(own: str) -> None:
    network = build_module(f"{own}:small", {"width": 5}, **DATA)
    assert [p.shape for p in network.parameters()][-2] == (7, 5)
    assert build_module(f"{own}:images_in", {}, **DATA).in_channels == 1
    for function, error, message in (
        ("nothing", NetworkError, "must return an nn.Module, not NoneType"),
        ("number", ConfigError, "must be a function that returns an nn.Module, not int"),
        ("missing", ConfigError, r"cannot be loaded \(AttributeError"),
    ):
        with pytest.raises(error, match=message):
            build_module(f"{own}:{function}", {}, **DATA)


def test_cut_where_it_was_said_or_proposed(own: str) -> None:
    module = build_module(f"{own}:small", {}, **DATA)
    assert cut_module(module, [], (1, 4, 4)).names == ("2", "3")
    chosen = cut_module(module, ["1", "3"], (1, 4, 4))
    assert chosen.names == ("1", "3")
    assert cut_module(chosen, [], (1, 4, 4)) is chosen
    assert isinstance(chosen, Stages)
    assert isinstance(module, nn.Sequential)
