"""The command line: what each command takes, and how errors and interruptions end it."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import tyro

from decouple import settings
from decouple.config import RunConfig, TextConfig
from decouple.errors import ConfigError, DecoupleError, did_you_mean
from decouple.presets import PRESETS, preset, text_preset

USAGE = """usage: decouple COMMAND ...

Train networks by searching representations and learning them, and turn the solutions into an ensemble.

  decouple run PRESET          everything: search, learn, compare with SGD, q0 population, report
  decouple estimate PRESET     what that would cost, before anything runs
  decouple presets             the presets, a line each

  decouple search RUN_DIR      one stage of a run directory, and what it needs; repeat it with other
  decouple learn RUN_DIR       settings, such as  decouple q0 runs/digits --q0.cycles 8
  decouple compare RUN_DIR     with several run directories: all their trajectories beside each other
  decouple q0 RUN_DIR
  decouple q0 text --data FILE  q0 alone, for next-token prediction on a text file
  decouple q0 plan --epochs E  the best population measured for a budget of epochs
  decouple q0 export RUN_DIR --out FILE
                               the run's population as one file, for decouple.Ensemble
  decouple report RUN_DIR      bring everything up to date and rebuild report.html

  decouple report --schema     JSON schema of results.json and curves.json
  decouple version

Begin with   decouple run digits   and see   decouple COMMAND --help   for every setting.
"""

STAGE_SECTIONS = {
    "search": ("search",),
    "learn": ("learn", "sgd"),
    "compare": ("compare",),
    "q0": ("q0",),
    "report": (),
}
"""The sections that each stage command may change."""


@dataclass(frozen=True)
class StageOptions:
    """How to run: nothing here decides a result."""

    device: str = "auto"
    """auto (the first GPU, or else the CPU), cpu, cuda or cuda:N."""
    data_root: Path | None = None
    """Folder of the data sets; default: $DECOUPLE_DATA, or ~/.cache/decouple/data. Downloads go there."""
    workers: int = 1
    """Processes that search, or train q0's trajectories, at once; more than one are Ray's. They share the cores, or the GPUs:
    each computes with cores/N threads, so it pays where one process leaves cores idle. With as many threads a process
    (OMP_NUM_THREADS=1, say) the results are bit for bit those of one worker."""
    ray_address: str | None = None
    """A Ray cluster to search on in place of this machine, N batches at a time: the host:port that 'ray start --head' prints,
    or auto. Every node needs decouple; the run directory stays here."""
    tensorboard: bool = False
    """Log to RUN_DIR/tensorboard as well."""
    quiet: bool = False
    """Show no progress."""


@dataclass(frozen=True)
class RunOptions(StageOptions):
    out: Path | None = None
    """Run directory; default: runs/PRESET-seedN."""
    resume: bool = False
    """Go on with the run that --out holds: finished work is not done again."""
    config: Path | None = None
    """A .json, .yaml or .toml file of settings that override the preset's; a run's config.json is one."""


@dataclass(frozen=True)
class PlanOptions:
    epochs: int = 32
    """Total epochs to spend, all trajectories together."""
    members: int | None = None
    """Networks that may be evaluated for an answer; default: any number."""
    plans: Path | None = None
    """A file that python -m benchmarks.q0_images --plans wrote; default: the one that comes with decouple."""


@dataclass(frozen=True)
class ExportOptions:
    out: Path = Path("ensemble.safetensors")
    """The file to write: weights, members and their shape."""
    members: int | None = None
    """The heaviest members; default: all that have a weight."""
    distill: bool = False
    """Compress them into one network, trained on their probabilities with the run's q0 settings."""
    distill_epochs: int = 32
    """Epochs of that training."""
    data_root: Path | None = None
    """Folder of the data sets, for --distill; default: the run's."""


@dataclass(frozen=True)
class RunArguments:
    options: Annotated[RunOptions, tyro.conf.arg(name="")]
    settings: Annotated[RunConfig, tyro.conf.arg(name="")]


@dataclass(frozen=True)
class StageArguments:
    options: Annotated[StageOptions, tyro.conf.arg(name="")]
    settings: Annotated[RunConfig, tyro.conf.arg(name="")]


@dataclass(frozen=True)
class TextOptions:
    """How to run: nothing here decides a result, but the text."""

    data: Path | None = None
    """The text file."""
    preset: str = "tiny"
    """tiny: minutes on two cores; paper: the paper's scale, for GPUs under torchrun."""
    out: Path | None = None
    """Run directory; default: runs/text-PRESET-seedN."""
    resume: bool = False
    """Go on with the run that --out holds: finished work is not done again."""
    config: Path | None = None
    """A .json, .yaml or .toml file of settings that override the preset's; a run's config.json is one."""
    device: str = "auto"
    """auto (the first GPU, or else the CPU; under torchrun one for each process), cpu, cuda or cuda:N."""
    quiet: bool = False
    """Show no progress."""


