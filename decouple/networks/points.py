"""Where a network can be cut into search points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby, pairwise, takewhile
from typing import NamedTuple

import torch
from torch import Tensor, nn

from decouple.errors import expect
from decouple.networks.cutting import Trace, trace
from decouple.networks.stages import taking
from decouple.torch_state import device_of, evaluated

BLOCKS = 4
"""Points proposed before the logits, at most."""


class CutPoint(NamedTuple):
    """A layer after which a network can be cut."""

    name: str
    shape: tuple[int, ...]
    """Shape of the layer's output for one sample."""
    parameters: int
    """Number of parameters between the preceding cut point and this one."""
    proposed: bool
    """Whether it is proposed as a search point."""


def cut_points(network: nn.Module, image_shape: Sequence[int]) -> list[CutPoint]:
    """Every layer whose output alone determines everything after it, from input to output; the last one is the network's output.

    The proposed points are the output and, for each of the last four sizes of feature maps (widths of vectors) that layers with
    parameters produce, the last of the least nested layers. A network with a single size gets up to four evenly spaced layers. If
    pooling or another layer without parameters shrinks the last of these, its output is proposed instead: fewer values are searched
    better and learned sooner.

    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
    >>> [(point.name, point.shape, point.proposed) for point in cut_points(net, (1, 4, 4))]
    [('0', (4, 2, 2), False), ('1', (4, 2, 2), True), ('2', (16,), False), ('3', (3,), True)]

    Args:
        image_shape: (C, H, W) or (D,) of one input.

    Raises:
        NetworkError: the network cannot be traced (see `Stages.from_module`), or does not take such inputs.
    """
    expect(network, nn.Module, "network")
    traced = trace(network, training=False)
    outputs = _outputs(network, traced.cut_points(), image_shape)
    names = [name for name in traced.cut_points() if name in outputs]
    shapes = [tuple(outputs[name].shape[1:]) for name in names]
    sizes = _parameters_between(network, traced, names)
    idle = [False, *(_same(outputs[one], outputs[other]) for one, other in pairwise(names))]
    chosen = _proposed(names, shapes, sizes, idle)
    return [CutPoint(*row) for row in zip(names, shapes, sizes, chosen, strict=True)]


def proposed_points(network: nn.Module, image_shape: Sequence[int]) -> list[str]:
    """The names of the points that `cut_points` proposes."""
    return [point.name for point in cut_points(network, image_shape) if point.proposed]


def _outputs(network: nn.Module, names: Sequence[str], image_shape: Sequence[int]) -> dict[str, Tensor]:
    """What the layers and operations give for two samples; an operation can only be the last one, the network's output."""
    outputs: dict[str, Tensor] = {}
    layers = dict(network.named_modules())

    def note(name: str) -> None:
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, Tensor):  # not an output and a state, as of an LSTM
                outputs[name] = output.clone()  # the next layer may work in place

        hooks.append(layers[name].register_forward_hook(hook))

    hooks: list[torch.utils.hooks.RemovableHandle] = []
    images = torch.rand(2, *image_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32, device="cpu")
    try:
        for name in names:
            if name in layers:
                note(name)
        with torch.no_grad(), evaluated(network), torch.random.fork_rng(devices=[]), taking(network, images.shape):
            outputs[names[-1]] = network(images.to(device_of(network)))
    finally:
        for hook in hooks:
            hook.remove()
    return outputs


def _parameters_between(network: nn.Module, traced: Trace, names: Sequence[str]) -> list[int]:
    """Parameters of what runs after each cut point's predecessor, up to it; one that is used again counts once."""
    ends = [traced.end(name)[1] for name in names]
    known: set[int] = set()
    sizes = []
    for first, last in pairwise([0, *ends]):
        size = 0
        for node in list(traced.graph.nodes)[first:last]:
            if node.op == "call_module":
                own = list(network.get_submodule(str(node.target)).parameters())
            elif node.op == "get_attr":
                path, _, attribute = str(node.target).rpartition(".")
                value = getattr(network.get_submodule(path), attribute)
                own = [value] if isinstance(value, nn.Parameter) else []
            else:
                own = []
            size += sum(p.numel() for p in own if id(p) not in known)
            known |= {id(p) for p in own}
        sizes.append(size)
    return sizes


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether a layer gave what the one before it gave, as dropout in evaluation mode and flattening do."""
    return one.numel() == other.numel() and torch.equal(one.flatten(), other.flatten())


def _proposed(
    names: Sequence[str], shapes: Sequence[tuple[int, ...]], sizes: Sequence[int], idle: Sequence[bool]
) -> list[bool]:
    """Of each size of maps (of vectors: each width) that parameters lead to, the last point that is nested least, `BLOCKS` of them,
    the last one after pooling; and the output."""
    last = len(names) - 1
    kinds = [shape[1:] if len(shape) == 3 else shape for shape in shapes]
    depths = [name.count(".") for name in names]
    groups = [list(group) for _, group in groupby(range(last), key=kinds.__getitem__)]
    if len(groups) == 1:
        enough = sorted(depths[:last])[min(BLOCKS, last) - 1]
        grown = _learned([i for i in groups[0] if depths[i] <= enough], sizes)
        blocks = [grown[len(grown) * (k + 1) // BLOCKS - 1] for k in range(BLOCKS)] if len(grown) > BLOCKS else grown
    else:
        grown_groups = [group for group in groups if any(sizes[i] for i in group)]
        blocks = [max(group, key=lambda i: (not idle[i], -depths[i], i)) for group in grown_groups][-BLOCKS:]
    if blocks:
        unchanged = takewhile(lambda place: not sizes[place], range(blocks[-1] + 1, last))
        blocks[-1] = min([blocks[-1], *unchanged], key=lambda place: math.prod(shapes[place]))
    chosen = {*(blocks or [last - 1] * (last > 0)), last}
    return [i in chosen for i in range(len(names))]


def _learned(places: Sequence[int], sizes: Sequence[int]) -> list[int]:
    """Those of the places to which parameters lead from the one before."""
    return [place for before, place in pairwise([-1, *places]) if sum(sizes[before + 1 : place + 1]) > 0]
