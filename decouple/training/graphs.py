"""Training steps on a GPU as CUDA graphs.

A step of a small network is hundreds of kernels, each of which takes longer to launch than to run. A graph launches all of them at
once. It is captured from the step itself, so the kernels, their order and what they give are those of the step, to the last bit.

Only what is known to be nothing but operations on tensors is captured: a graph would not run again what else Python does in a step.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from decouple.seeds import derive
from decouple.training.objectives import Capturable, Objective, Remembering
from decouple.training.stream import Batch, Streams

Gradient = Callable[[Batch], tuple[Tensor, Tensor]]
"""Leaves the gradient of a batch in the weights; returns the loss and the gradient's norm."""

SETTLING = 8
"""Steps within which one, but not the first, must wait for nothing; else the network is one that waits at every step."""

_KNOWN = ("torch.nn.modules.", "torchvision.", "decouple.")
"""Where layers are from that do nothing beside operations on tensors."""


class _Captured(NamedTuple):
    """A graph, and the tensors that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    batch: Batch
    gradients: list[Tensor | None]
    loss: Tensor
    norm: Tensor


@dataclass
class Graphs:
    """The graphs of a training, one for each shape that its batches have."""

    parameters: list[nn.Parameter]
    memory: Remembering | None = None
    """The objective, if it carries something from step to step."""
    captured: dict[Hashable, _Captured] = field(default_factory=dict)
    """By shape."""
    _streams: dict[Hashable, Streams] = field(default_factory=dict)
    """By shape, once a step was taken: what draws in it."""
    _carried: dict[str, Tensor] = field(default_factory=dict)
    """Where the graphs find, and leave, what goes from step to step."""
    _taken: int = 0
    _settled: bool = False
    """Whether a step has waited for nothing: libraries and objectives have set themselves up."""

    def __call__(self, gradient: Gradient, batch: Batch) -> tuple[Tensor, Tensor]:
        """What `gradient` does, which is the same at every step."""
        shape = _shape_of(batch)
        if shape not in self.captured:
            if not self._settled or shape not in self._streams:
                return self._eagerly(gradient, batch, self._streams.setdefault(shape, {}))
            self.captured[shape] = self._capture(gradient, batch, self._streams[shape])
        _seed(self._streams[shape], batch.seed)
        return self._replay(self.captured[shape], batch)

    def _eagerly(self, gradient: Gradient, batch: Batch, streams: Streams) -> tuple[Tensor, Tensor]:
        self._taken += 1
        batch = batch._replace(streams=streams)
        _seed(streams, batch.seed)
        if self._settled or not 1 < self._taken <= SETTLING:
            return gradient(batch)
        before = torch.cuda.get_sync_debug_mode()
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                found = gradient(batch)
            finally:
                torch.cuda.set_sync_debug_mode(before)
        self._settled = not any("synchronizing" in str(each.message) for each in said)
        return found

    def _capture(self, gradient: Gradient, batch: Batch, streams: Streams) -> _Captured:
        given = batch._replace(
            inputs=batch.inputs.clone(),
            labels=batch.labels.clone(),
            rows=[each.clone() for each in batch.rows],
            streams=streams,
        )
        self._carry()
        for parameter in self.parameters:
            parameter.grad = None  # so that the graph has gradients of its own, which it overwrites
        graph, others = torch.cuda.CUDAGraph(), [each.graph for each in self.captured.values()]
        for stream in streams.values():
            graph.register_generator_state(stream)
        pool = others[0].pool() if others else None
        # thread_local: batches are made in another thread meanwhile.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            loss, norm = gradient(given)
            if self.memory is not None:
                for name, value in self.memory.memory().items():
                    self._carried[name].copy_(value)
        if self.memory is not None:
            self.memory.remember(self._carried)
        return _Captured(graph, given, [parameter.grad for parameter in self.parameters], loss, norm)

    def _replay(self, captured: _Captured, batch: Batch) -> tuple[Tensor, Tensor]:
        self._carry()
        given = captured.batch
        torch._foreach_copy_([given.inputs, given.labels, *given.rows], [batch.inputs, batch.labels, *batch.rows])
        for parameter, gradient in zip(self.parameters, captured.gradients, strict=True):
            parameter.grad = gradient
        captured.graph.replay()
        return captured.loss.clone(), captured.norm.clone()  # the next step overwrites them

    def _carry(self) -> None:
        """Let the objective remember in the tensors that the graphs know."""
        if self.memory is None:
            return
        now = self.memory.memory()
        for name, value in now.items():
            if name not in self._carried:
                self._carried[name] = value.clone()
            elif value is not self._carried[name]:
                self._carried[name].copy_(value)
        self.memory.remember(self._carried)


def capturable(network: nn.Module, objective: Objective) -> bool:
    """Whether a step is known to be nothing but operations on tensors."""
    others = objective.networks() if isinstance(objective, Capturable) else None
    return others is not None and all(map(_is_known, chain(network.modules(), *(other.modules() for other in others))))


def granted(network: nn.Module) -> Hashable:
    """What a graph takes for granted of a network: where weights and buffers are, which are trained, the modes, and how far
    running averages look back."""
    tensors = chain(network.parameters(), network.buffers())
    return (
        tuple((tensor.data_ptr(), tensor.requires_grad) for tensor in tensors),
        tuple((module.training, isinstance(module, _BatchNorm) and module.momentum) for module in network.modules()),
    )


def _seed(streams: Streams, seed: int) -> None:
    """Let these generators draw what those of a step with this seed draw."""
    for path, stream in streams.items():
        stream.manual_seed(derive(seed, *path))


def _is_known(module: nn.Module) -> bool:
    """Whether a module is one of torch's or ours, and runs nothing of anybody else's."""
    of = f"{type(module).__module__}."
    if not of.startswith(_KNOWN) or isinstance(module, nn.RNNBase) or "forward" in vars(module):
        return False
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return not any(hooks) and not any(map(_is_hooked, module.parameters(recurse=False)))


def _is_hooked(parameter: Tensor) -> bool:
    return bool(parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None))


def _shape_of(batch: Batch) -> Hashable:
    tensors = [batch.inputs, batch.labels, *batch.rows]
    return batch.size, tuple((tensor.shape, tensor.dtype, tensor.stride()) for tensor in tensors)
