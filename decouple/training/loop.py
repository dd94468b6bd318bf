"""One epoch of gradient steps: the code path that searched targets, SGD and q0 share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from decouple import device as devices
from decouple.data.images import Split
from decouple.errors import NotFiniteError
from decouple.networks.stages import Stages
from decouple.seeds import derive, generator
from decouple.training.stream import AHEAD, Batch, Loader, made_ahead
from decouple.training.team import Team


class Objective(Protocol):
    """A loss of a network on a batch."""

    def __call__(self, network: Stages, batch: Batch) -> Tensor:
        """The mean loss; whatever is random in it comes from the batch's seed."""
        ...


@runtime_checkable
class Fetching(Objective, Protocol):
    """An objective that needs something for each image, which is fetched while the preceding steps are taken."""

    def fetch(self, positions: Tensor) -> Sequence[Tensor]:
        """Tensors (B, …) for the images at `positions`, on the CPU. Called in another thread, ahead of the step; the batch
        has them as its rows: on the network's device, in its layout; float32, or bfloat16 for maps under autocast to it."""
        ...


@runtime_checkable
class Remembering(Objective, Protocol):
    """An objective that carries something from step to step: kept where the training's state is kept."""

    def memory(self) -> dict[str, Tensor]:
        """What it carries, by name."""
        ...

    def remember(self, memory: Mapping[str, Tensor]) -> None:
        """Go on with what `memory` gave."""
        ...


def train_epoch(
    network: Stages,
    optimizer: torch.optim.Optimizer,
    split: Split,
    batches: Sequence[Tensor],
    objective: Objective,
    *,
    before_step: Callable[[int], None],
    clip: float,
    augmentation: str,
    precision: str,
    seed: int,
    what: str,
    ahead: int = AHEAD,
    team: Team | None = None,
) -> float:
    """Take a step for each batch; returns the mean loss over the images.

    Args:
        before_step: called with the step's number in the epoch; sets the rates.
        clip: gradient norm above which the gradient is scaled down; 0: off.
        seed: of this epoch's augmentation.
        what: the training's name, for the message.
        ahead: batches made ready in another thread; 0: each when its step comes. The result is the same.
        team: the processes that share each batch, made for this network and objective; None: this one works alone.

    Raises:
        NotFiniteError: at the step where the loss or the gradient became NaN or infinite.
    """
    network.train()
    parameters = [p for p in network.parameters() if p.requires_grad]
    device = parameters[0].device
    fetch = objective.fetch if isinstance(objective, Fetching) else _nothing
    stream = generator(seed, "augment")
    loader = Loader(network, split, fetch, augmentation=augmentation, precision=precision, generator=stream, team=team)
    total = torch.zeros((), device=device)
    with closing(made_ahead(loader.make, batches, ahead)) as ready:
        for step, batch in enumerate(ready):
            before_step(step)
            batch = loader.received(batch)._replace(seed=derive(seed, "step", step))
            with devices.autocast(precision, device):
                loss = objective(network, batch) if team is None else team.loss(batch)
            optimizer.zero_grad(set_to_none=True)
            weighted = loss if team is None else loss * team.weight(len(batch.positions), len(batches[step]))
            weighted.backward()
            norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
            if not torch.isfinite(norm):
                raise NotFiniteError(
                    f"{what}: the {'gradient' if torch.isfinite(loss) else 'loss'} is not finite at step {step + 1} of the epoch; "
                    "lower lr, raise network.eps or set clip"
                )
            if 0 < clip < norm:
                torch.nn.utils.clip_grads_with_norm_(parameters, clip, norm)
            optimizer.step()
            total += loss.detach() * len(batch.positions)
    if team is not None:
        total = team.total(total)
    return float(total) / sum(len(positions) for positions in batches)


def _nothing(positions: Tensor) -> list[Tensor]:
    return []
