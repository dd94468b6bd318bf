"""Every setting of a run, as frozen dataclasses: one section a stage.

Ranges are declared beside the fields; `decouple.settings` checks them, wherever the values come from. Neither module
imports torch, so that `--help` and mistyped options answer at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import msgspec
import tyro

_MOST = 2**63 - 1
"""The largest whole number that torch takes."""

Positive = Annotated[int, msgspec.Meta(ge=1, le=_MOST)]
Count = Annotated[int, msgspec.Meta(ge=0, le=_MOST)]
Rate = Annotated[float, msgspec.Meta(gt=0, le=1e6)]
NonNegative = Annotated[float, msgspec.Meta(ge=0, le=1e6)]
Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]
BelowOne = Annotated[float, msgspec.Meta(ge=0, lt=1)]
Seed = Annotated[int, msgspec.Meta(ge=0, le=_MOST)]
CountByPoint = Annotated[Count | dict[str, Count], tyro.conf.arg(metavar="INT | POINT INT [POINT INT ...]")]
"""One value for all search points, or values by the names of points (see `SearchPoint.setting`)."""
RateByPoint = Annotated[Rate | dict[str, Rate], tyro.conf.arg(metavar="FLOAT | POINT FLOAT [POINT FLOAT ...]")]


@dataclass(frozen=True)
class DataConfig:
    name: str = "digits"
    """digits, mnist, fashion-mnist, cifar10, cifar100, or folder:PATH with train/<class>/ and test/<class>/ images."""
    train: Positive | None = None
    """Training images; None: all that validation and prior leave."""
    validation: Positive = 150
    """Images held out of the training set to choose epochs and settings by."""
    prior: Positive = 150
    """Images held out of the training set to fit q0's learned prior on; nothing else sees them."""
    test: Positive | None = None
    """Test images; None: all. Used once, for the reported figures."""
    seed: Seed = 0
    """Draws the splits. Apart from the run's seed, so that runs of other seeds share their data."""


@dataclass(frozen=True)
class NetworkConfig:
    width: Positive = 32
    """Channels of each block (paper: 256)."""
    blocks: Positive = 3
    """Blocks; those whose map would fall below 1×1 are dropped."""
    groups: Positive = 2
    """ConvGroups (2 convolutions each) a block of the learned network (paper: 3; MNIST 2). Search uses 1."""
    whitening: Literal["patches", "none"] = "patches"
    """patches: begin with the frozen 2×2 convolution that whitens training patches (paper); none: with the images."""
    eps: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1e-2
    """BatchNorm's epsilon. 1e-5 makes gradients explode where a Dirac channel is nearly constant (MNIST)."""
    statistics: Literal["running", "batch"] = "running"
    """What normalises at evaluation: running averages, or the evaluated batch itself (paper)."""


@dataclass(frozen=True)
class EsConfig:
    """Antithetic evolution strategy. A setting by search point is one value for all, or a value for each name: that of a point
    (block0), or `blocks` and `logits` for those that are not named."""

    population: Annotated[int, msgspec.Meta(ge=2, le=_MOST, multiple_of=2)] = 48
    """Candidates a generation and image, in mirrored pairs."""
    generations: CountByPoint = field(default_factory=lambda: {"blocks": 40, "logits": 10})
    """Generations at each search point."""
    scale: Literal["sample", "channel"] = "sample"
    """Unit of all displacements: the standard deviation over a whole sample, or over space of each channel (paper), where
    channels that are silent for an image can hardly be moved."""
    radius: Rate = 0.5
    """Size of a trial displacement, in that unit."""
    step: RateByPoint = field(default_factory=lambda: {"blocks": 0.1, "logits": 0.5})
    """Size of a generation's update, in that unit."""
    momentum: BelowOne = 0.7
    """Share of the last update that is kept."""
    blur: CountByPoint = 0
    """3×3 mean passes that smooth the noise."""
    moments: Literal["unit", "own"] = "unit"
    """What every centre keeps: unit: mean 0 and deviation 1, as in the paper; own: those of the network's own activation."""
    noise: Literal["shared", "image"] = "shared"
    """shared: all images of a solution are offered the same random directions, so that images with like gradients get
    like displacements, which a network can learn; image: each has its own."""


