"""What a network says of a part: the probability of every token that came."""

from __future__ import annotations

import torch
from torch import Tensor

from decouple import device as devices
from decouple.tasks.distill import IGNORED
from decouple.text.gpt import Gpt
from decouple.text.stream import Part
from decouple.torch_state import torch_defaults
from decouple.training.batches import even_batches

BATCH = 64
"""Rows evaluated together."""


@torch_defaults()
@torch.no_grad()
def p_truth(network: Gpt, part: Part, *, precision: str = "float32") -> Tensor:
    """(N,) float32 on the CPU: the probability that the network gave to each of the part's N tokens.

    The documents come in the order of the text, in rows of the network's context: a token is predicted from what its row
    holds before it.
    """
    network.eval()
    device = next(network.parameters()).device
    stream, found = part.stream(), []
    for first, last in even_batches(part.rows(network.context), BATCH):
        inputs, targets = stream.batch(torch.arange(first, last), network.context)
        with devices.autocast(precision, device):
            logits = network(inputs.to(device))
        counted = (targets != IGNORED).to(device)
        picked = logits.float().log_softmax(-1)[counted].gather(-1, targets.to(device)[counted][:, None])
        found.append(picked.squeeze(-1).exp().cpu())
    return torch.cat(found)
