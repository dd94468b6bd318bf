"""README and guides: their examples run, their commands and links exist, and their numbers are the benchmarks'."""

import contextlib
import io
import itertools
import json
import re
import shlex
import statistics
import typing
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import decouple
from benchmarks import (
    ablations,
    data_efficiency,
    gap,
    headline,
    one_network,
    q0_images,
    q0_starts,
    q0_text,
    rows,
    snapshots,
    solutions,
    terms,
)
from benchmarks.receipt import written
from benchmarks.trajectories import as_markdown
from decouple.cli import run_command
from decouple.presets import PRESETS, TEXT_PRESETS
from decouple.results import Results

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
FIGURES = ROOT / "figures"
RESULTS = FIGURES / "README.md"
"""Every table; the README has the headlines."""
GUIDES = {
    str(file.relative_to(ROOT)): file.read_text()
    for file in [README, *sorted(ROOT.glob("decouple/**/*.md")), ROOT / "benchmarks" / "README.md", RESULTS]
}
"""README and guides by their path in the repository."""
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
EXAMPLES = {
    f"{page} {number}": code
    for page, text in GUIDES.items()
    for number, code in enumerate(code for language, code in BLOCK.findall(text) if language == "python")
}


def _percentages(printed: str) -> list[float]:
    return [float(value) for value in re.findall(r"([\d.]+)%", printed)]


def _has_comparison(printed: str) -> bool:
    return Path("comparison/comparison.html").is_file() and "'hidden': Interval(value=0." in printed


PRINTED: dict[str, Callable[[str], bool]] = {
    "README.md 0": lambda printed: len(_percentages(printed)) == 3 and min(_percentages(printed)) > 90,
    "decouple/data/README.md 0": lambda printed: len(decouple.load_data("mine.py:stripes").test) == 100,
    "decouple/data/README.md 1": lambda printed: printed == "48 8 8 16 (3, 16, 16) 4\n",
    "decouple/learn/README.md 0": lambda printed: len(_percentages(printed)) == 2 and min(_percentages(printed)) > 90,
    "decouple/learn/README.md 1": lambda printed: _percentages(printed)[0] > 90,
    "decouple/learn/README.md 2": lambda printed: printed.startswith("{'learn.lr': 0."),
    "decouple/networks/README.md 0": lambda printed: len(re.findall(r"\d\.\d+", printed)) == 5,
    "decouple/networks/README.md 1": lambda printed: (
        printed.startswith("Evaluation(359 images: accuracy ") and float(printed.split()[-1]) < 1
    ),
    "decouple/networks/README.md 2": lambda printed: printed == "",
    "decouple/pipeline/README.md 0": lambda printed: printed == "60 (3,)\n",
    "decouple/pipeline/README.md 1": lambda printed: printed == "",
    "decouple/pipeline/README.md 2": lambda printed: (
        len(_percentages(printed)) == 4 and printed.endswith("[(8, 1, 1), (10,)] (0, 1, 2) 2\n")
    ),
    "decouple/pipeline/README.md 3": lambda printed: printed.startswith("learn sgd 1 {'loss': "),
    "decouple/q0/README.md 0": lambda printed: float(re.findall(r"accuracy ([\d.]+) %", printed)[-1]) > 90,
    "decouple/q0/README.md 1": lambda printed: float(re.findall(r"tensor\(([\d.]+)\)", printed)[-1]) > 0.9,
    "decouple/q0/README.md 2": lambda printed: printed.endswith("True\n"),
    "decouple/search/README.md 0": lambda printed: float(printed.split()[-1]) < 2,  # from 2.4
    "decouple/search/README.md 1": lambda printed: printed == "torch.Size([128, 49, 32, 6, 6]) True\n",
    "decouple/search/README.md 2": lambda printed: re.findall(r"iter : (\d+)", printed) == ["10", "20"],
    "decouple/text/README.md 0": lambda printed: printed == "torch.Size([1, 15, 257])\n",
    "decouple/trajectories/README.md 0": _has_comparison,
    "decouple/trajectories/README.md 1": lambda printed: re.findall(r"CKA ([\d.]+)", printed) == ["1.00"],
}
"""What each example must print."""


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_python_examples_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code = EXAMPLES[name]
    assert len(code.splitlines()) <= 25
    if file := re.match(r"# (\w+\.py)\n", code):  # an example that is a file
        Path(file[1]).write_text(code)
    exec(compile(code, name, "exec"), {"__name__": "example"})
    printed = capsys.readouterr().out
    assert PRINTED[name](printed), printed


