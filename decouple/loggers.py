"""Where figures go while work is done: TensorBoard, Weights & Biases, MLflow, or any object with a method `log`."""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from decouple.errors import ConfigError, DamagedFileError, DecoupleError, did_you_mean, first_line
from decouple.files import read_json, write_json
from decouple.progress import Advance, Progress

_LOG = logging.getLogger("decouple")

PROJECT = "decouple"
"""Of Weights & Biases, and MLflow's experiment, unless the environment names one."""
PARAMS = 100
"""Settings that MLflow takes at a time."""
KEPT = "loggers.json"
"""In a run directory: the numbers by which services know the run, so that a resumed run goes on there."""


@runtime_checkable
class Logger(Protocol):
    """What takes the figures of searches and trainings as they come."""

    def log(self, stage: str, unit: str, step: int, values: Mapping[str, float]) -> None:
        """Take the figures of a step.

        Args:
            stage: search, learn, q0 or tune.
            unit: what of the stage: a network, a solution or a trajectory.
            step: epochs that are done; of a search, images.
            values: by name, such as loss.
        """


LoggerLike = Logger | Iterable[Logger] | None
"""A logger, several, or none. A `Progress` among them shows a bar."""


class Loggers:
    """Several loggers as one. A logger that fails is dropped with a single warning: it never ends a training.

    Only a `DecoupleError` is raised, such as that of a run directory which cannot be written.

    >>> class Printing:
    ...     def log(self, stage, unit, step, values):
    ...         print(stage, unit, step, values)
    >>> Loggers(Printing()).log("learn", "search-0", 1, {"loss": 0.5})
    learn search-0 1 {'loss': 0.5}

    Args:
        loggers: one, several or none.

    Raises:
        ConfigError: an object without a method `log`.
    """

    def __init__(self, loggers: LoggerLike = None) -> None:
        single = isinstance(loggers, Logger) or not isinstance(loggers, Iterable)
        given: list[Any] = [] if loggers is None else [loggers] if single else list(loggers)  # type: ignore[arg-type]
        for logger in given:
            if not callable(getattr(logger, "log", None)):
                raise ConfigError(
                    f"logger must have a method log(stage, unit, step, values), as decouple.Logger describes it; "
                    f"{type(logger).__name__} has none"
                )
        self._loggers = given

    def log(self, stage: str, unit: str, step: int, values: Mapping[str, float]) -> None:
        """See `Logger.log`."""
        self._each(lambda logger: logger.log(stage, unit, step, values))

    @contextmanager
    def task(self, what: str, total: int, unit: str) -> Iterator[Advance]:
        """As `Progress.task`, of those among the loggers that show progress."""
        with ExitStack() as stack:
            shown = [
                stack.enter_context(each.task(what, total, unit))
                for each in self._loggers
                if isinstance(each, (Progress, Loggers))
            ]

            def advance(count: int) -> None:
                for each in shown:
                    each(count)

            yield advance

    def close(self, *, failed: bool = False) -> None:
        """Close those that can be closed; `failed`: an error has ended what they logged, as services are told."""

        def close(logger: Logger) -> None:
            if isinstance(logger, (Wandb, MLflow)):
                logger.close(failed=failed)
            elif hasattr(logger, "close"):
                logger.close()

        self._each(close)

    def _each(self, do: Callable[[Logger], object]) -> None:
        for logger in list(self._loggers):
            try:
                do(logger)
            except DecoupleError:
                raise
            except Exception as error:  # whatever a service or the user's own code raises
                self._loggers.remove(logger)
                _LOG.warning(
                    "%s failed and gets no further figures (%s: %s)",
                    *(type(each).__name__ for each in (logger, error)),
                    first_line(error),
                )


class TensorBoard:
    """Writes scalars to `folder`/tensorboard. Raises ConfigError: the package is not installed."""

    def __init__(self, folder: Path | str, **_: object) -> None:
        with _installed("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter
        self._writer = SummaryWriter(str(Path(folder) / "tensorboard"))

    def log(self, stage: str, unit: str, step: int, values: Mapping[str, float]) -> None:
        """See `Logger.log`."""
        for name, value in values.items():
            self._writer.add_scalar(f"{stage}/{unit}/{name}", value, step)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


class Wandb:
    """Logs to Weights & Biases, as the environment asks (WANDB_PROJECT, WANDB_MODE=offline, …); files go to `folder`/wandb.

    Args:
        folder: of the run; what it keeps of an earlier sitting is continued.
        name: of the run.
        settings: shown with the run.

    Raises:
        ConfigError: the package is not installed, or does not start.
    """

    def __init__(self, folder: Path | str, *, name: str = "", settings: Mapping[str, Any] | None = None) -> None:
        with _installed("wandb"):
            import wandb
        self._steps: set[str] = set()
        with _starting("wandb", "; without a connection set WANDB_MODE=offline"):
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                id=_kept(folder, "wandb", lambda: secrets.token_hex(4)),
                resume="allow",
                name=name or None,
                dir=str(folder),
                config=dict(settings or {}),
                reinit="create_new",
                settings=wandb.Settings(console="off"),
            )

    def log(self, stage: str, unit: str, step: int, values: Mapping[str, float]) -> None:
        """See `Logger.log`."""
        series = f"{stage}/{unit}"
        if series not in self._steps:  # each unit counts its own steps, where W&B has one for all
            self._steps.add(series)
            self._run.define_metric(f"{series}/step", hidden=True)
            self._run.define_metric(f"{series}/*", step_metric=f"{series}/step")
        self._run.log({f"{series}/step": step, **{f"{series}/{name}": value for name, value in values.items()}})

    def close(self, *, failed: bool = False) -> None:
        """Wait until all is written or sent; `failed`: mark the run so."""
        self._run.finish(exit_code=int(failed))


