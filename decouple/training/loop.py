"""One epoch of gradient steps: the code path that every training shares, and the one place that steps an optimiser."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from decouple import device as devices
from decouple.errors import NetworkError, NotFiniteError
from decouple.seeds import derive
from decouple.torch_state import plain_torch, seeded
from decouple.training.averages import averages_follow
from decouple.training.graphs import Gradient, Graphs, capturable, granted
from decouple.training.objectives import Objective, Remembering
from decouple.training.processes import ALONE, Group
from decouple.training.stream import AHEAD, Batch, Loader, made_ahead

Make = Callable[[tuple[int, Tensor]], Batch]
"""See `Loader.make`."""


@dataclass(frozen=True)
class Loop:
    """What all steps of a training share."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    objective: Objective
    clip: float = 0.0
    """Gradient norm above which the gradient is scaled down; 0: off."""
    precision: str = "float32"
    group: Group = ALONE
    """The processes that share each batch; with others, the objective is the one that `Group.sharing` gives."""
    graphs: dict[Hashable, Graphs] = field(default_factory=dict)
    """Of the steps on a GPU, by what they take for granted: those of the present state alone."""

    def __post_init__(self) -> None:
        devices.check_precision(self.precision)

    @plain_torch()
    def epoch(
        self,
        loader: Loader,
        batches: Sequence[Tensor],
        *,
        before_step: Callable[[int], None],
        seed: int,
        what: str,
        ahead: int = AHEAD,
    ) -> float:
        """Take a step for each batch; returns the mean loss over what counts in them.

        Args:
            loader: makes the batches, for this epoch.
            batches: positions, (B,) each.
            before_step: called with the step's number in the epoch; sets the rates.
            seed: of what the network itself draws (dropout) in this epoch.
            ahead: batches made ready in another thread; 0: each when its step comes. The result is the same.

        Raises:
            NetworkError: the loss does not depend on any weight that is trained.
            NotFiniteError: the loss or the gradient became NaN or infinite; names the step. On a GPU it is raised after the
                epoch, since to read a value is to wait for all that was queued before."""
        self.network.train()
        parameters = [p for p in self.network.parameters() if p.requires_grad]
        device = parameters[0].device
        total, counted = torch.zeros((), dtype=torch.float32, device=device), 0
        drawn, at_once = derive(seed, "network", self.group.rank), device.type == "cpu"
        seen: list[tuple[Tensor, Tensor]] = []
        make, items = _in_order(loader.make, device), list(enumerate(batches))
        follow, drawing = averages_follow(self.network, len(batches)), seeded(drawn, device)
        with follow, drawing, closing(made_ahead(make, items, ahead)) as ready:
            gradient = self._gradient_of(parameters, device, what)
            for step, batch in enumerate(ready):
                before_step(step)
                batch = loader.received(batch)
                loss, norm = gradient(batch)
                seen.append((loss, norm))
                if at_once and not torch.isfinite(norm):
                    _refuse_not_finite(seen, what)
                if self.clip > 0 and (not at_once or self.clip < norm):
                    torch.nn.utils.clip_grads_with_norm_(parameters, self.clip, norm)
                self.optimizer.step()
                total += loss * batch.counted
                counted += batch.counted_by_all
        if not at_once:
            _refuse_not_finite(seen, what)
        return float(self.group.sum(total)) / counted

    def _gradient_of(self, parameters: list[nn.Parameter], device: torch.device, what: str) -> Gradient:
        """The step without the update: on a GPU as graphs, where it can be captured."""
        gradient = partial(self._backward, parameters, device, what)
        if device.type != "cuda" or self.group.size > 1 or not capturable(self.network, self.objective):
            return gradient
        state = granted(self.network)
        if state not in self.graphs:
            self.graphs.clear()
            memory = self.objective if isinstance(self.objective, Remembering) else None
            self.graphs[state] = Graphs(parameters, memory)
        return partial(self.graphs[state], gradient)

    def _backward(
        self, parameters: list[nn.Parameter], device: torch.device, what: str, batch: Batch
    ) -> tuple[Tensor, Tensor]:
        """Leave the gradient of the step's mean loss; returns the loss of this process's part, and the gradient's norm."""
        with devices.autocast(self.precision, device):
            loss = self.objective(self.network, batch)
        if not loss.requires_grad:
            raise NetworkError(
                f"{what}: the loss does not depend on any weight that is trained: these are in parts without a target, or the "
                "network detaches their outputs"
            )
        self.network.zero_grad(set_to_none=True)  # all of them: what the optimiser leaves alone counts for the norm too
        (loss * (batch.counted * self.group.size / batch.counted_by_all)).backward()  # gradients are averaged over processes
        return loss.detach(), torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])


def _in_order(make: Make, device: torch.device) -> Make:
    """`make` for another thread: what it queues on a GPU comes before what the caller queues once it has the batch."""
    if device.type != "cuda":
        return make
    stream = torch.cuda.current_stream(device)

    def queued(item: tuple[int, Tensor]) -> Batch:
        with torch.cuda.stream(stream):
            return make(item)

    return queued


def _refuse_not_finite(seen: Sequence[tuple[Tensor, Tensor]], what: str) -> None:
    """Raise NotFiniteError for the first step whose gradient norm, the second of what was seen after the loss, is not finite."""
    losses, norms = (torch.stack(values).isfinite().tolist() for values in zip(*seen, strict=True))
    if not all(norms):
        step = norms.index(False)
        raise NotFiniteError(
            f"{what}: the {'gradient' if losses[step] else 'loss'} is not finite at step {step + 1} of the epoch; lower lr or set "
            "clip, or raise network.eps where BatchNorm divides by a deviation near 0"
        )
