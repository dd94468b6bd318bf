"""`decouple q0 text` from text to report: what it writes, and that a killed run gives the same."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import torch
from torch.nn.functional import cross_entropy

import decouple
from decouple.cli import run_command
from decouple.config import TEXT_Q0, CorpusConfig, GptConfig, TextConfig
from decouple.errors import ConfigError, RunDirectoryError
from decouple.files import read_json
from decouple.pipeline.text import run_text
from decouple.q0.ensemble import Ensemble
from decouple.q0.trajectories import Chain, Snapshot, train_trajectory
from decouple.results import Curves, TextResults
from decouple.tasks.distill import IGNORED
from decouple.text import load_corpus
from decouple.text.task import TextTask
from decouple.workers import Execution

TINY = TextConfig(
    precision="float32",
    corpus=CorpusConfig(validation=300, prior=300, test=300, train=3000),
    network=GptConfig(layers=1, width=16, heads=2, context=16),
    q0=replace(TEXT_Q0, trajectories=2, cycles=3, first_epochs=3, epochs=1, batch=8),
)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("text") / "text.txt"
    file.write_text("\n\n".join(f"number {i}: {'tick tock ' * (i % 4 + 1)}" for i in range(200)))
    return file


@pytest.fixture(scope="module")
def whole(text: Path) -> Path:
    run_text(TINY, text, text.parent / "whole")
    return text.parent / "whole"


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the picture out, which takes longer than the training."""
    monkeypatch.setattr("decouple.report.build_report", lambda folder: folder / "report.html")


def results_of(run: Path) -> TextResults:
    return msgspec.convert(read_json(run / "results.json"), TextResults)


def test_a_run_reports_every_way_to_choose_members(whole: Path) -> None:
    found = results_of(whole)
    q0, sizes = found.q0, msgspec.convert(read_json(whole / "curves.json"), Curves).q0_size
    assert [(m.trajectory, m.cycle) for m in q0.members] == [(t, c) for t in range(2) for c in range(3)]
    assert sum(member.weight for member in q0.members) == pytest.approx(1)
    assert q0.epochs == 2 * (3 + 1 + 1)
    assert q0.size == 6
    for way in ("uniform", "learned_prior", "greedy"):
        assert len(sizes[way]) == 6
        assert sizes[way][-1] == getattr(q0.test_nll, way)
    assert q0.test_nll.single == sizes["greedy"][0]
    assert min(abs(q0.test_nll.single - member.test_nll) for member in q0.members) < 1e-6
    assert sizes["uniform"][0] == pytest.approx(q0.members[2].test_nll), "the latest snapshot of the first trajectory"
    gain = q0.learned_minus_uniform
    assert gain.low <= gain.value <= gain.high
    assert gain.value == pytest.approx(q0.test_nll.learned_prior - q0.test_nll.uniform, abs=1e-6)
    ratio = found.tokens["test"] / found.bytes["test"] / torch.log(torch.tensor(2.0)).item()
    assert q0.scores["bits_per_byte"].uniform == pytest.approx(q0.test_nll.uniform * ratio, rel=1e-5)
    assert q0.members[0].scores["bits_per_byte"] == pytest.approx(q0.members[0].test_nll * ratio, rel=1e-5)
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert [(line["unit"], line["step"]) for line in lines] == [
        (f"trajectory-{t}", e + 1) for t in range(2) for e in range(5)
    ]


