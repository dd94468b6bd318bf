"""Classification of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from decouple.analysis.calibration import SHOWN, confused, confusion, reliability, scores
from decouple.data.images import ImageData, Split, check_scale, in_unit_scale
from decouple.errors import DataError
from decouple.networks.checks import check_batches, check_fit, expect_stages
from decouple.networks.stages import Stages
from decouple.results import Calibration
from decouple.seeds import derive
from decouple.tasks.base import Task
from decouple.training.evaluate import BATCH, logits
from decouple.training.processes import Group
from decouple.training.stream import ImageLoader


@dataclass(frozen=True)
class ImageTask(Task):
    """Networks that classify images."""

    data: ImageData
    augment: str = "none"
    new: Callable[[int], Stages] | None = None
    """Builds a network from a seed."""

    @property
    def examples(self) -> int:
        return len(self.data.train)

    @property
    def digest(self) -> str:
        return self.data.train.digest + ("" if self.augment == "none" else f", {self.augment}")

    def loader(self, network: nn.Module, *, precision: str, seed: int, epoch: int, group: Group) -> ImageLoader:
        return ImageLoader(
            network,
            self.data.train,
            augmentation=self.augment,
            precision=precision,
            seed=derive(seed, "epoch", epoch),
            group=group,
        )

    def predict(self, network: nn.Module, part: str, *, precision: str = "float32") -> Tensor:
        return logits(expect_stages(network), self._part(part)).double().softmax(1)

    def muon_parameters(self, network: nn.Module) -> Sequence[nn.Parameter]:
        output = {id(p) for p in network.stages[-1].parameters()} if isinstance(network, Stages) else set()
        return [p for p in network.parameters() if id(p) not in output]

    def build(self, seed: int) -> nn.Module:
        return super().build(seed) if self.new is None else self.new(seed)

    def check(self, network: nn.Module, batch: int) -> None:
        network, data = expect_stages(network), self.data
        if not len(data.prior):
            raise DataError(
                "prior has no images: expected some, by which the members of a population are weighed (data.prior)"
            )
        check_scale(data.prior.images, in_unit_scale(data.train.images), "the images of prior")
        check_fit(network, data.train)
        check_fit(network, data.prior, "prior")
        check_batches(network, data.train, batch)
        check_batches(network, data.prior, BATCH, "prior", training=False)

    def mark(self, network: nn.Module) -> None:
        expect_stages(network).train_on(self.data.train.images, self.data.classes)

    def true_classes(self, part: str) -> Tensor:
        return self._part(part).labels

    def scores(self, answers: Tensor, nll: float) -> dict[str, float]:
        return scores(answers, self.data.test.labels)

    def calibration(self, answers: Tensor) -> Calibration:
        labels, classes = self.data.test.labels, self.data.classes
        pairs = confusion(answers.argmax(1), labels, len(classes)).tolist()
        return Calibration(reliability=reliability(answers, labels), confused=confused(pairs, classes, SHOWN))

    def _part(self, name: str) -> Split:
        part: Split = getattr(self.data, name)
        return part
