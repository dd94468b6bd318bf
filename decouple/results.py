"""What a run reports: the schemas of `results.json` and `curves.json`.

`results.json` holds the figures, `curves.json` the series behind the pictures. Both hold only what the run's
configuration and seed decide (times are in `run.json`), so two equal runs write equal bytes. `schema` gives the JSON
schema of either; `decouple report --schema` prints it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from decouple._version import __version__
from decouple.errors import DamagedFileError, RunDirectoryError
from decouple.files import read_json
from decouple.formats import html_table, plural

Row = tuple[str, ...]
"""A method, its accuracy (or what a task has in its place), its NLL and, of images, its NLL once calibrated, on the test part."""

NOTICEABLE_WEIGHT = 5e-4
"""Weight from which a member counts as used: the optimum gives many members next to nothing, but not quite nothing."""


class Record(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    pass


def _nats(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


class Headlines(Record):
    """A record that a reader sees by its headline figures."""

    def rows(self) -> list[Row]:
        """A head, and a row for each method."""
        raise NotImplementedError

    def __repr__(self) -> str:
        head, *rows = self.rows()
        figures = "; ".join(f"{name} {', '.join(filter(None, cells))}" for name, *cells in rows)
        return f"{type(self).__name__}({', '.join(head[1:])}: {figures})"

    def _repr_html_(self) -> str:
        head, *rows = self.rows()
        return html_table(rows, head)


class Accuracies(Record):
    """Shares of test images classified correctly, 0..1; each network was chosen on validation and tested once."""

    sgd: float
    """The SGD baseline, the depth that did best on validation."""
    search: list[float]
    """One network for each searched solution."""


class BeforeAfter(Record):
    """A mean over images and solutions, before and after a search point was evolved (nats)."""

    before: float
    after: float


class SearchResults(Record):
    points: list[str]
    """Search points from input to output; the last are the logits."""
    cross_entropy: dict[str, BeforeAfter]
    """By search point: cross-entropy of the logits, training images."""
    solved: dict[str, float]
    """By search point: share of training images whose class is the most probable one after it was evolved."""
    displacement: dict[str, float]
    """By search point: mean norm of the displacement over the norm of where the search began."""
    cosine: dict[str, float]
    """By search point: mean cosine of the displacement with the negative gradient of the loss where the search began."""
    failed_generations: int
    """Generations of an image in which every candidate had a non-finite fitness."""
    evaluations_per_image: int
    """Candidates scored for an image, one solution, mean over the images."""
    stop_reason: str
    """Why the searches ended."""


class Diversity(Record):
    solutions: int
    n_eff: dict[str, float]
    """By search point: effective number of different solutions, 1..solutions; mean over training images."""


class NetworkResult(Record):
    """A trained network."""

    kind: str
    """search, sgd, or earlier: a searched network before the last of several rounds."""
    groups: int | None
    """ConvGroups a block; None: it is not the paper's network."""
    parameters: int
    best_epoch: int
    """Epoch with the best validation accuracy: its weights are the ones that are kept and tested."""
    validation_accuracy: float
    test_accuracy: float | None
    """None where the network was never tested: a baseline that was not chosen on validation, or an earlier round."""
    test_nll: float | None
    """Nats, of the network's own probabilities; a searched network's head has learned searched ones."""
    gradient_steps: int
    search_evaluations: int
    """Candidates that the search for its targets has scored, all images."""
    temperature: float | None = None
    """That suits the network's probabilities on the validation images (`decouple.analysis.fit_temperature`)."""
    calibrated_nll: float | None = None
    """The test NLL with it, nats."""


class Comparison(Record):
    images: int
    """Validation images on which trajectories are compared."""
    cosine_distance: dict[str, dict[str, float]]
    """By network and search point: 1 − cosine to the searched targets of those images at the end of training."""
    cka: dict[str, dict[str, float]]
    """By pair of networks: unbiased CKA, up to 1, at the last search point before the logits."""
    disagreement: dict[str, dict[str, float]]
    """By pair of networks: share of those images that they classify differently."""


class Ways(Record):
    """A figure of the best single member, and of equally many members chosen and weighted in some ways on the prior part."""

    single: float
    uniform: float
    """The latest snapshots of every trajectory, with equal weights."""
    learned_prior: float
    """The heaviest members of the learned prior, weights renormalised."""
    greedy: float
    """As many picks by greedy forward selection with replacement (Caruana et al. 2004)."""
    calibrated: float | None = None
    """The learned prior's, with `Q0Results.temperature`; None: on text."""