@dataclass(frozen=True)
class PaperConfig:
    """The paper's genetic algorithm. Settings by search point are given as in `EsConfig`."""

    population: Positive = 240
    """Individuals a generation and image: parents, explorers and, for the rest, refiners."""
    parents: Positive = 20
    """Individuals kept each generation."""
    explorers: Count = 100
    """Children of parents, with the boosted mutation. The refiners are children of parents and explorers."""
    generations: CountByPoint = field(default_factory=lambda: {"block0": 300, "blocks": 100, "logits": 10})
    """Generations at each search point."""
    alpha: RateByPoint = field(default_factory=lambda: {"block0": 0.3, "block1": 0.2, "blocks": 0.1, "logits": 0.1})
    """Mutation strength, in units of the parents' spatial standard deviation (MNIST: 0.1 everywhere)."""
    boost: RateByPoint = field(default_factory=lambda: {"block0": 5.0, "blocks": 3.0, "logits": 1.0})
    """The explorers' strength over the refiners'."""
    blur: CountByPoint = field(default_factory=lambda: {"block0": 5, "blocks": 1, "logits": 0})
    """3×3 mean passes."""
    smoothing: Literal["map", "noise"] = "map"
    """What the passes smooth: the whole mutated map, or the noise alone (keeps the image: see the README)."""


@dataclass(frozen=True)
class SearchConfig:
    algorithm: str = "es"
    """es: our evolution strategy; paper: the paper's genetic algorithm; pgpe, cem: EvoTorch's, with es's settings. For
    reference: random (the floor: no selection) and gradient (the oracle: along the true gradient, by backpropagation). Your own:
    FILE.py:Class, package.module:Class, or a registered name."""
    points: str | tuple[str, ...] = "last"
    """Search points whose activations are evolved, by name (block2, logits). last: the last block, whose candidates cost next to
    nothing and whose targets teach best (measured), and the logits; all: one after the other (paper). Learning can supervise no
    block before the first of them."""
    solutions: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 2
    """Independent searches, each of which seeds one network."""
    batch: Annotated[int, msgspec.Meta(ge=2, le=_MOST)] = 128
    """Images a search batch, of fixed composition: what BatchNorm couples, and a file of the target store."""
    statistics: Literal["batch", "frozen"] = "batch"
    """BatchNorm in search: statistics of the candidates (paper), or frozen on the unperturbed images."""
    chunk: Positive | None = None
    """Candidates of an image scored at once, where statistics are frozen; None: all. Less memory, the same result."""
    max_evaluations: Positive | None = None
    """Stop after so many candidates of an image, shared among the points by their generations; None: all generations."""
    max_seconds: Rate | None = None
    """Stop a solution after this time, shared alike. The result then depends on the machine's speed."""
    target: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = None
    """Leave a search point when every image of the batch has this probability of its class; None: never."""
    dtype: Literal["float16", "bfloat16", "float32"] = "float16"
    """Type of the stored targets."""
    es: EsConfig = field(default_factory=EsConfig)
    paper: PaperConfig = field(default_factory=PaperConfig)


