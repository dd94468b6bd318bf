"""The optimisers of a trajectory behind one setting, and their state as named tensors.

None of them decays weights by itself: the trajectory does, decoupled and in anti-phase with the learning rate, alike for all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from decouple.config import Q0Config
from decouple.errors import ConfigError, NetworkError
from decouple.networks.stages import Stages


class MuonAndAdamW(torch.optim.Optimizer):
    """Muon for matrices, AdamW for the rest, with one learning rate for both.

    torch's Muon takes matrices alone, so a convolution's weight (O, I, h, w) goes to it as (O, I·h·w): the order of the columns
    does not matter to the orthogonalisation. Its update is scaled to AdamW's typical size (`match_rms_adamw`), which is
    why one learning rate serves both.

    Args:
        matrices: weights with at least 2 dimensions, of hidden layers.
        rest: vectors and the output layer, as Muon's author advises.
        lr: at the start; `param_groups` hold the one in force.
        momentum: of Muon.
        betas: of AdamW.

    Raises:
        ConfigError: a torch without Muon.
        ValueError: a weight that no matrix can share the memory of.
    """

    def __init__(
        self,
        matrices: Sequence[nn.Parameter],
        rest: Sequence[nn.Parameter],
        *,
        lr: float,
        momentum: float,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        refuse_without_muon()
        super().__init__([{"params": list(part)} for part in (matrices, rest) if part], {"lr": lr})
        self.matrices = list(matrices)
        self.views = [nn.Parameter(_as_matrix(p.detach(), p)) for p in matrices]
        if any(view.data_ptr() != p.data_ptr() for view, p in zip(self.views, matrices, strict=True)):
            raise ValueError("a weight is laid out in memory so that no matrix can share it: call .contiguous() on it first")
        self.inner: list[torch.optim.Optimizer] = []  # torch refuses an optimiser of nothing
        if self.views:
            muon = torch.optim.Muon(self.views, lr=lr, momentum=momentum, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
            self.inner.append(muon)
        if rest:
            self.inner.append(torch.optim.AdamW(list(rest), lr=lr, betas=betas, weight_decay=0.0))

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step of both."""
        for view, parameter in zip(self.views, self.matrices, strict=True):
            view.grad = None if parameter.grad is None else _as_matrix(parameter.grad, parameter)
        for optimizer, group in zip(self.inner, self.param_groups, strict=True):
            optimizer.param_groups[0]["lr"] = group["lr"]
            optimizer.step()


def optimizer_of(network: nn.Module, config: Q0Config) -> torch.optim.Optimizer:
    """The optimiser that the settings ask for, over the trainable parameters.

    Raises:
        ConfigError: Muon, with a torch that does not have it.
        NetworkError: no parameter is trainable.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    if not parameters:
        raise NetworkError("no parameter of the network requires a gradient: expected one to train")
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=config.lr, betas=(config.momentum, 0.999), weight_decay=0.0)
    output = {id(p) for p in network.stages[-1].parameters()} if isinstance(network, Stages) else set()
    matrices = [p for p in parameters if p.dim() >= 2 and id(p) not in output]
    chosen = {id(p) for p in matrices}
    rest = [p for p in parameters if id(p) not in chosen]
    return MuonAndAdamW(matrices, rest, lr=config.lr, momentum=config.momentum)


def refuse_without_muon() -> None:
    """Raise ConfigError where torch has no Muon."""
    if not hasattr(torch.optim, "Muon"):
        raise ConfigError(f"q0.optimizer = muon needs torch 2.9 or newer, this is {torch.__version__}; give adamw")


def forget(optimizer: torch.optim.Optimizer) -> None:
    """Clear the state: what follows is as from a new optimiser."""
    for inner in _inner(optimizer):
        inner.state.clear()


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def state_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as named tensors, in the order of its parameters."""
    return {
        f"optimizer.{number}.{name}": value
        for number, state in enumerate(_states(optimizer))
        for name, value in sorted(state.items())
        if torch.is_tensor(value)
    }


def restore_state(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `state_tensors` gave; other names are left alone."""
    slots = [(inner, p) for inner in _inner(optimizer) for group in inner.param_groups for p in group["params"]]
    for full, value in tensors.items():
        if not full.startswith("optimizer."):
            continue
        _, number, name = full.split(".", 2)
        inner, parameter = slots[int(number)]
        # A count of steps stays on the CPU, where torch keeps it.
        inner.state[parameter][name] = value.clone() if value.dim() == 0 else value.clone().to(parameter.device)


def _inner(optimizer: torch.optim.Optimizer) -> list[Any]:
    return optimizer.inner if isinstance(optimizer, MuonAndAdamW) else [optimizer]


def _states(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    return [
        dict(inner.state.get(p, {})) for inner in _inner(optimizer) for group in inner.param_groups for p in group["params"]
    ]


def _as_matrix(values: Tensor, parameter: Tensor) -> Tensor:
    """`values` (O, …) as (O, the rest), with the columns in the order in which `parameter` lies in memory."""
    if parameter.dim() == 4 and parameter.is_contiguous(memory_format=torch.channels_last):
        values = values.permute(0, 2, 3, 1)
    return values.flatten(1)