@dataclass(frozen=True)
class CompareOptions:
    """How to compare several runs: nothing here decides their results."""

    out: Path = Path("runs/comparison")
    """Folder of the page, its figures and its numbers."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N, for what a run still lacks."""
    data_root: Path | None = None
    """Folder of the data sets; default: where each run found them."""
    quiet: bool = False
    """Show no progress."""


@dataclass(frozen=True)
class TextArguments:
    options: Annotated[TextOptions, tyro.conf.arg(name="")]
    settings: Annotated[TextConfig, tyro.conf.arg(name="")]


@dataclass(frozen=True)
class CompareArguments:
    options: Annotated[CompareOptions, tyro.conf.arg(name="")]


Arguments = TypeVar("Arguments", RunArguments, StageArguments, CompareArguments, TextArguments, PlanOptions, ExportOptions)
Settings = TypeVar("Settings", RunConfig, TextConfig)


def run_command(argv: list[str]) -> int:
    """Run the command line `argv`; returns the exit status: 0, 1 (failed), 2 (wrong input), 130 or 143 (interrupted)."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0 if argv else 2
    command, arguments = argv[0], argv[1:]
    commands: dict[str, Callable[[list[str]], None]] = {
        "run": _run,
        "estimate": _estimate,
        "presets": _presets,
        "version": _version,
        "--version": _version,
        **{stage: lambda rest, stage=stage: _stage(stage, rest) for stage in STAGE_SECTIONS},  # type: ignore[misc]
    }
    try:
        if command not in commands:
            raise ConfigError(f"there is no command '{command}'{did_you_mean(command, commands)}")
        with _interruptible():
            commands[command](arguments)
    except ConfigError as error:
        return _fail(error, 2)
    except DecoupleError as error:
        return _fail(error, 1)
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        return _fail(
            DecoupleError(
                f"out of memory ({(str(error).splitlines() or ['no more is known'])[0][:120]}); lower --search.batch, the population, "
                "--network.width or a batch; 'decouple estimate PRESET' says what is needed. Finished work is kept"
            ),
            1,
        )
    except _Interrupted as interruption:
        print(f"\ndecouple: stopped{_how_to_continue(command, arguments)}", file=sys.stderr)
        return 128 + interruption.number
    return 0


def _run(argv: list[str]) -> None:
    base = _base("run", argv)
    parsed = _parse("run PRESET", RunArguments, argv[1:], lambda config: RunArguments(RunOptions(), config), base)
    options, config = parsed.options, settings.located(settings.check(parsed.settings), parsed.options.data_root)
    out = options.out or default_out(config)
    from decouple.pipeline.directory import RunDirectory

    with RunDirectory.create(out, config, resume=options.resume) as directory:
        _execute(directory, config, options, "report")


def _stage(stage: str, argv: list[str]) -> None:
    if stage == "report" and "--schema" in argv:
        _schema()
        return
    if stage == "q0" and argv[:1] == ["text"]:
        _text(argv[1:])
        return
    if stage == "q0" and argv[:1] in (["plan"], ["export"]):
        {"plan": _plan, "export": _export}[argv[0]](argv[1:])
        return
    if not argv or argv[0].startswith("-"):
        if argv and argv[0] in ("-h", "--help"):
            _parse(f"{stage} RUN_DIR", StageArguments, argv, lambda c: StageArguments(StageOptions(), c), RunConfig())
        raise ConfigError(f"'decouple {stage}' needs a run directory first: decouple {stage} runs/digits-seed0")
    if stage == "compare" and len(argv) > 1 and not argv[1].startswith("-"):
        _compare_runs(argv)
        return
    from decouple.pipeline.directory import RunDirectory

    with RunDirectory.open(Path(argv[0])) as directory:
        before = directory.read_config()
        parsed = _parse(f"{stage} RUN_DIR", StageArguments, argv[1:], lambda c: StageArguments(StageOptions(), c), before)
        config = settings.check(parsed.settings)
        changed = settings.differences(before, config)
        if foreign := [c for c in changed if c.split(".")[0].split(":")[0] not in STAGE_SECTIONS[stage]]:
            allowed = " and ".join(f"--{section}.*" for section in STAGE_SECTIONS[stage]) or "no settings"
            raise ConfigError(
                f"'decouple {stage}' may change {allowed}, not {foreign[0]}; use the command of that stage, or 'decouple run' with "
                "another --out"
            )
        _execute(directory, config, parsed.options, stage)
        # Only now: settings that are refused, or that fail, must not become the run's.
        directory.write_config(config)
        later = list(STAGE_SECTIONS)[list(STAGE_SECTIONS).index(stage) + 1 :]
        if later:
            print(f"{stage}: done. 'decouple report {argv[0]}' brings the results and the report up to date.")
    if stage == "compare":
        options = parsed.options
        _write_comparison([Path(argv[0])], Path(argv[0]) / "comparison", options.device, options.data_root, options.quiet)


def _compare_runs(argv: list[str]) -> None:
    count = next((i for i, argument in enumerate(argv) if argument.startswith("-")), len(argv))
    usage = "compare RUN_DIR RUN_DIR ..."
    parsed = _parse(usage, CompareArguments, argv[count:], lambda _: CompareArguments(CompareOptions()), RunConfig())
    options = parsed.options
    _write_comparison([Path(path) for path in argv[:count]], options.out, options.device, options.data_root, options.quiet)


def _write_comparison(folders: list[Path], out: Path, device: str, data_root: Path | None, quiet: bool) -> None:
    from decouple.pipeline.gathering import compare_runs
    from decouple.progress import Progress

    page = compare_runs(folders, out, device=device, data_root=data_root, progress=Progress(quiet=quiet))
    print(f"Comparison: {page.resolve()}")


def _text(argv: list[str]) -> None:
    base = _with_file(text_preset(_value_of("--preset", argv) or "tiny"), argv)
    defaults = TextOptions(preset=base.preset)
    parsed = _parse("q0 text", TextArguments, argv, lambda config: TextArguments(defaults, config), base)
    options, config = parsed.options, settings.check(parsed.settings)
    if options.data is None:
        raise ConfigError("'decouple q0 text' needs a text file: decouple q0 text --data FILE")
    out = options.out or Path("runs") / f"text-{config.preset}-seed{config.seed}"
    from decouple.pipeline.text import run_text, summary

    found = run_text(config, options.data, out, resume=options.resume, device=options.device, quiet=options.quiet)
    if found is not None:
        print(summary(found))
        print(f"Report: {(out / 'report.md').resolve()}")


def _execute(directory: Any, config: RunConfig, options: StageOptions, last: str) -> None:
    from decouple.pipeline.context import open_run
    from decouple.pipeline.stages import run_stages
    from decouple.progress import Progress

    progress = Progress(quiet=options.quiet)
    with open_run(
        directory,
        config,
        device=options.device,
        data_root=options.data_root,
        progress=progress,
        tensorboard=options.tensorboard,
        workers=options.workers,
        ray_address=options.ray_address,
    ) as run:
        sizes = f"{len(run.data.train)} training and {len(run.data.test)} test images"
        if run.device.type == "cpu" and "for a GPU" in PRESETS.get(config.preset, ""):
            progress.say(
                f"Note: {config.preset} is meant for a GPU; 'decouple estimate {config.preset}' says how long it takes here."
            )
        progress.say(f"{config.preset}, seed {config.seed}: {sizes}, on {run.device}; in {directory.path}")
        report = run_stages(run, last)
    if report is not None:
        from decouple.pipeline.summary import summary

        print(summary(directory.path))
        print(f"Report: {report.resolve()}")


def _plan(argv: list[str]) -> None:
    options = _parse("q0 plan", PlanOptions, argv, lambda config: PlanOptions(), RunConfig())
    from decouple.q0.plan import Plans

    plans = Plans.shipped() if options.plans is None else Plans.read(options.plans)
    print(plans.text(options.epochs, options.members))


def _export(argv: list[str]) -> None:
    if not argv or argv[0].startswith("-"):
        if argv and argv[0] in ("-h", "--help"):
            _parse("q0 export RUN_DIR", ExportOptions, argv, lambda config: ExportOptions(), RunConfig())
        raise ConfigError(
            "'decouple q0 export' needs a run directory first: decouple q0 export runs/digits-seed0 --out FILE"
        )
    options = _parse("q0 export RUN_DIR", ExportOptions, argv[1:], lambda config: ExportOptions(), RunConfig())
    from decouple.pipeline.population import compressed
    from decouple.q0.ensemble import Ensemble

    ensemble = Ensemble.load(Path(argv[0]), options.members)
    many = len(ensemble.members)
    if options.distill:
        ensemble = compressed(Path(argv[0]), ensemble, epochs=options.distill_epochs, data_root=options.data_root)
    ensemble.save(options.out)
    print(f"{options.out}: {many} member{'s' if many > 1 else ''}{' in one network' if options.distill else ''}")


def _estimate(argv: list[str]) -> None:
    base = _base("estimate", argv)
    parsed = _parse("estimate PRESET", RunArguments, argv[1:], lambda c: RunArguments(RunOptions(), c), base)
    config = settings.check(parsed.settings)
    from decouple.estimate import estimate

    options = parsed.options
    print(estimate(config, device=options.device, data_root=options.data_root).text())


def _presets(argv: list[str]) -> None:
    width = max(map(len, PRESETS))
    for name, line in PRESETS.items():
        print(f"{name:<{width}}  {line}")


def _version(argv: list[str]) -> None:
    from decouple.pipeline.directory import versions

    print(", ".join(f"{name} {version}" for name, version in versions().items()))


def _schema() -> None:
    import json

    from decouple import results

    print(
        json.dumps(
            {"results.json": results.schema(results.Results), "curves.json": results.schema(results.Curves)}, indent=2
        )
    )


def default_out(config: RunConfig) -> Path:
    """Where a run goes when no --out is given."""
    return Path("runs") / f"{config.preset}-seed{config.seed}"


def _base(command: str, argv: list[str]) -> RunConfig:
    """The settings before the command line's own: the preset's, with a --config file's over them."""
    if not argv or (argv[0].startswith("-") and argv[0] not in ("-h", "--help")):
        raise ConfigError(
            f"'decouple {command}' needs a preset first: decouple {command} digits; known: {', '.join(PRESETS)}"
        )
    if argv[0].startswith("-"):
        _parse(f"{command} PRESET", RunArguments, argv, lambda c: RunArguments(RunOptions(), c), RunConfig())
    return _with_file(preset(argv[0]), argv)


