"""Candidates that share directions, described by a few rows for as long as the network is affine.

Candidate p of image i is c_i + w_ip·d_k(p): all images try the same directions. An operation that maps activations affinely,
f(x) = Lx + f(0), maps it to f(c_i) + w_ip·(f(d_k) − f(0)). So B centres, K directions and the origin can pass through the network
in place of B·P candidates, which are written out at the first operation that is not affine.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.utils import _pair
from torch.utils._pytree import tree_map

from decouple.errors import is_out_of_memory
from decouple.networks.stages import apply_stage

WRITTEN_AT_ONCE, ON_GPU = 2**18, 2**26
"""Values of candidates that are combined before the next images follow: what stays in a core's cache, or fills a GPU."""

_TAKES: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
"""By stage: whether it can be called with described candidates."""


@dataclass(frozen=True)
class Mix:
    """How candidates are made up: candidate p of image i is c_i + w_ip·d_k(p) + Σ v_ip·e_i."""

    weights: Tensor
    """w, (B, P)."""
    index: Tensor
    """k, (P,) int64, which of the directions d."""
    own: tuple[Tensor, ...] = ()
    """(B, P) each, v of further terms e that every image has of its own."""

    @classmethod
    def mirrored(cls, scale: Tensor, directions: int) -> Mix:
        """The centre, then c_i + s_i·d_k for each of the directions, then c_i − s_i·d_k; `scale`: s, one value an image."""
        forth = scale.view(-1, 1).expand(-1, directions)
        along = torch.arange(directions, device=scale.device)
        return cls(torch.cat([torch.zeros_like(forth[:, :1]), forth, -forth], dim=1), torch.cat([along[:1], along, along]))

    @property
    def first(self) -> int:
        """The row of the first direction, behind centres and further terms of the images."""
        return len(self.weights) * (1 + len(self.own))


