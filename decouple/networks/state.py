"""A network's state as named tensors, and copies of networks, whatever the caller has set in torch."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from decouple.errors import NetworkError, first_line
from decouple.files import without_sharing
from decouple.tensors import digest_of

Network = TypeVar("Network", bound=nn.Module)


def check_values(network: nn.Module, what: str = "the network") -> None:
    """Refuse a network whose weights have no values. Raises NetworkError: weights that are not initialised, or on the meta
    device; names one."""
    for name, value in _tensors(network):
        if nn.parameter.is_lazy(value):
            raise NetworkError(f"'{name}' of {what} is not initialised: call the network on a batch first")
        if value.is_meta:
            raise NetworkError(f"'{name}' of {what} is on the meta device and has no values: build the network on the CPU")


def state_of(network: nn.Module, what: str = "the network") -> dict[str, Tensor]:
    """`network.state_dict()`, once it is clear that a file of tensors can hold it. Raises NetworkError: extra state that is
    no tensor; names it."""
    state = network.state_dict()
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise NetworkError(
                f"'{name}' of {what} is a {type(value).__name__}, which a file of tensors cannot hold: expected a tensor; "
                "let get_extra_state return one"
            )
    return state


def weights_digest(network: nn.Module) -> str:
    """32 hexadecimal digits of xxh3 over names and values of the weights and buffers, in their order."""
    return digest_of(network.state_dict().items())


def on_cpu(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` on the CPU; what is one tensor under several names stays one."""
    moved: dict[object, Tensor] = {}
    return {
        name: moved.setdefault((value.data_ptr(), value.shape, value.stride(), value.dtype), value.detach().cpu())
        for name, value in state.items()
    }


def load_state(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give `network` the values in `state`, none of whose memory it keeps. Raises NetworkError: the state is another
    network's; names where they differ."""
    try:
        network.load_state_dict(
            {name: value.clone() if name.endswith("_extra_state") else value for name, value in state.items()}
        )
    except RuntimeError as error:
        what = " ".join(line.strip() for line in str(error).splitlines()[1:3])
        raise NetworkError(f"the members do not fit the network: {what}") from error


def own_copy(network: Network, what: str = "the network") -> Network:
    """A deep copy whose weights can be trained, also under `torch.inference_mode`; those that share memory share it again.
    Raises NetworkError: it holds something that Python cannot copy."""
    # Values that a forward pass left in an attribute (the old weight_norm does so) have a history, which torch does not copy.
    left = {
        id(value): value.detach().clone()
        for module in network.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    try:
        with torch.inference_mode(False), torch.no_grad():
            copied = copy.deepcopy(network, left)
            _share_again(network, copied)
            return copied
    except (TypeError, RuntimeError, NotImplementedError) as error:
        reason = first_line(error)
        raise NetworkError(f"{what} cannot be copied: {reason}") from error


def _share_again(network: nn.Module, copied: nn.Module) -> None:
    """Copied parameters have memory of their own, unless they are one object."""
    stored, aliases = without_sharing({name: value.detach() for name, value in _tensors(network)})
    sources = {source: stored[source].clone() for source, *_ in aliases.values()}
    for name, value in _tensors(copied):
        if name in aliases:
            source, *view = aliases[name]
            value.data = sources[source].as_strided(*view)


def _tensors(network: nn.Module) -> list[tuple[str, Tensor]]:
    return [*network.named_parameters(), *network.named_buffers()]