class MLflow:
    """Logs to MLflow: to the server of MLFLOW_TRACKING_URI, or else to `folder`/mlflow.db. The arguments are those of `Wandb`.

    Raises:
        ConfigError: the package is not installed, or does not start.
    """

    def __init__(self, folder: Path | str, *, name: str = "", settings: Mapping[str, Any] | None = None) -> None:
        with _installed("mlflow"):
            import mlflow
        place = Path(folder).resolve()
        local = f"sqlite:///{place / 'mlflow.db'}"
        self._metric = mlflow.entities.Metric
        with _starting("mlflow", "; is MLFLOW_TRACKING_URI right?"):
            self._client = mlflow.MlflowClient(tracking_uri=os.environ.get("MLFLOW_TRACKING_URI", local))
            project = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
            found = self._client.get_experiment_by_name(project)
            experiment = self._client.create_experiment(project) if found is None else found.experiment_id
            params = [mlflow.entities.Param(key, str(value)[:500]) for key, value in (settings or {}).items()]

            def new() -> str:
                made: str = self._client.create_run(experiment, run_name=name or None).info.run_id
                for start in range(0, len(params), PARAMS):
                    self._client.log_batch(made, params=params[start : start + PARAMS])
                return made

            self._run = _kept(folder, "mlflow", new)
            self._client.update_run(self._run, status="RUNNING")

    def log(self, stage: str, unit: str, step: int, values: Mapping[str, float]) -> None:
        """See `Logger.log`."""
        now = int(1000 * time.time())
        metrics = [self._metric(f"{stage}/{unit}/{name}", float(value), now, step) for name, value in values.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def close(self, *, failed: bool = False) -> None:
        """Mark the run as finished, or as `failed`."""
        self._client.set_terminated(self._run, status="FAILED" if failed else "FINISHED")


LOGGED = ("tensorboard", "wandb", "mlflow.db", KEPT)
"""What loggers make in the folder of a run."""

NAMED: dict[str, Callable[..., Logger]] = {"tensorboard": TensorBoard, "wandb": Wandb, "mlflow": MLflow}
"""By the names that `--log` and `decouple.run(logger=…)` take."""


def names_of(text: str) -> list[str]:
    """The loggers that a text names, each once.

    >>> names_of("tensorboard, wandb")
    ['tensorboard', 'wandb']

    Raises:
        ConfigError: an unknown name.
    """
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in NAMED:
            raise ConfigError(
                f"there is no logger '{name}': expected {', '.join(NAMED)}, or several with commas between{did_you_mean(name, NAMED)}"
            )
    return names


def check_logger(given: str | LoggerLike) -> None:
    """Raise ConfigError if a logger is unknown, or is none: before anything is done."""
    if isinstance(given, str):
        names_of(given)
    else:
        Loggers(given)


def opened(given: str | LoggerLike, folder: Path, name: str, settings: Mapping[str, Any]) -> Loggers:
    """The loggers that are named (see `names_of`) or given, for a run in `folder`.

    Raises:
        ConfigError: an unknown name, a package that is not installed, or a service that does not start.
    """
    if not isinstance(given, str):
        return Loggers(given)
    return Loggers([NAMED[each](folder, name=name, settings=settings) for each in names_of(given)])


@contextmanager
def _installed(package: str) -> Iterator[None]:
    try:
        yield
    except ImportError:
        raise ConfigError(
            f"the logger {package} needs the package {package}, which is not installed: pip install 'decouple-learn[{package}]'"
        ) from None


@contextmanager
def _starting(service: str, hint: str) -> Iterator[None]:
    try:
        yield
    except DecoupleError:
        raise
    except Exception as error:  # of many kinds, by the service
        raise ConfigError(
            f"the logger {service} does not start ({type(error).__name__}: {first_line(error)}){hint}"
        ) from error


def _kept(folder: Path | str, service: str, new: Callable[[], str]) -> str:
    """The number by which a service knows the run in a folder, made where there is none yet."""
    path = Path(folder) / KEPT
    try:
        known: dict[str, str] = dict(read_json(path))
    except (DamagedFileError, TypeError, ValueError):  # or there is none
        known = {}
    if service not in known:
        known[service] = new()
        write_json(path, known)
    return str(known[service])
