"""Optimisers as the settings describe them, or the user's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch
from torch import Tensor, nn

from decouple.config import TrainConfig
from decouple.errors import ConfigError, expect

Factory = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
"""Makes an optimiser of the user's own from the trainable parameters."""


def make_optimizer(
    network: nn.Module, settings: TrainConfig, *, batch: int, factory: Factory | None = None
) -> torch.optim.Optimizer:
    """The optimiser that the settings name, over the trainable parameters; or what `factory` makes of them.

    Raises:
        ConfigError: `factory` gives no optimiser, one of other weights, or one whose step needs a closure.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    if factory is not None:
        optimizer = factory(parameters)
        _check_own(optimizer, parameters)
        return optimizer
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=settings.weight_decay)
    return sgd(network, settings, batch=batch)


def _check_own(optimizer: object, parameters: list[nn.Parameter]) -> None:
    """Refuse what would train nothing, or fail at its first step."""
    expect(optimizer, torch.optim.Optimizer, "what optimizer= gives", "such as lambda p: torch.optim.AdamW(p, lr=1e-3)")
    assert isinstance(optimizer, torch.optim.Optimizer)
    name, ours = type(optimizer).__name__, {id(p) for p in parameters}
    if foreign := sum(id(p) not in ours for group in optimizer.param_groups for p in group["params"]):
        raise ConfigError(
            f"{name} holds {foreign} weights that are not among those to be trained: expected an optimiser of the list that "
            "optimizer= is given, such as lambda p: torch.optim.AdamW(p, lr=1e-3)"
        )
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise ConfigError(
            f"the step of {name} needs a closure, which is not given here; choose an optimiser that needs none"
        )


def rates(optimizer: torch.optim.Optimizer) -> list[float]:
    """The learning rate of each parameter group.

    Raises:
        ConfigError: a group has none, so no schedule can apply to it.
    """
    if any("lr" not in group for group in optimizer.param_groups):
        raise ConfigError(
            f"{type(optimizer).__name__} has a parameter group without 'lr': expected one, which the schedule scales"
        )
    return [float(group["lr"]) for group in optimizer.param_groups]


def set_rates(optimizer: torch.optim.Optimizer, peaks: list[float], factor: float) -> None:
    """Set the learning rate of each group to its peak times `factor`."""
    for group, peak in zip(optimizer.param_groups, peaks, strict=True):
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(peak * factor)
        else:
            group["lr"] = peak * factor


def sgd(network: nn.Module, settings: TrainConfig, *, batch: int) -> torch.optim.SGD:
    """Nesterov SGD over the trainable parameters.

    With `lr_unit="airbench"` the learning rate is decoupled from batch size and momentum as that project does it: its
    loss is a sum, its step lr / (1024 · (1 + 1 / (1 − momentum))). For the mean over `batch` images this is a torch
    learning rate of lr · batch / (1024 · (1 + 1 / (1 − momentum))) and a torch weight decay of weight_decay / lr.
    """
    lr, decay = settings.lr, settings.weight_decay
    if settings.lr_unit == "airbench":
        decay = decay / lr
        lr = lr * batch / (1024 * (1 + 1 / (1 - settings.momentum)))
    parameters = [p for p in network.parameters() if p.requires_grad]
    return torch.optim.SGD(parameters, lr=lr, momentum=settings.momentum, nesterov=settings.momentum > 0, weight_decay=decay)
