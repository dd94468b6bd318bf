"""The learn stage: a network for each searched solution, and the SGD baselines, by the same code path."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from decouple.analysis import fit_temperature
from decouple.config import LearnConfig, TrainConfig
from decouple.config.images import PAPER
from decouple.data.images import Split, as_float
from decouple.device import search_dtype
from decouple.evaluation import figures
from decouple.files import load_tensors, save_record, save_tensors, try_record, try_tensors
from decouple.formats import plural
from decouple.learn.fitting import Checkpoint, Fit, Watch, fit, recorded_epochs
from decouple.learn.objective import cross_entropy, regression
from decouple.networks import Stages
from decouple.pipeline.context import Placed, Run, base_of
from decouple.pipeline.searching import search_identity
from decouple.results import NetworkResult, TrainingCurve
from decouple.search import TargetStore, search_solution
from decouple.seeds import derive
from decouple.settings import fingerprint
from decouple.training.evaluate import logits
from decouple.training.objectives import Objective
from decouple.trajectories import Recorder, Recording


@dataclass(frozen=True)
class Trained:
    """A network of the run, trained or to be trained, and its files."""

    name: str
    """search-0, search-1, … by solution; sgd-1, sgd-2, … by ConvGroups a block; search-0-before-1, … before round 1."""
    kind: str
    """search, sgd, or earlier: a searched network before its last round."""
    groups: int
    seed: int
    settings: TrainConfig
    folder: Path
    identity: str
    """Of its weights: fingerprint of all that they depend on. Its folder also depends on what is recorded."""
    solution: int | None = None
    """Whose targets it learns; None: those of no search."""
    after: Trained | None = None
    """The network of the round before, where it begins and whose search it learns from; None: it is the first."""

    @property
    def unit(self) -> str:
        return f"learn/{self.folder.parent.name}/{self.folder.name}"

    @property
    def path(self) -> Path:
        return self.folder / "network.safetensors"

    def recording(self) -> Recording:
        """Its activations while it was trained, by the name that it has in the run. Raises DamagedFileError: there are
        none, or a file is damaged."""
        return replace(Recording.open(self.folder), name=self.name, kind=self.kind)

    def result(self) -> Fit:
        """What its training gave. Raises DamagedFileError: it is not trained yet, or its file is damaged."""
        meta = load_tensors(self.path, unit=self.unit)[1]
        return Fit(meta["losses"], meta["validation"], meta["gradient_steps"])

    def evaluations(self) -> int:
        """Candidates that the search for its targets has scored, all images."""
        return int(load_tensors(self.path, unit=self.unit)[1]["evaluations"])

    def network(self, run: Run) -> Stages:
        """The network with its best weights."""
        network = run.network(run.config.network, groups=self.groups, seed=self.seed)
        network.load_state_dict(load_tensors(self.path, unit=self.unit)[0])
        return network.eval()


def networks_of(run: Placed) -> list[Trained]:
    """The networks that the run's settings ask for."""
    config = run.config
    learned = fingerprint(search_identity(run), config.learn)
    baseline = fingerprint(base_of(run), config.sgd)
    networks = []
    for solution in range(config.search.solutions):
        first = Trained(
            name=f"search-{solution}",
            kind="search",
            groups=config.network.groups,
            # A start of its own, not the searched network's: measured 2 points better on 1000 MNIST images.
            seed=derive(config.seed, "learned network", solution),
            settings=config.learn,
            folder=_recorded(run, learned) / f"search-{solution}",
            identity=learned,
            solution=solution,
        )
        networks += rounds_of(run, first)
    networks += [
        Trained(
            name=f"sgd-{groups}",
            kind="sgd",
            groups=groups,
            seed=derive(config.seed, "sgd network"),
            settings=config.sgd,
            folder=_recorded(run, baseline) / f"sgd-{groups}",
            identity=baseline,
        )
        for groups in config.baselines
    ]
    return networks


def _recorded(run: Placed, identity: str) -> Path:
    """Where networks whose weights have this identity are, with what is recorded of them."""
    return run.folder("learn", fingerprint(identity, run.config.compare.images, run.config.compare.records, "by layer"))


