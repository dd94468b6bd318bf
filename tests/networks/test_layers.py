"""Layers are found by every name that they have, and by no other's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from decouple.errors import NetworkError
from decouple.networks import Stages
from decouple.networks.layers import find_layer, unwrapped


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1)
        self.act = nn.ReLU(inplace=True)

    def forward(self, values: Tensor) -> Tensor:
        return values + self.act(self.conv(values))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Block(), Block()
        self.head = self.tied = nn.Linear(8, 3)

    def forward(self, values: Tensor) -> Tensor:
        return self.head(self.second(self.first(values)).flatten(1))


def test_paths_are_those_of_named_modules_tied_ones_too() -> None:
    network = Net()
    for path, module in network.named_modules(remove_duplicate=False):
        assert find_layer(network, path) is module
    assert find_layer(network, "tied") is find_layer(network, "head")


def test_search_points_are_layers_of_stages_wherever_these_are() -> None:
    stages = Stages([nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)], ["one", "stage2", "logits"])
    whole = nn.Sequential(nn.Flatten(), stages)
    for place, name in enumerate(stages.names):
        assert find_layer(stages, name) is find_layer(stages, f"stages.{place}") is stages.stages[place]
        assert find_layer(whole, f"1.{name}") is stages.stages[place]
    with pytest.raises(NetworkError, match="the network has no layer 'one'"):
        find_layer(whole, "one")


def test_a_cut_network_has_the_layers_of_the_one_that_was_cut() -> None:
    network = Net()
    cut = Stages.from_module(network, ["first", "head"])
    assert find_layer(cut, "second.conv") is network.second.conv
    assert find_layer(cut, "first.act") is network.first.act
    assert find_layer(cut, "first") is cut.stages[0]
    with pytest.raises(
        NetworkError, match=r"'second' does not run as one layer of a network that was cut.*such as 'second.act'"
    ):
        find_layer(cut, "second")


def test_a_name_of_two_layers_is_refused() -> None:
    stages = Stages([nn.Linear(4, 3), nn.Linear(3, 2)], ["one", "stages.0"])
    with pytest.raises(
        NetworkError, match=r"'stages.0' is both a search point and a module.* the search point is 'stages.1'"
    ):
        find_layer(stages, "stages.0")
    same = Stages([nn.Linear(4, 3), nn.Linear(3, 2)], ["stages.0", "two"])
    assert find_layer(same, "stages.0") is same.stages[0]


def test_wrappers_are_seen_through() -> None:
    network = Net()
    compiled = torch.compile(network, backend="eager")
    parallel = nn.DataParallel(network)
    inner = nn.Sequential(nn.DataParallel(Block()), torch.compile(Block(), backend="eager"))
    for wrapper, prefix in (
        (compiled, "_orig_mod."),
        (parallel, "module."),
        (nn.DataParallel(compiled), "module._orig_mod."),
    ):
        assert unwrapped(wrapper) is find_layer(wrapper, "") is network
        for path in ("first", "first.conv", "head"):
            assert find_layer(wrapper, path) is find_layer(wrapper, prefix + path) is find_layer(network, path)
    assert find_layer(inner, "0.conv") is inner[0].module.conv
    assert find_layer(inner, "1.conv") is inner[1]._orig_mod.conv
    assert find_layer(inner, "1") is inner[1]
    holds = nn.Sequential()
    holds.module = nn.Linear(2, 2)  # no wrapper, though it has a 'module'
    assert unwrapped(holds) is holds


@pytest.mark.parametrize(("name", "near"), [("fist", "first"), ("first.con", "first.conv"), ("haed", "head")])
def test_near_names_are_given(name: str, near: str) -> None:
    with pytest.raises(NetworkError, match=f"the network has no layer '{name}'; did you mean '{near}'"):
        find_layer(Net(), name)


def test_another_stage_is_no_near_name() -> None:
    stages = Stages([nn.Linear(4, 4) for _ in range(5)], ["a", "b", "c", "d", "logits"])
    with pytest.raises(NetworkError, match=r"the network has no layer 'stage3'; known: a, b, c, d, logits$"):
        find_layer(stages, "stage3")
