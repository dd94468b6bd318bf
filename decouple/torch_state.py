"""What callers may have set in torch, put aside while decouple computes.

The default dtype and device stay as they are while a network of the user's runs, since its forward may rely on them:
there every tensor of ours names its own. What builds tensors or networks of ours, and runs no code of the user's, takes
torch's own defaults.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import chain

import torch
from torch import nn

_CPU = torch.device("cpu")
_KINDS = ("cpu", "cuda", "mps", "xpu")


@contextmanager
def autocast_off() -> Iterator[None]:
    """No autocast, on any device."""
    with ExitStack() as stack:
        for kind in _autocasts():
            stack.enter_context(torch.autocast(kind, enabled=False))
        yield


@contextmanager
def plain_torch() -> Iterator[None]:
    """Gradients can be taken, no inference mode, no autocast: what a search or a training begins in, whatever its caller is in.

    >>> with torch.inference_mode(), plain_torch():
    ...     torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    (True, False)
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(autocast_off())
        yield


def switches() -> tuple[object, ...]:
    """What contexts such as `torch.no_grad` and `torch.autocast` have set.

    >>> before = switches()
    >>> with torch.no_grad():
    ...     switches() == before
    False
    """
    casts = [(kind, torch.get_autocast_dtype(kind)) for kind in _autocasts()]
    return torch.is_grad_enabled(), torch.is_inference_mode_enabled(), *casts


def _autocasts() -> list[str]:
    """The kinds of device for which autocast is on."""
    return [kind for kind in _KINDS if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)]


@contextmanager
def torch_defaults() -> Iterator[None]:
    """As `plain_torch`, and new tensors are float32 on the CPU where nothing else is said.

    >>> with torch_defaults():
    ...     torch.zeros(1).dtype
    torch.float32
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with plain_torch(), torch.device("cpu"):
            yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def in_mode(*modules: nn.Module, training: bool) -> Iterator[None]:
    """Training or evaluation mode inside. Outside each part is in the mode that it was in."""
    modes = {part: part.training for module in modules for part in module.modules()}
    for module in modules:
        module.train(training)
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def evaluated(*modules: nn.Module) -> AbstractContextManager[None]:
    """Evaluation mode inside: no dropout, and no running statistics changed."""
    return in_mode(*modules, training=False)


def generators_kept(device: torch.device) -> AbstractContextManager[None]:
    """What is drawn inside from torch's global generators, of the CPU and of `device`, leaves them as they were."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


@contextmanager
def seeded(seed: int, device: torch.device = _CPU) -> Iterator[None]:
    """What is drawn inside from torch's global generators, of the CPU and of `device`, comes from `seed` and leaves them as
    they were.

    >>> with seeded(0):
    ...     first = torch.rand(1)
    >>> with seeded(0):
    ...     torch.equal(torch.rand(1), first)
    True
    """
    with generators_kept(device):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def device_of(module: nn.Module) -> torch.device:
    """Where the module's first weight or buffer is; the CPU, if it has none.

    >>> device_of(nn.Flatten())
    device(type='cpu')
    """
    return next((tensor.device for tensor in chain(module.parameters(), module.buffers())), torch.device("cpu"))
