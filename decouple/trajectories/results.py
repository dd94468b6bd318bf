"""What a comparison of trajectories reports: the schema of `comparison.json`."""

from __future__ import annotations

from decouple.results import Record, TrajectoryCurve

FORMAT = 1


class Bounds(Record):
    """A figure and its 95 % interval over the samples (see `decouple.analysis.half_samples`): other samples of the same kind,
    the same networks. How much other networks would differ it does not say."""

    value: float
    low: float
    high: float


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
    distance: dict[str, Bounds]
    """By layer: 1 − CKA."""
    disagreement: Bounds | None


class Difference(Record):
    """How much further apart the pairs of one family are than those of another: above 0 where they are."""

    one: str
    other: str
    distance: dict[str, Bounds]
    """By layer: of 1 − CKA."""
    disagreement: Bounds | None


class Correlation(Record):
    """Spearman's correlation, over pairs of networks that learned different solutions, of how far apart their targets are and how
    far apart they are themselves."""

    family: str
    pairs: int
    layer: str
    targets: str
    """Distance of the targets: cosine (mean over the samples) or cka (1 − CKA)."""
    representations: Bounds | None
    """With 1 − CKA of the networks at the same layer; None where either does not vary."""
    predictions: Bounds | None
    """With their disagreement."""
    points: list[tuple[float, float, float | None]]
    """A pair each: distance of the targets, of the representations, of the predictions."""


class Ensemble(Record):
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
    ensembles: dict[str, Ensemble]
