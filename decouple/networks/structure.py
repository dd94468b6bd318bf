"""What a network computes with beside the values of its weights: classes, settings, how its parts are joined."""

from __future__ import annotations

import dataclasses
import enum
import types
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from operator import is_, itemgetter
from typing import Any, NamedTuple

import numpy as np
import torch
import xxhash
from torch import Tensor, nn
from torch.fx import Graph, GraphModule
from torch.nn.utils.parametrize import is_parametrized

from decouple import own_code
from decouple.networks.cutting import CutStage
from decouple.networks.stages import Stages

SIMPLE = (type(None), bool, int, float, complex, str, bytes, np.generic, torch.dtype, torch.device, torch.layout)
"""Types whose values are the same where their texts are."""
NAMED = (types.FunctionType, types.BuiltinFunctionType, types.ModuleType, type, np.ufunc, enum.Enum)
"""Types of which a deep copy is the thing itself."""
TABLES = ("_parameters", "_buffers", "_modules")
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
OWN = frozenset(vars(nn.Module()))
GRAPH = OWN | frozenset(vars(GraphModule(nn.Module(), Graph())))
"""Attributes that every module, and every traced one, has."""
STAGES = OWN | {"unit_scale", "classes"}
"""Those of a cut network that are no part of the computation."""
PART = OWN | {"_graphs", "_forward"}
"""Those of a part of a cut network that its code is made from, or made of."""
KNOWN = {GraphModule: GRAPH, CutStage: PART, Stages: STAGES}
DEPTH = 16
"""Of containers in containers, which may hold themselves."""


class Fact(NamedTuple):
    """Something about a network. Where texts differ the networks do; where proofs are equal, too, they are alike in it."""

    text: str
    """The same in every process."""
    proof: object


class Mismatch(NamedTuple):
    """Where networks are not the same computation, or cannot be seen to be."""

    text: str
    certain: bool


def first_difference(networks: Sequence[nn.Module], *, certain: bool = False) -> Mismatch | None:
    """The first thing but for the values of weights in which `networks` differ from the first of them.

    >>> first_difference([nn.LayerNorm(4), nn.LayerNorm(4), nn.LayerNorm(4, eps=1.0)]).text
    "'eps' is 1e-05 in member 0 and 1.0 in member 2"
    >>> first_difference([nn.Linear(4, 2), nn.Linear(4, 2)])

    Args:
        certain: look for what surely differs alone; the values of buffers that `state_dict` leaves out are part of it.
    """
    reference = facts_of(networks[0], values=certain)
    nothing, doubt = Fact("not there", None), None
    for number, network in enumerate(networks):
        facts = facts_of(network, values=certain)  # of networks[0] as well: what cannot be compared is unlike itself
        for name in {**reference, **facts}:
            one, other = reference.get(name, nothing), facts.get(name, nothing)
            if one.text != other.text:
                where = f"'{name}' is " if name else ""
                return Mismatch(f"{where}{_cut(one.text)} in member 0 and {_cut(other.text)} in member {number}", True)
            if one.proof != other.proof:
                what = f"'{name}' ({_cut(one.text)})" if name else _cut(one.text)
                doubt = doubt or Mismatch(f"{what} may differ between members", False)
    return None if certain else doubt


def structure_text(network: nn.Module) -> str:
    """Equal for networks that compute and learn the same from the same weights."""
    trained = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    seen: set[int] = set()
    code = [own_code.behaviour(each, seen) for each in _own_code_in(network)]
    return str([sorted((name, fact.text) for name, fact in facts_of(network, values=True).items()), trained, code])


def _own_code_in(network: nn.Module) -> Iterator[type | types.FunctionType]:
    """Classes of its modules and functions that they hold, but those of Python, torch and decouple."""
    for module in network.modules():
        held = [type(module), *vars(module).values(), *(module.functions() if isinstance(module, CutStage) else ())]
        yield from (each for each in held if isinstance(each, (type, types.FunctionType)) and own_code.is_own(each))


def facts_of(network: nn.Module, *, values: bool = False) -> dict[str, Fact]:
    """What there is to know about `network` without its weights, by the names of its parts.

    Args:
        values: with those of the buffers that `state_dict` leaves out.
    """
    facts: dict[str, Fact] = {}
    first: dict[int, str] = {}
    weights = {id(weight): name for name, weight in (*network.named_parameters(), *network.named_buffers())}
    for path, module in network.named_modules(remove_duplicate=False):
        earlier = first.setdefault(id(module), path)
        if earlier != path:
            facts[path] = Fact(f"the same as '{earlier}'", earlier)
            continue
        facts[path] = _class_fact(module)
        if isinstance(module, torch.jit.ScriptModule):
            continue
        state, prefix = vars(module), f"{path}." if path else ""
        facts[f"{prefix}training"] = Fact("training mode", module.training)
        hooked = any(state[hooks] for hooks in HOOKS)
        if hooked:
            facts[f"{prefix}hooks"] = _unknown("hooks")
        known = next((names for kind, names in KNOWN.items() if isinstance(module, kind)), OWN)
        for name in sorted(state.keys() - known):
            # What a hook leaves in an attribute (the old weight_norm's weight) is made anew before it is used.
            facts[f"{prefix}{name}"] = _fact(state[name], None if hooked else weights)
        for name, weight in (*module._parameters.items(), *module._buffers.items()):
            place = f"{prefix}{name}"
            alias = first.setdefault(id(weight), place) if weight is not None else place
            valued = values and name in module._non_persistent_buffers_set
            facts[place] = _weight_fact(weight, "" if alias == place else f" shared with '{alias}'", valued)
        order = str([list(state[table]) for table in TABLES])
        facts[f"{prefix}parts"] = Fact(order, order)
    return facts


