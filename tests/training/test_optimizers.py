"""The optimisers of a trajectory: the same steps after their state was saved, and Muon on convolutions."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from decouple.config import Q0Config
from decouple.errors import ConfigError, NetworkError
from decouple.networks import Stages
from decouple.tasks import ImageTask
from decouple.training.optimizers import MuonAndAdamW, make_optimizer, rates, set_rates
from decouple.training.state import pack_state, restore_state

NAMES = ["sgd", "adamw", "muon"]


def optimizer_of(network: Stages, config: Q0Config) -> torch.optim.Optimizer:
    hidden = ImageTask.muon_parameters(None, network)  # type: ignore[arg-type]
    return make_optimizer(network, config, batch=8, hidden=hidden)


def made(seed: int = 0) -> Stages:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        body = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.GELU(), nn.Conv2d(4, 6, 3), nn.GELU())
        return Stages([body, nn.Sequential(nn.Flatten(), nn.Linear(6 * 9, 3))], ["body", "logits"])


def step(network: Stages, optimizer: torch.optim.Optimizer, number: int) -> None:
    images = torch.rand(8, 1, 5, 5, generator=torch.Generator().manual_seed(number))
    optimizer.zero_grad()
    nn.functional.cross_entropy(network(images), torch.arange(8) % 3).backward()
    optimizer.step()


@pytest.mark.parametrize("name", NAMES)
def test_from_a_saved_state_the_steps_are_the_same(name: str) -> None:
    config = replace(Q0Config(), optimizer=name, lr=0.01)  # type: ignore[arg-type]
    network, other = made(), made(1)
    optimizer = optimizer_of(network, config)
    for number in range(3):
        step(network, optimizer, number)
    again = optimizer_of(other, config)
    other.load_state_dict(network.state_dict())
    tensors, rest = pack_state(optimizer)
    restore_state(again, {"network.weight": torch.zeros(1), **tensors}, rest)
    assert pack_state(again)[0].keys() == tensors.keys() != set()
    for number in range(3, 6):
        step(network, optimizer, number)
        step(other, again, number)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_without_learning_rate_nothing_moves(name: str) -> None:
    network = made()
    before = [p.detach().clone() for p in network.parameters()]
    optimizer = optimizer_of(network, replace(Q0Config(), optimizer=name, lr=0.01))  # type: ignore[arg-type]
    set_rates(optimizer, rates(optimizer), 0.0)
    step(network, optimizer, 0)
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True)), "no decay of its own either"


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_muon_takes_convolutions_as_matrices_in_any_layout(layout: torch.memory_format) -> None:
    network = made().to(memory_format=layout)  # type: ignore[call-overload]
    weight = network.stages[0][2].weight
    before = weight.detach().clone()
    optimizer = optimizer_of(network, replace(Q0Config(), optimizer="muon", lr=0.01, momentum=0.0))
    step(network, optimizer, 0)
    matrix, gradient = nn.Parameter(before.reshape(6, -1).clone()), weight.grad.reshape(6, -1)
    matrix.grad = gradient.clone()
    reference = torch.optim.Muon([matrix], lr=0.01, momentum=0.0, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    reference.step()
    assert float((weight.detach() - before).norm()) > 0
    # Muon iterates in bfloat16: the order of the columns decides its rounding.
    torch.testing.assert_close(weight.detach().reshape(6, -1), matrix.detach(), rtol=0, atol=2e-4)


def test_muon_leaves_vectors_and_the_output_layer_to_adamw() -> None:
    network = made()
    optimizer = optimizer_of(network, replace(Q0Config(), optimizer="muon"))
    assert isinstance(optimizer, MuonAndAdamW)
    assert [tuple(p.shape) for p in optimizer.matrices] == [(4, 1, 3, 3), (6, 4, 3, 3)]
    assert [tuple(p.shape) for p in optimizer.param_groups[1]["params"]] == [(4,), (6,), (3, 54), (3,)]


def test_a_torch_without_muon_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(ConfigError, match=r"optimizer = muon needs torch 2.9 or newer"):
        optimizer_of(made(), replace(Q0Config(), optimizer="muon"))


def test_a_weight_that_no_matrix_can_share_is_refused() -> None:
    weight = nn.Parameter(torch.rand(3, 4, 2).transpose(1, 2))
    with pytest.raises(ValueError, match=r"no matrix can share it: call \.contiguous"):
        MuonAndAdamW([weight], [], lr=0.1, momentum=0.9)


def test_muon_does_without_matrices_or_without_the_rest() -> None:
    config = Q0Config(optimizer="muon", lr=0.01)
    for trained in ("bias", "stages.0.0.weight"):
        network = made()
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name.endswith(trained))
        before = {name: value.clone() for name, value in network.named_parameters()}
        optimizer = optimizer_of(network, config)
        step(network, optimizer, 0)
        changed = {name for name, value in network.named_parameters() if not torch.equal(value, before[name])}
        assert changed == {name for name in before if name.endswith(trained)}
        restore_state(optimizer_of(network, config), *pack_state(optimizer))


@pytest.mark.parametrize("name", NAMES)
def test_a_frozen_network_is_refused(name: str) -> None:
    config = replace(Q0Config(), optimizer=name)  # type: ignore[arg-type]
    with pytest.raises(NetworkError, match="no parameter of the network requires a gradient: expected one to train"):
        optimizer_of(made().requires_grad_(False), config)
