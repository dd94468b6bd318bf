"""Cut any `nn.Module` at named layers by tracing it with torch.fx."""

from __future__ import annotations

from collections.abc import Sequence

import torch.fx
from torch import nn
from torchvision.models.feature_extraction import NodePathTracer

from decouple.errors import NetworkError, did_you_mean


def cut(module: nn.Module, points: Sequence[str]) -> list[nn.Module]:
    """The parts of `module` between the outputs of the layers called `points`.

    A cut is possible where one value carries everything that later layers need. The parts share the module's
    parameters.

    Raises:
        NetworkError: see `Stages.from_module`.
    """
    if not points:
        raise NetworkError("give at least one layer name to cut at, and the output layer last")
    graph, layer_of = _trace(module)
    ends = [_last_node(graph, layer_of, point) for point in points]
    nodes = list(graph.nodes)
    order = {node: i for i, node in enumerate(nodes)}
    if [order[end] for end in ends] != sorted({order[end] for end in ends}):
        raise NetworkError(f"search points {list(points)} must be given in the order of the network, each once")
    output = next(node for node in nodes if node.op == "output")
    inputs = [node for node in nodes if node.op == "placeholder"]
    if len(inputs) != 1:
        raise NetworkError(f"only networks with one input can be cut; this one has {[node.name for node in inputs]}")
    if output.args[0] is not ends[-1]:
        raise NetworkError(
            f"the last search point must be the network's output '{layer_of.get(output.args[0], output.args[0])}', "
            f"not '{points[-1]}'"
        )
    parts: list[nn.Module] = []
    begin = inputs[0]
    for point, end in zip(points, ends, strict=True):
        parts.append(_part(module, nodes, order, begin, end, point, layer_of))
        begin = end
    return parts


def _trace(module: nn.Module) -> tuple[torch.fx.Graph, dict[torch.fx.Node, str]]:
    tracer = NodePathTracer()
    try:
        graph = tracer.trace(module)
    except Exception as error:  # torch.fx raises whatever the module's own code raises on a symbolic value
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise NetworkError(
            f"{type(module).__name__} cannot be traced, so it cannot be cut by layer names ({reason}); write its parts "
            "as an nn.Sequential and use Stages.from_sequential, or pass them to Stages"
        ) from error
    return graph, {node: path for node, path in tracer.node_to_qualname.items() if path}


def _last_node(graph: torch.fx.Graph, layer_of: dict[torch.fx.Node, str], point: str) -> torch.fx.Node:
    """The node that yields the output of layer `point`: the last traced inside of it."""
    inside = [n for n in graph.nodes if layer_of.get(n) == point or layer_of.get(n, "").startswith(point + ".")]
    if not inside:
        parents = {".".join(path.split(".")[:depth]) for path in layer_of.values() for depth in range(1, 9)}
        raise NetworkError(f"the network has no layer '{point}'{did_you_mean(point, parents)}")
    return inside[-1]


def _part(
    module: nn.Module,
    nodes: list[torch.fx.Node],
    order: dict[torch.fx.Node, int],
    begin: torch.fx.Node,
    end: torch.fx.Node,
    point: str,
    layer_of: dict[torch.fx.Node, str],
) -> nn.Module:
    graph = torch.fx.Graph()
    copies = {begin: graph.placeholder("values")}
    needed = _ancestors(end, begin)
    for node in nodes:
        if node not in needed:
            continue
        if order[node] < order[begin] and node.op != "get_attr":
            raise NetworkError(
                f"the network cannot be cut at '{layer_of.get(begin, begin.name)}': '{point}' also needs "
                f"'{layer_of.get(node, node.name)}', which is computed before it (a connection skips the cut)"
            )
        copies[node] = graph.node_copy(node, lambda old: copies[old])
    graph.output(copies[end])
    graph.lint()
    return torch.fx.GraphModule(module, graph)


def _ancestors(end: torch.fx.Node, begin: torch.fx.Node) -> set[torch.fx.Node]:
    """What `end` is computed from, back to `begin` (left out)."""
    found: set[torch.fx.Node] = set()
    waiting = [end]
    while waiting:
        node = waiting.pop()
        if node is not begin and node not in found:
            found.add(node)
            waiting.extend(node.all_input_nodes)
    return found
