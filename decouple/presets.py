"""The presets: complete settings for a data set and a machine, each with a line on what it is for."""

from __future__ import annotations

from dataclasses import replace

from decouple.config import (
    TEXT_Q0,
    CompareConfig,
    CorpusConfig,
    DataConfig,
    EsConfig,
    GptConfig,
    LearnConfig,
    LiveConfig,
    NetworkConfig,
    PaperConfig,
    Q0Config,
    RunConfig,
    SearchConfig,
    SgdConfig,
    TextConfig,
)
from decouple.errors import ConfigError, did_you_mean

_PAPER_TRAINING = {
    "batch": 2000,
    "lr": 4.0,
    "optimizer": "airbench",
    "momentum": 0.85,
    "clip": 1.0,
    "shuffle": "fixed",
}

_ALPHA = {"block0": 0.3, "block1": 0.2, "blocks": 0.1, "logits": 0.1}


def _paper(
    name: str, *, alpha: float | dict[str, float], groups: int, epochs: int, augment: str, eps: float, weight_decay: float
) -> RunConfig:
    """The paper's settings; what the paper leaves open is in decouple/search/README.md ("Fidelity to the paper")."""
    training = {**_PAPER_TRAINING, "epochs": epochs, "augment": augment, "weight_decay": weight_decay}
    return RunConfig(
        preset=name,
        precision="bfloat16",
        data=DataConfig(name=name, validation=4000, prior=1000),
        network=NetworkConfig(width=256, groups=groups, eps=eps, statistics="batch"),
        search=SearchConfig(
            algorithm="paper", points="all", solutions=1, batch=64, paper=PaperConfig(alpha=alpha, smoothing="noise")
        ),
        learn=LearnConfig(
            **training,  # type: ignore[arg-type]
            target_weight=1.0,
            kl_weight=0.03,
            supervise="skip-first" if augment != "none" else "all",
            live=LiveConfig(weight=0.0),
        ),
        sgd=SgdConfig(**training, groups=(1, 2, 3)),  # type: ignore[arg-type]
        compare=CompareConfig(images=500),
        q0=Q0Config(cycles=8, epochs=8, batch=500, alpha=0.45, lr_floor=0.08),
    )


def _small(name: str) -> RunConfig:
    """10,000 images and 32 channels: minutes on two cores."""
    return RunConfig(
        preset=f"{name}-small",
        precision="mixed",
        data=DataConfig(name=name, train=10_000, validation=1000, prior=1000),
        network=NetworkConfig(width=32, groups=1),
        search=SearchConfig(solutions=2, batch=125, es=EsConfig(population=32)),
        learn=LearnConfig(epochs=20),
        sgd=SgdConfig(epochs=20, lr=0.1),
        compare=CompareConfig(images=250),
        q0=Q0Config(cycles=3, epochs=2),
    )


_PRESETS: dict[str, tuple[str, RunConfig]] = {
    "digits": ("scikit-learn's 8×8 digits; nothing to download, half a minute on two cores", RunConfig()),
    "mnist-small": ("MNIST, 10,000 images, 32 channels: minutes on two cores", _small("mnist")),
    "cifar10-small": ("CIFAR-10, 10,000 images, 32 channels: minutes on two cores", _small("cifar10")),
    "mnist": (
        "the paper's MNIST: genetic algorithm, 256 channels, 1000 epochs; for a GPU",
        _paper("mnist", alpha=0.1, groups=2, epochs=1000, augment="none", eps=1e-2, weight_decay=0.0153),
    ),
    "cifar10": (
        "the paper's CIFAR-10: genetic algorithm, 256 channels, 90 epochs, augmented; for a GPU",
        _paper("cifar10", alpha=_ALPHA, groups=3, epochs=90, augment="flip-crop", eps=1e-5, weight_decay=1e-3),
    ),
    "cifar100": (
        "the paper's CIFAR-100: genetic algorithm, 256 channels, 90 epochs, augmented; for a GPU",
        _paper("cifar100", alpha=_ALPHA, groups=3, epochs=90, augment="flip-crop", eps=1e-5, weight_decay=1e-3),
    ),
}

PRESETS: dict[str, str] = {name: line for name, (line, _) in _PRESETS.items()}
"""What each preset is for."""


def preset(name: str) -> RunConfig:
    """The settings called `name`.

    >>> preset("digits").data.name
    'digits'

    Raises:
        ConfigError: there is no such preset.
    """
    if name not in _PRESETS:
        raise ConfigError(f"there is no preset '{name}'{did_you_mean(name, _PRESETS)}; 'decouple presets' lists them")
    return replace(_PRESETS[name][1], preset=name)


_TEXT_PRESETS: dict[str, tuple[str, TextConfig]] = {
    "tiny": ("50 kB of text and 0.5M parameters: minutes on two cores", TextConfig(corpus=CorpusConfig(train=50_000))),
    "paper": (
        "the paper's scale: 100M tokens of bpe, 1.3B parameters, 5 trajectories of 96 cycles; for GPUs under torchrun",
        TextConfig(
            compile=True,
            corpus=CorpusConfig(
                separator="<|endoftext|>", vocabulary=50_257, validation=5_000_000, prior=600_000, test=40_000_000
            ),
            network=GptConfig(layers=30, width=1792, heads=14, context=2048, dropout=0.1),
            q0=replace(
                TEXT_Q0,
                trajectories=5,
                cycles=96,
                first_epochs=2,
                epochs=2,
                batch=256,
                batch_edges=0.75,
                restart="continue",
                lr_floor=0.08,
                alpha=0.45,
                distill_after=8,
                perturb=0.25,
                members=256,
                prior="softmax",
            ),
        ),
    ),
}

TEXT_PRESETS: dict[str, str] = {name: line for name, (line, _) in _TEXT_PRESETS.items()}
"""What each preset of `decouple q0 text` is for."""


def text_preset(name: str) -> TextConfig:
    """The settings of `decouple q0 text` called `name`.

    >>> text_preset("tiny").corpus.train
    50000

    Raises:
        ConfigError: there is no such preset.
    """
    if name not in _TEXT_PRESETS:
        raise ConfigError(f"there is no text preset '{name}'{did_you_mean(name, _TEXT_PRESETS)}")
    return replace(_TEXT_PRESETS[name][1], preset=name)