def rounds_of(run: Placed, first: Trained) -> list[Trained]:
    """The network of a solution after each round; the last one is what the search has given."""
    config = run.config.rounds
    found = [first]
    settings = config.learning(run.config.learn)
    for number in range(1, config.count + 1):
        identity = fingerprint(first.identity, config, number)
        folder = _recorded(run, identity) / f"{first.name}-round-{number}"
        found.append(replace(first, settings=settings, folder=folder, identity=identity, after=found[-1]))
    earlier = [
        replace(trained, name=f"{first.name}-before-{number}", kind="earlier")
        for number, trained in enumerate(found[:-1], 1)
    ]
    return [*earlier, found[-1]]


def learn(run: Run, stores: list[TargetStore], networks: Sequence[Trained] | None = None) -> list[Trained]:
    """Train the networks that are not there yet; the processes of the run's group share every batch.

    Args:
        networks: those of the run that are wanted; None: all.
    """
    every = networks is None
    networks = networks_of(run) if networks is None else list(networks)
    if every:
        _say_again(run, networks)
    with run.timed("learn", fingerprint([trained.unit for trained in networks])):
        for trained in networks:
            if _is_whole(run, trained):
                if run.group.first:  # a run that was killed may have left them
                    shutil.rmtree(_targets_of(trained), ignore_errors=True)
                continue
            objective: Objective = cross_entropy(trained.settings)
            evaluations = 0
            if trained.solution is not None:
                if trained.after is None:
                    targets = stores[trained.solution]
                else:
                    with run.group.first_alone():
                        targets = search_again(run, trained, trained.after)
                assert isinstance(trained.settings, LearnConfig)
                blocks = len(run.network_to_search) - 1
                objective = regression(targets, trained.settings, blocks)
                evaluations = (targets.evaluations + trained.settings.evaluations(blocks)) * len(run.data.train)
            _train(run, trained, objective, evaluations)
            run.group.wait()  # others may read what the first process has just written
            if run.group.first:
                shutil.rmtree(_targets_of(trained), ignore_errors=True)
    return networks


def _say_again(run: Run, networks: Sequence[Trained]) -> None:
    """Say which networks are trained again only because other records are wanted: these are made while a network trains."""
    before = run.directory.read_config().compare
    earlier = networks_of(replace(run, config=replace(run.config, compare=before)))
    known = {(trained.identity, trained.folder.name) for trained in earlier if trained.path.exists()}
    again = [t for t in networks if not t.path.exists() and (t.identity, t.folder.name) in known]
    if again:
        run.progress.say(
            f"Note: {plural(len(again), 'network')} will be trained again, since activations are recorded while a network is trained "
            "and compare.images or compare.records differ from before; the weights are the same."
        )


def search_again(run: Run, trained: Trained, before: Trained) -> TargetStore:
    """Targets for a later round: displacements of what the network before it makes of the images, judged by its own rest."""
    config, solution = run.config, trained.solution or 0
    return search_solution(
        before.network(run),
        run.data.train,
        _targets_of(trained),
        config=replace(config.search, algorithm="es", es=config.rounds.es),
        seed=derive(config.seed, "round", trained.folder.name),
        solution=solution,
        dtype=search_dtype(config.precision),
        identity=trained.unit,
        execution=replace(run.execution, logger=run.progress),
    )


def _targets_of(trained: Trained) -> Path:
    """Where the targets of a later round are, until they are learned."""
    return trained.folder / "targets"


def _train(run: Run, trained: Trained, objective: Objective, evaluations: int) -> None:
    if trained.after is None:
        network = run.network(run.config.network, groups=trained.groups, seed=trained.seed)
    else:
        network = trained.after.network(run)
    found = fit(
        network,
        run.data.train,
        run.data.validation,
        objective,
        trained.settings,
        seed=derive(run.config.seed, "learn", trained.folder.name),
        precision=run.config.precision,
        checkpoint=Checkpoint(trained.folder / "checkpoint.safetensors", trained.unit),
        watch=Watch(recorder_of(run, trained), run.watchers, trained.name),
    )
    if not run.group.first:
        return
    meta = {"losses": found.losses, "validation": found.validation, "gradient_steps": found.gradient_steps}
    save_tensors(trained.path, network.state_dict(), meta | {"evaluations": evaluations}, unit=trained.unit)
    (trained.folder / "checkpoint.safetensors").unlink(missing_ok=True)


