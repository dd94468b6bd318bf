"""torchvision's classification families, cut and used: does each step agree with the whole module, or is it refused?

    python -m benchmarks.families            # three minutes

One small, untrained model of each family is cut at two or three layers. Columns of the table:

- *logits*, *values* at the points: in training and evaluation mode, under the same random numbers,
  against the whole module and hooks on it;
- *search*: loss of the whole module with batch statistics against what the search starts from; the search must lower it;
- *learn*: weights after an epoch of SGD, and after learning the searched targets is finite;
- *record*: a `Recorder` on the cut network against one on the whole module;
- *ensemble*: probabilities of two members against the mean of two whole modules.

Each holds the largest difference found; 0 means equal to the last bit. Writes figures/families.json and figures/families.md.
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

import decouple
from benchmarks.command import launch
from benchmarks.receipt import markdown, write_receipt, write_table
from decouple.config import EsConfig, LearnConfig, SearchConfig
from decouple.data.images import ImageData
from decouple.errors import DecoupleError, NetworkError
from decouple.learn.objective import CrossEntropy
from decouple.networks import Stages
from decouple.q0.ensemble import Ensemble
from decouple.search import Judge
from decouple.training.loop import Loop
from decouple.training.stream import ImageLoader
from decouple.trajectories import Recorder, Recording

CLASSES = 4
IMAGES = 12
SEARCH = SearchConfig(points="all", batch=IMAGES, es=EsConfig(population=8, generations=4))
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@dataclass(frozen=True)
class Family:
    """One small model, and where it is cut."""

    name: str
    model: str
    points: tuple[str, ...]
    settings: tuple[tuple[str, Any], ...] = ()
    side: int = 32
    """Of the images, in pixels."""

    def make(self, seed: int = 0) -> nn.Module:
        """The untrained module; torchvision draws from the global generator."""
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of its own initialisations
            torch.manual_seed(seed)
            module: nn.Module = torchvision.models.get_model(self.model, num_classes=CLASSES, **dict(self.settings))
        return module


FAMILIES = (
    Family("alexnet", "alexnet", ("features", "classifier"), side=64),
    Family("convnext", "convnext_tiny", ("features.3", "features", "classifier")),
    Family("densenet", "densenet121", ("features.denseblock2", "features", "classifier"), (("drop_rate", 0.2),)),
    Family("efficientnet", "efficientnet_b0", ("features.2", "features", "classifier")),
    Family("googlenet", "googlenet", ("inception3b", "inception5b", "fc"), (("aux_logits", False), ("init_weights", False))),
    Family(
        "inception",
        "inception_v3",
        ("Mixed_5d", "Mixed_7c", "fc"),
        (("aux_logits", False), ("init_weights", False)),
        side=75,
    ),
    Family("mnasnet", "mnasnet0_5", ("layers.9", "layers", "classifier")),
    Family("mobilenet", "mobilenet_v3_small", ("features.4", "features", "classifier")),
    Family("regnet", "regnet_y_400mf", ("trunk_output.block2", "trunk_output", "fc")),
    Family("resnet", "resnet18", ("layer2", "layer4", "fc")),
    Family("shufflenet", "shufflenet_v2_x0_5", ("stage2", "conv5", "fc")),
    Family("squeezenet", "squeezenet1_1", ("features.7", "features", "flatten")),
    Family("swin", "swin_t", ("features.3", "features", "head")),
    Family("vgg", "vgg11", ("features", "classifier")),
    Family("vit", "vit_b_32", ("encoder.layers.encoder_layer_5", "encoder", "heads"), (("image_size", 64),), side=64),
)

STEPS = ("logits", "values", "search", "learn", "record", "ensemble")


@dataclass(frozen=True)
class Arguments:
    families: tuple[str, ...] = tuple(family.name for family in FAMILIES)


def pictures(side: int) -> ImageData:
    """Random images, with labels that have nothing to do with them."""
    stream = torch.Generator().manual_seed(0)
    images, labels = torch.rand(IMAGES + 8, 3, side, side, generator=stream), torch.arange(IMAGES + 8) % CLASSES
    return ImageData.from_tensors(images, labels, test_images=images, test_labels=labels, validation=4, prior=4)


def examine(family: Family, folder: Path) -> dict[str, Any]:
    """A row of the table: by step the largest difference to the whole module, or why it was refused."""
    whole = family.make()
    row: dict[str, Any] = {"family": family.name, "model": family.model, "cut_at": list(family.points)}
    try:
        network = Stages.from_module(copy.deepcopy(whole), family.points)
    except NetworkError as error:
        return {**row, **dict.fromkeys(STEPS, f"refused: {error}")}
    data = pictures(family.side)
    steps: dict[str, Callable[[], float]] = {
        "logits": lambda: max(in_mode(whole, network, family.points, data, mode)[0] for mode in (True, False)),
        "values": lambda: max(in_mode(whole, network, family.points, data, mode)[1] for mode in (True, False)),
        "search": lambda: searched(whole, network, data, folder),
        "learn": lambda: learned(whole, network, data, folder),
        "record": lambda: recorded(whole, network, family.points, data, folder),
        "ensemble": lambda: answered(family, data),
    }
    for name, step in steps.items():
        try:
            row[name] = step()
        except DecoupleError as error:
            row[name] = f"refused: {error}"
    return row


def in_mode(
    whole: nn.Module, network: Stages, points: Sequence[str], data: ImageData, training: bool
) -> tuple[float, float]:
    """Differences of the logits and of the values at the points, under the same random numbers."""
    whole, network = copy.deepcopy(whole).train(training), copy.deepcopy(network).train(training)
    seen: dict[str, Tensor] = {}

    def note(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(module: nn.Module, inputs: Any, found: Tensor) -> None:
            seen[name] = found.detach().clone()  # what comes after may overwrite it

        return hook

    modules = dict(whole.named_modules())
    hooks = [modules[name].register_forward_hook(note(name)) for name in points if name in modules]
    images = data.train.images
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        wanted = whole(images)
        torch.manual_seed(1)
        found = network.activations(images)
    for hook in hooks:
        hook.remove()
    values = dict(zip(points, found, strict=True))
    return difference(found[-1], wanted), max(difference(values[name], value) for name, value in seen.items())


def searched(whole: nn.Module, network: Stages, data: ImageData, folder: Path) -> float:
    """Difference of the loss before the search, by the judge and by the whole module with batch statistics."""
    targets = decouple.search_solution(network, data.train, folder / "targets", config=SEARCH)
    reference = copy.deepcopy(whole).eval()
    for module in reference.modules():
        if isinstance(module, NORMS):
            module.train()
            module.track_running_stats = False
    images = data.train.images
    with torch.no_grad():
        loss = functional.cross_entropy(reference(images), data.train.labels, reduction="none")
        judge = Judge(network)
        values, apart = images, 0.0
        for point in judge.points(images):
            values = judge.advance(point.index, values)
            apart = max(apart, difference(-judge.fitness(point, values.unsqueeze(1), data.train.labels).squeeze(1), loss))
    found = targets.diagnostics()
    if not float(found["after"].mean(1)[-1]) < float(loss.mean()):
        raise NetworkError("the search did not lower the loss")
    return max(apart, difference(found["before"][0], loss))


def learned(whole: nn.Module, network: Stages, data: ImageData, folder: Path) -> float:
    """Difference of the weights after an epoch of SGD; the searched targets are learned as well."""
    weights = []
    for each in (copy.deepcopy(whole), copy.deepcopy(network)):
        optimizer = torch.optim.SGD(each.parameters(), lr=0.01, momentum=0.9)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)
            Loop(each, optimizer, CrossEntropy()).epoch(
                ImageLoader(each, data.train, augmentation="none", precision="float32", seed=0),
                list(torch.arange(IMAGES).split(IMAGES // 2)),
                before_step=lambda step: None,
                seed=0,
                what=type(whole).__name__,
            )
        weights.append(
            {name.split(".", 2)[-1] if isinstance(each, Stages) else name: v for name, v in each.state_dict().items()}
        )
    targets = decouple.search_solution(network, data.train, folder / "targets", config=SEARCH)
    settings = LearnConfig(epochs=1, batch=IMAGES // 2, supervise="all")
    decouple.learn_targets(copy.deepcopy(network), data.train, targets, validation=data.validation, config=settings)
    return max(difference(weights[1][name], weights[0][name]) for name in weights[1])


def recorded(whole: nn.Module, network: Stages, points: Sequence[str], data: ImageData, folder: Path) -> float:
    """Difference of the recordings of the layers that both have."""
    layers = [point for point in points if point in dict(whole.named_modules())]
    found = []
    for name, each in (("whole", whole), ("cut", network)):
        recorder = Recorder(layers, data.train.images, folder / name)
        recorder(0, each)
        found.append(Recording.open(recorder.folder).at(0))
    return max(difference(found[1][layer], found[0][layer]) for layer in layers)


def answered(family: Family, data: ImageData) -> float:
    """Difference of an ensemble's probabilities from the mean of the whole modules'."""
    members = [family.make(seed).eval() for seed in (0, 1)]
    images = data.test.images[:8]
    with torch.no_grad():
        wanted = torch.stack([member(images).softmax(1) for member in members]).mean(0)
        cut = [Stages.from_module(member, family.points) for member in members]
        return difference(Ensemble(cut, [1, 1])(images).exp(), wanted)


def difference(one: Tensor, other: Tensor) -> float:
    """The largest, as a share of the largest value."""
    one, other = one.double(), other.double()
    return float((one - other).abs().max() / other.abs().max().clamp_min(1e-30))


def as_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The table."""

    def cell(value: Any) -> str:
        if isinstance(value, str):
            return value
        return "0" if value == 0 else f"{value:.0e}"

    lines = []
    for row in rows:
        points = ", ".join(f"`{point}`" for point in row["cut_at"])
        lines.append([row["family"], f"`{row['model']}`", points, *(cell(row[step]) for step in STEPS)])
    return markdown(["family", "model", "cut at", *STEPS], lines)


def main(arguments: Arguments) -> None:
    rows = []
    for family in FAMILIES:
        if family.name not in arguments.families:
            continue
        with tempfile.TemporaryDirectory() as folder:
            rows.append(examine(family, Path(folder)))
        print(as_markdown(rows[-1:]).splitlines()[-1], flush=True)
    works = sum(all(isinstance(row[step], float) for step in STEPS) for row in rows)
    settings = {"images": IMAGES, "classes": CLASSES, "families": list(arguments.families)}
    write_table(write_receipt("families", {"rows": rows, "works": works}, settings=settings), as_markdown(rows))


if __name__ == "__main__":
    launch(main, Arguments, __doc__)
