"""Cut any `nn.Module` at named layers by tracing it with torch.fx.

A trace keeps only what depends on the input. Everything else that `forward` decides in Python is decided once, when the
module is traced. So a module is traced in training and in evaluation mode, and refused if its `forward` draws random
numbers, changes its own state or turns gradients or autocast on or off on the way.
"""

from __future__ import annotations

import copy
import inspect
import pickle
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch.fx
from torch import Tensor, nn
from torchvision.models.feature_extraction import NodePathTracer

from decouple.errors import NetworkError, did_you_mean, first_line
from decouple.torch_state import in_mode, plain_torch, switches


class CutStage(nn.Module):
    """What lies between two search points of a module that was cut. It follows its own `training` flag.

    Parameters and submodules are those of the module, under the same names.
    """

    def __init__(self, module: nn.Module, graphs: dict[bool, torch.fx.Graph], unmoved: dict[bool, list[str]]) -> None:
        super().__init__()
        self.training = module.training
        for graph in graphs.values():
            for node in graph.nodes:
                if node.op in ("call_module", "get_attr"):
                    _adopt(self, module, str(node.target))
        self._graphs = graphs
        """By `training`."""
        known = {path for path, _ in self.named_modules()}
        self._unmoved = {mode: [path for path in paths if path in known] for mode, paths in unmoved.items()}
        """By `training`: what a `train` of the module's own leaves in the other mode, such as frozen BatchNorm."""
        self._compile()

    def _compile(self) -> None:
        self._code: dict[bool, tuple[str, dict[str, Any]]] = {}
        """By `training`: the text of the function that is run, and what its names stand for."""
        self._forward: dict[bool, Callable[[nn.Module, Tensor], Tensor]] = {}
        for mode, graph in self._graphs.items():
            code = graph.python_code("self")
            self._code[mode] = code.src, dict(code.globals)
            scope = dict(code.globals)
            exec(code.src, scope)
            self._forward[mode] = scope["forward"]

    def called(self) -> list[str]:
        """Paths of the layers that it calls in evaluation mode."""
        return [str(node.target) for node in self._graphs[False].nodes if node.op == "call_module"]

    def functions(self) -> list[Any]:
        """What its code calls beside its layers."""
        return [value for _, scope in self._code.values() for value in scope.values()]

    def train(self, mode: bool = True) -> CutStage:
        """As on the module."""
        super().train(mode)
        for path in self._unmoved[mode]:
            self.get_submodule(path).training = not mode
        return self

    def forward(self, values: Tensor) -> Tensor:
        return self._forward[self.training](self, values)

    def __deepcopy__(self, memo: dict[int, Any]) -> CutStage:
        """A copy with parameters of its own; the code is shared."""
        part = type(self).__new__(type(self))
        memo[id(self)] = part
        shared = ("_graphs", "_code", "_forward")
        part.__dict__ = {name: value if name in shared else copy.deepcopy(value, memo) for name, value in vars(self).items()}
        return part

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_code", "_forward")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._compile()


def cut(module: nn.Module, points: Sequence[str]) -> list[CutStage]:
    """The parts of `module` between the outputs of the layers called `points`.

    A cut is possible where one value carries everything that later layers need. The parts share the module's
    parameters, and compute what it computes in either mode.

    Raises:
        NetworkError: see `Stages.from_module`.
    """
    if not points:
        raise NetworkError("give at least one layer name to cut at, and the output layer last")
    if len(set(points)) != len(points):
        raise NetworkError(f"search points {list(points)} must be given in the order of the network, each once")
    refuse_hooks(module)
    with _unchanged(module), plain_torch():
        traces = {mode: trace(module, mode) for mode in (True, False)}
        graphs = [_graphs(trace, points) for trace in traces.values()]
        unmoved = {mode: trace.unmoved for mode, trace in traces.items()}
        return [CutStage(module, dict(zip(traces, each, strict=True)), unmoved) for each in zip(*graphs, strict=True)]


def refuse_hooks(module: nn.Module) -> None:
    """Raise NetworkError: it has forward hooks, which its parts would not have."""
    if module._forward_hooks or module._forward_pre_hooks:
        raise NetworkError(
            f"{type(module).__name__} has forward hooks, which would be lost when it is cut; remove them first"
        )


@contextmanager
def _unchanged(module: nn.Module) -> Iterator[None]:
    """Attributes of `module` and its parts are afterwards as they were: torch.fx keeps tensors that `forward` makes there, and
    `forward` may keep symbolic values."""
    states = [vars(part) for part in module.modules()]
    held = [found for state in states for found in (*state.values(), state) if isinstance(found, (dict, list, set))]
    before = [copy.copy(found) for found in held]
    try:
        yield
    finally:
        for found, contents in zip(held, before, strict=True):
            found.clear()
            (found.extend if isinstance(found, list) else found.update)(contents)