def recorder_of(run: Run, trained: Trained) -> Recorder:
    """Keeps the activations on the comparison's images, at the moments that the settings ask for."""
    return probe_recorder(
        run,
        trained.folder,
        trained.unit,
        at=recorded_epochs(trained.settings.epochs, run.config.compare.records),
        kind="sgd" if trained.solution is None else "search",
        solution=None if trained.solution is None else f"search-{trained.solution}",
        start=str(trained.seed),
    )


def probe_recorder(run: Run, folder: Path, unit: str, **about: Any) -> Recorder:
    """Records a network of the run at all search points, on the comparison's images; `about`: further arguments of `Recorder`."""
    probe, names = probe_of(run), run.network_to_search.names
    points, images = {name: f"stages.{i}" for i, name in enumerate(names)}, as_float(probe.images)
    recorder = Recorder(points, images, folder, ids=probe.ids, labels=probe.labels, logits=names[-1], **about)
    recorder.unit = unit
    return recorder


def probe_of(run: Run) -> Split:
    """The validation images that the comparison is about."""
    return run.data.validation.subset(torch.arange(run.config.compare.images))


def _is_whole(run: Run, trained: Trained) -> bool:
    """Whether the network and all its records are there and sound."""
    epochs = recorded_epochs(trained.settings.epochs, run.config.compare.records)
    records = recorder_of(run, trained)
    files = [(trained.path, trained.unit), *((records.path(epoch), records.unit_of(epoch)) for epoch in epochs)]
    return all(try_tensors(path, unit=unit) is not None for path, unit in files)


def learn_results(run: Run, networks: list[Trained]) -> tuple[dict[str, NetworkResult], dict[str, TrainingCurve]]:
    """What each of these networks reached; only the searched ones and the best baseline are tested, once."""
    fits = {trained.name: trained.result() for trained in networks}
    baselines = [trained.name for trained in networks if trained.kind == "sgd"]
    best_baseline = max(baselines, key=lambda name: fits[name].best_validation, default=None)
    results, curves = {}, {}
    for trained in networks:
        found = fits[trained.name]
        network = trained.network(run)
        tested = trained.kind == "search" or trained.name == best_baseline
        test: dict[str, Any] = _tested(run, trained, network) if tested else {}
        results[trained.name] = NetworkResult(
            kind=trained.kind,
            groups=trained.groups if run.config.network.name == PAPER else None,
            parameters=sum(p.numel() for p in network.parameters() if p.requires_grad),
            best_epoch=found.best_epoch,
            validation_accuracy=found.best_validation,
            test_accuracy=test.get("accuracy"),
            test_nll=test.get("nll"),
            temperature=test.get("temperature"),
            calibrated_nll=test.get("calibrated_nll"),
            gradient_steps=found.gradient_steps,
            search_evaluations=trained.evaluations(),
        )
        curves[trained.name] = TrainingCurve(loss=found.losses, validation_accuracy=found.validation)
    return results, curves


def _tested(run: Run, trained: Trained, network: Stages) -> dict[str, float]:
    """Accuracy, NLL and calibrated NLL on the test split, with the temperature that suits the validation split; kept, so that the
    test split is used once."""
    path, unit = trained.folder / "test.json", f"{trained.unit}/test"
    found = try_record(path, unit=unit)
    if found is None or "temperature" not in found:  # an earlier version did not calibrate
        answers, labels = logits(network, run.data.test), run.data.test.labels
        held = logits(network, run.data.validation).double().softmax(1)
        temperature = fit_temperature(held, run.data.validation.labels)
        tested, calibrated = (
            figures(answers, labels),
            float(functional.cross_entropy(answers.double() / temperature, labels)),
        )
        found = {"accuracy": tested.accuracy, "nll": tested.nll, "temperature": temperature, "calibrated_nll": calibrated}
        save_record(path, found, unit=unit)
    return found
