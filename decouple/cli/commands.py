"""What each command does. Heavy packages are imported when they are needed: --help and errors come at once."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from decouple import own_code, settings
from decouple.cli import views
from decouple.cli.options import (
    STAGE_SECTIONS,
    CodeOptions,
    CompareOptions,
    ExportOptions,
    RunOptions,
    SearchCodeOptions,
    StageOptions,
    TextOptions,
    TuneOptions,
)
from decouple.cli.parsing import parse_options, parse_settings, peek
from decouple.cli.signals import on_signal, unwind
from decouple.config import RunConfig, TextConfig
from decouple.config.files import read_file
from decouple.errors import ConfigError
from decouple.formats import aligned
from decouple.presets import PRESETS, preset, text_preset
from decouple.settings import Config

if TYPE_CHECKING:
    from decouple.pipeline.directory import RunDirectory, SharedDirectory
    from decouple.training.processes import Group

_RUN = [field.name for field in fields(RunConfig) if field.name != "preset"]
"""The settings of a run that its command line takes."""
PresetOptions = TypeVar("PresetOptions", RunOptions, TuneOptions)
_TEXT = [field.name for field in fields(TextConfig) if field.name != "preset"]


def commands() -> dict[str, Callable[[list[str]], None]]:
    """By name: what takes the rest of the command line."""
    return {
        "run": _run,
        "estimate": _estimate,
        "table": views.table,
        "tune": _tune,
        "export": _export,
        "points": views.points,
        "presets": views.presets,
        "version": views.version,
        "--version": views.version,
        **{stage: lambda rest, stage=stage: _stage(stage, rest) for stage in STAGE_SECTIONS},  # type: ignore[misc]
    }


def _run(argv: list[str]) -> None:
    options, config = _preset_settings("run", argv, RunOptions())
    config = settings.located(config, options.data_root)
    if options.seeds:
        _run_seeds(options.seeds, options, config, argv)
        return
    out = options.out or default_out(config)
    from decouple.pipeline.directory import RunDirectory
    from decouple.progress import Progress

    new = options.resume and not (out / "config.json").exists()
    with _opened(out, options.device, lambda: RunDirectory.create(out, config, resume=options.resume)) as (directory, group):
        if new and group.first:
            Progress(quiet=options.quiet).say(f"There is no run in {out} to resume: a new one begins.")
        _execute(directory, group, config, options, "report")


def _run_seeds(seeds: tuple[int, ...], options: RunOptions, config: RunConfig, argv: list[str]) -> None:
    if any(argument.partition("=")[0] == "--seed" for argument in argv):
        raise ConfigError("--seed and --seeds are both given: give one of them")
    out = options.out or default_out(config).with_name(default_out(config).name.removesuffix(f"-seed{config.seed}"))
    from decouple.pipeline.seeds import run_seeds

    with on_signal(unwind):
        table = run_seeds(
            config,
            seeds,
            out,
            resume=options.resume,
            device=options.device,
            data_root=options.data_root,
            workers=options.workers,
            quiet=options.quiet,
            logger=options.log or "",
        )
    print(f"{table}\nTable: {(out / 'table.md').resolve()}")


def _preset_settings(command: str, argv: list[str], known: PresetOptions) -> tuple[PresetOptions, RunConfig]:
    """What `run`, `estimate` and `tune` take: options, --config among them, and settings after the name of a preset."""
    usage = f"{command} PRESET"
    if argv[:1] in (["-h"], ["--help"]):
        parse_settings(usage, argv, known, RunConfig(), _RUN)
    if not argv or argv[0].startswith("-"):
        raise ConfigError(
            f"'decouple {command}' needs a preset first: decouple {command} digits; known: {', '.join(PRESETS)}"
        )
    options = peek(known, argv[1:])
    base = _with_file(preset(argv[0]), options.config)
    return options, parse_settings(usage, argv[1:], known, base, _RUN)


def _with_file(base: Config, file: Path | None) -> Config:
    """A preset's settings, with those of a --config file over them."""
    if file is None:
        return base
    values = read_file(file)
    values.pop("preset", None)
    return settings.from_builtins(values, base, source=str(file))