class _Tracer(NodePathTracer):
    """Notes what each layer returns."""

    proxy_buffer_attributes = True
    """Else what `forward` computes from buffers alone would be computed once."""

    def __init__(self) -> None:
        super().__init__()
        self.switches = switches()
        self.outputs: dict[str, list[tuple[Any, int]]] = {}
        """By path: what each call of the module returned, and how many nodes there were then."""

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:
        """The input alone is symbolic: optional arguments of `forward` keep their defaults."""
        return self.root.forward, [self.create_proxy("placeholder", "values", (), {})]

    def create_node(self, *args: Any, **options: Any) -> torch.fx.Node:
        """Refuse what is computed under a switch of torch's: it is no part of a graph."""
        if switches() != self.switches:
            raise ValueError(
                "its forward switches gradients or autocast on or off, as torch.no_grad and custom autograd functions do; use "
                "detach() or requires_grad_(False) to stop gradients"
            )
        return super().create_node(*args, **options)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        found = super().call_module(m, forward, args, kwargs)
        self.outputs.setdefault(self.path_of_module(m), []).append((found, len(self.graph.nodes)))
        return found


@dataclass
class Trace:
    """A traced module: its graph, and where its layers end."""

    graph: torch.fx.Graph
    layer_of: dict[torch.fx.Node, str]
    outputs: dict[str, list[tuple[Any, int]]]
    unmoved: list[str]
    """Paths of the parts that were not in the mode of the trace."""
    order: dict[torch.fx.Node, int] = field(init=False)

    def __post_init__(self) -> None:
        self.order = {node: i for i, node in enumerate(self.graph.nodes)}

    def end(self, point: str) -> tuple[torch.fx.Node, int]:
        """The node that yields the output of layer `point`, and the number of nodes up to where the layer returns it."""
        calls = self.outputs.get(point, [])
        named = [node for node, name in self.layer_of.items() if name == point]
        if named:  # a layer or operation; the further calls of one have names of their own, such as relu_1
            return named[0], self.order[named[0]] + 1
        if not calls:
            paths = {path for node, path in self.layer_of.items() if node.op != "placeholder"}
            known = {".".join(path.split(".")[:depth]) for path in paths for depth in range(1, 9)}
            hint = did_you_mean(point, known) or "; 'decouple points' lists where it can be cut"
            raise NetworkError(f"the network has no layer '{point}'{hint}")
        if len(calls) > 1:
            raise NetworkError(
                f"layer '{point}' runs {len(calls)} times in a forward pass: expected once; name the layer around it, or one inside"
            )
        found, count = calls[0]
        if not isinstance(found, torch.fx.Proxy):
            raise NetworkError(f"layer '{point}' returns a {type(found).__name__}: expected one tensor; name another layer")
        return found.node, count

    def cut_points(self) -> list[str]:
        """The layers whose output alone decides all that follows, from input to output; the longest layer of those that end alike."""
        output = next(node for node in self.graph.nodes if node.op == "output")
        needed = _ancestors(output, output)
        needed |= _ancestors(output.args[0], output)
        spans = [(self.order[a], self.order[b]) for b in needed for a in b.all_input_nodes if a.op != "get_attr"]
        found: dict[torch.fx.Node, str] = {}
        for path, calls in self.outputs.items():
            if path and len(calls) == 1 and isinstance(calls[0][0], torch.fx.Proxy):
                node = calls[0][0].node
                place = self.order[node]
                if node in needed and not any(a < place < b for a, b in spans):
                    found[node] = min(path, found.get(node, path), key=len)
        found.setdefault(output.args[0], self.name(output.args[0]))
        return [found[node] for node in sorted(found, key=self.order.__getitem__)]

    def name(self, node: torch.fx.Node) -> str:
        return self.layer_of.get(node, node.name)


def trace(module: nn.Module, training: bool) -> Trace:
    name = type(module).__name__
    try:
        inspect.signature(module.forward).bind(None)
    except TypeError:
        raise NetworkError(
            f"only networks with one input can be cut, and {name}.forward takes {inspect.signature(module.forward)}; give the "
            "other arguments defaults"
        ) from None
    tracer = _Tracer()
    with _draws_kept(), in_mode(module, training=training):
        unmoved = [path for path, part in module.named_modules() if part.training != training]
        before = _mutable_state(module)
        try:
            graph = tracer.trace(module)
        except Exception as error:  # torch.fx raises whatever the module's own code raises on a symbolic value
            reason = first_line(error)
            raise NetworkError(
                f"{name} cannot be traced, so it cannot be cut by layer names ({reason}); write its parts as an nn.Sequential "
                "and use Stages.from_sequential, or pass them to Stages"
            ) from error
        after = _mutable_state(module)
    if changed := next((what for what in before if before[what] != after.get(what)), None):
        raise NetworkError(
            f"{name}.forward {changed} whatever its input is, and a cut network would do so only once; write its parts as an "
            "nn.Sequential and use Stages.from_sequential, or pass them to Stages"
        )
    result = next(node for node in graph.nodes if node.op == "output").args[0]
    if not isinstance(result, torch.fx.Node):
        raise NetworkError(
            f"{name} returns a {type(result).__name__}: expected one tensor of logits; wrap it to return only them"
        )
    return Trace(graph, {node: path for node, path in tracer.node_to_qualname.items() if path}, tracer.outputs, unmoved)


