"""Networks by name."""

from pathlib import Path

import pytest
import torch
from torch import nn

from decouple.errors import ConfigError, NetworkError
from decouple.networks import Stages
from decouple.networks.build import build_module, cut_module, network_to_search
from decouple.settings import from_builtins

DATA = {"classes": 7, "channels": 1, "seed": 3}
OWN = """
import torch
from torch import nn


def small(num_classes, width=4):
    return nn.Sequential(nn.Flatten(), nn.Linear(16, width), nn.ReLU(), nn.Linear(width, num_classes))


def deeper(num_classes, width=4):
    hidden = [nn.Linear(16, 9), nn.ReLU(), nn.Linear(9, width), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(width, num_classes))


def narrow():
    raise ValueError("too narrow")


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
        ("missing", ConfigError, r"nets\.py defines no 'missing'"),
        ("narrow", ConfigError, r"cannot be built with no arguments \(ValueError: too narrow, nets\.py:\d+\)"),
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


def test_another_network_is_searched_where_the_shapes_agree(own: str) -> None:
    images = torch.rand(4, 1, 4, 4)

    def built(**searched: object) -> Stages:
        learned = {"name": f"{own}:small", "points": ["1", "3"]}
        return network_to_search(from_builtins({"network": learned, "search": {"network": searched}}), images, 7, seed=0)

    assert built().names == ("1", "3")
    other = built(name=f"{own}:deeper", points=["3", "5"])
    assert other.names == ("1", "3"), "those of the network that learns"
    assert sum(p.numel() for p in other.parameters()) > sum(p.numel() for p in built().parameters())
    assert other.shapes((1, 4, 4)) == [(4,), (7,)]
    wide = r"to search has the search points 3 5, 5 7, and the network that learns 1 4, 3 7: expected as many of the same shapes"
    with pytest.raises(NetworkError, match=wide):
        built(name=f"{own}:deeper", points=["3", "5"], args={"width": 5})
    with pytest.raises(
        ConfigError, match=r"search.network.points = \['3'\]: expected none for learned, which has those of the net"
    ):
        built(points=["3"])
    with pytest.raises(ConfigError, match=r"search.network.name = 'learnt': expected paper, learned, torchvision:NAME"):
        built(name="learnt")
