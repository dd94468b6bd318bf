"""Standard streams that are closed, full or ASCII only: the command works, or ends in a line and a status of its own."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from decouple.presets import PRESETS
from decouple.streams import Stream


def _decouple(*argv: str, shell: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command with its streams as `shell` redirects them."""
    return subprocess.run(
        ["sh", "-c", f'exec "$0" -m decouple "$@" {shell}', sys.executable, *argv],
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )


@pytest.mark.parametrize(
    ("argv", "shell", "reason"),
    [
        (["presets"], ">&-", "Bad file descriptor"),
        (["run", "--help"], ">/dev/full", "No space left on device"),
        (["presets"], "<&- >/dev/full", "No space left on device"),
    ],
)
def test_lost_output_is_said_and_is_no_success(argv: list[str], shell: str, reason: str) -> None:
    done = _decouple(*argv, shell=shell)
    assert done.returncode == 1
    assert done.stderr == f"decouple: standard output cannot be written ({reason}): what it should show is lost\n"


@pytest.mark.parametrize("shell", ["2>&-", "2>/dev/full", "<&- 2>&-"])
def test_without_messages_the_command_works(shell: str) -> None:
    done = _decouple("presets", shell=shell)
    assert (done.returncode, len(done.stdout.splitlines()), done.stderr) == (0, len(PRESETS), "")
    assert _decouple("no-such-command", shell=shell).returncode == 2


def test_what_the_terminal_cannot_show_is_escaped() -> None:
    done = _decouple("presets", shell="", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "8\\xd78 digits" in done.stdout


def test_a_reader_that_has_enough_gets_no_message() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-m", "decouple", "presets"], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_stream_keeps_its_first_failure_and_closes_in_peace(tmp_path: Path) -> None:
    stream = Stream(io.BufferedWriter(io.FileIO("/dev/full", "w")), encoding="utf-8", write_through=True)
    print("one", "two" * 10_000, file=stream, flush=True)
    print("three", file=stream)
    stream.close()
    assert stream.lost is not None
    assert stream.lost.errno == errno.ENOSPC
    whole = Stream(io.BufferedWriter(io.FileIO(tmp_path / "out", "w")), "ascii", "backslashreplace")
    print("8×8 \udcff", file=whole)
    whole.close()
    assert whole.lost is None
    assert (tmp_path / "out").read_text() == "8\\xd78 \\udcff\n"
