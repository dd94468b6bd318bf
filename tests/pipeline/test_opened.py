"""A run directory that is only read."""

import dataclasses
import shutil
from pathlib import Path

import mypy.api
import pytest
import torch
from torch import nn

import decouple
from decouple.config import DataConfig, LearnConfig, NetworkConfig, RunConfig
from decouple.data import load_data
from decouple.errors import ConfigError, DamagedFileError, RunDirectoryError
from decouple.pipeline import RunDirectory, open_run, run_stages
from decouple.progress import Progress
from decouple.results import Results
from decouple.training.evaluate import accuracy
from tests.pipeline import user_script

ROOT = Path(__file__).parents[2]
UNSEEN = (
    *(f"torch.{part}" for part in ("_inductor", "_dynamo", "_export", "_functorch", "distributed", "export", "fx", "onnx")),
    *("sympy", "networkx", "matplotlib", "numpy", "PIL", "rich", "jinja2", "tyro"),
)
"""Modules that a user's script does not touch, and which would take mypy longer than all others."""


def state(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}


def test_a_run_gives_its_parts_and_stays_as_it_is(finished: Path, tiny: RunConfig) -> None:
    before = state(finished)
    with RunDirectory.open(finished):  # somebody works on it
        run = decouple.open(finished)
        assert run.config == tiny
        results = run.results
        assert isinstance(results, Results)
        data = load_data(tiny.data)
        assert list(run.networks) == list(results.networks) == ["search-0", "search-1", "sgd-1"]
        for name, network in run.networks.items():
            test = results.networks[name].test_accuracy
            assert accuracy(network, data.test) == pytest.approx(test), name
            assert run.networks[name] is network, "it is kept"
        assert list(run.targets) == ["search-0", "search-1"]
        run.targets["search-1"].check(data.train)
        assert sum(store.nbytes for store in run.targets.values()) == results.cost.target_bytes
        assert run.recordings["sgd-1"].steps == (0, 2, 3)
        assert run.recordings["search-1"].solution == "search-1"
        ensemble = run.ensemble(2)
        assert len(ensemble.members) == 2
        assert accuracy(ensemble, data.test) > 0.1
        assert set(run.curves.training) == set(run.networks)
        assert run.figures["map"]._repr_svg_().endswith("</svg>\n")
        assert run.info.data["image_shape"] == [1, 8, 8]
        repr(run), run._repr_html_()
    assert {path: time for path, time in state(finished).items() if path != finished} == {
        path: time for path, time in before.items() if path != finished
    }


def test_what_is_not_there_yet_is_named_with_the_command_that_makes_it(finished: Path) -> None:
    shutil.rmtree(next(finished.glob("learn/*/sgd-1")))
    shutil.rmtree(next(finished.glob("search/*/solution-1")))
    shutil.rmtree(finished / "figures")
    for name in ("results.json", "q0/population.json"):
        (finished / name).unlink()
    run = decouple.open(finished)
    assert repr(run.networks) == "search-0, search-1 (sgd-1: not there yet)"
    assert "sgd-1" not in run.networks
    assert run.networks.get("sgd-1") is run.networks.get("sgd-2") is None
    assert len(run.targets) == 1
    with pytest.raises(RunDirectoryError, match=f"sgd-1 is not there yet; make it with 'decouple learn {finished}'"):
        run.networks["sgd-1"]
    with pytest.raises(RunDirectoryError, match=f"search-1 is not there yet; make it with 'decouple search {finished}'"):
        run.targets["search-1"]
    with pytest.raises(KeyError, match="sgd-2; did you mean 'sgd-1'"):
        run.recordings["sgd-2"]
    for part, command in (("results", "report"), ("curves", "report"), ("figures", "report")):
        with pytest.raises(RunDirectoryError, match=f"no .* yet; 'decouple {command} {finished}' makes"):
            getattr(run, part)
    with pytest.raises(RunDirectoryError, match=f"no population yet; 'decouple q0 {finished}' makes it"):
        run.ensemble()
    assert "results not there yet" in repr(run)
    assert "not there yet" in run._repr_html_()