class ChangeDetector:
    """Notices when something that `facts_of` describes has changed, or a weight is another tensor, in little time."""

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        self._modules = [module for network in networks for module in network.modules()]
        self._states = [vars(module) for module in self._modules]
        self._sizes = [len(state) for state in self._states]
        tables = [state[name] for state in self._states for name in TABLES]
        self._empty = [table for table in tables if not table] + [state[name] for state in self._states for name in HOOKS]
        self._contents: list[Iterable[Any]] = [table.values() for table in tables if table]
        self._attributes = []
        for state in self._states:
            keys = ["training", *(state.keys() - OWN)]
            self._attributes.append((itemgetter("_modules", *keys), state))  # of two keys at least: then it gives a tuple
            for key in keys:
                self._contents += _containers(state[key])
        self._held = self._seen()

    def holds(self) -> bool:
        """Whether all is as it was."""
        if any(self._empty) or [*map(len, self._states)] != self._sizes:
            return False
        try:
            seen = self._seen()
        except KeyError:
            return False
        return len(seen) == len(self._held) and all(map(is_, seen, self._held))

    def _seen(self) -> list[Any]:
        attributes = chain.from_iterable([values_of(state) for values_of, state in self._attributes])
        return [*attributes, *chain.from_iterable(self._contents), *map(type, self._modules)]


def _class_fact(module: nn.Module) -> Fact:
    kind = type(module)
    if isinstance(module, GraphModule):  # has a class of its own
        code = getattr(kind.forward, "__code__", None)
        if code is None:
            return _unknown(_name(kind))
        known = kind.forward.__globals__
        used = tuple(_fact(known[name], None).proof for name in code.co_names if name in known)
        return Fact(module.code, (kind.__mro__[1:], code, used))
    if isinstance(module, torch.jit.ScriptModule):
        return _unknown("a TorchScript module")
    if is_parametrized(module):  # so has this one; the parametrizations are submodules
        return Fact(f"parametrized {_name(kind.__mro__[1])}", kind.__mro__[1])
    return Fact(_name(kind), kind)


def _weight_fact(weight: Tensor | None, alias: str, valued: bool) -> Fact:
    if weight is None or nn.parameter.is_lazy(weight):
        return Fact("None" if weight is None else "not initialised", None)
    text = f"{str(weight.dtype).removeprefix('torch.')} {tuple(weight.shape)}{alias}{_digest(weight) if valued else ''}"
    plain = type(weight) in (Tensor, nn.Parameter) and weight.layout is torch.strided
    return Fact(text, weight.device) if plain else _unknown(text)


def _fact(value: Any, weights: Mapping[int, str] | None, depth: int = 0) -> Fact:
    """Of an attribute. `weights`: names by `id` of the network's own; None: the values of tensors do not count."""
    kind = type(value)
    if depth > DEPTH:
        return _unknown("deeply nested")
    if isinstance(value, SIMPLE):
        return Fact(repr(value), (kind, repr(value)))
    if isinstance(value, NAMED):
        return Fact(_name(value), value)
    if isinstance(value, Tensor | np.ndarray):
        if weights and id(value) in weights:  # which is not exchanged here when the weight is
            return _unknown(f"the weight '{weights[id(value)]}'")
        text = f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
        return _unknown(f"{text}{'' if weights is None else _digest(value)}")
    parts: list[Any]
    if kind in (dict, OrderedDict):
        parts = [*value.keys(), *value.values()]
    elif kind in (set, frozenset):
        parts = sorted(value, key=lambda part: _fact(part, weights, depth + 1).text)
    elif kind in (list, torch.Size) or isinstance(value, tuple):
        parts = list(value)
    elif _is_record(value):
        parts = [*vars(value).keys(), *vars(value).values()]
    else:
        return _unknown(_name(kind))
    facts = [_fact(part, weights, depth + 1) for part in parts]
    return Fact(f"{_name(kind)}({', '.join(fact.text for fact in facts)})", (kind, *(fact.proof for fact in facts)))


def _containers(value: Any, depth: int = 0) -> list[Iterable[Any]]:
    """What changes inside of `value` are seen by."""
    own: list[Iterable[Any]] = []
    if isinstance(value, dict):
        own = [value.keys(), value.values()]
    elif isinstance(value, list | set):
        own = [value]
    elif _is_record(value):
        own = [vars(value).keys(), vars(value).values()]
    elif not isinstance(value, tuple):
        return []
    inner = [part for parts in (own or [value]) for part in parts] if depth <= DEPTH else []
    return own + [found for part in inner for found in _containers(part, depth + 1)]


def _is_record(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type) and hasattr(value, "__dict__")


def _unknown(text: str) -> Fact:
    return Fact(text, object())


def _name(value: Any) -> str:
    if isinstance(value, enum.Enum):
        return str(value)
    name = str(getattr(value, "__qualname__", None) or getattr(value, "__name__", type(value).__name__))
    owner = getattr(value, "__module__", None)
    return name if owner in (None, "builtins") else f"{owner}.{name}"


def _digest(values: Tensor | np.ndarray) -> str:
    if isinstance(values, Tensor):
        if values.layout is not torch.strided or values.is_meta or values.is_quantized:
            return ""
        values = values.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return "" if values.dtype.hasobject else f" {xxhash.xxh3_64_hexdigest(np.ascontiguousarray(values).data)}"


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:57]}…"