class Factored(Tensor):
    """Candidates (B, P, …), or (B·P, …) once flattened, held as B + K + 1 rows.

    It can be used as any tensor. What is affine in each candidate gives a `Factored` again; everything else is computed
    from the candidates, which are then written out. Gradients do not flow through it.
    """

    _rows: Tensor
    _mix: Mix
    _flat: bool
    _whole: Tensor | None
    _view: tuple[Factored, Callable[[Tensor], Tensor]] | None
    """Of a view: what it is a view of, and how."""

    @staticmethod
    def __new__(cls, rows: Tensor, mix: Mix, *, flat: bool = False, strides: Sequence[int] | None = None) -> Factored:
        shape = (*((mix.weights.numel(),) if flat else mix.weights.shape), *rows.shape[1:])
        strides = _strides(shape, rows.dim() == 4) if strides is None else strides
        made: Factored = Tensor._make_wrapper_subclass(cls, shape, strides=strides, dtype=rows.dtype, device=rows.device)
        made._rows, made._mix, made._flat, made._whole, made._view = rows, mix, flat, None, None
        return made

    @classmethod
    def of(
        cls, centers: Tensor, directions: Tensor, mix: Mix, *, own: Sequence[Tensor] = (), dtype: torch.dtype | None = None
    ) -> Factored:
        """Candidates (B, P, …).

        Args:
            centers: c, (B, …).
            directions: d, (K, …), which all images share.
            mix: what the candidates are.
            own: the further terms e, (B, …) each.
            dtype: of the candidates; None: that of the centres.
        """
        images, count = len(centers), len(directions)
        shape = (mix.first + count + 1, *centers.shape[1:])
        rows = centers.new_empty_strided(shape, _strides(shape, len(shape) == 4), dtype=dtype or centers.dtype)
        for number, terms in enumerate((centers, *own)):
            rows[number * images : (number + 1) * images] = terms
        rows[mix.first : -1] = directions
        rows[-1] = 0
        return cls(rows, mix)

    @property
    def described(self) -> bool:
        """Whether the candidates have not been written out."""
        return self._whole is None and (self._view is None or self._view[0].described)

    def whole(self) -> Tensor:
        """The candidates as a plain tensor, maps with adjacent channels. Views share memory, as those of any tensor do."""
        if self._whole is None:
            self._whole = self.largest([self._rows]) if self._view is None else self._view[1](self._view[0].whole())
        return self._whole

    def parts(self, count: int) -> list[Factored]:
        """The candidates (B, P, …) by `count` of each image, which can be written out one part after the other."""
        if count >= self.shape[1]:
            return [self]
        mix, found = self._mix, []
        for start in range(0, self.shape[1], count):
            part = slice(start, start + count)
            used, index = torch.unique(mix.index[part], return_inverse=True)
            rows = torch.cat([self._rows[: mix.first], self._rows[mix.first + used], self._rows[-1:]])
            found.append(Factored(rows, Mix(mix.weights[:, part], index, tuple(own[:, part] for own in mix.own))))
        return found

    def by_element(self) -> Tensor:
        """Candidates (B·P, D) as (D, B, P), written out: a CPU reduces over the first axis several times as fast as over the last."""
        rows, mix = self._rows.T.contiguous(), self._mix
        linear = rows[:, len(mix.weights) :] - rows[:, -1:]
        directions = linear[:, mix.first - len(mix.weights) :].index_select(1, mix.index)
        found = torch.addcmul(rows[:, : len(mix.weights), None], mix.weights.to(rows.dtype), directions[:, None])
        for number, weights in enumerate(mix.own):
            term = linear[:, number * len(weights) : (number + 1) * len(weights), None]
            found.addcmul_(term, weights.to(rows.dtype))
        return found

    def picked(self, images: Tensor, chosen: Tensor) -> Tensor:
        """`self[images, chosen]` of candidates (B, P, …), without writing out the others."""
        rows, mix = self._rows, self._mix
        terms = [(mix.weights, rows[mix.first + mix.index[chosen]])]
        terms += [(weights, rows[len(self) * number + images]) for number, weights in enumerate(mix.own, 1)]
        found = rows[images]
        for weights, term in terms:
            factor = weights[images, chosen].to(found.dtype)
            found = torch.addcmul(found, factor.view(*factor.shape, *[1] * (rows.dim() - 1)), term - rows[-1])
        return found

    def products(self, rows: Tensor) -> Tensor:
        """x·r, (B, P), of candidates x (B·P, D) without terms of their own and a row r (B, D) of each image."""
        centers, _, directions = self._terms(self._rows)
        return (centers * rows).sum(1, keepdim=True) + self._mix.weights * (rows @ directions.T)

    def quadratic(self, matrix: Tensor | None) -> Tensor:
        """xᵀMx, (B, P), of such candidates and a symmetric M (D, D); None: the identity."""
        centers, _, directions = self._terms(self._rows)
        turned, along = (centers, directions) if matrix is None else (centers @ matrix, directions @ matrix)
        square = turned @ directions.T + self._mix.weights * (along * directions).sum(1)
        return self.products(turned) + self._mix.weights * square

    def largest(self, windows: Sequence[Tensor]) -> Tensor:
        """The candidates that rows (M, …) make up, written out: of several such rows, elementwise the largest."""
        maps = self._rows.dim() == 4
        windows = [rows.movedim(1, -1) for rows in windows] if maps else windows
        images, count = self._mix.weights.shape
        out = self._rows.new_empty(images, count, windows[0][0].numel())
        weights, *factors = (each.to(out.dtype).unsqueeze(2) for each in (self._mix.weights, *self._mix.own))
        terms = [self._terms(rows.flatten(1)) for rows in windows]
        step = images if len(windows) == 1 else (ON_GPU if out.is_cuda else WRITTEN_AT_ONCE) // max(1, out[0].numel()) or 1
        spare = torch.empty_like(out[:step]) if len(windows) > 1 else out
        for start in range(0, images, step):
            part = slice(start, start + step)
            whole = out[part]
            for number, (centers, own, directions) in enumerate(terms):
                into = spare[: len(whole)] if number else whole
                torch.addcmul(centers[part, None], weights[part], directions, out=into)
                for factor, term in zip(factors, own, strict=True):
                    into.addcmul_(term[part, None], factor[part])
                if number:
                    torch.maximum(whole, into, out=whole)
        leading = 1 if self._flat else 2
        written = out.view(*self.shape[:leading], *windows[0].shape[1:])
        return written.movedim(-1, leading) if maps else written

    def _terms(self, rows: Tensor) -> tuple[Tensor, Sequence[Tensor], Tensor]:
        """Centres (B, D), further terms (B, D) and directions (P, D) of flat rows; all but the centres without the origin."""
        images, first = len(self._mix.weights), self._mix.first
        linear = rows[images:-1] - rows[-1]
        own = linear[: first - images].split(images) if self._mix.own else ()
        return rows[:images], own, linear[first - images :][self._mix.index]

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = kwargs or {}
        with torch._C.DisableTorchFunctionSubclass():
            handler = _HANDLERS.get(func)
            if handler is None or "out" in options or not (args and isinstance(args[0], Factored)):
                return func(*args, **options)
            found = handler(func, *args, **options) if args[0].described else NotImplemented
            if found is NotImplemented:
                return func(*((args[0].whole(), *args[1:]) if handler is _read else args), **options)
            return found

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        args, options = tree_map(plain, (args, kwargs or {}))
        return func(*args, **options)