def test_the_report_shows_the_population(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, q0 = (whole / "report.html").read_text(), results_of(whole).q0
    for values in (q0.test_nll, q0.prior_nll, q0.scores["bits_per_byte"]):
        assert all(repr(getattr(values, way)) in page for way in ("single", "uniform", "learned_prior", "greedy"))
    assert "over the documents of the test split" in page
    assert (whole / "figures" / "population.svg").stat().st_size > 1000
    (whole / "report.html").unlink()
    assert run_command(["report", str(whole), "--quiet"]) == 0
    assert (whole / "report.html").read_text().split("<h2>Cost")[0] == page.split("<h2>Cost")[0]
    assert f"{q0.scores['bits_per_byte'].learned_prior:.4f}" in capsys.readouterr().out
    assert run_command(["learn", str(whole)]) == 1
    assert "is a run of 'decouple q0 text', which has no other stages" in capsys.readouterr().err


def nll_of(ensemble: Ensemble, run: Path, text: Path) -> float:
    """On the test part."""
    test = load_corpus(text, TINY.corpus, run / "q0").test
    inputs, targets = test.stream().batch(torch.arange(test.rows(16)), 16)
    said = ensemble(inputs)[targets != IGNORED]
    return float(cross_entropy(said, targets[targets != IGNORED]))  # of log-probabilities: their softmax is themselves


def test_its_population_is_an_ensemble(whole: Path, text: Path, tmp_path: Path) -> None:
    """Its bits on the test part are those that the run reported, from the run's directory and from a file."""
    ensemble = Ensemble.load(whole)
    assert ensemble.evaluation == "batched"
    assert nll_of(ensemble, whole, text) == pytest.approx(results_of(whole).q0.test_nll.learned_prior, rel=1e-5)
    assert run_command(["export", str(whole), "--to", str(tmp_path / "few.safetensors"), "--members", "2"]) == 0
    few = nll_of(Ensemble.load(tmp_path / "few.safetensors"), whole, text)
    assert few == pytest.approx(read_json(whole / "curves.json")["q0_size"]["learned_prior"][1], rel=1e-5)


def test_it_is_read_without_its_text(whole: Path) -> None:
    run = decouple.open(whole)
    assert run.config == TINY
    assert run.results == results_of(whole)
    assert repr(run) == f"OpenedRun({whole}; preset tiny; seed 0; results there)"
    assert repr(run.results).startswith("TextResults(test bits per byte, test NLL: q0: best single member ")
    assert run._repr_html_().count("<table>") == 2
    assert list(run.figures) == ["population"]
    assert len(run.ensemble(2).members) == 2
    with pytest.raises(RunDirectoryError, match=r"is a run on text, which has .* only: see ensemble\(\)"):
        run.networks  # noqa: B018


def test_its_population_becomes_one_network(
    whole: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained on the tokens that the run has kept; the text file may be gone."""
    out = tmp_path / "one.safetensors"
    monkeypatch.setattr("decouple.text.corpus.read_text", None)
    assert run_command(["export", str(whole), "--to", str(out), "--distill", "--distill-epochs", "3"]) == 0
    monkeypatch.undo()
    one = Ensemble.load(out)
    assert len(one.members) == 1
    untrained = Ensemble([TextTask(load_corpus(text, TINY.corpus, whole / "q0"), TINY.network).build(0)], [1])
    assert nll_of(one, whole, text) < 0.7 * nll_of(untrained, whole, text)


def test_another_text_is_refused(whole: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("\n\n".join(f"another text {i}" for i in range(400)))
    with pytest.raises(
        RunDirectoryError, match=r"was made from different text than .*other\.txt holds now .*restore that data"
    ):
        run_text(TINY, other, whole, resume=True)


def test_workers_train_trajectories_side_by_side(
    whole: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_report: None
) -> None:
    def distribute(chains: list[Chain], snapshots: list[list[Snapshot]], *, execution: Execution, **rest: object) -> None:
        assert execution.workers == 2
        sent: list[Chain] = pickle.loads(pickle.dumps(chains))  # noqa: S301 (as to a worker)
        for chain, own in zip(sent, snapshots, strict=True):
            train_trajectory(chain, own)

    monkeypatch.setattr("decouple.pipeline.population.distribute_trajectories", distribute)
    run_text(TINY, text, tmp_path / "run", workers=2)
    assert (tmp_path / "run" / "results.json").read_bytes() == (whole / "results.json").read_bytes()


def test_a_run_shrinks_its_prior_if_asked_to(text: Path, tmp_path: Path, no_report: None) -> None:
    q0 = replace(TINY.q0, prior="shrunk", trajectories=1, cycles=2, first_epochs=1)
    found = run_text(replace(TINY, q0=q0), text, tmp_path / "run")
    assert found is not None
    assert found.q0.prior_strength is None or found.q0.prior_strength > 0


def test_another_prior_trains_nothing_again(
    whole: Path, text: Path, monkeypatch: pytest.MonkeyPatch, no_report: None
) -> None:
    def fail(*arguments: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("decouple.training.loop.Loop.epoch", fail)
    before = (whole / "results.json").read_bytes()
    run_text(TINY, text, whole, resume=True)
    assert (whole / "results.json").read_bytes() == before
    with pytest.raises(RunDirectoryError, match=r"different settings \(q0\.prior: 'exact' → 'softmax'\)"):
        run_text(replace(TINY, q0=replace(TINY.q0, prior="softmax")), text, whole, resume=True)


def test_a_run_resumes_from_another_folder(
    whole: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_report: None
) -> None:
    before = (whole / "results.json").read_bytes()
    monkeypatch.chdir(text.parent)
    run_text(TINY, Path(text.name), Path(whole.name), resume=True)
    monkeypatch.chdir(tmp_path)
    assert run_command(["q0", "text", "--out", str(whole), "--resume", "--quiet"]) == 0
    assert (whole / "results.json").read_bytes() == before


def test_how_the_text_was_read_is_said(
    whole: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], no_report: None
) -> None:
    (tmp_path / "windows.txt").write_bytes(text.read_bytes().replace(b"\n", b"\r\n"))
    before = (whole / "results.json").read_bytes()
    run_text(TINY, tmp_path / "windows.txt", whole, resume=True, quiet=False)
    assert "bytes of training text (line ends CR LF taken as LF), " in capsys.readouterr().err
    assert (whole / "results.json").read_bytes() == before, "the text is the same"


def test_settings_of_another_kind_are_refused_before_anything_is_written(text: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config must be a TextConfig, not str; such as decouple\.text_preset"):
        run_text("tiny", text, tmp_path / "run")  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


def test_a_killed_run_resumes_to_the_same_bytes(whole: Path, text: Path, tmp_path: Path, no_report: None) -> None:
    settings = tmp_path / "config.json"
    settings.write_bytes((whole / "config.json").read_bytes())
    arguments = ["q0", "text", "--data", str(text), "--out", str(tmp_path / "run"), "--config", str(settings), "--quiet"]
    command = [sys.executable, "-m", "decouple", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(command, env=environment)
    first = "trajectory-0/cycle-000.safetensors"
    while process.poll() is None and not list((tmp_path / "run").glob(f"q0/*/{first}")):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "run" / "results.json").exists()
    assert run_command(["q0", "text", "--out", str(tmp_path / "run"), "--resume", "--quiet"]) == 0, (
        "settings and text are known"
    )
    assert (tmp_path / "run" / "results.json").read_bytes() == (whole / "results.json").read_bytes()
    for path in whole.glob("q0/*/*/*.safetensors"):
        assert (tmp_path / "run" / path.relative_to(whole)).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "tiny"], "needs a text file: decouple q0 text --data FILE"),
        (["--data", "FILE", "--preset", "tin"], "there is no text preset 'tin'; did you mean 'tiny'?"),
        (["--data", "FILE", "--q0.alpha", "3"], "--q0.alpha = 3: expected a number ≥ 0 and ≤ 1"),
        (["--data", "FILE", "--q0.cycls", "3"], "unknown option '--q0.cycls'; did you mean '--q0.cycles'?"),
        (["--data", "missing.txt"], "the text missing.txt cannot be read"),
    ],
)
def test_wrong_input_is_refused_in_a_line(
    arguments: list[str], message: str, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(text) if argument == "FILE" else argument for argument in arguments]
    assert run_command(["q0", "text", "--out", str(tmp_path / "run"), *given]) in (1, 2)
    assert message in capsys.readouterr().err


def test_the_settings_of_a_run_are_in_its_directory(whole: Path) -> None:
    assert json.loads((whole / "config.json").read_text())["q0"]["first_epochs"] == 3
    assert read_json(whole / "run.json")["data"]["digest"]
