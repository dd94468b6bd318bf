"""A network cut at search points, so that it can be run from any of them on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import xxhash
from torch import Tensor, nn

from decouple.errors import NetworkError, did_you_mean


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

    def __len__(self) -> int:
        return len(self.stages)

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(self.stages)

    @property
    def digest(self) -> str:
        """32 hexadecimal digits of xxh3 over names and values of the weights and buffers, in their order."""
        digest = xxhash.xxh3_128()
        for name, value in self.state_dict().items():
            digest.update(f"{name}|{value.dtype}|{tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def index(self, name: str) -> int:
        """The position of the search point called `name`.

        Raises:
            NetworkError: there is none; names the nearest.
        """
        if name not in self.names:
            raise NetworkError(f"no search point is called '{name}'{did_you_mean(name, self.names)}")
        return self.names.index(name)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of images (B, …)."""
        return self.run(images, 0)

    def run(self, values: Tensor, start: int, stop: int | None = None) -> Tensor:
        """Run stages `start` to `stop` − 1 (default: to the end) on what stage `start` takes."""
        for stage in list(self.stages)[start:stop]:
            values = stage(values)
        return values

    def activations(self, images: Tensor) -> list[Tensor]:
        """The values at every search point, logits last."""
        values, points = images, []
        for stage in self.stages:
            values = stage(values)
            points.append(values)
        return points

    def shapes(self, image_shape: Sequence[int]) -> list[tuple[int, ...]]:
        """The shape of one example's value at every search point, found without changing any state.

        Raises:
            NetworkError: the network does not take images of this shape.
        """
        was_training = {module: module.training for module in self.modules()}
        self.eval()
        try:
            with torch.no_grad():
                device = next((p.device for p in self.parameters()), torch.device("cpu"))
                points = self.activations(torch.zeros(2, *image_shape, dtype=torch.float32, device=device))
        except (RuntimeError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            shape = "×".join(map(str, image_shape))
            raise NetworkError(f"the network does not take images of {shape} (channels, height, width): {reason}") from error
        finally:
            for module, training in was_training.items():
                module.training = training
        return [tuple(point.shape[1:]) for point in points]

    def check(self, image_shape: Sequence[int], labels: Tensor) -> list[tuple[int, ...]]:
        """The shapes at every search point, once it is clear that the network fits images and labels.

        Raises:
            NetworkError: it does not take such images, or does not end in one logit a class.
        """
        shapes = self.shapes(image_shape)
        if len(shapes[-1]) != 1:
            raise NetworkError(
                f"the last search point '{self.names[-1]}' has shape {shapes[-1]}: expected (classes,) logits"
            )
        if int(labels.max()) >= shapes[-1][0]:
            raise NetworkError(
                f"the labels go up to {int(labels.max())}, and the network has {shapes[-1][0]} logits: expected at least "
                f"{int(labels.max()) + 1}"
            )
        return shapes

    @classmethod
    def from_sequential(cls, sequential: nn.Sequential, points: Sequence[int | str]) -> Stages:
        """Cut an `nn.Sequential` after the children at `points` (positions or names); the last child must be one.

        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> Stages.from_sequential(net, [2, 3]).shapes((1, 2, 2))
        [(8,), (3,)]

        Raises:
            NetworkError: an unknown child, points out of order, or a last point that is not the end.
        """
        names = [name for name, _ in sequential.named_children()]
        cuts: list[int] = []
        for point in points:
            if str(point) not in names:
                raise NetworkError(f"the nn.Sequential has no child '{point}'{did_you_mean(str(point), names)}")
            cuts.append(names.index(str(point)))
        if not cuts or cuts != sorted(set(cuts)):
            raise NetworkError(f"search points {list(points)} must be given in the order of the network, each once")
        if cuts[-1] != len(names) - 1:
            raise NetworkError(f"the last search point must be the output, child '{names[-1]}', not '{points[-1]}'")
        children = list(sequential.children())
        starts = [0, *(cut + 1 for cut in cuts[:-1])]
        stages = [nn.Sequential(*children[a : b + 1]) for a, b in zip(starts, cuts, strict=True)]
        return cls(stages, [names[cut] for cut in cuts])

    @classmethod
    def from_module(cls, module: nn.Module, points: Sequence[str]) -> Stages:
        """Cut any traceable `nn.Module` at the outputs of the layers named `points`, such as ["layer1", …, "fc"].

        The parameters are the module's own, not copies.

        Raises:
            NetworkError: an unknown layer (near matches are named), a module that torch.fx cannot trace, or a cut
                that something bypasses; says what.
        """
        from decouple.networks.cutting import cut

        if isinstance(points, str):
            raise NetworkError(f"give the layers as a list of names, such as [{points!r}], not as one text")

        return cls(cut(module, points), list(points))