class Interval(Record):
    """A value with its 95 % interval over the samples. The interval covers other samples of the same kind for the same networks;
    it does not cover other networks or training seeds."""

    value: float
    low: float
    high: float


class Gain(Interval):
    """Test NLL of the learned prior minus that of uniform weights (nats, below 0 is better), with its bootstrap interval over
    the test images, or the documents of the test text."""

    value: float = msgspec.field(name="mean")


class Member(Record):
    """A snapshot of the population; NLL in nats, an image or a token."""

    trajectory: int
    cycle: int
    weight: float
    """In the learned prior, before the heaviest are chosen; all sum to 1."""
    validation_nll: float
    prior_nll: float
    test_nll: float
    scores: dict[str, float]
    """As those of the population."""


@dataclass(frozen=True)
class Reliability:
    """How often answers of a confidence are right: the series of a reliability diagram, by bin of equal width on 0..1."""

    counts: tuple[int, ...]
    """Answers whose confidence (the largest probability) lies in the bin."""
    confidence: tuple[float, ...]
    """Mean confidence of these; 0 where there are none."""
    accuracy: tuple[float, ...]
    """Share of these that are right; 0 where there are none."""

    @property
    def ece(self) -> float:
        """Expected calibration error: |accuracy − confidence|, weighted by counts; 0..1, to six digits."""
        gaps = [abs(a - c) * n for a, c, n in zip(self.accuracy, self.confidence, self.counts, strict=True)]
        return round(sum(gaps) / sum(self.counts), 6)


class Calibration(Record):
    """What answers on the test images tell beside their scores."""

    reliability: Reliability
    confused: list[tuple[str, str, int]]
    """The most frequent confusions: true class, answer, images."""


class Q0Results(Headlines):
    """A population, on images or text."""

    test_nll: Ways
    """Nats, an image or a token. The single member is the best on the prior part."""
    prior_nll: Ways
    """On the part that the prior was fitted on: not a measure of generalisation."""
    scores: dict[str, Ways]
    """Further figures on the test part. Images: accuracy; ece, the expected calibration error of 15 bins, 0..1; brier, the Brier
    score, 0..2. Text: bits_per_byte."""
    learned_minus_uniform: Gain
    prior_strength: float | None
    """Pull of the prior toward equal weights, in examples' worth, chosen by cross-validation; None: nothing but equal weights."""
    size: int
    """Members that `q0.members` asks for, or all."""
    members_used: int
    """Members of the learned-prior ensemble that have a weight of at least `NOTICEABLE_WEIGHT`, 0.0005."""
    members: list[Member]
    epochs: int
    """Total epochs of all trajectories, without the learning that seeded them."""
    temperature: float | None = None
    """Of the learned prior's probabilities, fitted on the prior part; below 1 it makes them surer. None: text."""
    members_picked: int | None = None
    """Different members among the picks of greedy selection; None: results of an earlier version."""

    def rows(self) -> list[Row]:
        name, score = next(iter(self.scores.items()))
        names = {
            "single": "best single member",
            "uniform": f"{plural(self.size, 'member')}, uniform",
            "learned_prior": f"learned prior, {plural(self.members_used, 'member')}",
            "greedy": "greedy selection" + (f", {plural(self.members_picked, 'member')}" if self.members_picked else ""),
        }
        form = "{:.2%}" if name == "accuracy" else "{:.4f}"
        rows: list[Row] = [
            ("", f"test {name.replace('_', ' ')}", "test NLL", "calibrated"),
            *(
                (
                    f"q0: {text}",
                    form.format(getattr(score, way)),
                    f"{getattr(self.test_nll, way):.4f}",
                    _nats(self.test_nll.calibrated if way == "learned_prior" else None),
                )
                for way, text in names.items()
            ),
        ]
        return rows if self.temperature else [row[:3] for row in rows]


class Cost(Record):
    search_evaluations: int
    """Candidates scored, all images, solutions and rounds."""
    gradient_steps: int
    """All networks: learned, SGD and q0."""
    target_bytes: int
    """Size of the target store."""


