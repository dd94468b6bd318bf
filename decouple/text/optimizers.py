"""The optimisers of a text trajectory behind one setting, and their state as named tensors.

None of them decays weights by itself: the trajectory does, decoupled and in anti-phase with the learning rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from decouple.config import TextQ0Config
from decouple.errors import ConfigError
from decouple.text.gpt import Gpt


@dataclass(frozen=True)
class Optimizers:
    """Several optimisers, each with its share of a network's parameters, that step together."""

    parts: tuple[torch.optim.Optimizer, ...]

    def set_lr(self, lr: float) -> None:
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = lr

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def forget(self) -> None:
        """Clear the state: what follows is as from a new optimiser."""
        for part in self.parts:
            part.state.clear()

    def state(self) -> dict[str, Tensor]:
        """The state as named tensors, in the order of the parameters."""
        return {
            f"optimizer.{number}.{name}": value
            for number, (part, parameter) in enumerate(self._slots())
            for name, value in part.state.get(parameter, {}).items()
            if torch.is_tensor(value)
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `state` gave; other names are left alone."""
        slots = self._slots()
        for full, value in tensors.items():
            if full.startswith("optimizer."):
                _, number, name = full.split(".", 2)
                part, parameter = slots[int(number)]
                # A count of steps stays where torch keeps it.
                part.state[parameter][name] = value.clone() if value.dim() == 0 else value.clone().to(parameter.device)

    def _slots(self) -> list[tuple[torch.optim.Optimizer, Tensor]]:
        return [(part, p) for part in self.parts for group in part.param_groups for p in group["params"]]


def optimizers_of(network: Gpt, config: TextQ0Config) -> Optimizers:
    """AdamW for everything, or Muon for the matrices of the blocks and AdamW for embedding and head.

    Muon's updates are scaled to AdamW's typical size (`match_rms_adamw`), so one learning rate serves both. Source:
    Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024).

    Raises:
        ConfigError: Muon, with a torch that does not have it.
    """
    betas = (config.beta1, config.beta2)
    if config.optimizer == "adamw":
        return Optimizers((torch.optim.AdamW(network.parameters(), lr=config.lr, betas=betas, weight_decay=0.0),))
    if not hasattr(torch.optim, "Muon"):
        raise ConfigError(
            f"q0.optimizer = muon needs torch 2.9 or newer, this is {torch.__version__}; give --q0.optimizer adamw"
        )
    hidden = list(network.blocks.parameters())
    chosen = {id(parameter) for parameter in hidden}
    rest = [parameter for parameter in network.parameters() if id(parameter) not in chosen]
    muon = torch.optim.Muon(hidden, lr=config.lr, momentum=config.momentum, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    return Optimizers((muon, torch.optim.AdamW(rest, lr=config.lr, betas=betas, weight_decay=0.0)))
