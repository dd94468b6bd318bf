"""What a researcher writes: search, learn, SGD, a recording, a population, and what a run directory holds."""

from pathlib import Path

import decouple


def main(run_directory: Path, out: Path) -> dict[str, float]:
    settings = decouple.preset("digits")
    data: decouple.ImageData = decouple.load_data(decouple.DataConfig("digits", train=40, validation=40, test=40))
    small, images = decouple.NetworkConfig(width=8), data.train.images
    untrained: decouple.Stages = decouple.paper_network(images, data.num_classes, small, groups=1, seed=0)
    search = decouple.SearchConfig(batch=20, es=decouple.EsConfig(population=4, generations=2))
    targets: decouple.TargetStore = decouple.search_solution(untrained, data.train, out / "targets", config=search)

    network = decouple.paper_network(images, data.num_classes, small, groups=1, seed=1)
    layers = {name: f"stages.{i}" for i, name in enumerate(network.names)}
    recorder = decouple.Recorder(layers, data.validation.images / 255, out / "recording", labels=data.validation.labels)
    learn, held_out = decouple.LearnConfig(epochs=2, batch=20), data.validation
    learned = decouple.learn_targets(network, data.train, targets, validation=held_out, config=learn, record=recorder)
    baseline = decouple.paper_network(images, data.num_classes, small, groups=1, seed=2)
    fit: decouple.Fit = decouple.train_sgd(baseline, data.train, validation=held_out, config=settings.sgd)
    steps: tuple[int, ...] = decouple.Recording.open(out / "recording").steps
    both = decouple.Ensemble([network, baseline], [0.5, 0.5])

    run = decouple.open(run_directory)
    results = run.results
    assert isinstance(results, decouple.Results)
    accuracies = {name: decouple.accuracy(each, data.test) for name, each in run.networks.items()}
    accuracies |= {"both": decouple.accuracy(both, data.test), "q0": decouple.accuracy(run.ensemble(2), data.test)}
    return {**accuracies, "learned": learned.best_validation, "SGD": fit.best_validation, "steps": len(steps)}