def _with_file(base: Settings, argv: list[str]) -> Settings:
    """A preset's settings, with a --config file's over them."""
    file = _value_of("--config", argv)
    if file is None:
        return base
    values = settings.read_file(Path(file))
    values.pop("preset", None)
    return settings.from_builtins(values, base, source=file)


def _value_of(option: str, argv: list[str]) -> str | None:
    """The value of an option that must be known before the others are parsed."""
    for i, argument in enumerate(argv):
        if argument == option and i + 1 < len(argv):
            return argv[i + 1]
        if argument.startswith(option + "="):
            return argument.partition("=")[2]
    return None


def _parse(
    usage: str, kind: type[Arguments], argv: list[str], defaults: Callable[[Settings], Arguments], base: Settings
) -> Arguments:
    """Parse options over `base`, with errors in one line where tyro draws a box."""
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            parsed, unknown = tyro.cli(
                kind,
                args=argv,
                default=defaults(base),
                prog=f"decouple {usage}",
                description=f"Every setting, with its value in {'this run' if 'RUN_DIR' in usage else 'this preset'}.",
                return_unknown_args=True,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise ConfigError(_unboxed(box.getvalue())) from None
    if unknown:
        option = unknown[0]
        if not option.startswith("-"):
            raise ConfigError(f"unexpected argument '{option}': settings are given as --section.name value")
        known = _options(defaults(base))
        raise ConfigError(f"unknown option '{option}'{did_you_mean(option.partition('=')[0].replace('_', '-'), known)}")
    return parsed


def _options(arguments: Any, prefix: str = "") -> list[str]:
    """Every option's name."""
    found = []
    for entry in dataclasses.fields(arguments):
        if entry.name == "preset":  # given by its place
            continue
        value = getattr(arguments, entry.name)
        name = prefix if entry.name in ("options", "settings") else f"{prefix}{entry.name.replace('_', '-')}"
        if dataclasses.is_dataclass(value):
            found += _options(value, f"{name}." if name else "")
        else:
            found.append(f"--{name}")
    return found


def _unboxed(text: str) -> str:
    """The message of one of tyro's boxes, on one line, without the help that follows it."""
    lines = [line.strip("│ ").strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()]
    message = []
    for line in lines:
        if line.startswith("──"):
            break
        if line and not line.startswith(("╭", "╰")):
            message.append(line)
    text = " ".join(message).removeprefix("Error parsing ")
    return f"{text} (see --help)" if text else "the options cannot be parsed; see --help"


def _fail(error: DecoupleError, status: int) -> int:
    print(f"decouple: {error}", file=sys.stderr)
    return status


class _Interrupted(BaseException):
    def __init__(self, number: int) -> None:
        self.number = number


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the command where it is; every file is whole at any moment."""

    def interrupt(number: int, frame: Any) -> NoReturn:
        raise _Interrupted(number)

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _how_to_continue(command: str, argv: list[str]) -> str:
    if command not in ("run", *STAGE_SECTIONS):
        return ""
    if (command == "run" or argv[:1] == ["text"]) and "--resume" not in argv:
        argv = [*argv, "--resume"]
    return "; finished work is kept: continue with  " + shlex.join(["decouple", command, *argv])


def _is_out_of_memory(error: BaseException) -> bool:
    """torch raises a class of its own on a GPU, and a RuntimeError that only its text tells from others on a CPU."""
    known = (
        "alloc_cpu",
        "DefaultCPUAllocator",
        "out of memory",
        "can't allocate memory",
        "Storage size calculation overflowed",
    )
    return isinstance(error, MemoryError) or any(text in str(error) for text in known)
