"""Any optimiser's state survives a file without pickle."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from decouple.config import TrainConfig
from decouple.errors import ConfigError
from decouple.files import load_tensors, save_tensors
from decouple.training.optimizers import MuonAndAdamW, make_optimizer, rates
from decouple.training.state import pack_state, restore_state


def test_every_kind_of_value_comes_back(tmp_path: Path) -> None:
    weight = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([weight], betas=(0.8, 0.9))
    buffer = torch.arange(6.0)
    optimizer.state[weight] = {
        "step": torch.tensor(3.0),
        "views": [buffer[:3], buffer[3:]],
        "own": {2: (None, True, 7)},
    }
    optimizer.param_groups[0] |= {"bound": float("inf"), "kind": "own"}
    tensors, rest = pack_state(optimizer)
    save_tensors(tmp_path / "s", tensors, {"optimizer": rest}, unit="u")
    found, meta = load_tensors(tmp_path / "s", unit="u")
    other = torch.optim.Adam([weight])
    restore_state(other, found, meta["optimizer"])
    assert other.param_groups == optimizer.param_groups
    state = other.state[weight]
    assert state["own"] == {2: (None, True, 7)}
    assert torch.equal(torch.cat(state["views"]), buffer)
    assert state["step"] == 3


def test_what_cannot_be_kept_is_named() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))])
    optimizer.param_groups[0]["schedule"] = len
    with pytest.raises(ConfigError, match="state of SGD holds a builtin_function_or_method, which a checkpoint cannot keep"):
        pack_state(optimizer)


@pytest.mark.parametrize("fused", [(True, None), (None, True)])
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_a_state_serves_an_optimiser_with_other_kernels(tmp_path: Path, fused: tuple[bool | None, ...], kind: Any) -> None:
    """As that of a GPU does on a CPU, and the other way round; a file does not keep how a tensor lies in memory."""
    options = {"momentum": 0.9, "nesterov": True} if kind is torch.optim.SGD else {}
    stream, gradient = torch.Generator().manual_seed(0), torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    start = torch.randn(4, 3, 2, 2, generator=stream).to(memory_format=torch.channels_last)

    def step(optimizer: torch.optim.Optimizer) -> None:
        (weight,) = optimizer.param_groups[0]["params"]
        weight.grad = torch.empty_like(weight).copy_(gradient)
        optimizer.step()

    first = kind([nn.Parameter(start.clone())], lr=0.1, fused=fused[0], **options)
    step(first)
    tensors, rest = pack_state(first)
    save_tensors(tmp_path / "s", tensors, {"optimizer": rest}, unit="u")
    (weight,) = first.param_groups[0]["params"]
    other = kind([nn.Parameter(weight.detach().clone())], lr=0.5, fused=fused[1], **options)
    found, meta = load_tensors(tmp_path / "s", unit="u")
    restore_state(other, found, meta["optimizer"])
    (copy,) = other.param_groups[0]["params"]
    assert (other.param_groups[0]["fused"], other.param_groups[0]["lr"]) == (fused[1], 0.1)
    kept = [value for value in other.state[copy].values() if value.shape == copy.shape]
    assert kept
    assert all(value.stride() == copy.stride() for value in kept)
    for optimizer in (first, other):
        step(optimizer)
    assert torch.allclose(copy, weight, atol=1e-6)
    assert not torch.allclose(copy, start, atol=1e-3)


def test_settings_name_the_optimiser() -> None:
    network = nn.Linear(2, 2)
    assert isinstance(make_optimizer(network, TrainConfig(), batch=8), torch.optim.SGD)
    adamw = make_optimizer(network, TrainConfig(optimizer="adamw", lr=1e-3, weight_decay=0.1), batch=8)
    assert isinstance(adamw, torch.optim.AdamW)
    assert (rates(adamw), adamw.param_groups[0]["weight_decay"]) == ([1e-3], 0.1)
    muon = make_optimizer(network, TrainConfig(optimizer="muon", lr=1e-3, weight_decay=0.1), batch=8)
    assert isinstance(muon, MuonAndAdamW)
    assert [(each.param_groups[0]["lr"], each.param_groups[0]["weight_decay"]) for each in muon.inner] == [(1e-3, 0.1)] * 2


def test_a_factory_that_makes_no_optimiser_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"what optimizer= gives must be a Optimizer, not Linear; such as lambda p"):
        make_optimizer(nn.Linear(1, 1), TrainConfig(), batch=8, factory=lambda p: nn.Linear(1, 1))  # type: ignore[arg-type,return-value]
