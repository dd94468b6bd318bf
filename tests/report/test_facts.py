"""The sentences: they say what the figures say, and the limits follow from what the run was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from decouple.config import LearnConfig, LiveConfig, RoundsConfig, RunConfig, SearchConfig, TextConfig
from decouple.files import write_json
from decouple.formats import nats, percent, standard_error
from decouple.report import build_report, paper
from decouple.report.facts import limits, summary
from decouple.report.inputs import RunInfo, Sitting
from decouple.results import FORMAT, Curves, TextResults, Ways, to_json
from decouple.settings import to_builtins

from .made_up import made_up
from .reading import Page


def test_summary_gives_the_headline_figures() -> None:
    results, _ = made_up()
    text = summary(RunConfig(), results)
    assert text.startswith("2 independent searches ")
    for accuracy in (results.test_accuracy.sgd, min(results.test_accuracy.search), max(results.test_accuracy.search)):
        assert percent(accuracy) in text
    for nll in (results.q0.test_nll.single, results.q0.test_nll.uniform, results.q0.test_nll.learned_prior):
        assert nats(nll) in text
    assert "percentage points more" in text


def test_summary_of_one_solution_is_in_the_singular() -> None:
    text = summary(RunConfig(), made_up(solutions=1, cycles=1)[0])
    assert text.startswith("A search ")
    assert "A network that learned" in text
    assert "1 snapshot reaches" in text


def test_figures_of_some_of_the_members_are_not_said_of_all() -> None:
    results, _ = made_up(cycles=4)
    q0 = results.q0
    for size, words, uniform in ((2, "2 heaviest of", "2 latest"), (1, "heaviest of", "latest")):
        text = summary(RunConfig(), msgspec.structs.replace(results, q0=msgspec.structs.replace(q0, size=size)))
        reach = "reach" if size > 1 else "reaches"
        assert f"The {words} a q0 population's 8 snapshots {reach} a test NLL of {nats(q0.test_nll.learned_prior)}" in text
        assert f"and the {uniform} {nats(q0.test_nll.uniform)} with uniform ones" in text


def test_the_page_of_a_text_says_of_which_members_its_figures_are(tmp_path: Path) -> None:
    results, curves = made_up(cycles=4)
    bits = Ways(single=1.5, uniform=1.4, learned_prior=1.25, greedy=1.3)
    plain = {name: msgspec.structs.replace(getattr(results.q0, name), calibrated=None) for name in ("test_nll", "prior_nll")}
    sizes = {way: nlls for way, nlls in curves.q0_size.items() if way != "calibrated"}
    for size, reach in ((8, "they reach 1.2500"), (2, "the 2 heaviest reach 1.2500"), (1, "the heaviest reaches 1.2500")):
        q0 = msgspec.structs.replace(results.q0, scores={"bits_per_byte": bits}, size=size, temperature=None, **plain)
        for member in q0.members:
            member.scores = {"bits_per_byte": 1.5}
        parts = dict.fromkeys(("train", "validation", "prior", "test"), 1000)
        found = TextResults(
            format=FORMAT, preset="tiny", seed=0, parameters=100, vocabulary=256, bytes=parts, tokens=parts, q0=q0
        )
        write_json(tmp_path / "config.json", to_builtins(TextConfig()))
        write_json(tmp_path / "run.json", {})
        write_json(tmp_path / "results.json", to_json(found))
        write_json(tmp_path / "curves.json", to_json(Curves(format=FORMAT, q0_size=sizes)))
        text = " ".join(Page(build_report(tmp_path).read_text()).text.split())
        assert f"With the learned prior {reach} bits per byte" in text
        assert ("with uniform weights 1.4000" in text) == (size == 8)


@pytest.mark.parametrize(
    ("changes", "rounds", "learned"),
    [
        ({"live": LiveConfig(weight=0)}, 0, "learned to reproduce these activations, one"),
        ({}, 0, "learned to reproduce these activations and to follow a search that went on at every step, one"),
        ({"target_weight": 0}, 0, "learned to follow a search that went on at every step, not these activations, one"),
        ({"live": LiveConfig(weight=0)}, 2, "these activations, and went on in 2 rounds of being searched themselves, one"),
    ],
)
def test_summary_says_what_was_learned(changes: dict[str, Any], rounds: int, learned: str) -> None:
    config = RunConfig(learn=replace(LearnConfig(), **changes), rounds=RoundsConfig(count=rounds))
    results, _ = made_up()
    assert learned in summary(config, results)
    said = any(limit.startswith("Live search scores 64 candidates") for limit in limits(config, results, RunInfo()))
    assert said == bool(config.learn.live.weight)


@pytest.mark.parametrize("algorithm", ["random", "gradient"])
def test_a_reference_is_called_one(algorithm: Any) -> None:
    results, _ = made_up(data="mnist")
    config = RunConfig(search=SearchConfig(algorithm=algorithm))
    assert any("a reference, not a method" in line for line in limits(config, results, RunInfo()))
    assert any("a reference, not a method" in line for line in paper.differences(config, results))
    text = summary(config, results)
    assert ("without backpropagation" in text) == (algorithm == "random")


def test_limits_follow_from_the_settings() -> None:
    results, _ = made_up()
    config = RunConfig()
    text = " ".join(limits(config, results, RunInfo()))
    assert "One seed" in text
    assert "360 test images" in text
    assert percent(standard_error(results.test_accuracy.sgd, 360), 2) in text
    assert "the images of a search batch (up to 128) influence one another" in text
    assert "8 weights fitted on 150 images" in text
    assert "beyond the learning that seeded it" in text
    assert "best of 2 depths" in text
    other = replace(
        config,
        precision="bfloat16",
        search=replace(config.search, statistics="frozen"),
        network=replace(config.network, statistics="batch"),
        q0=replace(config.q0, init="random"),
    )
    assert "reference" not in text
    text = " ".join(limits(other, made_up(solutions=1, sgd=1, test=10_000)[0], RunInfo()))
    assert "influence one another" not in text
    assert "images that share its batch" in text
    assert "8 significant bits" in text
    assert "A single solution" in text
    assert "beyond the learning" not in text
    assert "depths" not in text


def test_a_gap_is_measured_by_its_error() -> None:
    small = " ".join(limits(RunConfig(), made_up(test=20)[0], RunInfo()))
    large = " ".join(limits(RunConfig(), made_up(test=1_000_000)[0], RunInfo()))
    assert "less than twice that" in small
    assert "more than twice that" in large


def test_sittings_that_differ_are_a_limit() -> None:
    results, _ = made_up()
    same = RunInfo(sittings=[Sitting(threads=2), Sitting(threads=2, command="decouple report run")])
    assert "sittings" not in " ".join(limits(RunConfig(), results, same))
    other = RunInfo(sittings=[Sitting(threads=2), Sitting(threads=1)])
    assert "made in 2 sittings that differ in device, threads (1, 2) or versions" in limits(RunConfig(), results, other)[0]


def test_a_prior_that_did_not_help_is_named() -> None:
    results, _ = made_up()
    worse = msgspec.structs.replace(results.q0.test_nll, learned_prior=9.0)
    q0 = msgspec.structs.replace(results.q0, test_nll=worse)
    text = " ".join(limits(RunConfig(), msgspec.structs.replace(results, q0=q0), RunInfo()))
    assert "the learned prior did not help: on test images its NLL, not calibrated, is higher than that of" in text
