"""`decouple q0 text` from text to report: what it writes, and that a killed run gives the same."""

import json
import os
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

from decouple.cli import run_command
from decouple.config import TEXT_Q0, CorpusConfig, GptConfig, TextConfig
from decouple.errors import ConfigError, RunDirectoryError
from decouple.files import read_json
from decouple.pipeline.text import run_text
from decouple.q0.ensemble import Ensemble
from decouple.results import TextResults
from decouple.tasks.distill import IGNORED
from decouple.text import load_corpus

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


def test_a_run_reports_every_way_to_choose_members(whole: Path) -> None:
    found = msgspec.convert(read_json(whole / "results.json"), TextResults)
    assert [(m.trajectory, m.cycle) for m in found.members] == [(t, c) for t in range(2) for c in range(3)]
    assert sum(member.weight for member in found.members) == pytest.approx(1)
    assert found.epochs == 2 * (3 + 1 + 1)
    assert len(found.by_size) == 6
    assert found.test_nll == found.by_size[-1]
    one = found.by_size[0]
    assert one.single == one.greedy
    assert min(abs(one.single - member.test_nll) for member in found.members) < 1e-6
    assert one.uniform == pytest.approx(found.members[2].test_nll), "the latest snapshot of the first trajectory"
    ratio = found.tokens["test"] / found.bytes["test"] / torch.log(torch.tensor(2.0)).item()
    assert found.test_bits_per_byte.uniform == pytest.approx(found.test_nll.uniform * ratio, rel=1e-5)
    assert "| 6 |" in (whole / "report.md").read_text()
    assert len((whole / "metrics.jsonl").read_text().splitlines()) == 10


def test_its_population_is_an_ensemble(whole: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its bits on the test part are those that the run reported, from the run's directory and from a file."""
    found = msgspec.convert(read_json(whole / "results.json"), TextResults)
    test = load_corpus(text, TINY.corpus, whole / "q0").test

    def test_nll(ensemble: Ensemble) -> float:
        inputs, targets = test.stream().batch(torch.arange(test.rows(16)), 16)
        said = ensemble(inputs)[targets != IGNORED]
        return float(cross_entropy(said, targets[targets != IGNORED]))  # of log-probabilities: their softmax is themselves

    ensemble = Ensemble.load(whole)
    assert ensemble.evaluation == "batched"
    assert test_nll(ensemble) == pytest.approx(found.test_nll.learned_prior, rel=1e-5)

    assert run_command(["q0", "export", str(whole), "--out", str(tmp_path / "few.safetensors"), "--members", "2"]) == 0
    few = Ensemble.load(tmp_path / "few.safetensors")
    assert test_nll(few) == pytest.approx(found.by_size[1].learned_prior, rel=1e-5)

    capsys.readouterr()
    assert run_command(["q0", "export", str(whole), "--distill"]) == 2
    assert "a run on text" in capsys.readouterr().err
    assert run_command(["report", str(whole)]) == 1
    assert "is a run of 'decouple q0 text'" in capsys.readouterr().err


def test_another_prior_trains_nothing_again(whole: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("decouple.training.loop.Loop.epoch", fail)
    before = (whole / "results.json").read_bytes()
    run_text(TINY, text, whole, resume=True)
    assert (whole / "results.json").read_bytes() == before
    with pytest.raises(RunDirectoryError, match=r"another configuration \(q0\.prior: 'exact' → 'softmax'\)"):
        run_text(replace(TINY, q0=replace(TINY.q0, prior="softmax")), text, whole, resume=True)


def test_a_run_resumes_from_another_folder(
    whole: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (whole / "results.json").read_bytes()
    monkeypatch.chdir(text.parent)
    run_text(TINY, Path(text.name), Path(whole.name), resume=True)
    monkeypatch.chdir(tmp_path)
    assert run_command(["q0", "text", "--out", str(whole), "--resume", "--quiet"]) == 0
    assert (whole / "results.json").read_bytes() == before


def test_how_the_text_was_read_is_said(
    whole: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
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


def test_a_killed_run_resumes_to_the_same_bytes(whole: Path, text: Path, tmp_path: Path) -> None:
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
        (["--data", "FILE", "--q0.alpha", "3"], "q0.alpha = 3.0: expected float <= 1.0; give --q0.alpha another value"),
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