def through(stage: nn.Module, values: Tensor) -> Tensor:
    """`apply_stage`, for values that may be described: a stage that cannot take them is given the candidates."""
    if not isinstance(values, Factored) or not values.described:
        return apply_stage(stage, plain(values))
    if stage not in _TAKES:  # torch.compile would trace into the description
        _TAKES[stage] = not any(hasattr(module, "_orig_mod") for module in stage.modules())
    if _TAKES[stage]:
        try:
            # What it writes in place goes into a tensor that nothing else holds.
            found = stage(Factored(values._rows, values._mix, flat=values._flat))
            return found if isinstance(found, Factored) and found.described else plain(found)
        except Exception as error:  # of code that wants a tensor with memory, say; what is wrong anyway is raised below
            if is_out_of_memory(error):  # which says nothing of the stage
                raise
            _TAKES[stage] = False
    return apply_stage(stage, values.whole())


def plain(value: Any) -> Any:
    """Written out, if it is described."""
    return value.whole() if isinstance(value, Factored) else value


# Each tells of a function whether it is affine by row with these arguments. NotImplemented: not, or not known to be.

_Handler = Callable[..., Any]


def _when(affine: Callable[..., bool]) -> _Handler:
    """Maps the rows where the function is `affine` in each candidate."""

    def handle(func: Callable[..., Tensor], values: Factored, *args: Any, **options: Any) -> Any:
        shared = not any(isinstance(each, Factored) for each in (*args, *options.values()))
        if not (values._flat and shared and affine(values, *args, **options)):
            return NotImplemented
        return Factored(func(values._rows, *args, **options), values._mix, flat=True)

    return handle


def _strides(shape: Sequence[int], maps: bool) -> tuple[int, ...]:
    """Of a dense tensor, (…, C, H, W) with adjacent channels if it holds `maps`."""
    order = [*range(len(shape) - 3), *((-2, -1, -3) if maps else range(-3, 0))][-len(shape) :]
    strides, step = [0] * len(shape), 1
    for axis in reversed(order):
        strides[axis], step = step, step * max(1, shape[axis])
    return tuple(strides)


@functools.lru_cache(maxsize=256)
def _form(func: Callable[..., Tensor], shape: tuple[int, ...], strides: tuple[int, ...], args: Any, options: Any) -> Tensor:
    """A tensor without values, of the shape and the strides that `func` gives."""
    return func(torch.empty_strided(shape, strides, device="meta"), *args, **dict(options))


def _view(values: Factored, rows: Tensor, flat: bool, func: Callable[..., Tensor], *args: Any, **options: Any) -> Factored:
    form = _formed(func, values, *args, **options)
    found = Factored(rows, values._mix, flat=flat, strides=form.stride())
    found._view = values, lambda whole: func(whole, *args, **options)
    return found


def _formed(func: Callable[..., Tensor], values: Tensor, *args: Any, **options: Any) -> Tensor:
    given = func, tuple(values.shape), values.stride(), args, tuple(options.items())
    try:
        return _form(*given)
    except TypeError:  # lists and slices are not hashable
        return _form.__wrapped__(*given)


def _reshaped(func: Callable[..., Tensor], values: Factored, *args: Any, **options: Any) -> Any:
    """What keeps the order of all elements keeps the candidates apart if it keeps their number."""
    if any(isinstance(each, torch.dtype) for each in args):
        return NotImplemented
    form = _formed(func, values, *args, **options)
    if not values._flat and form.shape == (values.shape[:2].numel(), *values.shape[2:]):
        return _view(values, values._rows, True, func, *args, **options)
    leading = 1 if values._flat else 2
    if form.shape[:leading] != values.shape[:leading]:
        return NotImplemented
    return _view(values, values._rows.reshape(-1, *form.shape[leading:]), values._flat, func, *args, **options)


def _permuted(func: Callable[..., Tensor], values: Factored, *args: Any, **options: Any) -> Any:
    """The axes of a candidate may change places."""
    marked = func(torch.empty(*range(1, values.dim() + 1), device="meta"), *args, **options)
    if not values._flat or marked.shape[0] != 1:
        return NotImplemented
    return _view(values, func(values._rows, *args, **options), True, func, *args, **options)


def _item(func: Callable[..., Any], values: Factored, key: Any) -> Any:
    """A part of every candidate, or one candidate of each image."""
    if not isinstance(key, tuple):
        return NotImplemented
    if not values._flat:
        indices = len(key) == 2 and all(isinstance(each, Tensor) and each.dtype == torch.int64 for each in key)
        return values.picked(*key) if indices else NotImplemented
    if not all(isinstance(each, (int, slice)) for each in key) or key[0] != slice(None):
        return NotImplemented
    return _view(values, func(values._rows, key), True, func, key)


