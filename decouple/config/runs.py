"""All settings of a command."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from decouple import registry
from decouple.config.base import NO_IDENTITY, BelowOne, Positive, Section, Seed, at_least, hints, inside
from decouple.config.images import LEARNED, PAPER, DataConfig, NamedNetwork, NetworkConfig
from decouple.config.q0 import TEXT_Q0, Q0Config
from decouple.config.search import SearchConfig
from decouple.config.training import CompareConfig, LearnConfig, RoundsConfig, SgdConfig


@dataclass(frozen=True)
class CommandConfig(Section):
    """What every command has."""

    preset: Annotated[str, NO_IDENTITY] = "digits"
    """The preset that these settings started from."""
    seed: Seed = 0
    """Seed of every random stream except the data splits (--data.seed, --corpus.seed)."""
    precision: Literal["float32", "bfloat16", "mixed"] = "float32"
    """Arithmetic: float32 throughout; bfloat16 for search and autocast training; mixed: bfloat16 only for search."""


@dataclass(frozen=True)
class RunConfig(CommandConfig):
    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    learn: LearnConfig = field(default_factory=LearnConfig)
    rounds: RoundsConfig = field(default_factory=RoundsConfig)
    sgd: SgdConfig = field(default_factory=SgdConfig)
    compare: CompareConfig = field(default_factory=CompareConfig)
    q0: Q0Config = field(default_factory=Q0Config)

    @property
    def code(self) -> dict[str, str]:
        """The addresses of the user's own code, by the settings that name it."""
        found = {"search.algorithm": self.search.algorithm} if registry.is_code(self.search.algorithm) else {}
        own: dict[str, NamedNetwork | DataConfig]
        own = {"search.network.name": self.search.network, "network.name": self.network, "data.name": self.data}
        return found | {setting: section.name for setting, section in own.items() if section.is_code}

    @property
    def network_to_search(self) -> NetworkConfig:
        """That of the network which is searched."""
        other = self.search.network
        if other.name == LEARNED:
            return self.network
        return replace(self.network, name=other.name, args=other.args, points=other.points)

    @property
    def baselines(self) -> list[int]:
        """ConvGroups a block of each SGD baseline; of a network that is not the paper's there is one baseline."""
        return sorted(set(self.sgd.groups)) if self.network.name == PAPER else [self.network.groups]

    @property
    def trajectories(self) -> int:
        """Of q0: as many as solutions, where `q0.trajectories` leaves it open."""
        return self.q0.trajectories or self.search.solutions

    @property
    def idle(self) -> list[str]:
        """Settings that decide nothing here: those of the paper's network, where it does not learn; where it is searched, which it
        is with one ConvGroup, all but those of the depth."""
        if self.network.name == PAPER:
            return []
        depth = ["network.groups", "sgd.groups"]
        own = [f"network.{name}" for name in hints(NetworkConfig) if name not in hints(NamedNetwork)]
        return depth if self.network_to_search.name == PAPER else list(dict.fromkeys([*own, *depth]))

    def _check(self) -> None:
        with inside("q0"):
            self.q0.check_members(self.trajectories)
        if self.compare.images > self.data.validation:
            self._refuse("compare.images", f"at most data.validation = {self.data.validation}, from which these images come")


@dataclass(frozen=True)
class CorpusConfig(Section):
    """A text file cut into documents, each of which goes to one part as a whole."""

    separator: str = "\n\n"
    """Separator between documents. In the token stream, an end-of-text token after each document replaces it."""
    vocabulary: Annotated[int, at_least(258, 2**31 - 1)] | None = None
    """Vocabulary size of byte-level BPE, including the end-of-text token, fitted on the training documents (needs the package
    tokenizers); none: every byte is a token."""
    train: Positive | None = None
    """Training text in bytes; None: all that the other parts leave. Parts end with the document that reaches their size."""
    validation: Positive = 40_000
    """Text to choose settings by, bytes."""
    prior: Positive = 40_000
    """Text that the learned prior is fitted on and that nothing else sees, bytes."""
    test: Positive = 60_000
    """Text of the reported figures, bytes."""
    seed: Seed = 0
    """Seed that assigns documents to splits. Separate from the run's seed, so that runs with different seeds share their data."""

    def _check(self) -> None:
        try:
            empty = not self.separator.encode()
        except UnicodeEncodeError:  # bytes of the command line that are no text
            self._refuse("separator", "text in UTF-8")
        if empty:
            self._refuse("separator", "what stands between two documents, such as a blank line")


@dataclass(frozen=True)
class GptConfig(Section):
    layers: Positive = 2
    """Number of transformer blocks."""
    width: Positive = 128
    """Channels of the residual stream; a multiple of twice `heads`."""
    heads: Positive = 2
    """Attention heads."""
    context: Positive = 128
    """Context length, in tokens."""
    dropout: BelowOne = 0.0
    """Dropout probability of the attention and MLP outputs."""

    def _check(self) -> None:
        if self.width % (2 * self.heads):
            self._refuse(
                "width", f"a multiple of {2 * self.heads}: each of the {self.heads} heads rotates pairs of channels"
            )


@dataclass(frozen=True)
class TextConfig(CommandConfig):
    """Settings of `decouple q0 text`."""

    preset: Annotated[str, NO_IDENTITY] = "tiny"
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Arithmetic: float32 throughout, or bfloat16 under autocast."""
    compile: bool = False
    """Compile the network with torch.compile: about a minute before the first step, then faster steps. Results differ by rounding."""
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    network: GptConfig = field(default_factory=GptConfig)
    q0: Q0Config = TEXT_Q0

    def _check(self) -> None:
        if self.q0.init != "random":
            self._refuse("q0.init", "random on text, where every trajectory is new")
        if self.q0.augment != "none":
            self._refuse("q0.augment", "none on text, which is not augmented")
        if self.q0.trajectories is None:
            self._refuse("q0.trajectories", "a number on text, where nothing is searched")
        with inside("q0"):
            self.q0.check_members(self.q0.trajectories)
