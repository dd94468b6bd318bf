"""The optimiser of a text trajectory.

It does not decay weights: the trajectory does, decoupled and in anti-phase with the learning rate.
"""

from __future__ import annotations

import torch

from decouple.config import TextQ0Config
from decouple.q0.optimizers import MuonAndAdamW
from decouple.text.gpt import Gpt


def optimizer_of(network: Gpt, config: TextQ0Config) -> torch.optim.Optimizer:
    """AdamW for everything, or Muon for the matrices of the blocks and AdamW for embedding and head.

    Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024).

    Raises:
        ConfigError: Muon, with a torch that does not have it.
    """
    betas = (config.beta1, config.beta2)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(network.parameters(), lr=config.lr, betas=betas, weight_decay=0.0)
    hidden = list(network.blocks.parameters())
    chosen = {id(parameter) for parameter in hidden}
    rest = [parameter for parameter in network.parameters() if id(parameter) not in chosen]
    return MuonAndAdamW(hidden, rest, lr=config.lr, momentum=config.momentum, betas=betas)