def _converted(func: Callable[..., Tensor], values: Factored, *args: Any, **options: Any) -> Any:
    if options.get("copy") or "memory_format" in options:
        return NotImplemented
    rows = func(values._rows, *args, **options)
    if rows.device != values.device or not rows.is_floating_point():
        return NotImplemented
    return values if rows is values._rows else Factored(rows, values._mix, flat=values._flat)


def _combined(func: Callable[..., Tensor], values: Factored, other: Any, **options: Any) -> Any:
    """A sum or difference with what all candidates share, or with what the same rows have become elsewhere."""
    if not isinstance(other, Factored):
        return _when(_broadcast)(func, values, other, **options)
    if other._mix is not values._mix or not other.described or (other._flat, other.dim()) != (values._flat, values.dim()):
        return NotImplemented
    return Factored(func(values._rows, other._rows, **options), values._mix, flat=values._flat)


def _broadcast(values: Tensor, other: Any, **options: Any) -> bool:
    """Whether all candidates share `other`, and no quotient is rounded."""
    shared = not isinstance(other, Tensor) or other.dim() < values.dim() or (other.dim() == values.dim() and len(other) == 1)
    return shared and not options.get("rounding_mode")


def _keeps_rows(values: Tensor, dim: Any = None, *args: Any, **options: Any) -> bool:
    """Whether a reduction leaves the first axis as it is, and rounds nothing to whole numbers."""
    dims = (dim,) if isinstance(dim, int) else dim
    rounded = any(isinstance(each, torch.dtype) and not each.is_floating_point for each in (*args, *options.values()))
    return bool(dims) and all(each % values.dim() for each in dims) and not rounded


def _max_pooled(
    func: Callable[..., Any],
    values: Factored,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Not affine, but where windows do not overlap only what is kept of them need be written."""
    (height, width), rows = _pair(kernel_size), values._rows
    apart = stride is None or _pair(stride) == (height, width)
    apart &= _pair(padding) == (0, 0) and _pair(dilation) == (1, 1) and not ceil_mode and not return_indices
    if not (values._flat and rows.dim() == 4 and apart and rows.shape[2] >= height and rows.shape[3] >= width):
        return NotImplemented
    rows = rows[:, :, : rows.shape[2] // height * height, : rows.shape[3] // width * width]
    return values.largest([rows[:, :, i::height, j::width] for i in range(height) for j in range(width)])


def _read(*_: Any, **__: Any) -> Any:  # reads memory, of which a description has none
    return NotImplemented


_always = _when(lambda *_, **__: True)
_LAYERS: dict[str, _Handler] = {
    "conv1d conv_transpose1d": _when(lambda values, *_, **__: values.dim() == 3),
    "conv2d conv_transpose2d": _when(lambda values, *_, **__: values.dim() == 4),
    "conv3d conv_transpose3d": _when(lambda values, *_, **__: values.dim() == 5),
    "linear": _when(lambda values, *_, **__: values.dim() > 1),
    "batch_norm": _when(lambda values, m, v, weight=None, bias=None, training=False, *_, **__: not training),
    "avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d": _always,
    "pad": _when(lambda values, pad, *_, **__: len(pad) // 2 < values.dim()),
    "dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout": (
        lambda func, values, p=0.5, training=True, inplace=False: NotImplemented if training else values
    ),
    "max_pool2d": _max_pooled,
}
_OPERATIONS: dict[str, _Handler] = {
    "flatten view reshape unflatten squeeze unsqueeze detach contiguous": _reshaped,
    "permute transpose movedim swapaxes": _permuted,
    "to float double half bfloat16": _converted,
    "add sub": _combined,
    "mul div true_divide __rsub__": _when(_broadcast),
    "neg": _always,
    "mean sum": _when(_keeps_rows),
    "matmul": _when(lambda values, other: values.dim() > 1 and other.dim() < 3),
    "__getitem__": _item,
    "clone": lambda func, values, **_: Factored(values._rows, values._mix, flat=values._flat),
    "numpy tolist __array__ __reduce_ex__ __deepcopy__ __repr__": _read,
}


def _by_function(handlers: dict[str, _Handler], *spaces: Any) -> dict[Callable[..., Any], _Handler]:
    named = [(name, handler) for names, handler in handlers.items() for name in names.split()]
    return {getattr(space, name): handler for space in spaces for name, handler in named if hasattr(space, name)}


_HANDLERS = _by_function(_LAYERS, functional) | _by_function(_OPERATIONS, torch, Tensor)