class Results(Headlines):
    format: int
    """Version of this schema."""
    preset: str
    data: str
    seed: int
    classes: int
    images: dict[str, int]
    """Sizes of train, validation, prior and test."""
    test_accuracy: Accuracies
    search: SearchResults
    diversity: Diversity
    networks: dict[str, NetworkResult]
    """By name: search-0, search-1, …; sgd-1, sgd-2 (the number is ConvGroups a block); search-0-before-1, … before round 1."""
    compare: Comparison
    q0: Q0Results
    cost: Cost

    def rows(self) -> list[Row]:
        head, *population = self.q0.rows()
        tested = [network for network in self.networks.values() if network.test_nll is not None]
        nll = {
            kind: [(_nats(network.test_nll), _nats(network.calibrated_nll)) for network in tested if network.kind == kind]
            for kind in ("sgd", "search")
        }
        baselines = sum(network.kind == "sgd" for network in self.networks.values())
        sgd = "SGD, best depth on validation" if baselines > 1 else "SGD"
        searched = enumerate(zip(self.test_accuracy.search, nll["search"], strict=True))
        return [
            head,
            (sgd, f"{self.test_accuracy.sgd:.2%}", *nll["sgd"][0]),
            *((f"learned from searched solution {i}", f"{share:.2%}", *own) for i, (share, own) in searched),
            *population,
        ]


class TrainingCurve(Record):
    """One value an epoch."""

    loss: list[float]
    validation_accuracy: list[float]


class TrajectoryCurve(Record):
    """One value a record, from the initial network to the last epoch."""

    epochs: list[int]
    cosine_distance: dict[str, list[float]]
    """By search point."""
    within_entropy: dict[str, list[float]]
    """Collision entropy within a class (nats), by search point."""
    between_entropy: dict[str, list[float]]
    """Collision entropy between pairs of classes (nats), by search point."""
    position: list[list[float]]
    """Place in the joint two-dimensional map of all trajectories."""
    left_out: dict[str, int] = {}
    """By search point: samples whose activations or targets are all 0, which distances and entropies leave out; of the record that
    has most. Points without any are not listed."""


class Curves(Record):
    format: int
    q0_size: dict[str, list[float]]
    """Test NLL against the number of members, 1 to all, by the ways to choose them (see `Ways`)."""
    calibration: dict[str, Calibration] = {}
    """Of the best single member (`single`), and of the learned prior's ensemble before and after it was calibrated, on test images."""
    search: dict[str, list[list[float]]] = {}
    """By search point, for each solution: mean cross-entropy of the start, and of what would be kept after each
    generation."""
    training: dict[str, TrainingCurve] = {}
    """By network."""
    trajectories: dict[str, TrajectoryCurve] = {}
    """By network."""

    def __repr__(self) -> str:
        series = {name: ", ".join(getattr(self, name)) for name in ("q0_size", "search", "training", "trajectories")}
        return f"Curves({'; '.join(f'{name} of {keys}' for name, keys in series.items() if keys)})"


class TextResults(Headlines):
    """What `decouple q0 text` reports in results.json; its curves.json has only `q0_size`."""

    format: int
    """Version of this schema."""
    preset: str
    seed: int
    parameters: int
    """Of one member."""
    vocabulary: int
    bytes: dict[str, int]
    """Text of each part, separators included."""
    tokens: dict[str, int]
    """Tokens to predict in each part."""
    q0: Q0Results

    def rows(self) -> list[Row]:
        return self.q0.rows()


FORMAT = 2
"""Of results.json and curves.json."""

RUN_FORMAT = 2
"""Of a run directory. 1 was written by decouple 0.1."""


def read_run(folder: Path) -> dict[str, Any]:
    """The run.json of a run directory; nothing, if it is missing or damaged."""
    try:
        run = read_json(folder / "run.json")
    except DamagedFileError:
        return {}
    return run if isinstance(run, dict) else {}


def expect_format(folder: Path) -> None:
    """Raise RunDirectoryError if run.json tells that another format's version has written the directory."""
    run = read_run(folder)
    if (found := run.get("format", RUN_FORMAT)) != RUN_FORMAT:
        versions = run.get("versions")
        writer = versions.get("decouple") if isinstance(versions, dict) else None
        raise RunDirectoryError(
            f"{folder} has run-directory format {found}, written by decouple {writer or '(unknown)'}; decouple {__version__} reads "
            f"format {RUN_FORMAT}: continue this run with the version that wrote it, or start it anew in another folder"
        )


def to_json(record: Record) -> Any:
    """The record as what JSON holds.

    Raises:
        msgspec.ValidationError: a value is missing or of another type than the schema says.
    """
    plain = json.loads(json.dumps(msgspec.to_builtins(record)))  # tuples become lists
    msgspec.convert(plain, type(record))
    return plain


def schema(record: type[Record] = Results) -> dict[str, Any]:
    """The JSON schema of `Results`, `TextResults` or `Curves`."""
    return msgspec.json.schema(record)
