"""A GPU that is not there: tensors on "cuda" without values, so that code shows where it would wait for them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from decouple.search import operators

CUDA = torch.device("cuda", 0)


class WaitsError(Exception):
    """A copy between CPU and GPU that holds up the process."""


class Generator(torch.Generator):
    """One that calls itself one of any device."""

    def __new__(cls, device: Any = "cpu") -> Generator:
        made = super().__new__(cls)
        made.named = torch.device(device)
        return made

    named: torch.device

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.named

    def manual_seed(self, seed: int) -> Generator:
        return self


class _Copies(TorchDispatchMode):
    """Refuses copies that wait."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        if func is torch.ops.aten._fused_sgd_.default:  # which torch cannot do without values
            return None
        found = func(*args, **options)
        if func is torch.ops.aten._to_copy.default:
            pair, asynchronous = {args[0].device.type, found.device.type}, options.get("non_blocking", False)
        elif func is torch.ops.aten.copy_.default:
            pair, asynchronous = {args[0].device.type, args[1].device.type}, len(args) > 2 and args[2]
        else:
            return found
        if len(pair) > 1 and not asynchronous:
            raise WaitsError(f"a blocking copy between {' and '.join(sorted(pair))}")
        return found


@contextlib.contextmanager
def fake_cuda(patch: pytest.MonkeyPatch, *, memory: int = 2**36) -> Iterator[None]:
    """Inside, tensors can be moved to `CUDA`. What needs their values, mixes devices or copies with waiting raises.

    Without a real GPU torch cannot take gradients of them: see `without_gradients`. Its generators are replaced, since those of a
    GPU need one.
    """
    nothing = lambda *_, **__: contextlib.nullcontext()  # noqa: E731
    operators._mean_matrix.cache_clear()
    with patch.context() as patched:
        patched.setattr(torch, "Generator", Generator)
        patched.setattr(torch.cuda, "mem_get_info", lambda device: (memory, memory))
        patched.setattr(torch.cuda, "memory_allocated", lambda device: 0)
        patched.setattr(torch.cuda, "memory_reserved", lambda device: 0)
        patched.setattr(torch.cuda, "current_stream", lambda device: None)
        patched.setattr(torch.cuda, "stream", nothing)
        patched.setattr(torch, "autocast", nothing)
        patched.setattr(Tensor, "pin_memory", lambda self: self)
        patched.setattr("decouple.training.loop.seeded", nothing)
        patched.setattr("decouple.training.loop.capturable", lambda network, objective: False)  # a graph needs a GPU
        with FakeTensorMode(allow_non_fake_inputs=True):
            yield
    operators._mean_matrix.cache_clear()


def no_waiting() -> TorchDispatchMode:
    """Inside, copies between CPU and GPU must not hold up the process."""
    return _Copies()


def without_gradients(patch: pytest.MonkeyPatch, network: nn.Module) -> None:
    """Let `backward` give made-up gradients to the network's parameters."""

    def backward(loss: Tensor) -> None:
        assert loss.requires_grad
        for parameter in network.parameters():
            parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None

    patch.setattr(Tensor, "backward", backward)