AFTERNOON = [
    *(
        "--data.train",
        "60",
        "--data.validation",
        "40",
        "--data.prior",
        "40",
        "--data.test",
        "20",
        "--network.args",
        "width=2",
    ),
    *("--search.es.population", "4", "--search.es.generations", "2", "--search.batch", "30", "--search.solutions", "1"),
    *("--compare.images", "20", "--compare.records", "2", "--q0.cycles", "2", "--q0.epochs", "1", "--quiet"),
]
"""Settings by which the transcript takes seconds."""


def _images(kind: str) -> str:
    """A data set of four classes in the current folder; gives its name."""
    labels = np.arange(160) % 4
    images = np.random.default_rng(0).integers(0, 128, (160, 8, 8, 3), dtype=np.uint8)
    for label in range(4):
        images[labels == label, 2 * label : 2 * label + 2] += 100
    parts = {"train": slice(140), "test": slice(140, 160)}
    if kind == "npz":
        np.savez("data.npz", x_train=images[:140], y_train=labels[:140], x_test=images[140:], y_test=labels[140:])
    elif kind == "hf":
        datasets = pytest.importorskip("datasets")
        kinds = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(4)})
        columns = {name: {"image": list(images[part]), "label": labels[part].tolist()} for name, part in parts.items()}
        datasets.DatasetDict(
            {name: datasets.Dataset.from_dict(values, features=kinds) for name, values in columns.items()}
        ).save_to_disk("data")
    else:
        for name, part in parts.items():
            for number, (image, label) in enumerate(zip(images[part], labels[part], strict=True)):
                folder = Path("cifar10") / name / str(label)
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(folder / f"{number}.png")
    return {"npz": "npz:data.npz", "hf": "hf:data", "folder": "folder:cifar10"}[kind]


