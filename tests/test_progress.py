"""Progress elsewhere than on a terminal."""

import sys
from types import ModuleType
from typing import Any

import pytest

from decouple import progress
from decouple.progress import Progress


class Shown(list[str]):
    """What stands for IPython's handle of a display: every state of it."""

    def update(self, state: str) -> None:
        self.append(state)


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Shown:
    """A process that takes itself for one of Jupyter's."""
    shown = Shown()

    def display(state: str, *, display_id: bool) -> Shown:
        assert display_id
        shown.append(state)
        return shown

    module: Any = ModuleType("IPython.display")
    module.HTML, module.display = str, display
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr(progress, "BAR_SECONDS", 0.0)
    return shown


def test_a_notebook_gets_a_bar(notebook: Shown, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress().task("a<b", 2, "epochs") as advance:
        assert notebook == ['<progress value="0" max="2"></progress> a&lt;b']
        advance(1)
        advance(1)
    assert [state.partition(",")[0] for state in notebook[1:]] == [
        '<progress value="1" max="2"></progress> a&lt;b: 1/2 epochs',
        '<progress value="2" max="2"></progress> a&lt;b: 2/2 epochs',
    ]
    assert capsys.readouterr() == ("", "")


def test_quiet_shows_nothing(notebook: Shown, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(quiet=True).task("learn", 1, "epochs") as advance:
        advance(1)
    assert notebook == []
    assert capsys.readouterr() == ("", "")


def test_elsewhere_a_line_is_written_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress().task("learn", 3, "epochs") as advance:
        advance(1)
        advance(2)
    assert capsys.readouterr().err == "learn: 3/3 epochs, 0 s\n"