@dataclass(frozen=True)
class TrainConfig:
    epochs: Positive = 40
    """Passes over the training images."""
    batch: Annotated[int, msgspec.Meta(ge=2, le=_MOST)] = 128
    """Images a step."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """sgd: with Nesterov momentum (paper); adamw: torch's, with an lr near 1e-3. The library takes any other."""
    lr: Rate = 0.2
    """Peak learning rate (see lr_unit)."""
    lr_unit: Literal["step", "airbench"] = "step"
    """step: torch's learning rate for the mean loss; airbench: that project's decoupled unit of sgd, which the paper uses."""
    momentum: BelowOne = 0.85
    """Nesterov momentum of SGD; adamw has torch's betas."""
    weight_decay: NonNegative = 2e-2
    """Decay in the unit of lr. High on purpose: on a few thousand images 2e-2 to 5e-2 is points better than 5e-4."""
    schedule: Literal["triangle", "constant"] = "triangle"
    """triangle: warm up over a fifth of the steps, then fall linearly to zero; constant."""
    clip: NonNegative = 1.0
    """Gradient norm above which the gradient is scaled down; 0: off."""
    augment: Literal["none", "crop", "flip-crop"] = "none"
    """Random crop after padding by 2, and horizontal flip. Cached targets serve every view."""
    shuffle: Literal["epoch", "fixed"] = "epoch"
    """Compose batches anew each epoch, or keep the same composition (paper)."""


@dataclass(frozen=True)
class LiveConfig:
    """Live search: at every step of learning a small search around what the network now makes of the step's images (of their
    views, where they are augmented) at the last block, scored by the network's own head. Where that says the activations
    should go is a second target there, beside the stored one."""

    weight: NonNegative = 1.0
    """Weight of that target. 1: it moves the activations as SGD's gradient would; 0: no live search (paper). The stored targets
    beside it have learn.target_weight; with 0 there, live search alone teaches the blocks."""
    directions: Positive = 32
    """Directions that a step tries, forth and back; all its images share them. More see more of what could be gained."""
    guided: Fraction = 0.5
    """Share of the directions that combine what the step before has found; the rest are new at random."""
    radius: Rate = 0.3
    """Distance of a candidate from the network's own activations, in standard deviations of the sample."""


@dataclass(frozen=True)
class LearnConfig(TrainConfig):
    target_weight: NonNegative = 0.5
    """Weight of the blocks' MSE to the searched targets (paper: 1)."""
    kl_weight: NonNegative = 1.0
    """Weight λ of the head's KL (paper: 0.03)."""
    supervise: Literal["last", "all", "skip-first"] = "last"
    """Blocks that have a target: the last alone, all, or all but block 0 (both the paper's). The others learn through the
    later ones."""
    live: LiveConfig = field(default_factory=LiveConfig)

    @property
    def evaluations(self) -> int:
        """Candidates that live search scores for an image."""
        return 2 * self.live.directions * self.epochs if self.live.weight else 0


@dataclass(frozen=True)
class RoundsConfig:
    """Rounds after the first: each searches again from what the learned network now makes of the images, with the rest of that
    network as the judge, and the network learns on. The paper stops before them."""

    count: Annotated[Count, tyro.conf.arg(aliases=["--rounds"])] = 0
    """Rounds after the first."""
    epochs: Positive | None = None
    """Epochs of each; None: as many as learn.epochs."""
    lr: Rate | None = None
    """Peak learning rate of each; None: learn.lr."""
    weight_decay: NonNegative | None = None
    """Of each; None: learn.weight_decay. A network that goes on wants less than a new one. All else stays as in learn."""
    es: EsConfig = field(
        default_factory=lambda: EsConfig(
            population=32, generations={"blocks": 24, "logits": 10}, step={"blocks": 0.03, "logits": 0.5}, moments="own"
        )
    )
    """The search: always es, in place of search.algorithm."""

    def learning(self, first: LearnConfig) -> LearnConfig:
        """Settings of each of these rounds' learning.

        Args:
            first: those of the first round.
        """
        own: dict[str, Any] = {"epochs": self.epochs, "lr": self.lr, "weight_decay": self.weight_decay}
        return replace(first, **{name: value for name, value in own.items() if value is not None})


@dataclass(frozen=True)
class SgdConfig(TrainConfig):
    groups: tuple[Positive, ...] = (1, 2)
    """ConvGroups a block to try (paper: 1, 2 and 3); the best on validation is reported."""


