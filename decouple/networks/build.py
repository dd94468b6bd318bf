"""Networks by name: torchvision's, timm's, and what the user's own code builds."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from decouple import own_code
from decouple.config import NetworkConfig, RunConfig
from decouple.config.images import COLLECTIONS, PAPER
from decouple.errors import ConfigError, DecoupleError, NetworkError, did_you_mean, failure
from decouple.networks.paper import paper_network
from decouple.networks.points import proposed_points
from decouple.networks.stages import Stages
from decouple.seeds import derive
from decouple.torch_state import seeded, torch_defaults

Value = bool | int | float | str


def build_network(config: NetworkConfig, images: Tensor, classes: int, *, groups: int, seed: int) -> Stages:
    """A new network as the settings name it.

    Args:
        images: training images, to whose shape and scale it is fitted.
        classes: how many logits it gives.
        groups: of the paper's network: ConvGroups a block.
        seed: of the initialisation.

    Raises:
        ConfigError: no such network, or arguments that it does not take.
        NetworkError: it does not fit the images, or cannot be cut.
    """
    if config.name == PAPER:
        return paper_network(images, classes, config, groups=groups, seed=seed)
    shape = tuple(images.shape[1:])
    module = build_module(config.name, config.args, classes=classes, channels=shape[0], seed=seed)
    network = cut_module(module, config.points, shape)
    network.train_on(images)
    return network


def network_to_search(config: RunConfig, images: Tensor, classes: int, *, seed: int) -> Stages:
    """A new network for the search of a run; of the paper's with one ConvGroup a block. Its search points have the names of those
    of the network that learns.

    Args:
        images, classes, seed: as in `build_network`.

    Raises:
        ConfigError, NetworkError: as `build_network`; or the points of the two networks have other shapes.
    """
    searched = build_network(config.network_to_search, images, classes, groups=1, seed=seed)
    if config.network_to_search == config.network:
        return searched
    learned = build_network(config.network, images, classes, groups=config.network.groups, seed=seed)
    shapes = [network.shapes(images.shape[1:]) for network in (searched, learned)]
    if shapes[0] != shapes[1]:
        one, other = (
            ", ".join(f"{name} {'×'.join(map(str, shape))}" for name, shape in zip(network.names, own, strict=True))
            for network, own in zip((searched, learned), shapes, strict=True)
        )
        raise NetworkError(
            f"the network to search has the search points {one}, and the network that learns {other}: expected as many of the same "
            "shapes; choose them with --search.network.points and --network.points"
        )
    searched.names = learned.names
    return searched


@torch_defaults()
def build_module(name: str, args: Mapping[str, Value], *, classes: int, channels: int, seed: int) -> nn.Module:
    """A new network, without pretrained weights unless `args` ask for them.

    Args:
        name: as `NetworkConfig.name`; not the paper's.
        args: keyword arguments of the function or class that builds it. What it takes as `num_classes` or `in_chans` is the
            data's, unless given.
        classes: of the data.
        channels: of the data's images.
        seed: of the initialisation.

    Raises:
        ConfigError: no such network, or arguments that it does not take.
        NetworkError: what was built is no `nn.Module`.
    """
    build, takes = _builder(name)
    given = {"num_classes": classes, "in_chans": channels}
    options = {key: value for key, value in given.items() if key in takes} | dict(args)
    with seeded(derive(seed, "network")):
        try:
            module = build(**options)
        except DecoupleError:
            raise
        except Exception as error:  # whatever another's code raises on arguments
            shown = ", ".join(f"{key}={value!r}" for key, value in options.items())
            raise ConfigError(
                f"network = {name} cannot be built with {shown or 'no arguments'} ({failure(error)}): expected what it takes in "
                "network.args"
            ) from error
    if not isinstance(module, nn.Module):
        raise NetworkError(f"network = {name}: the function must return an nn.Module, not {type(module).__name__}")
    return module


def cut_module(module: nn.Module, points: Sequence[str], image_shape: Sequence[int]) -> Stages:
    """The network cut at `points`, or where `cut_points` proposes if there are none; one that is cut already as it is.
    Raises NetworkError: see `Stages.from_module`."""
    if isinstance(module, Stages):
        return module
    if len(points) == 1:
        raise NetworkError(f"search points {list(points)}: expected at least one layer before the output, and the output")
    points = list(points) or proposed_points(module, image_shape)
    if len(points) < 2:
        raise NetworkError(
            f"{type(module).__name__} cannot be searched: no single layer before its output determines the logits (see 'decouple "
            "points NETWORK'); where its forward computes such values itself, as the last state of an LSTM, let an nn.Identity() of "
            "the network return them"
        )
    return Stages.from_module(module, points)


def _builder(name: str) -> tuple[Callable[..., Any], set[str]]:
    """What builds the network, and those of its arguments that the data decide."""
    known = {"num_classes", "in_chans"}
    if name.startswith(COLLECTIONS[0]):
        from torchvision import models

        short = name.removeprefix(COLLECTIONS[0])
        if short not in (names := models.list_models(models)):
            raise ConfigError(f"torchvision has no network '{short}'{did_you_mean(short, names)}")
        return models.get_model_builder(short), {"num_classes"}
    if name.startswith(COLLECTIONS[1]):
        try:
            import timm
        except ImportError:
            raise ConfigError(f"network = {name} needs the package timm; install it with pip install timm") from None
        short = name.removeprefix(COLLECTIONS[1])
        if not timm.is_model(short):
            raise ConfigError(f"timm has no network '{short}'{did_you_mean(short, timm.list_models())}")
        return lambda **options: timm.create_model(short, **options), known
    build = own_code.load(name, "network")
    if not callable(build):
        raise ConfigError(f"network = {name} must be a function that returns an nn.Module, not {type(build).__name__}")
    return build, known & set(inspect.signature(build).parameters)
