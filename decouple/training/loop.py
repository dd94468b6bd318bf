"""One epoch of gradient steps: the code path that searched targets, SGD and q0 share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from decouple import device as devices
from decouple.data.images import Split
from decouple.errors import NetworkError, NotFiniteError
from decouple.networks.stages import Stages
from decouple.seeds import derive, generator
from decouple.torch_state import plain_torch
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


@plain_torch()
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
        seed: of this epoch's augmentation, and of what the network itself draws (dropout).
        what: the training's name, for the message.
        ahead: batches made ready in another thread; 0: each when its step comes. The result is the same.
        team: the processes that share each batch, made for this network and objective; None: this one works alone.

    Raises:
        NetworkError: the loss does not depend on any weight that is trained.
        NotFiniteError: at the step where the loss or the gradient became NaN or infinite.
    """
    network.train()
    parameters = [p for p in network.parameters() if p.requires_grad]
    device = parameters[0].device
    fetch = objective.fetch if isinstance(objective, Fetching) else _nothing
    stream = generator(seed, "augment")
    loader = Loader(network, split, fetch, augmentation=augmentation, precision=precision, generator=stream, team=team)
    total = torch.zeros((), dtype=torch.float32, device=device)
    drawn = derive(seed, "network", 0 if team is None else team.rank)
    with _global_generators(drawn, device), closing(made_ahead(loader.make, batches, ahead)) as ready:
        for step, batch in enumerate(ready):
            before_step(step)
            batch = loader.received(batch)._replace(seed=derive(seed, "step", step))
            with devices.autocast(precision, device):
                loss = objective(network, batch) if team is None else team.loss(batch)
            if not loss.requires_grad:
                raise NetworkError(
                    f"{what}: the loss does not depend on any weight that is trained: these are in parts without a target, or the "
                    "network detaches their outputs"
                )
            network.zero_grad(set_to_none=True)  # all of them: what the optimiser leaves alone counts for the norm too
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


@contextmanager
def _global_generators(seed: int, device: torch.device) -> Iterator[None]:
    """Networks draw from torch's global generators: seed them, so that a resumed epoch equals this one, and put them back."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def _nothing(positions: Tensor) -> list[Tensor]:
    return []
