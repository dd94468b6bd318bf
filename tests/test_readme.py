"""The README's examples run, and are as short as promised."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks import ablations, data_efficiency, headline, q0_images, q0_starts, q0_text, tables
from benchmarks.trajectories import as_markdown

README = Path(__file__).parents[1] / "README.md"
FIGURES = README.parent / "figures"
RESULTS = FIGURES / "README.md"
"""Every table; the README has the headlines."""
EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


@pytest.mark.parametrize("number", range(6))
def test_the_python_examples_run(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code = EXAMPLES[number]
    assert len(code.splitlines()) <= 25
    exec(compile(code, f"README example {number}", "exec"), {})
    printed = capsys.readouterr().out
    if number == 0:
        validation, test = (float(value) for value in re.findall(r"([\d.]+)%", printed))
        assert min(validation, test) > 90
    elif number == 1:
        assert len(code.splitlines()) <= 15, "a torchvision network is searched by a short script"
        assert len(re.findall(r"\d\.\d+", printed)) == 5
    elif number == 2:
        assert float(printed.split()[-1]) < 2, "from 2.4"
    elif number == 4:
        assert Path("comparison/comparison.html").is_file()
        assert "'hidden': Interval(value=0." in printed
    elif number == 5:
        assert float(re.findall(r"tensor\(([\d.]+)\)", printed)[-1]) > 0.9
    else:
        assert re.findall(r"iter : (\d+)", printed) == ["10", "20"]


def test_there_are_no_other_examples() -> None:
    assert len(EXAMPLES) == 6


def test_the_commands_of_the_readme_are_known() -> None:
    from decouple.cli import STAGE_SECTIONS
    from decouple.presets import PRESETS

    commands = re.findall(r"^decouple (\w+)(?: (\S+))?", README.read_text(), re.MULTILINE)
    assert commands
    for command, argument in commands:
        assert command in {"run", "estimate", "presets", *STAGE_SECTIONS}
        if command in ("run", "estimate"):
            assert argument in PRESETS


def test_the_table_holds_what_the_benchmark_wrote() -> None:
    figures = json.loads((FIGURES / "demo-digits.json").read_text())["figures"]
    text = README.read_text()
    for spread in figures["test_accuracy"].values():
        if isinstance(spread, dict):
            assert f"{100 * spread['mean']:.1f} ± {100 * spread['std']:.1f}" in text
    for spread in figures["test_nll"].values():
        assert f"{spread['mean']:.3f} ± {spread['std']:.3f}" in text
    assert f"reaches {100 * figures['test_accuracy']['lowest_search']:.1f} %" in text
    assert f"takes {figures['seconds']['median']:.0f} s" in text


def test_the_table_of_algorithms_is_the_benchmarks() -> None:
    table = (FIGURES / "algorithms.md").read_text().strip()
    assert table in RESULTS.read_text()


def test_what_is_said_of_matching_is_what_the_benchmark_found() -> None:
    mnist, cifar = json.loads((FIGURES / "matching.json").read_text())["figures"]["data"]
    blocks = [name for name in mnist["points"] if name != "logits"]
    alone = [mnist["summary"]["es"]["alone"][name] for name in blocks]
    assert all(match["reached"] == "3 of 3" and match["ratio"]["max"] < 1 / 40 for match in alone)
    alone = [cifar["summary"]["es"]["alone"][name] for name in blocks]
    assert all(match["reached"] == "2 of 3" and match["ratio"]["max"] < 1 / 4 for match in alone)


def test_the_scaling_curves_do_what_is_said_of_them() -> None:
    figures = FIGURES
    assert json.loads((figures / "fitness_scaling.json").read_text())["figures"]["all_fall_within_spread"]
    assert json.loads((figures / "diversity_scaling.json").read_text())["figures"]["all_grow"]


def test_the_ratios_of_speed_are_the_benchmarks() -> None:
    text = RESULTS.read_text()
    figures = json.loads((FIGURES / "search-speed-cpu.json").read_text())["figures"]
    for width in (32, 256):
        for dtype in ("bfloat16", "float32"):
            forward = [row for row in figures["forward"] if (row["width"], row["dtype"]) == (width, dtype)]
            cells = []
            for algorithm in ("es", "paper"):
                ratios = [row["ratio"] for row in forward if row["algorithm"] == algorithm]
                cells.append(f"{min(ratios):.2f} to {max(ratios):.2f}")
            for part in ("plain", "evotorch"):
                ratios = [row[dtype] for row in figures[part] if row["width"] == width]
                cells.append(f"{min(ratios):.1f} to {max(ratios):.1f}")
            assert f"| {width} channels, {dtype} | {' | '.join(cells)} |" in text
    assert f"grows by {100 * figures['memory']['spread']:.1f} %" in text


def test_the_ratios_of_learning_are_the_benchmarks() -> None:
    rows = json.loads((FIGURES / "learning-speed-cpu.json").read_text())["figures"]["rows"]
    found = {(row["width"], row["groups"], row["precision"], row["step"]): row for row in rows}
    for width, groups in ((32, 1), (32, 2), (256, 1), (256, 2)):
        for kind in ("learn by default", "learn"):
            cells = []
            for precision in ("float32", "bfloat16"):
                for store in ("in memory", "on disk"):
                    row = found[width, groups, precision, f"{kind}, store {store}"]
                    cells.append(f"{row['ratio']:.2f} ({row['cpu_ratio']:.2f})")
            assert f"| {width} channels, {2 * groups} convolutions a block | {' | '.join(cells)} |" in RESULTS.read_text()


def test_the_tables_of_learning_are_the_benchmarks() -> None:
    text, files = RESULTS.read_text(), sorted([*FIGURES.glob("tables-*.md"), *FIGURES.glob("rounds-*.md")])
    assert len(files) == 10
    for file in files:
        table = tables.as_markdown(json.loads(file.with_suffix(".json").read_text())["figures"]["entries"])
        assert file.read_text() == table
        assert "\n".join(table.splitlines()[2:]) in text


def test_the_headline_of_learning_is_the_benchmarks() -> None:
    names = ("mnist-1k", "mnist-3k", "cifar10-2k", "cifar10-10k", "cifar10-10k-flip-crop")
    entries = [json.loads((FIGURES / f"tables-{name}.json").read_text())["figures"]["entries"][0] for name in names]
    for entry in entries:
        sgd, stored, live = (entry["rows"][row] for row in ("SGD", "searched, es", "searched, es, live"))
        cells = [f"{row['against_sgd']['mean']:+.1f} ± {row['against_sgd']['std']:.1f}" for row in (stored, live)]
        assert f"| {sgd['test']['mean']:.1f} ± {sgd['test']['std']:.1f} | {' | '.join(cells)} |" in README.read_text()
        assert live["steps"] == sgd["steps"]
        assert len({len(tried) for tried in entry["tuning"].values()}) == 1, "tuned as hard"


def test_the_ablations_are_the_benchmarks() -> None:
    file = FIGURES / "ablations.md"
    entries = json.loads(file.with_suffix(".json").read_text())["figures"]["data"]
    assert file.read_text() == ablations.as_markdown(entries)
    rows = [line for line in file.read_text().splitlines() if line.startswith("| ")][1:]
    assert len(rows) == 23
    assert all(row in RESULTS.read_text() for row in rows)
    file = FIGURES / "ablations-live.md"
    assert file.read_text() == ablations.as_markdown(json.loads(file.with_suffix(".json").read_text())["figures"]["data"])
    assert file.read_text().strip() in RESULTS.read_text()


def test_accuracy_grows_with_the_compute_of_the_search() -> None:
    curves = json.loads((FIGURES / "accuracy_scaling.json").read_text())["figures"]["curves"]
    for curve in curves:
        assert curve["x"][-1] == 16 * curve["x"][0]
        said = f"{curve['mean'][0]:.1f} to {curve['mean'][-1]:.1f} %"
        assert said in RESULTS.read_text()


def test_what_is_said_of_trajectories_is_what_the_benchmark_found() -> None:
    text, file = RESULTS.read_text(), FIGURES / "trajectories.json"
    found = json.loads(file.read_text())["figures"]
    table = as_markdown(found)
    assert file.with_suffix(".md").read_text() == table
    assert table.strip() in text
    mnist, cifar = (entry["recorder"]["ratio"] for entry in found["data"])
    assert f"make training take {mnist:.2f} (MNIST) and {cifar:.2f} (CIFAR-10)" in text
    assert f"takes {found['entropy']['ratio']:.2f} of the time of the one matrix product" in text
    for entry in found["data"]:
        layer, curves = entry["headline"], entry["curves_first_and_last"]
        first, last = (end["mean"] for end in curves["sgd"]["cosine_distance"][layer])
        assert last >= first > curves["search"]["cosine_distance"][layer][1]["mean"]
        against_sgd = next(d for d in entry["differences"] if d["other"] == "sgd, other starts")
        assert all(low > 0 for _, low, _ in against_sgd["distance"][layer]["seeds"])
        for correlation in entry["correlations"]:
            if correlation["layer"] == layer and correlation["family"] == "other solutions, same start":
                assert all(low > 0 for _, low, _ in correlation["representations"]["seeds"])


def test_the_plans_are_what_the_benchmark_found() -> None:
    receipt = json.loads((FIGURES / "q0_images.json").read_text())
    plans = q0_images.plans_of(receipt["figures"]["data"], receipt["made"])
    assert json.loads((README.parent / "decouple" / "q0" / "plans.json").read_text()) == plans


def test_what_is_said_of_text_is_what_the_benchmark_found() -> None:
    file = FIGURES / "q0_text.json"
    table = headline.as_markdown(json.loads(file.read_text())["figures"], q0_text.UNIT)
    assert file.with_suffix(".md").read_text() == table
    assert table.strip() in RESULTS.read_text()


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("q0_images", q0_images.tables),
        ("q0_starts-mnist", q0_starts.as_markdown),
        ("q0_starts-cifar10", q0_starts.as_markdown),
        ("data_efficiency", data_efficiency.as_markdown),
    ],
)
def test_what_is_said_of_images_is_what_the_benchmarks_found(name: str, table: Any) -> None:
    file = FIGURES / f"{name}.json"
    written = table(json.loads(file.read_text())["figures"]["data"])
    assert file.with_suffix(".md").read_text() == written
    assert written.strip() in RESULTS.read_text()


def test_the_headlines_are_the_benchmarks() -> None:
    text = " ".join(README.read_text().split())

    def ratio(figures: dict[str, Any]) -> str:
        found = headline.headline(figures["lines"]["ensemble"], figures["lines"]["q0, learned prior"])
        return f"{found['ratio']:.1f}"

    words = json.loads((FIGURES / "q0_text.json").read_text())["figures"]
    mnist, cifar = json.loads((FIGURES / "q0_images.json").read_text())["figures"]["data"].values()
    assert f"with {ratio(words)} times fewer epochs on text, {ratio(mnist)} on MNIST and {ratio(cifar)} on CIFAR-10" in text
    speeds = [
        row["ratio"]
        for row in json.loads((FIGURES / "search-speed-cpu.json").read_text())["figures"]["forward"]
        if row["algorithm"] == "es"
    ]
    assert f"takes {min(speeds):.2f} to {max(speeds):.2f} times the bare forward passes" in text

    rows = json.loads((FIGURES / "q0_starts-mnist.json").read_text())["figures"]["data"]["MNIST"]["rows"]
    ends = [rows[name]["test_learned"]["mean"] for name in ("searched, learned with live search", "new networks")]
    assert f"on MNIST ({ends[0]:.4f} against {ends[1]:.4f} nats, learned with live search)" in text


def test_links_lead_somewhere() -> None:
    for page in (README, RESULTS):
        text = page.read_text()
        anchors = {
            re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.*)", text, re.MULTILINE)
        }
        for file, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", text):
            assert (page.parent / file).exists(), file
            if anchor and not file:
                assert anchor in anchors
            elif anchor:
                assert f"## {anchor.replace('-', ' ')}" in (page.parent / file).read_text().lower()