def _stage(stage: str, argv: list[str]) -> None:
    others = {
        ("report", "--schema"): views.schema,
        ("q0", "text"): _text,
        ("q0", "plan"): views.plan,
    }
    if argv and (other := others.get((stage, argv[0]))):
        other(argv[1:])
        return
    if argv[:1] in (["-h"], ["--help"]):
        parse_settings(f"{stage} RUN_DIR", argv, StageOptions(), RunConfig(), STAGE_SECTIONS[stage])
    if not argv or argv[0].startswith("-"):
        raise ConfigError(f"'decouple {stage}' needs a run directory first: decouple {stage} runs/digits-seed0")
    several, elsewhere = len(argv) > 1 and not argv[1].startswith("-"), any(each.startswith("--out") for each in argv)
    if stage == "compare" and (several or elsewhere):
        _compare_runs(argv)
        return
    if stage == "report":
        from decouple.pipeline.directory import SharedDirectory

        if SharedDirectory(Path(argv[0])).is_text():
            _text(["--out", argv[0], "--resume", *argv[1:]])
            return
    _repeat(stage, Path(argv[0]), argv[1:])


def _repeat(stage: str, path: Path, argv: list[str]) -> None:
    """Bring a stage of a run up to date, with other settings if they are given."""
    options = peek(SearchCodeOptions(), argv)
    from decouple.pipeline.directory import RunDirectory

    with _opened(path, options.device, lambda: RunDirectory.open(path)) as (directory, group):
        before = directory.read_config()
        known = StageOptions()
        if before.code:
            known = CodeOptions() if stage == "search" else SearchCodeOptions()
        config = parse_settings(f"{stage} RUN_DIR", argv, known, before, STAGE_SECTIONS[stage])
        config = settings.located(config, None)
        named = _named(stage, options, before)
        _execute(directory, group, config, options, stage, named=named)
        # Save the settings only once the stage has succeeded with them.
        from decouple.pipeline.stages import set_aside

        outdated = set_aside(path) if group.first and config != before and stage != "report" else None
        directory.write_config(config)
    if not group.first:
        return
    if stage != "report":
        print(f"{stage}: done. 'decouple report {shlex.quote(str(path))}' brings the results and the report up to date.")
        if outdated:
            print(f"Those of the earlier settings are in {outdated}.")
    if stage == "compare":
        out = path / "comparison"
        code = tuple(config.code[setting] for setting in named if setting in config.code)
        _write_comparison([path], CompareOptions(out, options.device, options.data_root, code, options.quiet))


def _named(stage: str, options: SearchCodeOptions | ExportOptions, config: RunConfig) -> list[str]:
    """The settings that name code and that the user has given, which is that of the run; those of a search may be new."""
    given = {
        "search.algorithm": options.search.algorithm if isinstance(options, SearchCodeOptions) else None,
        "search.network.name": options.search.network.name if isinstance(options, SearchCodeOptions) else None,
        "network.name": options.network.name,
        "data.name": options.data.name,
    }
    for setting, name in given.items():
        own = config.code.get(setting)
        if name and own and own_code.located(name) != own and not setting.startswith(f"{stage}."):
            raise ConfigError(f"the run was made with {own}, which 'decouple {stage}' cannot change: give --{setting} {own}")
    return [setting for setting, name in given.items() if name]


@contextmanager
def _opened(path: Path, device: str, hold: Callable[[], RunDirectory]) -> Iterator[tuple[SharedDirectory, Group]]:
    """A run directory and the processes that work on it: the first one holds it, and the others of a torchrun only read."""
    from decouple.pipeline.directory import SharedDirectory
    from decouple.training.processes import process_group

    with on_signal(unwind), process_group(device) as group, ExitStack() as stack:
        with group.first_alone():
            directory = stack.enter_context(hold() if group.first else SharedDirectory(path))
        yield directory, group


def _compare_runs(argv: list[str]) -> None:
    count = next((i for i, argument in enumerate(argv) if argument.startswith("-")), len(argv))
    options = parse_options("compare RUN_DIR RUN_DIR ...", argv[count:], CompareOptions())
    _write_comparison([Path(path) for path in argv[:count]], options)


def _write_comparison(folders: list[Path], options: CompareOptions) -> None:
    from decouple.pipeline.compare_runs import compare_runs
    from decouple.progress import Progress

    with on_signal(unwind):
        page = compare_runs(
            folders,
            options.out,
            device=options.device,
            data_root=options.data_root,
            code=[own_code.located(address) for address in options.code],
            progress=Progress(quiet=options.quiet),
        )
    print(f"Comparison: {page.resolve()}")


