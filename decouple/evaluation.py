"""How good a network's or an ensemble's answers are, and how far its confidence can be trusted."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional

from decouple.analysis.calibration import BINS, SHOWN, confused, confusion, reliability, scores
from decouple.data.images import ImageData, Split
from decouple.errors import DataError, NotFiniteError, expect
from decouple.formats import html_table, percent, percent_digits, plural
from decouple.networks.stages import refuse_probabilities
from decouple.results import Reliability
from decouple.training.evaluate import Batches, answers

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Evaluation:
    """Metrics of a network or an ensemble on labelled images."""

    images: int
    accuracy: float
    """Share of the images classified correctly."""
    nll: float
    """Mean negative log-likelihood of the true class, nats."""
    ece: float
    """Expected calibration error, 0..1: see `Reliability.ece`."""
    brier: float
    """Brier score: 0 (sure and right) to 2 (sure and wrong)."""
    classes: tuple[str, ...]
    """Name of each class; its number, where no names are known."""
    confusion: tuple[tuple[int, ...], ...]
    """Images by true class (row) and answer (column)."""
    reliability: Reliability

    def confused(self, most: int = SHOWN) -> list[tuple[str, str, int]]:
        """The most frequent confusions: true class, answer, images; the most frequent one first."""
        return confused(self.confusion, self.classes, most)

    def figure(self) -> Figure:
        """The reliability diagram."""
        from decouple.report.figures.reliability import reliability_figure  # matplotlib takes a while to import

        return reliability_figure({"": self.reliability})

    def rows(self) -> list[tuple[str, str]]:
        """The figures as a reader sees them, by name."""
        accuracy = f"{percent(self.accuracy, percent_digits(self.images))} %"
        figures = [(field.name, f"{getattr(self, field.name):.4f}") for field in fields(self) if field.name in FIGURES]
        return [("accuracy", accuracy), *((FIGURES[name], value) for name, value in figures)]

    def __repr__(self) -> str:
        """
        >>> import torch
        >>> evaluate(nn.Flatten(), [(3 * torch.eye(4)[:, None], torch.tensor([0, 1, 2, 2]))])
        Evaluation(4 images: accuracy 75.0 %, NLL 0.8892, ECE 0.1200, Brier 0.4359)
        """
        return f"Evaluation({plural(self.images, 'image')}: {', '.join(' '.join(row) for row in self.rows())})"

    def _repr_html_(self) -> str:
        from decouple.report.style import render

        picture = base64.b64encode(render(self.figure(), "svg")).decode()
        confused = [(truth, answer, str(count)) for truth, answer, count in self.confused()]
        tables = [html_table([("images", str(self.images)), *self.rows()])]
        tables += [html_table(confused, ("true class", "taken for", "images"))] if confused else []
        return f'{"".join(tables)}<img alt="reliability diagram" src="data:image/svg+xml;base64,{picture}">'


FIGURES = {"nll": "NLL", "ece": "ECE", "brier": "Brier"}


def evaluate(
    model: nn.Module, data: Split | ImageData | Batches, *, classes: Sequence[str] = (), bins: int = BINS
) -> Evaluation:
    """Evaluate a network or an ensemble, in evaluation mode and without gradients; its own mode is as it was afterwards.

    Args:
        model: images (B, …) → logits (B, C), or log-probabilities as an `Ensemble` gives them; on any device.
        data: a split; a data set, of which its test part is taken; or batches of images (B, …) and labels (B,), such as a
            DataLoader. A model that is not decouple's gets the uint8 images of a split as floats in 0..1.
        classes: their names; by default those of the data or of the model.
        bins: of the calibration error and its diagram.

    Raises:
        DataError: no images, something else than images and labels, or a label that the model has no logit for.
        NetworkError: the model's answers are no logits (B, C), but probabilities, say.
        NotFiniteError: an answer is NaN or infinite.
    """
    expect(model, nn.Module, "model")
    logits, labels = answers(model, data)
    refuse_probabilities(logits, f"the {type(model).__name__}")
    count = logits.shape[1]
    known = next(
        (tuple(names) for names in (classes, getattr(data, "classes", ()), getattr(model, "classes", ())) if names), ()
    )
    if known and len(known) != count:
        raise DataError(f"{len(known)} classes are named, and the model has {count} logits: expected a name for each")
    return figures(logits, labels, known, bins)


def figures(logits: Tensor, labels: Tensor, classes: Sequence[str] = (), bins: int = BINS) -> Evaluation:
    """Of logits (N, C) and labels (N,). Raises NotFiniteError: an answer is infinite."""
    count, likelihoods = logits.shape[1], logits.double().log_softmax(1)
    if likelihoods.isnan().any():
        raise NotFiniteError("the model's answers are infinite for some image: check the model and the scale of the images")
    probabilities = likelihoods.exp()
    return Evaluation(
        images=len(labels),
        **scores(probabilities, labels, bins=bins),
        nll=float(functional.nll_loss(likelihoods, labels)),
        classes=tuple(classes) or tuple(map(str, range(count))),
        confusion=tuple(map(tuple, confusion(logits.argmax(1), labels, count).tolist())),
        reliability=reliability(probabilities, labels, bins=bins),
    )
