"""A network cut at search points, so that it can be run from any of them on."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from decouple.data.images import as_float, check_scale, in_unit_scale
from decouple.errors import DecoupleError, NetworkError, did_you_mean, first_line, is_out_of_memory
from decouple.formats import plural
from decouple.networks.state import weights_digest
from decouple.torch_state import device_of, evaluated, seeded

_WHOLES: WeakKeyDictionary[Stages, weakref.ref[nn.Module]] = WeakKeyDictionary()
"""The modules that networks were cut from."""

_OVERWRITES: WeakKeyDictionary[nn.Module, dict[bool, bool]] = WeakKeyDictionary()
"""By stage and `training`: whether it has been seen to write to its input in place."""


def apply_stage(stage: nn.Module, values: Tensor) -> Tensor:
    """What `stage` makes of `values`, which stay as they are: a stage that works in place is given a copy.

    Which stages do is found out the first time each is called in a mode.

    >>> values = torch.tensor([-1.0, 2.0])
    >>> apply_stage(nn.ReLU(inplace=True), values), values
    (tensor([0., 2.]), tensor([-1.,  2.]))
    """
    if not isinstance(values, Tensor):  # a recurrent layer's output and state, say
        raise NetworkError(
            f"a search point gives a {type(values).__name__}: expected one tensor; cut the network where there is one"
        )
    if torch.compiler.is_compiling():
        return stage(values.clone())
    seen = _OVERWRITES.setdefault(stage, {})
    given = values.clone() if seen.get(stage.training, True) else values
    if torch.is_inference_mode_enabled() or given.is_inference():  # what is written to such tensors is not counted
        return stage(given)
    version = given._version
    found: Tensor = stage(given)
    overwritten = given._version != version
    if overwritten and given is values:
        raise NetworkError(
            f"{type(stage).__name__} wrote to its input in place, which it did not do before in this mode: set the mode of the whole "
            "network with train() or eval(), or replace operations that are only sometimes in place"
        )
    seen[stage.training] = seen.get(stage.training, False) or overwritten
    return found


def refuse_probabilities(answers: Tensor, what: str) -> None:
    """Raise NetworkError: answers (N, C) are the probabilities that a softmax gives, where logits are expected."""
    answers = answers.float()
    if answers.shape[1] > 1 and bool((answers >= 0).all()) and bool(((answers.sum(1) - 1).abs() < 1e-4).all()):
        raise NetworkError(
            f"{what} gives probabilities, positive numbers whose sum is 1: expected logits, from which losses make probabilities "
            "themselves; leave out its softmax"
        )


@contextmanager
def taking(network: nn.Module, shape: Sequence[int]) -> Iterator[None]:
    """Inside, `network` is given images of this shape (B, …); what it raises because it cannot take them becomes a NetworkError that
    names the shape."""
    try:
        yield
    except DecoupleError:
        raise
    except Exception as error:  # whatever a module of the user's raises
        if is_out_of_memory(error) or torch.compiler.is_compiling():
            raise
        reason, hint = first_line(error), _hint(network, shape)
        raise NetworkError(f"the network does not take images of shape {tuple(shape)} ({reason}){hint}") from error


def _hint(network: nn.Module, shape: Sequence[int]) -> str:
    """The end of a message that the network does not take such images: how to fix it; empty if that is not known."""
    kinds = {str(p.dtype).removeprefix("torch.") for p in network.parameters() if p.is_floating_point()} - {"float32"}
    if kinds:
        return f"; its weights are {', '.join(sorted(kinds))}, and images are given to it as float32; call network.float()"
    first = next((layer for layer in network.modules() if isinstance(layer, nn.Conv2d)), None)
    if first is not None and len(shape) == 4 and first.in_channels != shape[1]:
        return (
            f"; its first convolution takes {first.in_channels} channels, the images have {shape[1]}: give a network that takes "
            "them, as timm's do, or a function of your own that replaces this convolution"
        )
    return ": expected a batch (B, …); give images[None]" if len(shape) == 3 else ""


def _point(found: object, name: str, count: int) -> Tensor:
    """What a stage gave for so many images. Raises NetworkError: it cannot be a search point."""
    if isinstance(found, Tensor) and found.dim() > 1 and len(found) == count and found.is_floating_point():
        return found
    got = f"{found.dtype} of shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
    raise NetworkError(
        f"the network gives {got} at '{name}' for {count} images: expected a floating-point tensor with a row for each "
        "image; cut it where there is one"
    )


@contextmanager
def trusting(*networks: nn.Module) -> Iterator[None]:
    """Inside, the networks do not check the scale of images, for which one would have to wait for a GPU: of views that a
    training has made, say."""
    scales = {part: part.unit_scale for network in networks for part in network.modules() if isinstance(part, Stages)}
    for part in scales:
        part.unit_scale = None
    try:
        yield
    finally:
        for part, scale in scales.items():
            part.unit_scale = scale


class Stages(nn.Module):
    """A network as a chain of stages; the output of each is a *search point*, the last one's the logits.

    Build one with `paper_network`, `Stages.from_sequential` or `Stages.from_module`.

    Args:
        stages: the parts, in order; each takes the preceding one's output.
        names: a name for each stage's output.

    Raises:
        NetworkError: fewer than two stages, or names that do not match them.
    """

    def __init__(self, stages: Sequence[nn.Module], names: Sequence[str]) -> None:
        super().__init__()
        if len(stages) < 2:
            raise NetworkError(f"a network needs at least 2 search points (one layer and the logits), got {len(stages)}")
        if len(names) != len(stages) or len(set(names)) != len(names):
            raise NetworkError(f"{len(stages)} stages need as many different names, got {list(names)}")
        self.stages = nn.ModuleList(stages)
        self.names = tuple(names)
        self.unit_scale: bool | None = None
        """Whether the images that it was trained on lie in 0..1 (as uint8 images do once they are scaled); None: not trained here."""
        self.classes: tuple[str, ...] = ()
        """Name of each class that it tells apart, as `ImageData.classes`; empty: not known."""

    def __len__(self) -> int:
        return len(self.stages)

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(self.stages)

    def __repr__(self) -> str:
        """In a line; `print(network.stages)` shows the layers.

        >>> Stages([nn.Flatten(), nn.Linear(4, 3)], ["flat", "logits"])
        Stages(flat → logits; 15 parameters)
        """
        return f"Stages({' → '.join(self.names)}; {plural(sum(p.numel() for p in self.parameters()), 'parameter')})"

    @property
    def digest(self) -> str:
        """32 hexadecimal digits of xxh3 over names and values of the weights and buffers, in their order."""
        return weights_digest(self)

    def index(self, name: str) -> int:
        """The position of the search point called `name`.

        Raises:
            NetworkError: there is none; names the nearest.
        """
        if name not in self.names:
            raise NetworkError(f"no search point is called '{name}'{did_you_mean(name, self.names)}")
        return self.names.index(name)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of images (B, …): uint8 in 0..255, which are scaled to 0..1, or float on the scale of the training.

        Raises:
            DataError: in evaluation mode, images that are on another scale than those of the training.
        """
        return self.run(images, 0)

    def run(self, values: Tensor, start: int, stop: int | None = None) -> Tensor:
        """Run stages `start` to `stop` − 1 (default: to the end) on what stage `start` takes; `values` stay as they are."""
        if start == 0:
            values = self.as_input(values)
        for stage in list(self.stages)[start:stop]:
            values = apply_stage(stage, values)
        return values

    def activations(self, images: Tensor) -> list[Tensor]:
        """The values at every search point, logits last, as each stage gave them."""
        values, points = self.as_input(images), []
        for stage in self.stages:
            values = apply_stage(stage, values)
            points.append(values)
        return points

    def train_on(self, images: Tensor, classes: Sequence[str] = ()) -> None:
        """Note the scale of training images (N, …): the network refuses others from now on. And the names of the classes,
        where they are known."""
        self.unit_scale = in_unit_scale(images)
        self.classes = tuple(classes) or self.classes

    def as_input(self, images: Tensor) -> Tensor:
        """`images` as the first stage takes them: uint8 as float in 0..1, everything else as it is.

        Raises:
            DataError: see `forward`.
        """
        is_bytes = images.dtype == torch.uint8
        if is_bytes or not (self.training or torch.compiler.is_compiling()):
            check_scale(images, self.unit_scale)
        return as_float(images) if is_bytes else images

    def shapes(self, image_shape: Sequence[int]) -> list[tuple[int, ...]]:
        """The shape of one example's value at every search point, found without changing any state.

        Raises:
            NetworkError: the network does not take images of this shape.
        """
        return [tuple(values.shape[1:]) for values in self._trial(image_shape)]

    @torch.no_grad()
    def _trial(self, image_shape: Sequence[int]) -> list[Tensor]:
        """The values at every search point, of two black images. Raises NetworkError: see `shapes`."""
        values, points = torch.zeros(2, *image_shape, dtype=torch.float32, device=device_of(self)), []
        with evaluated(self), taking(self, values.shape):
            for name, stage in zip(self.names, self.stages, strict=True):
                values = _point(apply_stage(stage, values), name, len(values))
                points.append(values)
        return points

    def check(self, image_shape: Sequence[int], labels: Tensor) -> list[tuple[int, ...]]:
        """The shapes at every search point, once it is clear that the network fits images and labels.

        Raises:
            NetworkError: it does not take such images, or does not end in one logit a class: in probabilities, say.
        """
        points = self._trial(image_shape)
        shapes = [tuple(values.shape[1:]) for values in points]
        self._check_cut(image_shape)
        if len(shapes[-1]) != 1:
            raise NetworkError(
                f"the last search point '{self.names[-1]}' has shape {shapes[-1]}: expected (classes,) logits"
            )
        if int(labels.max()) >= shapes[-1][0]:
            raise NetworkError(
                f"the labels go up to {int(labels.max())}, and the network has {shapes[-1][0]} logits: expected at least "
                f"{int(labels.max()) + 1}"
            )
        refuse_probabilities(points[-1], f"the network, at '{self.names[-1]}',")
        return shapes

    @torch.no_grad()
    def _check_cut(self, image_shape: Sequence[int]) -> None:
        """Compare with the module that was cut, if it is still there: a trace cannot see every branch that Python takes."""
        whole = _WHOLES[self]() if self in _WHOLES else None
        if whole is None:
            return
        stream = torch.Generator().manual_seed(0)
        images = torch.rand(2, *image_shape, generator=stream, dtype=torch.float32).to(device_of(self))
        try:
            with evaluated(self, whole):
                answers = []
                for network in (self, whole):
                    with seeded(0, images.device):
                        answers.append(network(images))
        except Exception:  # the module has been changed, or lies elsewhere: it is the parts that are used from now on
            return
        found, wanted = answers
        if not torch.allclose(found, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()), equal_nan=True):
            raise NetworkError(
                f"the parts of the {type(whole).__name__} that was cut do not answer as it does: its forward takes another branch "
                "where it is traced (isinstance(x, Tensor), say), or it has been changed since; pass its parts to Stages"
            )

    @classmethod
    def from_sequential(cls, sequential: nn.Sequential, points: Sequence[int | str]) -> Stages:
        """Cut an `nn.Sequential` after the children at `points`, positions (int) or names (str); the last child must be one.

        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> Stages.from_sequential(net, [2, 3]).shapes((1, 2, 2))
        [(8,), (3,)]

        Raises:
            NetworkError: an unknown child, points out of order, a last point that is not the end, or a module that does more than
                call its children in turn: it has a `forward` or hooks of its own.
        """
        from decouple.networks.cutting import refuse_hooks

        kind = type(sequential)
        if not isinstance(sequential, nn.Sequential) or kind.forward is not nn.Sequential.forward:
            raise NetworkError(
                f"{kind.__name__} has a forward of its own: expected an nn.Sequential; use Stages.from_module"
            )
        refuse_hooks(sequential)
        children = list(sequential._modules.items())  # `named_children` leaves out what is there twice
        names = [name for name, _ in children]
        cuts: list[int] = []
        for point in points:
            if point not in (range(len(names)) if isinstance(point, int) else names):
                raise NetworkError(f"the nn.Sequential has no child '{point}'{did_you_mean(str(point), names)}")
            cuts.append(point if isinstance(point, int) else names.index(point))
        if not cuts or cuts != sorted(set(cuts)):
            raise NetworkError(f"search points {list(points)} must be given in the order of the network, each once")
        if cuts[-1] != len(names) - 1:
            raise NetworkError(f"the last search point must be the output, child '{names[-1]}', not '{points[-1]}'")
        starts = [0, *(cut + 1 for cut in cuts[:-1])]
        parts = [nn.Sequential(*(child for _, child in children[a : b + 1])) for a, b in zip(starts, cuts, strict=True)]
        stages = cls(parts, [names[cut] for cut in cuts])
        _WHOLES[stages] = weakref.ref(sequential)
        stages.training = sequential.training
        return stages

    @classmethod
    def from_module(cls, module: nn.Module, points: Sequence[str]) -> Stages:
        """Cut any traceable `nn.Module` at the outputs of the layers named `points`, such as ["layer1", …, "fc"].

        The parameters are the module's own, not copies. `train()` and `eval()` act as on the module; whatever else its
        `forward` decides by plain attributes stays as it was when it was cut.

        Raises:
            NetworkError: an unknown layer (near matches are named), a module that torch.fx cannot trace, one whose forward draws
                random numbers or changes its state independently of its input, or turns gradients or autocast on or off, or a cut
                that something bypasses; says what.
        """
        from decouple.networks.cutting import cut

        if isinstance(points, str):
            raise NetworkError(f"give the layers as a list of names, such as [{points!r}], not as one string")

        stages = cls(cut(module, points), list(points))
        _WHOLES[stages] = weakref.ref(module)
        stages.training = module.training
        return stages
