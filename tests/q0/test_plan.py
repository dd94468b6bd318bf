"""Plans: the best measured recipe within a budget, and how it was measured."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from decouple.cli import run_command
from decouple.cli.options import StageOptions
from decouple.cli.parsing import parse_settings
from decouple.config import Q0Config, RunConfig
from decouple.errors import ConfigError, DamagedFileError
from decouple.q0.plan import Plans


def row(epochs: int, members: int, nll: float, data: str = "ants") -> dict[str, object]:
    return {
        "data": data,
        "images": 50,
        "method": "q0" if members > 1 else "single",
        "epochs": epochs,
        "members": members,
        "weights": "later_half",
        "recipe": f"recipe of {epochs}",
        "settings": {"init": "random", "cycles": members, "lr_floor": 0.08},
        "validation_nll": nll,
        "test_nll": {"mean": nll + 0.1, "std": 0.01, "n": 3},
    }


PLANS = msgspec.convert(
    {
        "benchmark": "q0_images",
        "made": {
            "ants": {"date": "2026-01-02T03:04:05", "device": "a CPU", "versions": {"torch": "2.9"}},
            "bees": {"date": "2026-01-03T03:04:05", "device": "a CPU", "versions": {"torch": "2.9"}},
        },
        "settings": {"network": {"width": 16}, "batch": 128, "lr": 0.3},
        "rows": [row(1, 1, 2.0), row(8, 1, 1.0), row(8, 4, 0.8), row(16, 8, 0.9), row(32, 8, 0.5), row(8, 2, 3.0, "bees")],
    },
    Plans,
)


@pytest.mark.parametrize(
    ("epochs", "members", "expected"),
    [(1, None, 2.0), (7, None, 2.0), (8, None, 0.8), (8, 1, 1.0), (20, None, 0.8), (1000, None, 0.5), (1000, 4, 0.8)],
)
def test_the_best_on_validation_within_both_budgets(epochs: int, members: int | None, expected: float) -> None:
    assert PLANS.best(epochs, members)[0].validation_nll == expected


def test_the_other_methods_are_beside_the_chosen_one() -> None:
    assert [(r.method, r.epochs, r.members) for r in PLANS.of_methods("ants", 16)] == [("q0", 8, 4), ("single", 8, 1)]
    assert "  not chosen: single, 1 member; 8 epochs in all; test NLL 1.1000 ± 0.0100" in PLANS.text(16)


def test_the_text_says_how_it_was_measured_and_where_it_ends() -> None:
    text = PLANS.text(1000)
    for part in (
        "ants, 50 training images: q0",
        "recipe of 32",
        "8 members, later half weights",
        "0.6000 ± 0.0100 (3 seeds)",
    ):
        assert part in text
    assert "The best that was measured for 1,000 epochs and any number of members:" in text
    assert "  decouple q0 RUN_DIR --q0.init random --q0.cycles 8 --q0.lr-floor 0.08\n" in text
    assert "Nothing above 32 epochs was measured." in text
    dates = "2026-01-02 (a CPU, torch 2.9) and on 2026-01-03 (a CPU, torch 2.9)"
    assert f"benchmarks.q0_images measured on {dates}: the paper's network with 16 channels" in text
    assert "bees" in text


def test_what_was_not_measured_is_said() -> None:
    with pytest.raises(ConfigError, match="epochs = 0: expected at least 1"):
        PLANS.best(0)
    with pytest.raises(ConfigError, match="members = -1: expected at least 1"):
        PLANS.best(8, -1)
    few = Plans(PLANS.benchmark, PLANS.made, PLANS.settings, PLANS.rows[1:])
    with pytest.raises(
        ConfigError, match="nothing was measured for 3 epochs and any number of members; the least is 8 epochs"
    ):
        few.best(3)


def test_the_command_reads_the_shipped_plans(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["q0", "plan", "--epochs", "1"]) == 0
    assert "1 epoch in all" in capsys.readouterr().out
    assert run_command(["q0", "plan", "--epochs", "0"]) == 2
    assert run_command(["q0", "plan", "--epoch", "3"]) == 2


def test_the_shipped_commands_are_what_q0_takes() -> None:
    """Read back, a printed command gives the settings of its row. Every value is parsed once, as many in a command as fit."""
    commands = []
    for row in Plans.shipped().rows:
        words = shlex.split(row.command().replace("\\\n", ""))  # as a shell goes on in the next line
        assert words[:3] == ["decouple", "q0", "RUN_DIR"]
        commands.append((row, list(zip(words[3::2], words[4::2], strict=True))))
    values: dict[str, list[str]] = {}
    for _, pairs in commands:
        for option, value in pairs:
            if value not in values.setdefault(option, []):
                values[option].append(value)
    parsed = {}
    for number in range(max(map(len, values.values()))):
        given = {option: of[number] for option, of in values.items() if number < len(of)}
        words = [word for pair in given.items() for word in pair]
        read = parse_settings("q0 RUN_DIR", words, StageOptions(), RunConfig(), ["q0"]).q0
        for option, value in given.items():
            name = option.removeprefix("--q0.").replace("-", "_")
            parsed[option, value] = name, getattr(read, name)
    for row, pairs in commands:
        assert replace(Q0Config(), **dict(parsed[pair] for pair in pairs)) == replace(Q0Config(), **row.settings)


def test_a_file_that_holds_no_plans_is_named(tmp_path: Path) -> None:
    (tmp_path / "plans.json").write_text(json.dumps({"rows": 3}))
    with pytest.raises(DamagedFileError, match=r"plans\.json holds no plans .* benchmarks\.q0_images"):
        Plans.read(tmp_path / "plans.json")
    for wrong in (tmp_path / "none.json", Path(__file__)):
        with pytest.raises(DamagedFileError, match="holds no plans; make it with"):
            Plans.read(wrong)