@contextmanager
def _draws_kept() -> Iterator[None]:
    """What is drawn inside from the global generators leaves them as they were."""
    draws, numpy_draws = random.getstate(), np.random.get_state()  # noqa: NPY002 (a user's forward may use it)
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(draws)
            np.random.set_state(numpy_draws)  # noqa: NPY002


def _mutable_state(module: nn.Module) -> dict[str, Any]:
    """By what `forward` would have done to it: whatever a trace would leave out if it changed."""
    numpy: Any = np.random.get_state()  # noqa: NPY002
    generators = [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [])]
    state: dict[str, Any] = {
        "draws torch's random numbers": [generator.tolist() for generator in generators],
        "draws Python's random numbers": random.getstate(),
        "draws numpy's random numbers": (numpy[1].tolist(), numpy[2]),
    }
    for path, part in module.named_modules():
        for name, value in vars(part).items():
            if isinstance(value, (bool, int, float, str, tuple, type(None))) and not name.startswith("_"):
                state[f"changes its attribute {'.'.join(filter(None, (path, name)))}"] = value
            elif isinstance(value, (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)):
                kept = value.get_state().tolist() if isinstance(value, torch.Generator) else pickle.dumps(value)
                state[f"draws from its generator {'.'.join(filter(None, (path, name)))}"] = kept
    for name, value in module.state_dict(keep_vars=True).items():
        if isinstance(value, Tensor) and not value.is_inference():
            state[f"changes its tensor {name}"] = value._version
    return state


def _graphs(trace: Trace, points: Sequence[str]) -> list[torch.fx.Graph]:
    """The traced module between the points, one graph each."""
    found = [trace.end(point) for point in points]
    ends, counts = [node for node, _ in found], [count for _, count in found]
    if counts != sorted(counts):
        raise NetworkError(f"search points {list(points)} must be given in the order of the network, each once")
    output = next(node for node in trace.graph.nodes if node.op == "output").args[0]
    if output is not ends[-1]:
        raise NetworkError(f"the last search point must be the network's output '{trace.name(output)}', not '{points[-1]}'")
    begins = [next(node for node in trace.graph.nodes if node.op == "placeholder"), *ends[:-1]]
    spans = [range(*span) for span in zip([0, *counts[:-1]], [*counts[:-1], len(trace.order)], strict=True)]
    return [_between(trace, *each) for each in zip(begins, ends, points, spans, strict=True)]


def _between(trace: Trace, begin: torch.fx.Node, end: torch.fx.Node, point: str, span: range) -> torch.fx.Graph:
    """What the module computes from `begin` to `end`: all nodes of `span`, also those that only act in place or draw random
    numbers, and those that `end` needs besides."""
    order = trace.order
    graph = torch.fx.Graph()
    copies = {begin: graph.placeholder("values")}
    needed = _ancestors(end, begin)
    for node in trace.graph.nodes:
        if node in needed:
            if order[node] < order[begin] and node.op != "get_attr":
                raise NetworkError(
                    f"the network cannot be cut at '{trace.name(begin)}': '{point}' also needs '{trace.name(node)}', which is "
                    "computed before it (a connection skips the cut)"
                )
        elif (
            order[node] not in span or node.op in ("placeholder", "output") or not copies.keys() >= set(node.all_input_nodes)
        ):
            continue
        copies[node] = graph.node_copy(node, lambda old: copies[old])
    graph.output(copies[end])
    graph.lint()
    return graph


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


def _adopt(part: nn.Module, module: nn.Module, target: str) -> None:
    """Give `part` what `module` holds at the path `target`."""
    *path, name = target.split(".")
    for step in path:
        module = getattr(module, step)
        if not hasattr(part, step):
            part.add_module(step, nn.Module())
        part = getattr(part, step)
    if hasattr(part, name):
        return
    value = getattr(module, name)
    if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
        part.register_buffer(name, value, persistent=name not in module._non_persistent_buffers_set)
    else:
        setattr(part, name, value)