@dataclass(frozen=True)
class CompareConfig:
    images: Annotated[int, msgspec.Meta(ge=4, le=_MOST)] = 100
    """Validation images that are searched too, never trained on: the yardstick of the trajectories."""
    records: Annotated[int, msgspec.Meta(ge=2, le=_MOST)] = 10
    """Moments of a training, first to last, at which its activations on those images are recorded."""


class Cycles:
    """Counts the epochs of a trajectory."""

    first_epochs: int | None
    epochs: int

    def epochs_in(self, cycle: int) -> int:
        """Epochs of a cycle."""
        return self.epochs if cycle or self.first_epochs is None else self.first_epochs

    def epochs_before(self, cycle: int) -> int:
        """Epochs of a trajectory until this cycle; before cycle `cycles`: of a whole one.

        >>> Q0Config(first_epochs=8, epochs=4, cycles=3).epochs_before(3)
        16
        """
        return sum(self.epochs_in(earlier) for earlier in range(cycle))


@dataclass(frozen=True)
class Q0Config(Cycles):
    init: Literal["searched", "random"] = "searched"
    """What a trajectory starts from: a network learned from a searched solution, or a new one."""
    trajectories: Positive | None = None
    """Parallel trajectories; None: one for each searched solution."""
    cycles: Positive = 4
    """Cycles of a trajectory; each leaves a snapshot."""
    first_epochs: Positive | None = None
    """Epochs of the first cycle; None: as many as of the others. A new network wants more than one that goes on."""
    epochs: Positive = 8
    """Epochs a cycle: enough for a network to be good again at its end."""
    restart: Literal["continue", "new"] = "continue"
    """What a later cycle starts from. continue: the weights before it, as the public code's record; new: a new network that learns
    from the snapshot before, as its earlier records."""
    batch: Annotated[int, msgspec.Meta(ge=2, le=_MOST)] = 128
    """Images, or rows of tokens, a step; over all processes."""
    batch_edges: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    """Share of batch in the first and the last quarter of the cycles (the public code: 0.75); 1: the same throughout."""
    optimizer: Literal["sgd", "adamw", "muon"] = "sgd"
    """sgd: Nesterov; adamw; muon: Muon for the matrices and convolutions of hidden layers, AdamW for the rest. For the last
    two an lr near 0.003 takes the place of 0.3, and a weight_decay 100 times as high decays as much."""
    lr: Rate = 0.3
    """Peak learning rate of a cycle."""
    momentum: BelowOne = 0.85
    """Nesterov momentum of SGD and Muon; the state is kept across cycles."""
    beta1: BelowOne = 0.9
    """AdamW's average of the gradient."""
    beta2: BelowOne = 0.999
    """AdamW's average of the squared gradient."""
    weight_decay: NonNegative = 1e-2
    """Base weight decay (decoupled unit: the shrinkage of a step is lr × weight_decay)."""
    shape: Literal["linear", "cosine"] = "linear"
    """How the learning rate falls in a cycle."""
    warmup: Fraction = 0.0
    """Share of a cycle in which the learning rate rises from the floor to its peak."""
    warmdown: Fraction = 0.0
    """Share of a cycle in which it falls from the floor to 0, and the weight decay rises above its base."""
    lr_floor: BelowOne = 0.0
    """Learning-rate multiplier towards which a cycle falls. The public code uses 0.08."""
    wd_floor: Fraction = 0.7
    """Weight-decay multiplier at the peak of the learning rate; it rises to 1 as the learning rate falls."""
    alpha: Fraction = 0.0
    """Weight of the distillation from the preceding snapshot; 0: off. The paper's language models have 0.45; on images none did
    better (README)."""
    temperature: Rate = 1.2
    """Softens both sides of the distillation."""
    distill_after: Positive = 1
    """Snapshots that a trajectory must have before distillation begins."""
    augment: Literal["none", "crop", "flip-crop"] = "none"
    """Random crop after padding by 2, and horizontal flip."""
    perturb: NonNegative = 0.0
    """Scale of the noise on the weights after the first snapshot, in units of each tensor's standard deviation. The public
    code uses 0.25; 0: off."""
    perturb_last: Fraction = 0.2
    """What is left of that scale by the last cycle; 1: constant."""
    clip: NonNegative = 1.0
    """Gradient norm above which the gradient is scaled down; 0: off."""
    members: Positive | None = None
    """Members of the reported ensemble, heaviest first; None: all."""
    prior: Literal["shrunk", "exact", "softmax"] = "shrunk"
    """How the weights are fitted: shrunk: the convex optimum, pulled toward equal weights as much as cross-validation on the
    prior split asks for; exact: without the pull; softmax: as the public code does (AdamW on a softmax)."""


