"""Loggers: what each is told, that packages are called as they want it, and that none of them ends a training."""

import dataclasses
import json
import logging
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from torch import nn

import decouple
from decouple import loggers
from decouple.config import SearchConfig, SgdConfig
from decouple.data import ImageData
from decouple.errors import ConfigError, RunDirectoryError
from decouple.loggers import Loggers, names_of
from decouple.networks import Stages
from decouple.pipeline.context import logging_to
from decouple.progress import Progress

SETTINGS = {"learn.epochs": 4, "network.name": "paper"}


class Told:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str, int]] = []
        self.names: set[str] = set()

    def log(self, stage: str, unit: str, step: int, values: Mapping[str, float]) -> None:
        self.entries.append((stage, unit, step))
        self.names |= set(values)


class Failing(Told):
    def log(self, stage: str, unit: str, step: int, values: Mapping[str, float]) -> None:
        super().log(stage, unit, step, values)
        if step == 2:
            raise OSError("the network is down\nand more")


def _network() -> Stages:
    return Stages.from_sequential(nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3)), [2, 3])


def test_every_long_call_tells_its_loggers(data: ImageData, network: Stages, tmp_path: Path) -> None:
    told = Told()
    config = SearchConfig(points="last", batch=36, es=decouple.EsConfig(population=4, generations=1))
    execution = decouple.Execution(logger=told)
    targets = decouple.search_solution(network, data.train, tmp_path / "targets", config=config, execution=execution)
    learn = decouple.LearnConfig(epochs=2)
    decouple.learn_targets(network, data.train, targets, validation=data.validation, config=learn, logger=told)
    decouple.train_sgd(_network(), data.train, validation=data.validation, config=SgdConfig(epochs=1), logger=[told])
    q0 = decouple.Q0Config(cycles=2, epochs=1, first_epochs=2)
    decouple.q0.train_population([_network()], data, tmp_path / "population", config=q0, logger=(told, Progress(quiet=True)))
    assert told.entries == [
        *(("search", "solution-0", images) for images in (36, 72)),
        *(("learn", "search", epoch) for epoch in (1, 2)),
        ("learn", "sgd", 1),
        *(("q0", "trajectory-0", epoch) for epoch in (1, 2, 3)),
    ]
    assert told.names == {"cross_entropy", "solved", "loss", "validation_accuracy"}


def test_a_logger_that_fails_is_left_out_and_warned_of_once(data: ImageData, caplog: pytest.LogCaptureFixture) -> None:
    failing, told, config = Failing(), Told(), SgdConfig(epochs=4)
    with caplog.at_level(logging.WARNING, "decouple"):
        fit = decouple.train_sgd(_network(), data.train, validation=data.validation, config=config, logger=[failing, told])
    assert len(fit.losses) == 4
    assert [step for _, _, step in failing.entries] == [1, 2]
    assert [step for _, _, step in told.entries] == [1, 2, 3, 4]
    assert caplog.messages == ["Failing failed and gets no further figures (OSError: the network is down)"]


def test_a_run_directory_that_cannot_be_written_still_ends_the_run() -> None:
    def log(*_: object) -> None:
        raise RunDirectoryError("full")

    with pytest.raises(RunDirectoryError, match="full"):
        Loggers(SimpleNamespace(log=log)).log("learn", "sgd-1", 1, {})


def test_progress_shows_the_latest_figures(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Loggers([Progress(), Told()])
    with shown.task("learn, sgd-1", 2, "epochs") as advance:
        shown.log("learn", "sgd-1", 2, {"loss": 0.25, "validation_accuracy": 0.9})
        advance(2)
    assert capsys.readouterr().err == "learn, sgd-1: 2/2 epochs, 0 s, loss 0.25, validation accuracy 0.9\n"


@pytest.mark.parametrize("logger", [3, "tensorboard", [Told(), nn.Flatten()]])
def test_what_is_no_logger_is_refused(data: ImageData, logger: Any) -> None:
    with pytest.raises(ConfigError, match=r"logger must have a method log\(stage, unit, step, values\)"):
        decouple.train_sgd(_network(), data.train, validation=data.validation, logger=logger)


def test_an_unknown_name_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    message = r"there is no logger 'wandbb': expected tensorboard, wandb, mlflow, or several .*; did you mean 'wandb'\?"
    with pytest.raises(ConfigError, match=message):
        decouple.run(decouple.preset("digits"), tmp_path / "run", logger="tensorboard,wandbb")
    assert not (tmp_path / "run").exists()
    assert names_of(" wandb ,mlflow,wandb,") == ["wandb", "mlflow"]


@pytest.mark.parametrize(
    ("name", "module"), [("tensorboard", "torch.utils.tensorboard"), ("wandb", "wandb"), ("mlflow", "mlflow")]
)
def test_a_package_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf"{name}, which is not installed: pip install 'decouple-learn\[{name}\]'"):
        loggers.opened(name, tmp_path, "run", {})


