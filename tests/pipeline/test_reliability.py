"""Nothing finished is lost or trusted blindly: kills, damage, full disks, moved folders."""

import dataclasses
import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from decouple.config import RunConfig
from decouple.errors import DamagedFileError, DataError, RunDirectoryError
from decouple.pipeline import RunDirectory, run
from decouple.settings import to_builtins

HARNESS = Path(__file__).parent / "harness.py"
UNITS = {
    "targets": "search/*/solution-1/batch-00001.safetensors",
    "diversity": "search/*/diversity-of-2.json",
    "learned network": "learn/*/search-0/network.safetensors",
    "baseline": "learn/*/sgd-1/network.safetensors",
    "record": "learn/*/search-1/record-*2.safetensors",
    "test accuracy": "learn/*/search-0/test.json",
    "probe": "compare/*/solution-0/batch-00000.safetensors",
    "comparison": "compare/*/comparison.json",
    "snapshot": "q0/*/trajectory-1/cycle-001.safetensors",
    "answers": "q0/*/trajectory-0/cycle-002.answers.safetensors",
}


Seen = dict[str, dict[str, object]]


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory: pytest.TempPathFactory, tiny: RunConfig) -> tuple[Path, Seen]:
    """The folder in which tests/pipeline/harness.py has disturbed runs of its own in every way, and what it saw."""
    folder = tmp_path_factory.mktemp("disturbed")
    (folder / "tiny.json").write_text(json.dumps(to_builtins(tiny)))
    done = subprocess.run([sys.executable, str(HARNESS), str(folder), "10"], capture_output=True, text=True, timeout=230)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, json.loads(done.stdout.splitlines()[-1])


def test_killed_at_random_moments_and_resumed_the_results_are_equal(disturbed: tuple[Path, Seen]) -> None:
    """kill -9 at ten random moments, in writes too; each time resumed, until done."""
    folder, seen = disturbed[0], disturbed[1]["kill"]
    assert seen["kills"] == 10
    assert len(set(seen["stages_at_kill"])) >= 3, seen  # type: ignore[call-overload]
    for name in ("results.json", "curves.json"):
        assert (folder / "killed" / name).read_bytes() == (folder / "whole" / name).read_bytes()
    assert not list((folder / "killed").rglob(".partial-*"))
    for line in (folder / "killed" / "metrics.jsonl").read_text().splitlines():
        json.loads(line)


@pytest.mark.parametrize(("name", "table"), [("tune", "tune"), ("seeds", "table")])
def test_a_tuning_and_seeds_that_are_killed_make_the_same_table(disturbed: tuple[Path, Seen], name: str, table: str) -> None:
    folder, seen = disturbed[0], disturbed[1][name]
    assert int(str(seen["kills"])) >= 2
    for kind in ("json", "csv", "txt", "md"):
        whole, killed = ((folder / f"{name}-{which}" / f"{table}.{kind}").read_bytes() for which in ("whole", "killed"))
        assert killed == whole


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_an_interrupted_run_says_how_to_go_on(disturbed: tuple[Path, Seen], name: str, status: int) -> None:
    seen = disturbed[1][name]
    assert seen["status"] == status
    assert "stopped; finished work is kept: continue with  decouple run" in str(seen["stderr"])
    assert "--resume" in str(seen["stderr"])
    assert "Traceback" not in str(seen["stderr"])
    assert seen["resumed"] == 0


def test_a_full_disk_is_an_error_and_the_run_goes_on_when_there_is_room(disturbed: tuple[Path, Seen]) -> None:
    folder, seen = disturbed[0], disturbed[1]["full"]
    assert seen["status"] == 1
    assert "cannot write" in str(seen["stderr"])
    assert "earlier files are intact" in str(seen["stderr"])
    assert "Traceback" not in str(seen["stderr"])
    assert seen["resumed"] == 0
    assert (folder / "full" / "results.json").read_bytes() == (folder / "whole" / "results.json").read_bytes()


@pytest.mark.parametrize("damage", ["truncated", "flipped", "removed"])
@pytest.mark.parametrize("unit", UNITS)
def test_a_damaged_unit_alone_is_redone(
    tiny: RunConfig, finished: Path, stamps, no_report: None, caplog: pytest.LogCaptureFixture, unit: str, damage: str
) -> None:
    expected = (finished / "results.json").read_bytes()
    (finished / "results.json").unlink()
    path = next(iter(sorted(finished.glob(UNITS[unit]))))
    contents = bytearray(path.read_bytes())
    if unit == "probe":  # read only to make the comparison
        next(finished.glob(UNITS["comparison"])).unlink()
    if damage == "truncated":
        path.write_bytes(contents[:-3])
    elif damage == "flipped":
        contents[-4] ^= 1
        path.write_bytes(contents)
    else:
        path.unlink()
    before = stamps(finished)
    caplog.clear()
    run(tiny, finished, resume=True)
    assert any(path.name in message for message in caplog.messages) == (damage != "removed"), "damage is noticed aloud"
    assert (finished / "results.json").read_bytes() == expected
    redone = {name for name, stamp in stamps(finished).items() if before.get(name) != stamp}
    assert str(path.relative_to(finished)) in redone
    # A trajectory goes on from its last sound snapshot, a network leaves its records anew; nothing else is touched.
    folder = str(path.relative_to(finished).parent)
    assert all(name.startswith("compare" if unit == "probe" else folder) for name in redone), redone
    if unit not in ("learned network", "baseline", "record", "probe", "snapshot"):
        assert len(redone) == 1