@dataclass(frozen=True)
class RunConfig:
    preset: Annotated[str, tyro.conf.Suppress] = "digits"
    """The preset that these settings started from."""
    seed: Seed = 0
    """Decides everything but which images go to train, validation and prior."""
    precision: Literal["float32", "bfloat16", "mixed"] = "float32"
    """Arithmetic: float32 throughout; bfloat16 for search and autocast learning; mixed: bfloat16 for search alone."""
    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    learn: LearnConfig = field(default_factory=LearnConfig)
    rounds: RoundsConfig = field(default_factory=RoundsConfig)
    sgd: SgdConfig = field(default_factory=SgdConfig)
    compare: CompareConfig = field(default_factory=CompareConfig)
    q0: Q0Config = field(default_factory=Q0Config)


@dataclass(frozen=True)
class CorpusConfig:
    """A text file cut into documents, each of which goes to one part as a whole."""

    separator: str = "\n\n"
    """What stands between two documents; the end mark that follows each document takes its place."""
    tokenizer: Literal["bytes", "bpe"] = "bytes"
    """bytes: every byte is a token; bpe: byte-level byte-pair encoding, fitted on the training documents (needs the
    package tokenizers)."""
    vocabulary: Annotated[int, msgspec.Meta(ge=258, le=2**31 - 1)] = 4096
    """Tokens of bpe, the end mark among them."""
    train: Positive | None = None
    """Training text in bytes; None: all that the other parts leave. Parts end with the document that reaches their size."""
    validation: Positive = 40_000
    """Text to choose settings by, bytes."""
    prior: Positive = 40_000
    """Text that the learned prior is fitted on and that nothing else sees, bytes."""
    test: Positive = 60_000
    """Text of the reported figures, bytes."""
    seed: Seed = 0
    """Deals the documents to the parts. Apart from the run's seed, so that runs of other seeds share their data."""


@dataclass(frozen=True)
class GptConfig:
    layers: Positive = 2
    """Blocks of attention and MLP."""
    width: Positive = 128
    """Channels of the residual stream; a multiple of twice `heads`."""
    heads: Positive = 2
    """Attention heads."""
    context: Positive = 128
    """Tokens of a row: the furthest that attention looks back."""
    dropout: BelowOne = 0.0
    """Share of what attention and MLP write that is dropped in training."""


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
    beta2=0.95,
    weight_decay=1.0,
    alpha=0.6,
    prior="exact",
)
"""What suits small language models."""


@dataclass(frozen=True)
class TextConfig:
    """Settings of `decouple q0 text`."""

    preset: Annotated[str, tyro.conf.Suppress] = "tiny"
    """The preset that these settings started from."""
    seed: Seed = 0
    """Decides everything but which documents go to train, validation, prior and test."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Arithmetic: float32 throughout, or bfloat16 under autocast."""
    compile: bool = False
    """Train a network compiled by torch.compile: a minute before the first step, faster ones after. Rounds otherwise."""
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    network: GptConfig = field(default_factory=GptConfig)
    q0: Q0Config = TEXT_Q0
