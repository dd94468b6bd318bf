"""Every optimiser, as the settings describe it or the user's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from decouple.config import StepConfig
from decouple.errors import ConfigError, NetworkError, expect
from decouple.training.state import load_state

Factory = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
"""Makes an optimiser of the user's own from the trainable parameters."""


def make_optimizer(
    network: nn.Module,
    settings: StepConfig,
    *,
    batch: int,
    hidden: Sequence[nn.Parameter] | None = None,
    factory: Factory | None = None,
) -> torch.optim.Optimizer:
    """The optimiser that the settings name, over the trainable parameters; or what `factory` makes of them.

    airbench's learning rate is decoupled from batch size and momentum: its loss is a sum, its step lr / k with
    k = 1024 · (1 + 1 / (1 − momentum)). For the mean over `batch` images this is a torch learning rate of lr · batch / k and a
    torch weight decay of weight_decay / lr.

    Args:
        batch: images a step.
        hidden: what Muon works on; None: every weight of two and more dimensions.

    Raises:
        ConfigError: `factory` gives no optimiser, one of other weights, or one whose step needs a closure; or Muon, with a torch
            that does not have it.
        NetworkError: no parameter is trainable.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    if not parameters:
        raise NetworkError("no parameter of the network requires a gradient: expected one to train")
    if factory is not None:
        if isinstance(factory, torch.optim.Optimizer):
            raise ConfigError(
                f"optimizer = a {type(factory).__name__}: expected a function that makes one from the weights to be trained, "
                f"such as lambda p: torch.optim.{type(factory).__name__}(p, lr=1e-3)"
            )
        optimizer = factory(parameters)
        _check_own(optimizer, parameters)
        return optimizer
    lr, momentum, decay, betas = settings.lr, settings.momentum, settings.weight_decay, (0.9, 0.95)
    if settings.optimizer == "airbench":
        decay, lr = decay / lr, lr * batch / (1024 * (1 + 1 / (1 - momentum)))
    if settings.optimizer in ("sgd", "airbench"):
        options = _kernels(parameters) | {"nesterov": momentum > 0}
        return torch.optim.SGD(parameters, lr=lr, momentum=momentum, weight_decay=decay, **options)
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=lr, betas=betas, weight_decay=decay, **_kernels(parameters))
    chosen = {id(p) for p in (parameters if hidden is None else hidden) if p.dim() >= 2}
    matrices = [p for p in parameters if id(p) in chosen]
    others = [p for p in parameters if id(p) not in chosen]
    return MuonAndAdamW(matrices, others, lr=lr, momentum=momentum, betas=betas, weight_decay=decay)


def _kernels(parameters: Sequence[nn.Parameter]) -> dict[str, bool]:
    """On a GPU a step of all weights is one kernel."""
    return {"fused": True} if all(p.device.type == "cuda" and p.is_floating_point() for p in parameters) else {}


def _check_own(made: object, parameters: list[nn.Parameter]) -> None:
    """Refuse what would train nothing, or fail at its first step."""
    optimizer = expect(
        made, torch.optim.Optimizer, "what optimizer= gives", "such as lambda p: torch.optim.AdamW(p, lr=1e-3)"
    )
    name, ours = type(optimizer).__name__, {id(p) for p in parameters}
    if foreign := sum(id(p) not in ours for group in optimizer.param_groups for p in group["params"]):
        raise ConfigError(
            f"{name} holds {foreign} weights that are not among those to be trained: expected an optimiser of the "
            "parameters that the function receives, such as lambda p: torch.optim.AdamW(p, lr=1e-3)"
        )
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise ConfigError(
            f"the step of {name} needs a closure, which is not given here; choose an optimiser that needs none"
        )


def rates(optimizer: torch.optim.Optimizer) -> list[float]:
    """The learning rate of each parameter group. Raises ConfigError: a group has none, so no schedule can apply to it."""
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


class MuonAndAdamW(torch.optim.Optimizer):
    """Muon for matrices, AdamW for the rest, with one learning rate for both.

    Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024).

    torch's Muon takes only matrices, so a convolution's weight (O, I, h, w) goes to it as (O, I·h·w): the order of the columns
    does not matter to the orthogonalisation. Its update is scaled to AdamW's typical size (`match_rms_adamw`), which is
    why one learning rate serves both. Weight decay is decoupled.

    Args:
        matrices: weights with at least 2 dimensions, of hidden layers.
        rest: vectors and the output layer, as Muon's author advises.

    Raises:
        ConfigError: a torch without Muon.
        ValueError: a weight that no matrix can share the memory of."""

    def __init__(
        self,
        matrices: Sequence[nn.Parameter],
        rest: Sequence[nn.Parameter],
        *,
        lr: float,
        momentum: float,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
    ) -> None:
        if not hasattr(torch.optim, "Muon"):
            raise ConfigError(f"optimizer = muon needs torch 2.9 or newer, this is {torch.__version__}; give adamw")
        super().__init__([{"params": list(part)} for part in (matrices, rest) if part], {"lr": lr})
        self.matrices = list(matrices)
        self.views = [nn.Parameter(_as_matrix(p.detach(), p)) for p in matrices]
        if any(view.data_ptr() != p.data_ptr() for view, p in zip(self.views, matrices, strict=True)):
            raise ValueError("a weight is laid out in memory so that no matrix can share it: call .contiguous() on it first")
        self.inner: list[torch.optim.Optimizer] = []  # torch refuses an optimiser of nothing
        if self.views:
            muon = torch.optim.Muon(
                self.views, lr=lr, momentum=momentum, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
            )
            self.inner.append(muon)
        if rest:
            options = _kernels(rest)
            self.inner.append(torch.optim.AdamW(list(rest), lr=lr, betas=betas, weight_decay=weight_decay, **options))

    def state_dict(self) -> dict[str, Any]:
        """The learning rates, and the state of both."""
        return super().state_dict() | {"inner": [optimizer.state_dict() for optimizer in self.inner]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        own = dict(state_dict)
        for optimizer, state in zip(self.inner, own.pop("inner"), strict=True):
            load_state(optimizer, state)
        super().load_state_dict(own)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step of both."""
        for view, parameter in zip(self.views, self.matrices, strict=True):
            view.grad = None if parameter.grad is None else _as_matrix(parameter.grad, parameter)
        for optimizer, group in zip(self.inner, self.param_groups, strict=True):
            optimizer.param_groups[0]["lr"] = group["lr"]
            optimizer.step()


def _as_matrix(values: Tensor, parameter: Tensor) -> Tensor:
    """`values` (O, …) as (O, the rest), with the columns in the order in which `parameter` lies in memory."""
    if parameter.dim() == 4 and parameter.is_contiguous(memory_format=torch.channels_last):
        values = values.permute(0, 2, 3, 1)
    return values.flatten(1)