def _text(argv: list[str]) -> None:
    options = peek(TextOptions(), argv)
    data, base = options.data, text_preset(options.preset or "tiny")
    if options.resume and options.out and options.preset is None and os.path.isfile(options.out / "config.json"):
        from decouple.pipeline.directory import SharedDirectory

        run = SharedDirectory(options.out)
        base, file = run.read_config(TextConfig), run.read_run().get("data", {}).get("file")
        data = data or (Path(file) if file else None)
    config = parse_settings("q0 text", argv, TextOptions(), _with_file(base, options.config), _TEXT)
    if data is None:
        raise ConfigError("'decouple q0 text' needs a text file: decouple q0 text --data FILE")
    out = options.out or Path("runs") / f"text-{config.preset}-seed{config.seed}"
    from decouple.pipeline.text import run_text

    with on_signal(unwind):
        found = run_text(
            config,
            data,
            out,
            resume=options.resume,
            device=options.device,
            workers=options.workers,
            quiet=options.quiet,
            logger=options.log,
        )
    if found is not None:
        print(aligned(found.q0.rows(), right=True))
        print(f"Report: {(out / 'report.html').resolve()}")


def _execute(
    directory: SharedDirectory,
    group: Group,
    config: RunConfig,
    options: StageOptions,
    last: str,
    *,
    named: Collection[str] | None = None,
) -> None:
    """Do every stage up to `last`; `named` as in `open_run`."""
    from decouple.pipeline.context import open_run
    from decouple.pipeline.stages import run_stages
    from decouple.progress import Progress
    from decouple.workers import Execution

    progress = Progress(quiet=options.quiet or not group.first)
    with open_run(
        directory,
        config,
        group=group,
        data_root=options.data_root,
        progress=progress,
        logger=options.log,
        execution=Execution(options.workers, options.ray_address),
        named=named,
    ) as run:
        sizes = f"{len(run.data.train)} training and {len(run.data.test)} test images"
        if run.device.type == "cpu" and "for a GPU" in PRESETS.get(config.preset, ""):
            progress.say(
                f"Note: {config.preset} is meant for a GPU; 'decouple estimate {config.preset}' tells how long it takes here."
            )
        progress.say(f"{config.preset}, seed {config.seed}: {sizes}, on {run.device}; in {directory.path}")
        said = run_stages(run, last)
    if said:
        print(said)


def _export(argv: list[str]) -> None:
    if not argv or (argv[0].startswith("-") and argv[0] not in ("-h", "--help")):
        raise ConfigError(
            "'decouple export' needs a run directory first: decouple export runs/digits-seed0 --to network.pt2 --what search-0"
        )
    options = parse_options("export RUN_DIR", argv if argv[0].startswith("-") else argv[1:], ExportOptions())
    if options.to is None:
        raise ConfigError("'decouple export' needs a file to write: --to FILE.safetensors, .pt2 or .onnx")
    from decouple.pipeline.directory import SharedDirectory
    from decouple.pipeline.exporting import export_run

    source = Path(argv[0])
    text = not source.is_dir() or SharedDirectory(source).is_text()
    named = () if text else _named("export", options, SharedDirectory(source).read_config())
    with on_signal(unwind):
        print(
            export_run(
                source,
                options.to,
                what=options.what,
                members=options.members,
                equal=options.equal,
                distil=options.distill_epochs if options.distill else None,
                device=options.device,
                data_root=options.data_root,
                named=named,
                overwrite=options.overwrite,
            )
        )


def _estimate(argv: list[str]) -> None:
    options, config = _preset_settings("estimate", argv, RunOptions())
    from decouple.estimate import estimate

    found = estimate(config, device=options.device, data_root=options.data_root)
    print(found.of_runs(len(options.seeds or (config.seed,))).text())


def _tune(argv: list[str]) -> None:
    options, config = _preset_settings("tune", argv, TuneOptions())
    out = options.out or default_out(config).with_name(f"tune-{default_out(config).name}")
    from decouple.pipeline.tune import tune

    with on_signal(unwind):
        found = tune(
            config,
            out,
            tuning=options,
            resume=options.resume,
            device=options.device,
            data_root=options.data_root,
            workers=options.workers,
            quiet=options.quiet,
            logger=options.log,
        )
    print(f"{found}\nTable and picture: {(out / 'tune.md').resolve()}")
    if any(trial.accuracy is not None for trial in found.trials):
        print(f"Run the best settings: decouple run {config.preset} --config {shlex.quote(str(out / 'best.json'))}")


def default_out(config: RunConfig) -> Path:
    """Where a run goes when no --out is given: named by its preset, its data if they differ from the preset's, and its seed."""
    kind, _, folder = config.data.name.partition(":")
    data = [] if config.data.name == preset(config.preset).data.name else [Path(folder).name or kind]
    return Path("runs") / "-".join([config.preset, *data, f"seed{config.seed}"])
