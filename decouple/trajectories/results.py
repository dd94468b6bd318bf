"""What a comparison of trajectories reports: the schema of `comparison.json`."""

from __future__ import annotations

from decouple.results import Interval, Record, TrajectoryCurve

FORMAT = 1


class Network(Record):
    """A recorded training."""

    kind: str
    solution: str | None
    """The searched solution that it learned."""
    start: str
    """Its initialisation and batches."""
    architecture: str
    """Fingerprint of the shapes of its state."""
    steps: list[int]
    accuracy: float | None
    """Share of the samples classified correctly at the last step; None without labels or class scores."""
    effective_rank: dict[str, float]
    """By layer, at the last step, of centred activations."""


class Pair(Record):
    """Two networks at their last step."""

    one: str
    other: str
    family: str
    """What the two share: see `decouple.trajectories.pairs.family_of`."""
    cka: dict[str, float]
    """By layer: linear CKA without its bias, up to 1."""
    disagreement: float | None
    """Share of the samples that they classify differently."""
    error_overlap: float | None
    """Of the samples that one of them gets wrong, the share that both do."""


class Family(Record):
    """Pairs of one family, their mean."""

    pairs: int
    distance: dict[str, Interval]
    """By layer: 1 − CKA."""
    disagreement: Interval | None


class Difference(Record):
    """How much further apart the pairs of one family are than those of another: above 0 where they are."""

    one: str
    other: str
    distance: dict[str, Interval]
    """By layer: of 1 − CKA."""
    disagreement: Interval | None


class Correlation(Record):
    """Spearman's correlation, over pairs of networks that learned different solutions, of how far apart their targets are and how
    far apart they are themselves."""

    family: str
    pairs: int
    layer: str
    targets: str
    """Distance of the targets: cosine (mean over the samples) or cka (1 − CKA)."""
    representations: Interval | None
    """With 1 − CKA of the networks at the same layer; None where either does not vary."""
    predictions: Interval | None
    """With their disagreement."""
    points: list[tuple[float, float, float | None]]
    """A pair each: distance of the targets, of the representations, of the predictions."""


class EnsembleScore(Record):
    """The networks of a kind as an ensemble that averages probabilities, on the samples: Brier score = members − ambiguity."""

    networks: int
    members: float
    ambiguity: float
    ensemble: float


class TrajectoryComparison(Record):
    format: int
    samples: int
    digest: str
    """Of the samples, their ids, labels and order: the same for every recording."""
    layers: list[str]
    logits: str | None
    headline: str
    """The layer that the map, the matrix and the summary are about: the last before the class scores."""
    draws: int
    """Half-samples behind each interval."""
    networks: dict[str, Network]
    trajectories: dict[str, TrajectoryCurve]
    pairs: list[Pair]
    families: dict[str, Family]
    differences: list[Difference]
    correlations: list[Correlation]
    ensembles: dict[str, EnsembleScore]
