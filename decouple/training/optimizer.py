"""SGD as the settings describe it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from decouple.config import TrainConfig


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


def momentum_buffers(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as named tensors, in the order of its parameters."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state = optimizer.state
    found = {f"momentum.{i}": state[p].get("momentum_buffer") for i, p in enumerate(parameters) if p in state}
    return {name: buffer for name, buffer in found.items() if buffer is not None}


def restore_momentum(optimizer: torch.optim.Optimizer, buffers: dict[str, Tensor]) -> None:
    """Put back what `momentum_buffers` gave."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for i, parameter in enumerate(parameters):
        if (buffer := buffers.get(f"momentum.{i}")) is not None:
            optimizer.state[parameter]["momentum_buffer"] = buffer.clone().to(parameter.device)