def test_tensorboard_gets_scalars(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    opened = loggers.opened("tensorboard", tmp_path, "run", SETTINGS)
    opened.log("learn", "search-0", 3, {"loss": 0.5})
    opened.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("learn/search-0/loss")] == [(3, 0.5)]


class Calls(list[tuple[str, dict[str, Any]]]):
    """The calls of a made-up package whose functions take what the real ones take."""

    def function(self, name: str, takes: str, result: Any = None) -> Callable[..., Any]:
        namespace: dict[str, Any] = {"calls": self, "result": result}
        arguments = f"{name}({takes})"
        exec(f"def {arguments}:\n    calls.append(({name!r}, dict(locals())))\n    return result", namespace)
        function: Callable[..., Any] = namespace[name]
        return function

    def named(self, name: str) -> list[dict[str, Any]]:
        return [arguments for each, arguments in self if each == name]


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """W&B 0.31 as far as it is used here."""
    calls, module = Calls(), ModuleType("wandb")
    run = SimpleNamespace(
        log=calls.function("log", "data, step=None, commit=None"),
        define_metric=calls.function(
            "define_metric", "name, step_metric=None, step_sync=None, hidden=None, summary=None, overwrite=None"
        ),
        finish=calls.function("finish", "exit_code=None"),
    )
    made: Any = module
    made.init = calls.function(
        "init",
        "entity=None, project=None, dir=None, id=None, name=None, notes=None, tags=None, config=None, group=None, mode=None, "
        "reinit=None, resume=None, settings=None",
        run,
    )
    made.Settings = calls.function("Settings", "console='auto'")
    monkeypatch.setitem(sys.modules, "wandb", module)
    return calls


def test_wandb_has_steps_of_each_unit_and_continues_its_run(wandb: Calls, tmp_path: Path) -> None:
    for sitting in (1, 2):
        opened = loggers.opened("wandb", tmp_path, "seed-0", SETTINGS)
        opened.log("learn", "search-0", sitting, {"loss": 0.5})
        opened.log("learn", "search-0", sitting + 1, {"loss": 0.25})
        opened.close()
    first, second = wandb.named("init")
    assert (first["project"], first["name"], first["config"]) == ("decouple", "seed-0", SETTINGS)
    assert first["id"] == second["id"]
    assert len(first["id"]) == 8
    assert first["resume"] == "allow"
    assert wandb.named("log")[0]["data"] == {"learn/search-0/step": 1, "learn/search-0/loss": 0.5}
    defined = [(each["name"], each["step_metric"]) for each in wandb.named("define_metric")]
    assert defined[:2] == [("learn/search-0/step", None), ("learn/search-0/*", "learn/search-0/step")]
    assert len(defined) == 4, "once in each sitting"
    assert len(wandb.named("finish")) == 2


