"""Runs that never ran: results and curves of any shape, realistic enough to look at, through the real schemas."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

from decouple.config import RunConfig
from decouple.files import write_json
from decouple.results import (
    FORMAT,
    Accuracies,
    BeforeAfter,
    Calibration,
    Comparison,
    Cost,
    Curves,
    Diversity,
    Gain,
    Member,
    NetworkResult,
    Q0Results,
    Reliability,
    Results,
    SearchResults,
    TrainingCurve,
    TrajectoryCurve,
    Ways,
    to_json,
)
from decouple.settings import to_builtins

RUN: dict[str, Any] = {
    "format": 2,
    "command": "decouple run digits --out runs/digits-seed0",
    "created": "2026-01-02T03:04:05+00:00",
    "seed": 0,
    "versions": {"python": "3.11.7", "decouple": "0.1.0", "torch": "2.14.1", "evotorch": "0.6.1", "numpy": "2.3.1"},
    "commit": "0123456789ab",
    "device": "cpu",
    "device_name": "Example CPU",
    "threads": 2,
    "platform": "Linux-6.1-x86_64",
    "data": {"digest": "1a2b3c4d5e6f", "settings": "00ff00ff", "root": None},
    "stages": {name: {"seconds": s} for name, s in (("search", 21.4), ("learn", 18.9), ("compare", 5.2), ("q0", 14.0))},
}


def made_up(
    *,
    solutions: int = 2,
    points: int = 4,
    generations: tuple[int, ...] = (40, 20, 20, 10),
    epochs: int = 40,
    records: int = 10,
    trajectories: int | None = None,
    cycles: int = 4,
    sgd: int = 2,
    test: int = 360,
    preset: str = "digits",
    data: str = "digits",
) -> tuple[Results, Curves]:
    """Results and curves that agree with each other."""
    draw = random.Random(solutions * 1000 + points * 100 + cycles)
    names = [f"block{i}" for i in range(points - 1)] + ["logits"]
    budget = [generations[min(i, len(generations) - 1)] for i in range(points - 1)] + [generations[-1]]
    search = _search(draw, names, budget, solutions)
    means = {name: [sum(v) / solutions for v in zip(*search[name], strict=True)] for name in names}
    networks, training = _networks(draw, solutions, sgd, epochs)
    paths = {name: _trajectory(draw, names, name, epochs, records) for name in networks}
    q0, sizes = _population(draw, trajectories or solutions, cycles)
    searched = [n.test_accuracy for n in networks.values() if n.kind == "search"]
    baseline = next(n.test_accuracy for n in networks.values() if n.kind == "sgd" and n.test_accuracy is not None)
    pairs = {a: {b: 0.0 for b in networks if b != a} for a in networks}
    for a in networks:
        for b in pairs[a]:
            pairs[a][b] = pairs[b][a] = draw.uniform(0.02, 0.06)
    results = Results(
        format=FORMAT,
        preset=preset,
        data=data,
        seed=0,
        classes=10,
        images={"train": 1137, "validation": 150, "prior": 150, "test": test},
        test_accuracy=Accuracies(sgd=baseline, search=[s for s in searched if s is not None]),
        search=SearchResults(
            points=names,
            cross_entropy={n: BeforeAfter(before=means[n][0], after=means[n][-1]) for n in names},
            solved={n: 1 - 0.3 / (i + 1) ** 3 for i, n in enumerate(names)},
            displacement={n: 0.4 / (i + 1) + draw.uniform(0, 0.05) for i, n in enumerate(names)},
            cosine={n: 0.2 / (i + 1) for i, n in enumerate(names)},
            failed_generations=0,
            evaluations_per_image=48 * sum(budget) + points,
            stop_reason="every search point had all of its generations",
        ),
        diversity=Diversity(
            solutions=solutions, n_eff={n: 1 + (solutions - 1) * 0.5 / (i + 1) for i, n in enumerate(names)}
        ),
        networks=networks,
        compare=Comparison(
            images=100,
            cosine_distance={n: {p: paths[n].cosine_distance[p][-1] for p in names} for n in networks},
            cka={a: {b: 1 - 4 * v for b, v in row.items()} for a, row in pairs.items()},
            disagreement=pairs,
        ),
        q0=q0,
        cost=Cost(
            search_evaluations=solutions * 1137 * 48 * sum(budget),
            gradient_steps=9 * epochs * len(networks) + 36 * len(q0.members),
            target_bytes=1137 * solutions * 4000,
        ),
    )
    calibration = {way: _calibration(draw, test) for way in ("single", "learned_prior", "calibrated")}
    series: dict[str, Any] = {"training": training, "trajectories": paths, "calibration": calibration}
    curves = Curves(format=FORMAT, search=search, q0_size=sizes, **series)
    to_json(results), to_json(curves)
    return results, curves


def _calibration(draw: random.Random, test: int) -> Calibration:
    counts = [0] * 5 + [test // 20] * 9 + [test - 9 * (test // 20)]
    confidence = [(place + 0.5) / 15 if count else 0.0 for place, count in enumerate(counts)]
    accuracy = [min(1.0, value + draw.uniform(0, 0.1)) if value else 0.0 for value in confidence]
    return Calibration(
        reliability=Reliability(tuple(counts), tuple(confidence), tuple(accuracy)),
        confused=[("8", "3", 5), ("<9>", "4", 2)],
    )


def write_run(
    folder: Path, results: Results, curves: Curves, config: RunConfig | None = None, run: dict[str, Any] | None = None
) -> Path:
    """The files of a run directory that the report reads."""
    config = config or replace(RunConfig(), preset=results.preset, data=replace(RunConfig().data, name=results.data))
    write_json(folder / "config.json", to_builtins(config))
    write_json(folder / "run.json", RUN if run is None else run)
    write_json(folder / "results.json", to_json(results))
    write_json(folder / "curves.json", to_json(curves))
    return folder


def _search(draw: random.Random, names: list[str], budget: list[int], solutions: int) -> dict[str, list[list[float]]]:
    curves: dict[str, list[list[float]]] = {name: [] for name in names}
    for _ in range(solutions):
        value = draw.uniform(2.3, 2.4)
        for name, generations in zip(names, budget, strict=True):
            floor = value * draw.uniform(0.12, 0.3)
            line = [floor + (value - floor) * math.exp(-5 * g / max(generations, 1)) for g in range(generations + 1)]
            curves[name].append(line)
            value = line[-1]
    return curves


def _networks(
    draw: random.Random, solutions: int, sgd: int, epochs: int
) -> tuple[dict[str, NetworkResult], dict[str, TrainingCurve]]:
    networks, training = {}, {}
    for kind, number in [("search", i) for i in range(solutions)] + [("sgd", i + 1) for i in range(sgd)]:
        top = draw.uniform(0.94, 0.965) if kind == "search" else draw.uniform(0.965, 0.985)
        accuracy = [top - (top - 0.1) * math.exp(-(e + 1) / 3) - draw.uniform(0, 0.008) for e in range(epochs)]
        scale = 0.5 if kind == "search" else 2.0
        loss = [scale * math.exp(-4 * (e + 1) / epochs) + 0.01 * scale for e in range(epochs)]
        best = max(range(epochs), key=lambda e: accuracy[e])
        name = f"{kind}-{number}"
        training[name] = TrainingCurve(loss=loss, validation_accuracy=accuracy)
        networks[name] = NetworkResult(
            kind=kind,
            groups=2 if kind == "search" else number,
            parameters=58_410 + 18_000 * number,
            best_epoch=best + 1,
            validation_accuracy=accuracy[best],
            test_accuracy=accuracy[best] - 0.01 if kind == "search" or number == sgd else None,
            test_nll=0.1 + 0.02 * number if kind == "search" or number == sgd else None,
            gradient_steps=9 * epochs,
            search_evaluations=150_000 if kind == "search" else 0,
        )
    return networks, training


def _trajectory(draw: random.Random, names: list[str], network: str, epochs: int, records: int) -> TrajectoryCurve:
    at = sorted({round(epochs * r / max(records - 1, 1)) for r in range(records)}) if records > 1 else [0]
    searched = network.startswith("search")
    floor = 0.35 if searched else 0.9
    turn = draw.uniform(-0.5, 0.5) + (0 if searched else 1.9)

    def falling(start: float, end: float) -> list[float]:
        return [end + (start - end) * math.exp(-5 * e / max(epochs, 1)) + draw.uniform(0, 0.02) for e in at]

    return TrajectoryCurve(
        epochs=at,
        cosine_distance={name: falling(0.98, floor + 0.04 * i) for i, name in enumerate(names)},
        within_entropy={name: falling(1.6, 0.9 - 0.1 * i + draw.uniform(0, 0.1)) for i, name in enumerate(names)},
        between_entropy={name: falling(2.0, 2.4 + 0.1 * i + (0 if searched else 0.3)) for i, name in enumerate(names)},
        position=[
            [
                0.5 * (1 - math.exp(-4 * e / epochs)) * math.cos(turn + 0.6 * e / epochs) - 0.2,
                0.5 * (1 - math.exp(-4 * e / epochs)) * math.sin(turn + 0.6 * e / epochs),
            ]
            for e in at
        ],
    )


def _population(draw: random.Random, trajectories: int, cycles: int) -> tuple[Q0Results, dict[str, list[float]]]:
    count = trajectories * cycles
    raw = [draw.random() ** 3 if draw.random() < 0.6 else 0.0 for _ in range(count)]
    raw[-1] = 1.0
    weights = [value / sum(raw) for value in raw]
    members = [
        Member(
            trajectory=i // cycles,
            cycle=i % cycles,
            weight=weights[i],
            validation_nll=0.2,
            prior_nll=0.2 + 0.1 / (1 + i % cycles) + draw.uniform(0, 0.02),
            test_nll=0.21 + 0.1 / (1 + i % cycles) + draw.uniform(0, 0.02),
            scores={"accuracy": 0.95 + draw.uniform(0, 0.02), "ece": 0.05, "brier": 0.08},
        )
        for i in range(count)
    ]
    single = min(members, key=lambda m: m.prior_nll)
    start = max(m.test_nll for m in members)
    sizes = {
        "uniform": [0.16 + (start - 0.16) / k**0.8 for k in range(1, count + 1)],
        "greedy": [0.155 + (single.test_nll - 0.155) / k**0.8 for k in range(1, count + 1)],
        "learned_prior": [0.15 + (single.test_nll - 0.15) / k**0.9 for k in range(1, count + 1)],
        "calibrated": [0.13 + (single.test_nll - 0.13) / k**0.9 for k in range(1, count + 1)],
    }
    used = sum(weight > 0 for weight in weights)
    q0 = Q0Results(
        test_nll=Ways(
            single=single.test_nll,
            uniform=sizes["uniform"][-1],
            learned_prior=sizes["learned_prior"][used - 1],
            greedy=sizes["greedy"][used - 1],
            calibrated=sizes["calibrated"][used - 1],
        ),
        scores={
            "accuracy": Ways(
                single=single.scores["accuracy"], uniform=0.9722, learned_prior=0.975, greedy=0.9722, calibrated=0.975
            ),
            "ece": Ways(single=0.0312, uniform=0.0171, learned_prior=0.0104, greedy=0.0113, calibrated=0.0081),
            "brier": Ways(single=0.0621, uniform=0.0512, learned_prior=0.0498, greedy=0.0503, calibrated=0.0441),
        },
        prior_nll=Ways(single=single.prior_nll, uniform=0.164, learned_prior=0.139, greedy=0.142, calibrated=0.121),
        learned_minus_uniform=Gain(value=-0.0042, low=-0.0101, high=0.0013),
        prior_strength=75.0,
        temperature=0.8,
        size=count,
        members_used=used,
        members=members,
        epochs=4 * count,
    )
    return q0, sizes