@pytest.mark.parametrize("kind", ["folder", "npz", "hf"])
def test_the_afternoons_table_is_made(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The files and commands of the guide, with the table's own methods in the transcript."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("decouple.report.build_report", lambda folder: folder / "report.html")
    monkeypatch.setattr("decouple.report.style.render", lambda figure, kind: b"")
    guide = GUIDES["decouple/pipeline/README.md"].split("## An afternoon's table")[1].split("\n## ")[0]
    blocks: dict[str, str] = dict(BLOCK.findall(guide))
    Path("resnet.py").write_text(blocks["python"])
    Path("cifar.yaml").write_text(blocks["yaml"].replace("folder:cifar10", _images(kind)))
    shown = []
    for line in blocks["sh"].replace("--workers 2", "").splitlines():  # Ray takes seconds to start
        words = shlex.split(line, comments=True)
        if words[1] == "tune":
            words[words.index("--trials") + 1] = "2"
            words += ["--epochs", "2", "--extensions", "0"]
        if words[1] in ("estimate", "tune", "run"):
            words += AFTERNOON
        assert run_command(words[1:]) == 0, words
        shown.append(capsys.readouterr().out)
    assert "Proposed (*): --network.points 1 2 4.0 4" in shown[0]
    assert "sgd: lr = " in shown[2]
    head, *rows = blocks["text"].split("\n\n")[-1].strip().splitlines()
    assert shown[-1].splitlines()[0].split() == head.split()
    assert [re.split(r"  +", row)[:2] for row in shown[-1].splitlines()[1:]] == [re.split(r"  +", row)[:2] for row in rows]
    assert Path("runs/table/table.tex").is_file()


def test_every_example_is_checked() -> None:
    assert set(PRINTED) == set(EXAMPLES)
    own_network = EXAMPLES["decouple/networks/README.md 0"]
    assert len(own_network.splitlines()) <= 15, "a torchvision network is searched by a short script"


def test_the_readme_is_short() -> None:
    assert len(README.read_text().split()) <= 1500


def test_what_is_to_be_cited_is_this_version() -> None:
    assert f"\nversion: {decouple.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def _command_lines(text: str) -> Iterator[list[str]]:
    """Every command in shell blocks, and in the text between backticks, as its words; without what starts it."""
    blocks = [line for language, code in BLOCK.findall(text) if language == "sh" for line in code.splitlines()]
    for line in [*blocks, *INLINE.findall(BLOCK.sub("", text))]:
        line = re.sub(r"^(torchrun .*?-m|python -m) decouple\b", "decouple", line)
        if re.match(r"(decouple|python -m benchmarks\.\w+) ?", line) and not re.match(r"decouple[^ ]", line):
            yield shlex.split(line, comments=True)


@cache
def _help(*command: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
        run_command([*command, "--help"])
    return printed.getvalue()


def _options(*command: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][\w.-]*\w", _help(*command)))


def _command_of(words: list[str]) -> tuple[str, ...]:
    """The part of a command line that names the command; `compare` with several runs takes options of its own."""
    if words[1:2] == ["q0"] and words[2:3] in (["text"], ["plan"]):
        return ("q0", words[2])
    folders = list(itertools.takewhile(lambda word: not word.startswith("-"), words[2:]))
    return ("compare", *folders) if words[1] == "compare" and len(folders) > 1 else (words[1],)


def _takes(module: str, option: str) -> bool:
    """Whether a benchmark (`*`: any) has an option: a field of its arguments, or of those that several share."""
    files = [*(ROOT / "benchmarks").glob(f"{module}.py"), ROOT / "benchmarks" / "common.py"]
    return any(f"    {option[2:].replace('-', '_')}: " in file.read_text() for file in files)


@pytest.mark.parametrize("page", GUIDES)
def test_the_commands_are_known(page: str) -> None:
    usage = _help()
    for words in _command_lines(GUIDES[page]):
        options = [word.partition("=")[0] for word in words if word.startswith("--")]
        if words[0] == "python":
            module = words[2].removeprefix("benchmarks.")
            assert (ROOT / "benchmarks" / f"{module}.py").is_file(), words
            assert all(_takes(module, option) for option in options), words
        elif len(words) > 1:
            command = _command_of(words)
            assert re.search(rf"^  decouple {' '.join(command[: 1 + (command[0] == 'q0')])}\b", usage, re.MULTILINE), words
            assert set(options) <= _options(*command) | {"--help", "--schema"}, words
            if command[0] in ("run", "estimate", "tune") and len(words) > 2:
                assert words[2] in {*PRESETS, "PRESET"}, words
            if "--preset" in words:
                assert words[words.index("--preset") + 1] in TEXT_PRESETS, words


def test_commands_are_found() -> None:
    found = [words for text in GUIDES.values() for words in _command_lines(text)]
    assert ["decouple", "run", "digits"] in found
    assert len(found) > 50


def _fields(record: Any) -> Iterator[str]:
    """Dotted names of the fields of a record, and of the records in it."""
    for name, hint in typing.get_type_hints(record).items():
        yield name
        if hasattr(hint, "__struct_fields__"):
            yield from (f"{name}.{inner}" for inner in _fields(hint))


@pytest.mark.parametrize("page", GUIDES)
def test_the_settings_are_known(page: str) -> None:
    """Options by themselves (`--learn.epochs`), settings (`learn.epochs`) and fields of results.json."""
    commands = [
        ("run",),
        ("tune",),
        ("q0", "text"),
        ("q0", "plan"),
        ("export",),
        ("report",),
        ("compare", "RUN", "RUN"),
        ("table",),
        ("points",),
    ]
    options = {option for command in commands for option in _options(*command)}
    sections = {option[2:].split(".")[0] for option in options if "." in option} - {"data"}  # a variable of the examples too
    results = set(_fields(Results))
    for text in INLINE.findall(BLOCK.sub("", GUIDES[page])):
        named = set(re.findall(r"(?<!\S)--[a-z][\w.-]*\w", text)) - {"--schema", "--help"}
        assert all(option in options or _takes("*", option) for option in named), text
        word = re.split(r"[\s=(]", text)[0]
        if word.split(".")[0] in sections and re.fullmatch(r"\w+(\.\w+)+", word):
            assert f"--{word.replace('_', '-')}" in options or word in results, word


def test_the_table_holds_what_the_benchmark_wrote() -> None:
    figures = json.loads((FIGURES / "demo-digits.json").read_text())["figures"]
    text = RESULTS.read_text()
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
            cells = []
            for part in ("plain", "evotorch"):
                ratios = [row[dtype] for row in figures[part] if row["width"] == width]
                cells.append(f"{min(ratios):.1f} to {max(ratios):.1f}")
            assert f"| {width} channels, {dtype} | {' | '.join(cells)} |" in text
    assert f"grows by {100 * figures['memory']['spread']:.1f} %" in text


def test_the_ratios_to_bare_passes_are_the_benchmarks() -> None:
    text = RESULTS.read_text()
    figures = json.loads((FIGURES / "search-passes-cpu.json").read_text())["figures"]
    cases = [(row["algorithm"], row["points"], row["width"]) for row in figures["passes"]]
    for algorithm, points, width in dict.fromkeys(cases):
        rows = [row for row, case in zip(figures["passes"], cases, strict=True) if case == (algorithm, points, width)]
        cells = [f"{row['ratio']:.2f} ({row['cpu_ratio']:.2f})" for row in rows]
        counts = [row["multiply_adds"]["search"] / row["multiply_adds"]["bare"] for row in rows]
        blocks = {"all": "every block", "last": "the last block"}[points]
        assert f"| `{algorithm}`, {blocks}, {width} channels | {' | '.join(cells)} | {counts[0]:.2f} |" in text
    for network in dict.fromkeys(row["network"] for row in figures["networks"]):
        points = [(row["described"], row["in_full"]) for row in figures["networks"] if row["network"] == network]
        whole = sum(described for described, _ in points) / sum(in_full for _, in_full in points)
        by_point = " / ".join(f"{described / in_full:.2f}" for described, in_full in points)
        assert f"| {network} | {by_point} | {whole:.2f} |" in text


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
        table = rows.as_markdown(json.loads(file.with_suffix(".json").read_text())["figures"]["entries"])
        assert file.read_text() == table
        assert "\n".join(table.splitlines()[2:]) in text


@pytest.mark.parametrize("file", sorted(FIGURES.glob("gap-*.md")), ids=lambda file: str(file.stem))
def test_the_gaps_to_sgd_are_the_benchmarks(file: Path) -> None:
    table = gap.as_markdown(json.loads(file.with_suffix(".json").read_text())["figures"])
    assert file.read_text() == table
    assert table.strip() in RESULTS.read_text()


def test_the_steps_of_a_gpu_are_the_benchmarks() -> None:
    now, before = (json.loads((FIGURES / f"gpu-check-h100{name}.json").read_text())["figures"] for name in ("", "-eager"))
    assert not any("failed" in piece for piece in now.values())
    names = {"sgd": "SGD", "targets": "stored targets", "live": "live search, the default"}
    slower = []
    for width, batch in ((32, 512), (64, 512), (256, 1000)):
        of = [
            {(row["step"], row["precision"]): row for row in found[f"steps, {width} channels"]["rows"]}
            for found in (before, now)
        ]
        for step, name in names.items():
            cells = [
                " → ".join(f"{rows[step, kind]['steps_per_second']:.0f}" for rows in of) for kind in ("float32", "bfloat16")
            ]
            share = f"{100 * of[1][step, 'bfloat16']['share_of_peak']:.0f} %"
            assert f"| {width} channels, {batch} images | {name} | {' | '.join(cells)} | {share} |" in RESULTS.read_text()
        speed = of[1]["sgd", "bfloat16"]["steps_per_second"], of[1]["live", "bfloat16"]["steps_per_second"]
        slower.append(f"{speed[0] / speed[1]:.2f}")
    assert f"At 256 channels live search takes {slower[2]} times as long as SGD" in RESULTS.read_text()
    assert f"{slower[0]} and {slower[1]} times" in RESULTS.read_text()


@pytest.mark.parametrize("name", ["paper_scale-h100", "paper_scale-h100-decay0153"])
def test_the_tables_of_the_papers_scale_are_the_benchmarks(name: str) -> None:
    entries = json.loads((FIGURES / f"{name}.json").read_text())["figures"]["entries"]
    table = rows.as_markdown(entries, ("seeds", "the paper's (%)", "search (s)", "learning (s)"))
    assert (FIGURES / f"{name}.md").read_text() == table
    assert table.strip() in RESULTS.read_text()


def test_the_tables_of_solutions_are_the_benchmarks() -> None:
    for name in ("solutions", "solutions-search"):
        entries = json.loads((FIGURES / f"{name}.json").read_text())["figures"]["entries"]
        assert (FIGURES / f"{name}.md").read_text() == solutions.as_markdown(entries)
        assert solutions.as_markdown(entries).strip() in RESULTS.read_text()
        for entry in entries:
            assert entry["rows"]["a part each"]["targets"]["mean"] > 0.8 * 4
            assert entry["rows"]["a part each"]["solved"]["mean"] >= 0.99


def test_the_tables_of_one_network_are_the_benchmarks() -> None:
    for file in FIGURES.glob("one_network*.md"):
        data = json.loads(file.with_suffix(".json").read_text())["figures"]["data"]
        assert file.read_text() == one_network.as_markdown(data)
        assert file.read_text().strip() in RESULTS.read_text()


def test_the_tables_of_snapshots_are_the_benchmarks() -> None:
    for file in FIGURES.glob("snapshots*.md"):
        entries = json.loads(file.with_suffix(".json").read_text())["figures"]["data"]
        assert file.read_text() == snapshots.as_markdown(entries)
        assert file.read_text().strip() in RESULTS.read_text()


def test_the_table_of_terms_is_the_benchmarks() -> None:
    for file in FIGURES.glob("terms-*.md"):
        figures = json.loads(file.with_suffix(".json").read_text())["figures"]
        assert file.read_text() == terms.as_markdown(figures)
        assert file.read_text().strip() in RESULTS.read_text()
        if file.stem != "terms-2000":
            continue
        gains = [figures["rows"][f"{method}, similarity, 10"]["against_sgd"]["mean"] for method in ("SGD", "live")]
        assert f"is worth {gains[0]:.1f} to {gains[1]:.1f} points" in RESULTS.read_text()
    eight = json.loads((FIGURES / "terms-10000-similarity.json").read_text())["figures"]["rows"]["live, similarity, 10"][
        "against_sgd"
    ]
    assert eight["n"] == 8
    assert f"On 10,000 images similarity gains {written(eight)}" in " ".join(README.read_text().split())


def test_what_is_said_of_the_full_search_is_what_the_benchmark_found() -> None:
    figures = json.loads((FIGURES / "gap-mnist.json").read_text())["figures"]["rows"]
    seconds = [seed["search_seconds"] for row in figures.values() for seed in row["seeds"] if "search_seconds" in seed]
    assert f"takes {statistics.median(seconds) / 60:.0f} minutes" in RESULTS.read_text()
    last, sgd = (figures[name]["test"] for name in ("the last block supervised", "SGD"))
    every = figures["paper's learner, mean of the squares"]["against_sgd"]
    said = [f"{last['mean']:.1f} ± {last['std']:.1f} %", f"{sgd['mean']:.1f} ± {sgd['std']:.1f} %"]
    said.append(f"{-every['mean']:.1f} ± {every['std']:.1f} points worse")
    assert all(words in README.read_text() for words in said)


OVER_NORMALISED = "with live search, the default"


def test_the_headline_of_learning_is_the_benchmarks() -> None:
    named = {"MNIST, 1000 images": "mnist-1k", "CIFAR-10 (JPEG copy), 2000": "cifar10-2k", "CIFAR-10, 10,000": "cifar10-10k"}
    for name, case in named.items():
        found = json.loads((FIGURES / f"gap-{case}.json").read_text())["figures"]["rows"]
        assert {len(row["seeds"]) for row in found.values()} == {8}
        assert len({len(row["trials"]) for row in found.values()}) == 1, "tuned as hard"
        assert len({row["steps"] for row in found.values()}) == 1
        others = ("searched, es, live", "searched, es, live, similarity", gap.twin("searched, es, live, similarity"))
        cells = [written(found["SGD"]["test"]), *(written(found[row]["against_sgd"], sign="+") for row in others)]
        assert f"| {name} | {' | '.join(cells)} |" in README.read_text()
    found = json.loads((FIGURES / "gap-cifar10-2k.json").read_text())["figures"]["rows"]
    ours, sgd = (
        written(found[row]["against_sgd"]) for row in ("searched, es, live, similarity, heads", "SGD, similarity, heads")
    )
    assert f"{ours} points above tuned SGD" in README.read_text()
    assert f"SGD gains {sgd} from both" in README.read_text()
    found = json.loads((FIGURES / "gap-cifar10-10k-flip-crop.json").read_text())["figures"]["rows"]
    assert {len(row["seeds"]) for row in found.values()} == {8}
    augmented = written(found["searched, es, live"]["against_sgd"])
    assert f"augmented, live search is {augmented} points above SGD" in " ".join(README.read_text().split())
    nets = [json.loads((FIGURES / f"gap-mnist-{net}.json").read_text())["figures"]["rows"] for net in ("lenet", "mlp")]
    ours = [written(rows["with live search, the default"]["against_sgd"]) for rows in nets]
    assert {len(row["seeds"]) for rows in nets for row in rows.values()} == {8}
    words = f"learning is {ours[0]} points above tuned SGD with a LeNet and {ours[1]} with an MLP."
    assert words in " ".join(README.read_text().split())
    left = [
        written(json.loads((FIGURES / f"gap-mnist-{net}.json").read_text())["figures"]["against_twin"][OVER_NORMALISED])
        for net in ("lenet", "mlp")
    ]
    assert f"learning stays {left[0]} and {left[1]} above it" in " ".join(README.read_text().split())


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
    plans = q0_images.plans_of(q0_images.receipts(FIGURES, "small"))
    assert json.loads((README.parent / "decouple" / "q0" / "plans.json").read_text()) == plans


def test_what_is_said_of_text_is_what_the_benchmark_found() -> None:
    file = FIGURES / "q0_text.json"
    table = headline.as_markdown(json.loads(file.read_text())["figures"], q0_text.UNIT)
    assert file.with_suffix(".md").read_text() == table
    assert table.strip() in RESULTS.read_text()


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("q0_images-mnist", q0_images.tables),
        ("q0_images-cifar10", q0_images.tables),
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
    mnist, cifar = (
        next(iter(json.loads((FIGURES / f"q0_images-{data}.json").read_text())["figures"]["data"].values()))
        for data in ("mnist", "cifar10")
    )
    assert f"with {ratio(words)} times fewer epochs on text and {ratio(cifar)} on CIFAR-10" in text
    assert f"but only {ratio(mnist)} on MNIST" in text
    speeds = [
        row["ratio"]
        for row in json.loads((FIGURES / "search-passes-cpu.json").read_text())["figures"]["passes"]
        if (row["algorithm"], row["points"]) == ("es", "all")
    ]
    assert f"takes {min(speeds):.2f} to {max(speeds):.2f} times the bare forward passes" in text

    rows = json.loads((FIGURES / "q0_starts-mnist.json").read_text())["figures"]["data"]["MNIST"]["rows"]
    ends = [rows[name]["test_learned"]["mean"] for name in ("searched, learned with live search", "new networks")]
    assert f"on MNIST ({ends[0]:.4f} against {ends[1]:.4f} nats)" in text


def _anchors(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.*)", BLOCK.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", GUIDES)
def test_links_lead_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)]*)\)", BLOCK.sub("", GUIDES[page])):
        file, _, anchor = link.partition("#")
        target = (ROOT / page).parent / file if file else ROOT / page
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target.read_text()), link


def test_the_readme_links_every_guide() -> None:
    links = set(re.findall(r"\]\(([^)#]*)", README.read_text()))
    assert set(GUIDES) - {"README.md"} <= links