def test_a_folder_without_a_run_and_damaged_files_are_refused(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="is not a run directory"):
        decouple.open(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(ConfigError, match="network must be a Module, not str"):
        decouple.open(finished, network="mine.py:Net")  # type: ignore[arg-type]
    network = next(finished.glob("learn/*/sgd-1/network.safetensors"))
    network.write_bytes(network.read_bytes()[:-1])
    with pytest.raises(DamagedFileError, match="truncated"):
        decouple.open(finished).networks["sgd-1"]
    for write in (lambda file: file.write_text('{"data": 3}'), Path.unlink):
        write(finished / "run.json")
        run = decouple.open(finished)
        assert "networks" not in repr(run)
        with pytest.raises(RunDirectoryError, match=f"'decouple report {finished}' writes it again"):
            run.networks  # noqa: B018


OWN = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 9), nn.ReLU(), nn.Linear(9, 10))
"""


def test_code_of_ones_own_is_not_run(tmp_path: Path, tiny: RunConfig) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    config = dataclasses.replace(
        tiny,
        network=NetworkConfig(name=f"{tmp_path}/mine.py:Net", points=("2", "3")),
        search=dataclasses.replace(tiny.search, solutions=1),
        learn=LearnConfig(epochs=1, batch=30, supervise="all"),
        data=DataConfig(train=30, validation=20, prior=20, test=20),
    )
    with (
        RunDirectory.create(tmp_path / "run", config, resume=False) as directory,
        open_run(directory, config, progress=Progress(quiet=True)) as run,
    ):
        run_stages(run, "q0")
    (tmp_path / "mine.py").write_text("raise SystemExit('it is run')")
    opened = decouple.open(tmp_path / "run")
    assert list(opened.networks) == ["search-0", "sgd-2"]
    with pytest.raises(ConfigError, match=r"mine\.py:Net builds this network, code that is not run here: give one like it"):
        opened.networks["search-0"]
    with pytest.raises(ConfigError, match="give one like it, network="):
        opened.ensemble()
    mine = nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.ReLU(), nn.Linear(9, 10))
    weights = [value.clone() for value in mine.state_dict().values()]
    given = decouple.open(tmp_path / "run", network=mine)
    data = load_data(config.data)
    assert given.networks["search-0"].names == ("2", "3")
    assert len(given.targets["search-0"].shapes) == 2
    assert accuracy(given.networks["search-0"], data.test) >= 0
    members = given.ensemble(2).member_logits(data.test.images)
    assert members.shape == (2, 20, 10)
    assert not torch.equal(*members)
    assert all(torch.equal(*pair) for pair in zip(weights, mine.state_dict().values(), strict=True)), "it is copied"


def test_everything_shows_itself_in_a_line(finished: Path) -> None:
    run = decouple.open(finished)
    shown = {
        run: f"OpenedRun({finished}; preset digits; seed 0; data digits; network paper; targets search-0, search-1; networks "
        "search-0, search-1, sgd-1; results there)",
        run.targets["search-0"]: f"TargetStore({next(finished.glob('search/*/solution-0'))}: 60 images, targets (8, 3, 3), "
        "(8, 1, 1), (10,); 10.5 KiB)",
        run.recordings["sgd-1"]: "Recording(sgd-1: 20 samples at 3 steps, 0 to 3; layers block0, block1, logits)",
        run.networks["sgd-1"]: "Stages(block0 → block1 → logits; 2,480 parameters)",
    }
    assert {each: repr(each) for each in shown} == shown
    for part in (run.results, run.curves, run.info, run.ensemble()):
        assert repr(part).startswith(f"{type(part).__name__}(")
        assert "\n" not in repr(part)
        assert len(repr(part)) < 500
    for page in (run, run.config, run.results, run.targets["search-0"], run.ensemble(), load_data(run.config.data)):
        html = page._repr_html_()
        assert html.endswith("</table>")
        assert "<script" not in html
    assert "<td>learned from searched solution 1</td>" in run._repr_html_()
    assert "<td>search.es.population</td><td>4</td>" in run.config._repr_html_()


def test_a_users_script_passes_mypy_strict(request: pytest.FixtureRequest, finished: Path, tmp_path: Path) -> None:
    settings = tmp_path / "mypy.ini"
    skipped = ",".join(f"{name}.*" for name in UNSEEN)
    settings.write_text(f"[mypy]\nmypy_path = {ROOT}\n[mypy-{skipped}]\nfollow_imports = skip\n")
    script = shutil.copy(str(user_script.__file__), tmp_path / "script.py")
    assert len(Path(script).read_text().splitlines()) <= 40
    cache = request.config.cache.mkdir("mypy") if request.config.cache is not None else tmp_path / "cache"
    told, failed, status = mypy.api.run(["--strict", "--config-file", str(settings), "--cache-dir", str(cache), str(script)])
    assert status == 0, told + failed
    found = user_script.main(finished, tmp_path)
    assert {"search-0", "sgd-1", "both", "q0", "learned"} <= set(found)
    assert found["steps"] == 3
