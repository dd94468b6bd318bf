"""Networks computed in one call, where that is the computation of each."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch._C import _functorch as functorch
from torch.nn.attention import SDPBackend, sdpa_kernel

from decouple.errors import first_line
from decouple.files import sharing
from decouple.networks.structure import ChangeDetector, first_difference

BORROWED = threading.RLock()
"""To be held around a batch's methods: meanwhile its first member computes with weights that are not its own."""


class NotBatchableError(Exception):
    """Networks that must be computed one by one; says why."""


class StackedNetworks:
    """Networks in eval mode that differ only in the values of their weights, run as one: the first one's code on stacked weights.

    The networks' own tensors become views of the stacks, so a weight that changes in place, by whatever way, changes here. Raises
    NotBatchableError: they differ in something else, or it cannot be told."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        if any(module.training for member in members for module in member.modules()):
            raise NotBatchableError("some are in training mode")
        if difference := first_difference(members):
            raise NotBatchableError(difference.text)
        self._member = members[0]
        self._tensors = [_weights_of(member) for member in members]
        if not self._tensors[0]:
            raise NotBatchableError("they have no weights")
        if len({id(tensor) for tensors in self._tensors for tensor in tensors}) < sum(map(len, self._tensors)):
            raise NotBatchableError("they share weights")
        if any(sharing({str(number): tensor.detach() for number, tensor in enumerate(t)}) for t in self._tensors):
            raise NotBatchableError("some of their weights are parts of others")
        with torch.inference_mode(False), torch.no_grad():
            self._stacks = [torch.stack(tensors) for tensors in zip(*self._tensors, strict=True)]
            for position, tensors in enumerate(self._tensors):
                for tensor, stack in zip(tensors, self._stacks, strict=True):
                    tensor.data = stack[position]
        self._flat = [tensor for tensors in self._tensors for tensor in tensors]
        self._places = [tensor.data_ptr() for tensor in self._flat]
        numbers = {id(tensor): number for number, tensor in enumerate(self._tensors[0])}
        self._slots = [(table, name, tensor, numbers[id(tensor)]) for table, name, tensor in _slots_of(self._member)]
        self._watch = ChangeDetector(members)
        self._unfused = False
        self.is_proven = False

    def holds(self) -> bool:
        """Whether the networks are as they were but for values of weights that changed in place."""
        return self._watch.holds() and [*map(Tensor.data_ptr, self._flat)] == self._places

    def __call__(self, images: Tensor) -> Tensor:
        """(M, …): what each network makes of `images`, which its forward may change."""
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in self._flat):
            return self._run([torch.stack(tensors) for tensors in zip(*self._tensors, strict=True)], images)
        return self._run(self._stacks, images)

    @torch.inference_mode(False)
    @torch.no_grad()
    def prove(self, images: Tensor, expected: Tensor) -> None:
        """Compare with what the networks gave one by one: their code may do what no list of settings shows. Raises
        NotBatchableError: torch cannot batch it, its results differ by more than rounding, or it changes the network."""
        stacks = [stack.clone() for stack in self._stacks]
        for self._unfused in (False, True):
            try:
                with warnings.catch_warnings():  # which would be given for every batch
                    warnings.filterwarnings("error", message=".*performance drop")
                    found = self._run(stacks, images.clone())
                break
            except Exception as error:  # whatever the networks' own code raises on batched tensors
                if self._unfused:
                    raise NotBatchableError(first_line(error)) from error
        if not _close(found, expected):
            raise NotBatchableError("one by one they give other results")
        if not self.holds() or any(stack._version for stack in stacks):
            raise NotBatchableError("their forward changes them")
        self.is_proven = True

    def _run(self, stacks: list[Tensor], images: Tensor) -> Tensor:
        # By what torch.func.vmap is made of, for its own Python takes as long as a small network's.
        # torch's fused attention has no batched form: it would run member by member, and warn.
        with sdpa_kernel(SDPBackend.MATH) if self._unfused else nullcontext():
            level = functorch._vmap_increment_nesting(len(self._tensors), "error")
            try:
                weights = [functorch._add_batch_dim(stack, 0, level) for stack in stacks]
                for table, name, _, number in self._slots:
                    table[name] = weights[number]
                found = self._member(images)
                for table, name, _, number in self._slots:
                    if table[name] is not weights[number]:
                        raise NotBatchableError("their forward replaces a buffer")
                return functorch._remove_batch_dim(found, level, len(self._tensors), 0)
            finally:
                functorch._vmap_decrement_nesting()
                for table, name, tensor, _ in self._slots:
                    table[name] = tensor


def _weights_of(network: nn.Module) -> list[Tensor]:
    return list({id(tensor): tensor for _, _, tensor in _slots_of(network)}.values())


def _slots_of(network: nn.Module) -> list[tuple[dict[str, Any], str, Tensor]]:
    return [
        (table, name, tensor)
        for module in network.modules()
        for table in (module._parameters, module._buffers)
        for name, tensor in table.items()
        if tensor is not None
    ]


def _close(found: Any, expected: Tensor) -> bool:
    if not isinstance(found, Tensor) or (found.shape, found.dtype) != (expected.shape, expected.dtype):
        return False
    size = expected.nan_to_num(0, 0, 0).abs().max() if expected.numel() else 0
    tolerance = float(size) * torch.finfo(expected.dtype).eps ** 0.5
    return torch.allclose(found, expected, rtol=0, atol=tolerance, equal_nan=True)