def test_swapped_targets_are_noticed(tiny: RunConfig, finished: Path, no_report: None) -> None:
    expected = (finished / "results.json").read_bytes()
    one, other = (next(finished.glob(f"search/*/solution-0/batch-0000{n}.safetensors")) for n in (0, 2))
    contents = one.read_bytes(), other.read_bytes()
    one.write_bytes(contents[1])
    other.write_bytes(contents[0])
    run(tiny, finished, resume=True)
    assert (one.read_bytes(), other.read_bytes()) == contents
    assert (finished / "results.json").read_bytes() == expected


def test_a_finished_run_is_resumed_twice_without_work(
    tiny: RunConfig, finished: Path, stamps, no_report: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, expected = stamps(finished), (finished / "results.json").read_bytes()
    monkeypatch.setattr("decouple.search.shards.search_batches", lambda *a, **k: pytest.fail("searched again"))
    monkeypatch.setattr("decouple.training.loop.Loop.epoch", lambda *a, **k: pytest.fail("trained again"))
    for _ in range(2):
        run(tiny, finished, resume=True)
    assert stamps(finished) == before
    assert (finished / "results.json").read_bytes() == expected


def test_a_moved_run_goes_on(tiny: RunConfig, finished: Path, tmp_path: Path, no_report: None) -> None:
    moved = Path(shutil.move(finished, tmp_path / "elsewhere"))
    shutil.rmtree(moved / "q0")
    expected = (moved / "results.json").read_bytes()
    run(tiny, moved, resume=True)
    assert (moved / "results.json").read_bytes() == expected


def test_partial_files_of_a_kill_are_removed_at_the_next_start(tiny: RunConfig, finished: Path) -> None:
    (finished / "search" / ".partial-abc").write_bytes(b"half a file")
    with RunDirectory.create(finished, tiny, resume=True):
        assert not list(finished.rglob(".partial-*"))


def test_a_log_line_cut_by_a_kill_is_dropped(tiny: RunConfig, finished: Path) -> None:
    whole = (finished / "metrics.jsonl").read_text()
    (finished / "metrics.jsonl").write_text(whole + '{"stage": "lea')
    with RunDirectory.open(finished) as directory:
        directory.log("learn", step=1)
    assert (finished / "metrics.jsonl").read_text() == whole + '{"stage": "learn", "step": 1}\n'


def test_a_damaged_configuration_is_named(finished: Path) -> None:
    (finished / "config.json").write_text('{"seed": ')
    with (
        RunDirectory.open(finished) as directory,
        pytest.raises(DamagedFileError, match=r"config\.json is damaged; remove it"),
    ):
        directory.read_config()


def test_without_its_configuration_a_run_goes_on_with_the_same_settings(
    tiny: RunConfig, finished: Path, stamps, no_report: None
) -> None:
    before = stamps(finished)
    (finished / "config.json").unlink()
    run(tiny, finished, resume=True)
    assert stamps(finished) == before


class _Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return (Path.touch, (self.marker,))


def test_a_malicious_pickle_under_our_names_is_not_executed(
    tiny: RunConfig, finished: Path, tmp_path: Path, no_report: None
) -> None:
    marker, expected = tmp_path / "executed", (finished / "results.json").read_bytes()
    for pattern in UNITS.values():
        next(iter(sorted(finished.glob(pattern)))).write_bytes(pickle.dumps(_Malicious(marker)))
    run(tiny, finished, resume=True)
    assert not marker.exists()
    assert (finished / "results.json").read_bytes() == expected


def test_where_nothing_can_be_written_the_error_says_so(tiny: RunConfig) -> None:
    if not Path("/proc/self").exists():
        pytest.skip("needs a folder that even root cannot write to")
    with pytest.raises(RunDirectoryError, match=r"/proc/run cannot be written"):
        run(tiny, "/proc/run")


def test_a_disk_that_is_too_small_is_named_before_the_search(
    tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 1000

    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage)
    monkeypatch.setattr("decouple.search.shards.search_batches", lambda *a, **k: pytest.fail("compute was spent"))
    with pytest.raises(
        RunDirectoryError, match=r"the targets need 0.0 GiB more, and .* search fewer solutions \(search.solutions\)"
    ):
        run(tiny, tmp_path / "run")


def test_settings_of_a_run_that_never_began_bind_nobody(tiny: RunConfig, tmp_path: Path, no_report: None) -> None:
    wrong = dataclasses.replace(tiny, data=dataclasses.replace(tiny.data, name="folder:/nowhere"))
    with pytest.raises(DataError, match="/nowhere"):
        run(wrong, tmp_path / "run")
    assert run(tiny, tmp_path / "run").data == "digits"


def test_these_tests_have_teeth(tiny: RunConfig, finished: Path, no_report: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Break one part of the state on purpose: lose the momentum at the end of a cycle, and the results differ."""
    expected = (finished / "results.json").read_bytes()
    next(finished.glob("q0/*/trajectory-1/cycle-002.safetensors")).unlink()
    for answers in finished.glob("q0/*/trajectory-1/*.answers.safetensors"):
        answers.unlink()
    monkeypatch.setattr("decouple.q0.trajectories.restore_state", lambda optimizer, tensors, rest: None)
    run(tiny, finished, resume=True)
    assert (finished / "results.json").read_bytes() != expected
