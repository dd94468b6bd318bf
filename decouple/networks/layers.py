"""Finds the layers of a network by every name that they go by."""

from __future__ import annotations

from torch import nn

from decouple.errors import NetworkError, did_you_mean
from decouple.networks.cutting import CutStage
from decouple.networks.stages import Stages


def find_layer(network: nn.Module, name: str) -> nn.Module:
    """The layer of `network` called `name`: the module whose output the name stands for.

    A name is a path, as in `network.named_modules()`, where the steps into torch.compile's and DataParallel's wrappers may be left
    out; the name of a search point of `Stages`; or, in a network cut by `Stages.from_module`, a layer's path in the network
    that was cut.

    >>> net = Stages.from_sequential(nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), [2, 3])
    >>> find_layer(net, "2") is find_layer(net, "stages.0"), find_layer(net, "stages.0.1")
    (True, Linear(in_features=4, out_features=8, bias=True))

    Raises:
        NetworkError: there is none (near names are given), or a search point and another module are both called so.
    """
    modules, points, traced = _named(network)
    module, point = modules.get(name), points.get(name)
    if module is not None and point is not None and module is not point:
        path = next(path for path, other in modules.items() if other is point)
        raise NetworkError(f"'{name}' is both a search point and a module of the network: the search point is '{path}' too")
    for found in (module, point, traced.get(name)):
        if found is not None:
            return found
    if inside := [path for path in traced if path.startswith(f"{name}.")]:
        raise NetworkError(
            f"'{name}' does not run as one layer of a network that was cut: cut it there too, or name a layer inside, such as "
            f"'{inside[-1]}'"
        )
    known = {path for path, other in modules.items() if path and not isinstance(other, (nn.ModuleList, nn.ModuleDict))}
    known -= {
        path for path in known if any(modules[path] is point for point in points.values())
    }  # 'stages.3' is no 'stage3'
    raise NetworkError(f"the network has no layer '{name}'{did_you_mean(name, {*known, *points, *traced})}")


def unwrapped(network: nn.Module) -> nn.Module:
    """The network inside torch.compile's, DataParallel's and DistributedDataParallel's wrappers, if it has any."""
    for name, child in network.named_children():
        if _is_wrapped(network, name):
            return unwrapped(child)
    return network


def _named(network: nn.Module) -> tuple[dict[str, nn.Module], dict[str, nn.Module], dict[str, nn.Module]]:
    """Modules by path, search points by name, and the layers of networks that were traced by their path there."""
    paths: dict[str, nn.Module] = {}
    short: dict[str, str] = {}
    points: dict[str, nn.Module] = {}
    traced: dict[str, nn.Module] = {}
    for path, module in network.named_modules(remove_duplicate=False):  # a tied layer has several paths
        parent, _, last = path.rpartition(".")
        wrapped = path and _is_wrapped(paths[parent], last)
        paths[path] = module
        short[path] = short[parent] if wrapped else _join(short.get(parent, ""), last)
        if isinstance(module, Stages):
            points |= {_join(short[path], name): stage for name, stage in zip(module.names, module, strict=True)}
            for part in module.modules():
                if isinstance(part, CutStage):
                    called = part.called()
                    traced |= {_join(short[path], target): part.get_submodule(target) for target in called}
    modules = {short[path]: module for path, module in reversed(paths.items())} | paths | {"": unwrapped(network)}
    return modules, points, traced


def _join(parent: str, name: str) -> str:
    return f"{parent}.{name}" if parent else name


def _is_wrapped(parent: nn.Module, name: str) -> bool:
    """Whether a child is the network that its parent wraps."""
    return name == "_orig_mod" or (
        name == "module" and isinstance(parent, (nn.DataParallel, nn.parallel.DistributedDataParallel))
    )