def test_a_service_that_does_not_start_is_named(wandb: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: object) -> None:
        raise RuntimeError("no API key\nlog in")

    monkeypatch.setattr(sys.modules["wandb"], "init", init)
    message = r"the logger wandb does not start \(RuntimeError: no API key\); without a connection set WANDB_MODE=offline"
    with pytest.raises(ConfigError, match=message):
        loggers.opened("wandb", tmp_path, "run", {})


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """MLflow 3.17 as far as it is used here."""
    calls, module = Calls(), ModuleType("mlflow")
    run = SimpleNamespace(info=SimpleNamespace(run_id="0123"))
    client = SimpleNamespace(
        get_experiment_by_name=calls.function("get_experiment_by_name", "name"),
        create_experiment=calls.function("create_experiment", "name, artifact_location=None, tags=None", "7"),
        create_run=calls.function("create_run", "experiment_id, start_time=None, tags=None, run_name=None", run),
        update_run=calls.function("update_run", "run_id, status=None, name=None"),
        log_batch=calls.function("log_batch", "run_id, metrics=(), params=(), tags=(), synchronous=None"),
        set_terminated=calls.function("set_terminated", "run_id, status=None, end_time=None"),
    )
    made: Any = module
    made.MlflowClient = calls.function("MlflowClient", "tracking_uri=None, registry_uri=None", client)

    @dataclasses.dataclass
    class Metric:
        key: str
        value: float
        timestamp: int
        step: int

    made.entities = SimpleNamespace(Metric=Metric, Param=lambda key, value: (key, value))
    monkeypatch.setitem(sys.modules, "mlflow", module)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return calls


def test_mlflow_gets_settings_once_and_metrics_by_step(mlflow: Calls, tmp_path: Path) -> None:
    for step in (1, 2):
        opened = loggers.opened("mlflow", tmp_path, "seed-0", SETTINGS)
        opened.log("q0", "trajectory-0", step, {"loss": 0.5})
        opened.close()
    assert mlflow.named("MlflowClient")[0]["tracking_uri"] == f"sqlite:///{tmp_path / 'mlflow.db'}"
    (run,) = mlflow.named("create_run")
    assert (run["experiment_id"], run["run_name"]) == ("7", "seed-0")
    params, *metrics = mlflow.named("log_batch")
    assert params["params"] == [("learn.epochs", "4"), ("network.name", "paper")]
    entries = [(metric.key, metric.value, metric.step) for batch in metrics for metric in batch["metrics"]]
    assert entries == [("q0/trajectory-0/loss", 0.5, 1), ("q0/trajectory-0/loss", 0.5, 2)]
    assert [each["run_id"] for each in mlflow.named("set_terminated")] == ["0123", "0123"]


def test_mlflow_gets_all_settings_in_parts_that_it_takes(mlflow: Calls, tmp_path: Path) -> None:
    settings = {f"setting {number}": number for number in range(230)}
    loggers.opened("mlflow", tmp_path, "run", settings)
    batches = [batch["params"] for batch in mlflow.named("log_batch")]
    assert [len(batch) for batch in batches] == [100, 100, 30]
    assert [param for batch in batches for param in batch] == [(name, str(value)) for name, value in settings.items()]


@pytest.mark.parametrize("failed", [False, True])
def test_services_are_told_whether_a_run_has_failed(wandb: Calls, mlflow: Calls, tmp_path: Path, failed: bool) -> None:
    try:
        with logging_to("tensorboard,wandb,mlflow", tmp_path, decouple.preset("digits")):
            if failed:
                raise RunDirectoryError("full")
    except RunDirectoryError:
        assert failed
    assert [each["exit_code"] for each in wandb.named("finish")] == [int(failed)]
    assert [each["status"] for each in mlflow.named("set_terminated")] == ["FAILED" if failed else "FINISHED"]


@pytest.mark.filterwarnings("ignore")  # its own
def test_wandb_itself_works_without_a_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    opened = loggers.opened("wandb", tmp_path, "run", SETTINGS)
    opened.log("learn", "search-0", 1, {"loss": 0.5})
    opened.close()
    (written,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    while b"learn/search-0/loss" not in written.read_bytes():  # its service writes when it likes
        time.sleep(0.02)


@pytest.mark.filterwarnings("ignore")  # its own
def test_mlflow_itself_works_without_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for step in (1, 2):
        opened = loggers.opened("mlflow", tmp_path, "run", SETTINGS)
        opened.log("learn", "search-0", step, {"loss": 0.5})
        opened.close()
    client = module.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    run = client.get_run(json.loads((tmp_path / loggers.KEPT).read_text())["mlflow"])
    assert run.data.params == {"learn.epochs": "4", "network.name": "paper"}
    assert run.info.status == "FINISHED"
    history = client.get_metric_history(run.info.run_id, "learn/search-0/loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.5), (2, 0.5)]
