"""Settings of q0's population."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from decouple.config.base import NO_IDENTITY, BelowOne, Fraction, NonNegative, Positive, Rate, Share
from decouple.config.training import StepConfig


@dataclass(frozen=True)
class Q0Config(StepConfig):
    optimizer: Literal["sgd", "adamw", "muon"] = "sgd"
    """sgd, adamw or muon, as for learning."""
    lr: Rate = 0.3
    weight_decay: NonNegative = 1e-2
    """Base weight decay, decoupled: the shrinkage of a step is lr × weight_decay."""
    init: Annotated[Literal["searched", "random"], NO_IDENTITY] = "searched"
    """What a trajectory starts from: a network learned from a searched solution, or a new one."""
    trajectories: Annotated[Positive | None, NO_IDENTITY] = None
    """Parallel trajectories; None: one for each searched solution."""
    cycles: Positive = 4
    """Cycles of a trajectory; each leaves a snapshot."""
    first_epochs: Positive | None = None
    """Epochs of the first cycle; None: as many as the later ones. A new network needs more than a trained one."""
    epochs: Positive = 8
    """Epochs per cycle, enough for the network to recover by its end."""
    restart: Literal["continue", "new"] = "continue"
    """What a later cycle starts from. continue: the weights before it, as in the public code's record; new: a new network that learns
    from the snapshot before, as in its earlier records."""
    batch_edges: Share = 1.0
    """Batch size in the first and last quarter of the cycles, as a fraction of batch (public code: 0.75); 1: constant."""
    shape: Literal["linear", "cosine"] = "linear"
    """How the learning rate falls in a cycle."""
    warmup: Fraction = 0.0
    """Share of a cycle in which the learning rate rises from the floor to its peak."""
    warmdown: Fraction = 0.0
    """Share of a cycle in which it falls from the floor, which must be above 0, to 0, and the weight decay rises above its base."""
    lr_floor: BelowOne = 0.0
    """Learning-rate multiplier towards which a cycle falls. The public code uses 0.08."""
    wd_floor: Fraction = 0.7
    """Weight-decay multiplier at the peak of the learning rate; it rises to 1 as the learning rate falls."""
    alpha: Fraction = 0.0
    """Weight of the distillation from the preceding snapshot; 0: off. The paper's language models have 0.45; on images
    none did better."""
    temperature: Rate = 1.2
    """Distillation temperature, applied to the logits of both teacher and student."""
    distill_after: Positive = 1
    """Snapshots that a trajectory must have before distillation begins."""
    perturb: NonNegative = 0.0
    """Scale of the noise on the weights after the first snapshot, in units of each tensor's standard deviation. The public
    code uses 0.25; 0: off."""
    perturb_last: Fraction = 0.2
    """Fraction of that scale that remains in the last cycle; 1: constant."""
    members: Annotated[Positive | None, NO_IDENTITY] = None
    """Members of the reported ensemble, heaviest first; None: all."""
    prior: Annotated[Literal["shrunk", "exact", "softmax"], NO_IDENTITY] = "shrunk"
    """How the weights are fitted: shrunk: the convex optimum, pulled toward equal weights as much as cross-validation on the
    prior split asks for; exact: without the pull; softmax: as the public code does (AdamW on a softmax)."""

    def _check(self) -> None:
        if self.warmup + self.warmdown > 1:
            self._refuse("warmup", f"at most 1 together with warmdown = {self.warmdown}: they are shares of one cycle")
        if self.warmdown and not self.lr_floor:
            self._refuse(
                "warmdown", "0 with lr_floor = 0, from which the learning rate cannot fall: that share would train nothing"
            )
        if self.perturb and self.restart == "new":
            self._refuse(
                "perturb", "0 with restart = new: each cycle begins with a new network, which has no weights to disturb"
            )

    def check_members(self, trajectories: int) -> None:
        """Refuse more members than so many trajectories leave snapshots."""
        if self.members is not None and self.members > (made := trajectories * self.cycles):
            self._refuse("members", f"at most {made}, the snapshots of {trajectories} × {self.cycles} cycles")

    def epochs_in(self, cycle: int) -> int:
        """Epochs of a cycle."""
        return self.epochs if cycle or self.first_epochs is None else self.first_epochs

    def epochs_before(self, cycle: int) -> int:
        """Epochs of a trajectory until this cycle; before cycle `cycles`: of a whole one.

        >>> Q0Config(first_epochs=8, epochs=4, cycles=3).epochs_before(3)
        16
        """
        return sum(self.epochs_in(earlier) for earlier in range(cycle))


TEXT_Q0 = Q0Config(
    init="random",
    trajectories=2,
    first_epochs=8,
    epochs=16,  # with a teacher more of them help than without
    restart="new",
    batch=8,
    optimizer="muon",
    lr=2e-2,  # Muon and AdamW take steps of the same size
    momentum=0.95,
    weight_decay=1.0,
    alpha=0.6,
    prior="exact",
)
"""What suits small language models."""
