"""The stages in their order, and the results that they make together."""

from __future__ import annotations

from itertools import count
from pathlib import Path

from decouple import results
from decouple.errors import RunDirectoryError
from decouple.files import write_json
from decouple.formats import aligned
from decouple.pipeline.comparing import Compared, compare
from decouple.pipeline.context import Run
from decouple.pipeline.learning import Trained, learn, learn_results, networks_of
from decouple.pipeline.population import PopulationResults, image_population
from decouple.pipeline.searching import search, search_results
from decouple.q0.members import INDEX
from decouple.results import Accuracies, Cost, Curves, Results
from decouple.search import TargetStore
from decouple.tasks.base import HELD_OUT

STAGES = ("search", "learn", "compare", "q0", "report")
"""In the order in which they need each other: each brings those before it up to date."""


def run_stages(run: Run, last: str = "report") -> str:
    """Do every stage up to `last`; what is done already is not done again.

    The processes of the run's group call this together: they share the steps of learning and of q0, and the members to evaluate.

    Returns:
        What has come of it, for people: of the learning, of the population, or of everything and the report's path. Empty for
        other stages, and in all processes but the first.
    """
    if last == "q0" and run.config.q0.init == "random":  # needs nothing that was searched
        only = image_population(run, networks_of(run)).results()
        return "" if only is None else aligned(only.results.rows(), right=True)
    with run.group.first_alone():
        stores = search(run)
    if last == "search":
        return ""
    networks = learn(run, stores)
    if last == "learn":
        return _learned(networks) if run.group.first else ""
    compared = compare(run, networks) if run.group.first and last in ("compare", "report") else None
    if last == "compare":
        return ""
    found = image_population(run, networks).results()
    if found is None:
        return ""
    if compared is None:
        return aligned(found.results.rows(), right=True)
    record = _record(run, stores, networks, compared, found)
    from decouple.report import build_report  # matplotlib takes a while to import

    with run.timed("report", ""):
        report = build_report(run.directory.path)
    return f"{aligned(record.rows(), right=True)}\nReport: {report.resolve()}"


def _learned(networks: list[Trained]) -> str:
    """What each network reached on validation; test images are not used before the report."""
    fits = [(trained.name, trained.result()) for trained in networks]
    rows = [(name, f"{fit.best_validation:.2%}", f"{fit.best_epoch}") for name, fit in fits]
    return aligned([("", "validation accuracy", "best epoch"), *rows], right=True)


def _record(
    run: Run, stores: list[TargetStore], networks: list[Trained], compared: Compared, population: PopulationResults
) -> Results:
    """Write results.json and curves.json; returns the results."""
    searched, diversity, search_curves = search_results(run, stores)
    trained, training_curves = learn_results(run, networks)
    data = run.data
    tested = {name: result.test_accuracy for name, result in trained.items() if result.test_accuracy is not None}
    baseline = next(accuracy for name, accuracy in tested.items() if trained[name].kind == "sgd")
    record = Results(
        format=results.FORMAT,
        preset=run.config.preset,
        data=run.config.data.name,
        seed=run.config.seed,
        classes=data.num_classes,
        images={name: len(getattr(data, name)) for name in ("train", *HELD_OUT)},
        test_accuracy=Accuracies(
            sgd=baseline, search=[accuracy for name, accuracy in tested.items() if trained[name].kind == "search"]
        ),
        search=searched,
        diversity=diversity,
        networks=trained,
        compare=compared.comparison,
        q0=population.results,
        cost=Cost(
            search_evaluations=sum(result.search_evaluations for result in trained.values()),
            gradient_steps=sum(result.gradient_steps for result in trained.values()) + population.gradient_steps,
            target_bytes=sum(store.nbytes for store in stores),
        ),
    )
    curves = Curves(
        format=results.FORMAT,
        search=search_curves,
        training=training_curves,
        trajectories=compared.trajectories,
        q0_size=population.sizes,
        calibration=population.calibration,
    )
    write_json(run.directory.path / "results.json", results.to_json(record))
    write_json(run.directory.path / "curves.json", results.to_json(curves))
    return record


OUTDATED = "outdated"
"""The folder of a run that takes its results and report when settings have changed since: into 1, 2, …"""


def set_aside(folder: Path) -> Path | None:
    """Move what earlier settings gave out of the way: results, report, comparison, and what the population consists of. Nobody is to
    take it for what the new ones give.

    Returns:
        Where they are; None: there were none.
    """
    names = ("results.json", "curves.json", "report.html", "figures", "comparison", INDEX)
    found = [folder / name for name in names if (folder / name).exists()]
    if not found:
        return None
    place = next(place for number in count(1) if not (place := folder / OUTDATED / str(number)).exists())
    try:
        place.mkdir(parents=True)
        for path in found:
            path.rename(place / path.name)
    except OSError as error:
        raise RunDirectoryError(f"the earlier results in {folder} cannot be moved to {place}: {error.strerror}") from None
    return place
