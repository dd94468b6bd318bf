"""Comparisons of made-up trainings, whose answers are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from decouple import analysis
from decouple.analysis.rows import centred_rows
from decouple.errors import ConfigError, DataError
from decouple.report.comparison_page import answers
from decouple.results import to_json
from decouple.trajectories import Recorder, Recording, compare_recordings
from decouple.trajectories.pairs import OTHER_SOLUTIONS, SAME_SOLUTION, SAME_START
from decouple.trajectories.results import TrajectoryComparison

from .made_up import COUNT, LABELS, normal, recorded, solution, training

TARGETS = {f"s{i}": solution(i, apart=0.3 + 0.4 * i) for i in range(4)}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[Recording]:
    """Four solutions from one start, two of them from another start too; three of SGD, and one of another width."""
    folder, made = tmp_path_factory.mktemp("recordings"), []
    for start, names in (("a", TARGETS), ("b", ("s0", "s1"))):
        for name in names:
            values = training(TARGETS[name], noise=0.2, seed=ord(start))
            options = {"kind": "search", "solution": name, "start": start}
            made.append(recorded(folder / f"{name}{start}", values, **options))
    shared = solution(9, apart=0.0)
    for seed in range(4):
        values = training(shared, noise=0.05, seed=seed)
        made.append(recorded(folder / f"sgd-{seed}", values, kind="sgd", width=1 if seed < 3 else 2))
    return made


@pytest.fixture(scope="module")
def found(recordings: list[Recording]) -> TrajectoryComparison:
    return compare_recordings(recordings, targets=TARGETS, draws=60)


def test_it_is_json_and_the_same_again(recordings: list[Recording], found: TrajectoryComparison) -> None:
    again = compare_recordings(recordings, targets=TARGETS, draws=60)
    assert to_json(again) == to_json(found)
    assert (found.samples, found.layers, found.logits, found.headline) == (COUNT, ["one", "two", "scores"], "scores", "two")


def test_curves_are_distances_to_ones_own_solution_or_to_all(
    recordings: list[Recording], found: TrajectoryComparison
) -> None:
    searched = found.trajectories["s2a"]
    own = analysis.cosine_distance(recordings[2].last()["one"], TARGETS["s2"]["one"]).mean()
    assert searched.cosine_distance["one"][-1] == pytest.approx(float(own))
    assert searched.cosine_distance["one"][0] > searched.cosine_distance["one"][-1]
    sgd = found.trajectories["sgd-1"]
    values = recordings[7].last()["two"]
    every = [float(analysis.cosine_distance(values, target["two"]).mean()) for target in TARGETS.values()]
    assert sgd.cosine_distance["two"][-1] == pytest.approx(sum(every) / 4)
    within, between = analysis.class_entropy(recordings[7].at(1)["scores"], LABELS)
    assert sgd.within_entropy["scores"][1] == pytest.approx(float(within))
    assert sgd.between_entropy["scores"][1] == pytest.approx(float(between))


def test_the_map_keeps_the_distances_of_few_steps(recordings: list[Recording]) -> None:
    """Three points always fit a plane: their distances on the map are those of the biased CKA."""
    place = torch.tensor(compare_recordings(recordings[:1], draws=2).trajectories["s0a"].position).double()
    reps = [recordings[0].at(step)["two"] for step in (0, 1, 2)]
    rows = [centred_rows(values, "") for values in reps]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        a, b = (rows[k] @ rows[k].T for k in (i, j))
        expected = (2 - 2 * float((a * b).sum() / (a.norm() * b.norm()))) ** 0.5
        assert float((place[i] - place[j]).norm()) == pytest.approx(expected, abs=1e-4)


def test_pairs_are_measured_and_named_by_what_they_share(recordings: list[Recording], found: TrajectoryComparison) -> None:
    assert len(found.pairs) == 45
    pairs = {(pair.one, pair.other): pair for pair in found.pairs}
    families = {names: pair.family for names, pair in pairs.items()}
    assert families["s0a", "s1a"] == SAME_START
    assert families["s0a", "s1b"] == OTHER_SOLUTIONS
    assert families["s1a", "s1b"] == SAME_SOLUTION
    assert families["s0a", "sgd-0"] == "sgd and search"
    assert families["sgd-0", "sgd-2"] == "sgd, other starts"
    assert families["sgd-0", "sgd-3"] == "sgd, other starts, other architectures"
    one, other = recordings[0].last(), recordings[7].last()
    pair = pairs["s0a", "sgd-1"]
    assert pair.cka["one"] == pytest.approx(float(analysis.unbiased_cka(one["one"], other["one"])), abs=1e-9)
    classes = one["scores"].argmax(1), other["scores"].argmax(1)
    assert pair.disagreement == pytest.approx(float(analysis.disagreement(*classes)))
    assert pair.error_overlap == pytest.approx(float(analysis.error_overlap(*classes, LABELS)))


def test_families_are_means_with_intervals(found: TrajectoryComparison) -> None:
    own = [1 - pair.cka["two"] for pair in found.pairs if pair.family == OTHER_SOLUTIONS]
    family = found.families[OTHER_SOLUTIONS]
    assert family.pairs == len(own) == 6
    assert family.distance["two"].value == pytest.approx(sum(own) / 6)
    for family in found.families.values():
        for bounds in (*family.distance.values(), family.disagreement):
            assert bounds is not None
            assert bounds.low <= bounds.value <= bounds.high


def test_other_solutions_are_further_apart_than_other_seeds_of_sgd(found: TrajectoryComparison) -> None:
    by_other = {difference.other: difference for difference in found.differences}
    assert set(by_other) == {SAME_SOLUTION, "sgd, other starts"}
    gap = by_other["sgd, other starts"]
    expected = found.families[OTHER_SOLUTIONS].distance["two"].value - found.families[gap.other].distance["two"].value
    assert gap.distance["two"].value == pytest.approx(expected)
    assert gap.distance["two"].low > 0
    assert gap.disagreement is not None


def test_more_different_targets_give_more_different_networks(found: TrajectoryComparison) -> None:
    assert {entry.family for entry in found.correlations} == {SAME_START, OTHER_SOLUTIONS}
    for entry in found.correlations:
        targets, networks, _ = zip(*entry.points, strict=True)
        assert entry.representations is not None
        assert entry.representations.value == pytest.approx(spearmanr(targets, networks).statistic)
        assert -1 <= entry.representations.low <= entry.representations.high <= 1
    headline = next(e for e in found.correlations if (e.family, e.layer, e.targets) == (SAME_START, "two", "cosine"))
    assert headline.pairs == 7
    assert headline.representations is not None
    assert headline.representations.value > 0.8
    first = headline.points[0][0]
    assert first == pytest.approx(float(analysis.cosine_distance(TARGETS["s0"]["two"], TARGETS["s1"]["two"]).mean()))


def test_kinds_are_ensembles(found: TrajectoryComparison) -> None:
    assert set(found.ensembles) == {"search", "sgd"}
    for ensemble in found.ensembles.values():
        assert ensemble.ensemble == pytest.approx(ensemble.members - ensemble.ambiguity)


def test_without_targets_labels_and_scores_the_rest_is_compared(tmp_path: Path) -> None:
    made = [
        recorded(tmp_path / str(seed), training(solution(seed), noise=0.1, seed=seed), labels=None, logits=None)
        for seed in range(2)
    ]
    found = compare_recordings(made, draws=10)
    assert found.headline == "scores"
    assert found.correlations == found.differences == []
    assert found.trajectories["0"].cosine_distance == found.trajectories["0"].within_entropy == {}
    assert found.networks["0"].accuracy is found.pairs[0].disagreement is found.pairs[0].error_overlap is None
    assert list(found.families) == ["networks, other starts"]
    assert found.ensembles == {}
    to_json(found)


def test_layers_can_be_given_the_names_of_others(tmp_path: Path, recordings: list[Recording]) -> None:
    mine = recorded(tmp_path / "mine", {0: {"deep": normal(COUNT, 5), "scores": normal(COUNT, 3)}})
    renamed = mine.renamed({"deep": "middle"}).renamed({"middle": "two", "scores": "answers"})
    assert (renamed.layers, renamed.logits) == (("two", "answers"), "answers")
    assert torch.equal(renamed.last()["two"], mine.last()["deep"])
    assert compare_recordings([recordings[0], renamed], draws=2).layers == ["two"]
    with pytest.raises(DataError, match="recording 'mine' has no layer 'two': it has deep, scores"):
        mine.renamed({"two": "one"})
    with pytest.raises(DataError, match="would be called scores, scores: expected each name once"):
        mine.renamed({"deep": "scores"})


def test_what_cannot_be_compared_is_named(tmp_path: Path, recordings: list[Recording]) -> None:
    with pytest.raises(DataError, match="'s3a' learned the solution 's3', whose targets are not given"):
        compare_recordings(recordings, targets={name: TARGETS[name] for name in ("s0", "s1", "s2")}, draws=2)
    with pytest.raises(
        DataError, match=r"targets of the solution 's0' have a layer 'ones', which no recording has; did you mean"
    ):
        compare_recordings(recordings, targets=TARGETS | {"s0": {"ones": TARGETS["s0"]["one"]}}, draws=2)
    short = {name: {layer: values[:-1] for layer, values in target.items()} for name, target in TARGETS.items()}
    with pytest.raises(DataError, match=r"the targets of layer 'one' have shape \(23, 4, 3\)"):
        compare_recordings(recordings, targets=short, draws=2)
    other = recorded(tmp_path / "x", {0: {"else": normal(COUNT, 5)}})
    with pytest.raises(
        DataError, match=r"the recordings share no layer: 's0a' has one, two, scores; 'x' has else. Give layers"
    ):
        compare_recordings([recordings[0], other], draws=2)
    with pytest.raises(ConfigError, match="targets of the solution 's0' must be a Mapping, not Tensor; by layer"):
        compare_recordings(recordings, targets={"s0": TARGETS["s0"]["one"]}, draws=2)  # type: ignore[dict-item]
    constant = recorded(tmp_path / "c", {0: {"one": torch.ones(COUNT, 5), "scores": normal(COUNT, 3)}})
    with pytest.raises(DataError, match=r"the activations are the same for every sample: .* has a network collapsed"):
        compare_recordings([recordings[0], constant], draws=2)
    with pytest.raises(DataError, match="two recordings are called 's0a'"):
        compare_recordings([recordings[0], recordings[0]], draws=2)


def test_samples_that_are_all_zeros_are_left_out(tmp_path: Path) -> None:
    """A narrow layer behind a ReLU gives them; the other samples are compared as if they were alone."""
    values = {name: training(TARGETS[name], noise=0.2, seed=seed) for seed, name in enumerate(TARGETS)}
    for tables in values.values():
        tables[1]["one"][[3, 5]] = 0
    targets = {name: dict(target) for name, target in TARGETS.items()}
    targets["s1"]["one"] = targets["s1"]["one"].clone()
    targets["s1"]["one"][4] = 0
    made = [recorded(tmp_path / name, each, kind="search", solution=name, start="a") for name, each in values.items()]
    found = compare_recordings(made, targets=targets, draws=10)
    kept = torch.ones(COUNT, dtype=torch.bool)
    kept[[3, 4, 5]] = False
    one, target = made[1].at(1)["one"], targets["s1"]["one"]
    curve = found.trajectories["s1"]
    assert curve.cosine_distance["one"][1] == pytest.approx(float(analysis.cosine_distance(one[kept], target[kept]).mean()))
    kept[4] = True
    expected = [float(value) for value in analysis.class_entropy(one[kept], LABELS[kept])]
    assert [curve.within_entropy["one"][1], curve.between_entropy["one"][1]] == pytest.approx(expected)
    assert [found.trajectories[name].left_out for name in ("s0", "s1")] == [{"one": 2}, {"one": 3}]
    kept[[3, 5]], kept[4] = True, False
    apart = next(e for e in found.correlations if (e.layer, e.targets) == ("one", "cosine")).points[0][0]
    expected_apart = analysis.cosine_distance(targets["s0"]["one"][kept], target[kept]).mean()
    assert apart == pytest.approx(float(expected_apart))
    assert "all 0 are left out" in answers(found)[-1]
    assert "3 of 24 at 'one' of s1" in answers(found)[-1]

    few = {0: {"one": torch.zeros(COUNT, 5), "scores": normal(COUNT, 3)}}
    few[0]["one"][0] = 1.0
    made = [recorded(tmp_path / f"few{i}", few) for i in range(2)]
    with pytest.raises(DataError, match="step 0, layer 'one': 23 of 24 samples are all zeros: their cosines are undefined"):
        compare_recordings(made, draws=2)


def scaled(values: dict[int, dict[str, torch.Tensor]], factor: float) -> dict[int, dict[str, torch.Tensor]]:
    return {step: {name: factor * table.double() for name, table in tables.items()} for step, tables in values.items()}


@pytest.mark.parametrize("factor", [1e25, 1e-25, 1e37, 1e100, 1e-100])
def test_the_scale_of_activations_changes_nothing(tmp_path: Path, factor: float) -> None:
    """Nor does that of the targets."""
    found = []
    for scale in (1.0, factor):
        made = []
        for seed in range(2):
            values = scaled(training(TARGETS["s1"], noise=0.3, seed=seed), scale)
            made.append(recorded(tmp_path / f"{scale} {seed}", values, name=str(seed), solution="s1"))
        targets = {"s1": {layer: values.double() * scale for layer, values in TARGETS["s1"].items()}}
        found.append(compare_recordings(made, targets=targets, draws=10))
    one, other = found
    for name in ("0", "1"):
        a, b = one.trajectories[name], other.trajectories[name]
        for layer in one.layers:
            for series in ("cosine_distance", "within_entropy", "between_entropy"):
                assert getattr(b, series)[layer] == pytest.approx(getattr(a, series)[layer], rel=5e-3, abs=5e-3)
        assert one.networks[name].effective_rank == pytest.approx(other.networks[name].effective_rank, rel=5e-3)
    assert other.pairs[0].cka == pytest.approx(one.pairs[0].cka, rel=5e-3)


def test_a_mask_of_the_least_number_does_not_hide_the_rest(tmp_path: Path) -> None:
    """A column that all samples share is nothing to CKA, however large."""
    one, two = normal(COUNT, 5), normal(COUNT, 5, seed=1)
    mask = torch.full((COUNT, 2), torch.finfo(torch.float32).min)
    made = [
        recorded(tmp_path / name, {0: {"one": torch.cat([values, mask], 1), "scores": normal(COUNT, 3)}}, name=name)
        for name, values in (("a", one), ("b", two))
    ]
    found = compare_recordings(made, draws=10)
    assert found.pairs[0].cka["one"] == pytest.approx(float(analysis.unbiased_cka(one, two)), abs=1e-6)
    assert found.trajectories["a"].within_entropy["one"] == pytest.approx([0], abs=1e-6), "all point where the mask does"


def test_what_rounding_hides_is_not_laid_on_the_network(tmp_path: Path) -> None:
    hidden = normal(COUNT, 5)
    hidden[3] = 1e30
    made = [
        recorded(tmp_path / name, {0: {"one": values, "scores": normal(COUNT, 3)}}, name=name)
        for name, values in (("a", normal(COUNT, 5, seed=1)), ("b", hidden))
    ]
    with pytest.raises(
        DataError, match=r"in layer 'one' of 'b' a sample is apart from the others by up to 1\.0e\+30"
    ) as caught:
        compare_recordings(made, draws=10)
    assert "collapsed" not in str(caught.value)


def test_arrays_of_numpy_are_targets(recordings: list[Recording], found: TrajectoryComparison) -> None:
    arrays = {name: {layer: values.numpy() for layer, values in target.items()} for name, target in TARGETS.items()}
    assert to_json(compare_recordings(recordings, targets=arrays, draws=np.int64(60))) == to_json(found)  # type: ignore[arg-type]


def test_networks_that_are_the_same_lie_on_one_point(tmp_path: Path) -> None:
    values = {0: {"one": normal(COUNT, 5), "scores": normal(COUNT, 3)}}
    for count in (1, 2, 4):
        made = [recorded(tmp_path / f"{count} {i}", values) for i in range(count)]
        found = compare_recordings(made, draws=3)
        places = torch.tensor([curve.position[0] for curve in found.trajectories.values()])
        torch.testing.assert_close(places, torch.zeros(count, 2), rtol=0, atol=1e-3)
        assert all(pair.cka["one"] == pytest.approx(1) and pair.disagreement == 0 for pair in found.pairs)


def test_what_no_comparison_can_take_is_said_before_it_begins(tmp_path: Path, recordings: list[Recording]) -> None:
    with pytest.raises(ConfigError, match="draws must be a whole number from 1 on, not 0"):
        compare_recordings(recordings, draws=0)
    with pytest.raises(ConfigError, match=r"a recording must be a Recording, not str; Recording.open\(folder\) reads"):
        compare_recordings(["records"])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="recordings must be a Sequence, not Recording; give a list"):
        compare_recordings(recordings[0])  # type: ignore[arg-type]
    with pytest.raises(DataError, match="targets of 'one' must be a tensor or a numpy array of numbers, not str"):
        compare_recordings(recordings, targets={"s0": {"one": "x"}})  # type: ignore[dict-item]
    tables = {"one": normal(COUNT, 5), "scores": normal(COUNT, 3)}
    beyond = [recorded(tmp_path / f"beyond{i}", {0: tables}, labels=LABELS + 1) for i in range(2)]
    with pytest.raises(DataError, match="'scores' of networks of kind '' are of 3 classes, but the labels go from 1 to 3"):
        compare_recordings(beyond, draws=2)
    wider = [recorded(tmp_path / f"wide{i}", {0: {**tables, "scores": normal(COUNT, 3 + i)}}) for i in range(2)]
    with pytest.raises(DataError, match=r"have shapes \(N, 3\), \(N, 4\): expected \(N, classes\)"):
        compare_recordings(wider, draws=2)
    few = Recorder(["0"], normal(6, 4), tmp_path / "few")
    few(0, nn.Sequential(nn.Identity()))
    with pytest.raises(DataError, match="there are 6 recorded samples: expected at least 7"):
        compare_recordings([Recording.open(few.folder)], draws=2)
