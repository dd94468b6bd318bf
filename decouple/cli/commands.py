"""What each command does. Heavy packages are imported when they are needed: --help and errors come at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from decouple import registry, settings
from decouple.cli.options import (
    STAGE_SECTIONS,
    CompareArguments,
    CompareOptions,
    ExportOptions,
    PlanOptions,
    RunArguments,
    RunOptions,
    StageOptions,
    TextArguments,
    TextOptions,
    stage_arguments,
)
from decouple.cli.parsing import base_settings, parse, value_of, with_file
from decouple.config import RunConfig, TextConfig
from decouple.errors import ConfigError
from decouple.presets import PRESETS, preset, text_preset

if TYPE_CHECKING:
    from decouple.group import Group
    from decouple.pipeline.directory import RunDirectory


def commands() -> dict[str, Callable[[list[str]], None]]:
    """By name: what takes the rest of the command line."""
    return {
        "run": _run,
        "estimate": _estimate,
        "presets": _presets,
        "version": _version,
        "--version": _version,
        **{stage: lambda rest, stage=stage: _stage(stage, rest) for stage in STAGE_SECTIONS},  # type: ignore[misc]
    }


def _run(argv: list[str]) -> None:
    base = base_settings("run", argv)
    parsed = parse("run PRESET", argv[1:], RunArguments(RunOptions(), base))
    options, config = parsed.options, settings.located(parsed.settings, parsed.options.data_root)
    out = options.out or default_out(config)
    from decouple.pipeline.directory import RunDirectory

    with _opened(out, options.device, lambda: RunDirectory.create(out, config, resume=options.resume)) as (directory, group):
        _execute(directory, group, config, options, "report")


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
            parse(f"{stage} RUN_DIR", argv, stage_arguments(stage, RunConfig()))
        raise ConfigError(f"'decouple {stage}' needs a run directory first: decouple {stage} runs/digits-seed0")
    if stage == "compare" and len(argv) > 1 and not argv[1].startswith("-"):
        _compare_runs(argv)
        return
    from decouple.pipeline.directory import RunDirectory

    path = Path(argv[0])
    device = value_of("--device", argv) or "auto"
    with _opened(path, device, lambda: RunDirectory.open(path)) as (directory, group):
        before = directory.read_config()
        code = registry.is_code(before.search.algorithm)
        _refuse_foreign(stage, [argument for argument in argv[1:] if not (code and argument.startswith(_ALGORITHM))])
        parsed = parse(f"{stage} RUN_DIR", argv[1:], stage_arguments(stage, before))
        config = RunConfig(**vars(parsed.settings))
        named = getattr(parsed, "search", config.search).algorithm
        config = _with_algorithm(config, named, before, stage)
        _execute(directory, group, config, parsed.options, stage, code=bool(named) or not code)
        # Only now: settings that are refused, or that fail, must not become the run's.
        from decouple.pipeline.stages import OUTDATED, set_aside

        outdated = group.first and config != before and stage != "report" and set_aside(path)
        directory.write_config(config)
    if not group.first:
        return
    later = list(STAGE_SECTIONS)[list(STAGE_SECTIONS).index(stage) + 1 :]
    if later:
        print(f"{stage}: done. 'decouple report {path}' brings the results and the report up to date.")
        if outdated:
            print(f"Those of the earlier settings are in {path / OUTDATED}.")
    if stage == "compare":
        options = parsed.options
        _write_comparison([path], path / "comparison", options.device, options.data_root, options.quiet)


_ALGORITHM = "--search.algorithm"
"""Every stage takes it for a run that searches with code: it is only loaded when the user names it."""


def _with_algorithm(config: RunConfig, named: str, before: RunConfig, stage: str) -> RunConfig:
    """Checked settings with the algorithm that is named, or if there is none with the one that the run had `before`."""
    own = before.search.algorithm
    config = replace(config, search=replace(config.search, algorithm=named or own))
    config = settings.located(config, None)
    if stage != "search" and config.search.algorithm != own:
        raise ConfigError(f"the run searches with {own}, which 'decouple {stage}' cannot change: give {_ALGORITHM} {own}")
    return config


@contextmanager
def _opened(path: Path, device: str, hold: Callable[[], RunDirectory]) -> Iterator[tuple[RunDirectory, Group]]:
    """A run directory and the processes that work on it: the first one holds it, and the others of a torchrun only read."""
    from decouple.group import process_group
    from decouple.pipeline.directory import SharedDirectory

    with process_group(device) as group, ExitStack() as stack:
        with group.first_alone():
            directory = stack.enter_context(hold() if group.first else SharedDirectory(path))
        yield directory, group


def _refuse_foreign(stage: str, argv: list[str]) -> None:
    for option in (argument.partition("=")[0] for argument in argv if argument.startswith("--")):
        section = option[2:].partition(".")[0]
        if section in {field.name for field in fields(RunConfig)} - set(STAGE_SECTIONS[stage]):
            allowed = ", ".join(f"--{name}.*" for name in STAGE_SECTIONS[stage]) or "no settings"
            raise ConfigError(
                f"'decouple {stage}' may change {allowed}, not {option}; use the command of that stage, or 'decouple run' with "
                "another --out"
            )


def _compare_runs(argv: list[str]) -> None:
    count = next((i for i, argument in enumerate(argv) if argument.startswith("-")), len(argv))
    usage = "compare RUN_DIR RUN_DIR ..."
    parsed = parse(usage, argv[count:], CompareArguments(CompareOptions()))
    options = parsed.options
    _write_comparison([Path(path) for path in argv[:count]], options.out, options.device, options.data_root, options.quiet)


def _write_comparison(folders: list[Path], out: Path, device: str, data_root: Path | None, quiet: bool) -> None:
    from decouple.pipeline.compare_runs import compare_runs
    from decouple.progress import Progress

    page = compare_runs(folders, out, device=device, data_root=data_root, progress=Progress(quiet=quiet))
    print(f"Comparison: {page.resolve()}")


def _text(argv: list[str]) -> None:
    from decouple.pipeline.directory import SharedDirectory

    kept = value_of("--out", argv)
    if "--resume" in argv and kept and value_of("--preset", argv) is None and os.path.isfile(Path(kept) / "config.json"):
        run = SharedDirectory(Path(kept))
        base = with_file(run.read_config(TextConfig), argv)
        file = run.read_run().get("data", {}).get("file")
        defaults = TextOptions(preset=base.preset, data=Path(file) if file else None)
    else:
        base = with_file(text_preset(value_of("--preset", argv) or "tiny"), argv)
        defaults = TextOptions(preset=base.preset)
    parsed = parse("q0 text", argv, TextArguments(defaults, base))
    options, config = parsed.options, parsed.settings
    if options.data is None:
        raise ConfigError("'decouple q0 text' needs a text file: decouple q0 text --data FILE")
    out = options.out or Path("runs") / f"text-{config.preset}-seed{config.seed}"
    from decouple.pipeline.text import run_text, summary

    found = run_text(config, options.data, out, resume=options.resume, device=options.device, quiet=options.quiet)
    if found is not None:
        print(summary(found))
        print(f"Report: {(out / 'report.md').resolve()}")


def _execute(
    directory: RunDirectory, group: Group, config: RunConfig, options: StageOptions, last: str, *, code: bool = True
) -> None:
    """Do every stage up to `last`; `code` as in `open_run`."""
    from decouple.pipeline.context import open_run
    from decouple.pipeline.stages import run_stages
    from decouple.progress import Progress
    from decouple.search import Execution

    progress = Progress(quiet=options.quiet or not group.first)
    said = ""
    with open_run(
        directory,
        config,
        group=group,
        data_root=options.data_root,
        progress=progress,
        tensorboard=options.tensorboard,
        execution=Execution(options.workers, options.ray_address),
        code=code,
    ) as run:
        sizes = f"{len(run.data.train)} training and {len(run.data.test)} test images"
        if run.device.type == "cpu" and "for a GPU" in PRESETS.get(config.preset, ""):
            progress.say(
                f"Note: {config.preset} is meant for a GPU; 'decouple estimate {config.preset}' says how long it takes here."
            )
        progress.say(f"{config.preset}, seed {config.seed}: {sizes}, on {run.device}; in {directory.path}")
        if group.size > 1:  # they share the learning; all else is the first one's work
            run_stages(run, "search" if last == "search" else "learn")
            run.group = group.leave()
        if group.first:
            said = run_stages(run, last)
    if said:
        print(said)


def _plan(argv: list[str]) -> None:
    options = parse("q0 plan", argv, PlanOptions())
    from decouple.q0.plan import Plans

    plans = Plans.shipped() if options.plans is None else Plans.read(options.plans)
    print(plans.text(options.epochs, options.members))


def _export(argv: list[str]) -> None:
    if not argv or argv[0].startswith("-"):
        if argv and argv[0] in ("-h", "--help"):
            parse("q0 export RUN_DIR", argv, ExportOptions())
        raise ConfigError(
            "'decouple q0 export' needs a run directory first: decouple q0 export runs/digits-seed0 --out FILE"
        )
    options = parse("q0 export RUN_DIR", argv[1:], ExportOptions())
    if options.distill_epochs < 1:
        raise ConfigError(f"--distill-epochs = {options.distill_epochs}: expected at least 1")
    from decouple.pipeline.population import compressed
    from decouple.q0.ensemble import Ensemble

    ensemble = Ensemble.load(Path(argv[0]), options.members, equal=options.equal)
    many = len(ensemble.members)
    if options.distill:
        ensemble = compressed(Path(argv[0]), ensemble, epochs=options.distill_epochs, data_root=options.data_root)
    ensemble.save(options.out)
    print(f"{options.out}: {many} member{'s' if many > 1 else ''}{' in one network' if options.distill else ''}")


def _estimate(argv: list[str]) -> None:
    base = base_settings("estimate", argv)
    parsed = parse("estimate PRESET", argv[1:], RunArguments(RunOptions(), base))
    config = parsed.settings
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
    """Where a run goes when no --out is given: named by its preset, its data if they are others than the preset's, its seed."""
    kind, _, folder = config.data.name.partition(":")
    other = [] if config.data.name == preset(config.preset).data.name else [Path(folder).name or kind]
    return Path("runs") / "-".join([config.preset, *other, f"seed{config.seed}"])
