"""What the report says in words, worked out from the run's figures: its summary and its limits."""

from __future__ import annotations

import math
from statistics import mean

from decouple.analysis.temperature import BOUNDS, at_end
from decouple.config import RunConfig
from decouple.formats import SPACE, count, nats, percent, percent_digits, plural, standard_error
from decouple.registry import about
from decouple.report.inputs import RunInfo
from decouple.results import Q0Results, Results


def summary(config: RunConfig, results: Results) -> str:
    """A paragraph in plain language: what happened, and the headline figures."""
    search, q0, digits = results.search, results.q0, percent_digits(results.images["test"])
    first, last = search.points[0], search.points[-1]
    searched, sgd = results.test_accuracy.search, results.test_accuracy.sgd
    many = len(searched) > 1
    own = f"{percent(mean(searched), digits)}{SPACE}%"
    searches = f"{len(searched)} independent searches" if many else "A search"
    how = (
        "by backpropagation, as a reference,"
        if about(config.search.algorithm).backpropagates
        else "without backpropagation,"
    )
    learned = (
        f"Networks that {_learned(config, 'themselves')}, one for each search, classify {own} of the test images "
        f"correctly on average ({percent(min(searched), digits)} to {percent(max(searched), digits)}{SPACE}%)"
        if many
        else f"A network that {_learned(config, 'itself')} classifies {own} of the test images correctly"
    )
    calibrated = "" if q0.test_nll.calibrated is None else f" ({nats(q0.test_nll.calibrated)} calibrated)"
    return (
        f"{searches} changed the activations of an untrained network, image by image and {how} so that it puts "
        f"{percent(search.solved[last])}{SPACE}% of {plural(results.images['train'], 'training image')} in the right class: "
        f"their mean cross-entropy fell from {nats(search.cross_entropy[first].before)} to "
        f"{nats(search.cross_entropy[last].after).replace('<', 'below ')} nats. "
        f"{learned}; the best SGD baseline reaches {percent(sgd, digits)}{SPACE}%, {_beside(sgd - mean(searched), digits)}. "
        f"{_population(q0)} a test NLL of {nats(q0.test_nll.learned_prior)} with learned weights{calibrated} and "
        f"{_latest(q0)}{nats(q0.test_nll.uniform)} with uniform ones; the single member that did best on the prior split has "
        f"{nats(q0.test_nll.single)}."
    )


def _population(q0: Q0Results) -> str:
    """What has the learned weights, with its verb: all snapshots, or the `q0.members` heaviest."""
    if q0.size == len(q0.members):
        return f"A q0 population of {plural(len(q0.members), 'snapshot')} reaches"
    many = f"{q0.size} heaviest" if q0.size > 1 else "heaviest"
    return f"The {many} of a q0 population's {len(q0.members)} snapshots {'reach' if q0.size > 1 else 'reaches'}"


def _latest(q0: Q0Results) -> str:
    """What has the uniform weights, where these are not all snapshots."""
    return f"the {q0.size} latest " if 1 < q0.size < len(q0.members) else "the latest " if q0.size < len(q0.members) else ""


def _learned(config: RunConfig, whom: str) -> str:
    """What searched networks have learned; `whom`: themselves, or itself of one."""
    targets, live = config.learn.target_weight > 0, config.learn.live.weight > 0
    wants = ["learned to reproduce these activations"] * targets + ["to follow a search that went on at every step"] * live
    found = " and ".join(wants) if targets else f"learned {wants[0]}, not these activations"
    if config.rounds.count:
        found += f", and went on in {plural(config.rounds.count, 'round')} of being searched {whom}"
    return found


def limits(config: RunConfig, results: Results, run: RunInfo) -> list[str]:
    """What the figures do not show, from what the run was and how it was made."""
    return [
        *_limits_of_repetition(run),
        *_limits_of_test(results),
        *_limits_of_search(config, results),
        *_limits_of_baseline(config, results),
        *_limits_of_q0(config, results),
    ]


def _limits_of_repetition(run: RunInfo) -> list[str]:
    made = {(sitting.device, sitting.device_name, sitting.threads, str(sitting.versions)) for sitting in run.sittings}
    if len(made) < 2:
        return []
    threads = sorted({sitting.threads for sitting in run.sittings if sitting.threads is not None})
    return [
        f"The run was made in {len(run.sittings)} sittings that differ in device, threads ({', '.join(map(str, threads))}) or "
        "versions: a run made in one sitting may differ in its last digits."
    ]


def _beside(difference: float, digits: int) -> str:
    if percent(abs(difference), digits) == percent(0, digits):
        return "the same"
    points = f"{percent(abs(difference), digits)} percentage points"
    return f"{points} more" if difference > 0 else f"{points} less"


def _limits_of_test(results: Results) -> list[str]:
    images, sgd, searched = results.images["test"], results.test_accuracy.sgd, results.test_accuracy.search
    digits = percent_digits(images)
    own = mean(searched)
    error, gap = standard_error(sgd, images), abs(sgd - own)
    apart = math.hypot(error, standard_error(own, images))
    found = [
        "One seed. There are no error bars over seeds; "
        + (
            f"the {len(searched)} searched networks differ in what was searched and in their initialisation."
            if len(searched) > 1
            else "another seed may order these figures differently."
        ),
        f"{plural(images, 'test image')}: an accuracy near {percent(sgd, digits)}{SPACE}% has a standard error (binomial, "
        f"Agresti–Coull) of {percent(error, 2)} percentage points, a difference of two about {percent(apart, 2)}. SGD and "
        "searched are "
        f"{percent(gap, 2)} apart, {'less' if gap < 2 * apart else 'more'} than twice that. All networks share the test images, "
        "so a paired test would be sharper.",
    ]
    if images < 2000:
        found.append("The test set is small: the first decimal of an accuracy is already uncertain.")
    return found


def _limits_of_search(config: RunConfig, results: Results) -> list[str]:
    search = results.search
    found = [note] if (note := about(config.search.algorithm).note) else []
    if config.search.statistics == "batch":
        found.append(
            f"BatchNorm uses batch statistics in search, so the images of a search batch (up to {config.search.batch}) influence one "
            "another: the unit that is independent is the batch, not the image."
        )
    if tried := config.learn.candidates(len(search.points) - 1):
        found.append(
            f"Live search scores {tried} candidates per image and step by its label. With every direction "
            "and a small radius, it would find the gradient of the head’s log-probability, without backpropagation. It therefore "
            "trains the body much as SGD does; what differs is the stored targets beside it."
        )
    if search.failed_generations:
        found.append(
            f"In {plural(search.failed_generations, 'generation')} of an image every candidate had a non-finite fitness; the "
            "image kept what it had."
        )
    if results.diversity.solutions == 1:
        found.append("A single solution was searched: nothing can be said about how different solutions are.")
    found.append(
        "Cross-entropy and the share solved are of the images that were searched: they are not accuracies. The logits are "
        "searched too, so their displacement is large, and how many images are solved there says little. The cosine is that of the "
        "displacement with the negative gradient of the loss where the search began: what is orthogonal to it is mostly noise."
    )
    found.append(
        f"A searched network's head learns the searched logits, by a loss of weight {config.learn.kl_weight:g}: its probabilities "
        "are not calibrated. Compare networks by the NLL with a temperature, under Learning."
    )
    if ends := [name for name, net in results.networks.items() if net.temperature and at_end(net.temperature)]:
        found.append(
            f"The temperature of {' and '.join(ends)} is the last of those that are tried ({BOUNDS[0]:g} to {BOUNDS[1]:g}): "
            "the calibrated NLL there is that of a network whose answers say little."
        )
    if config.precision != "float32":
        found.append(f"Precision is {config.precision}: part of the arithmetic has 8 significant bits.")
    return found


def _limits_of_baseline(config: RunConfig, results: Results) -> list[str]:
    depths = sum(network.kind == "sgd" for network in results.networks.values())
    found = [
        f"The baseline did not pay for the search ({count(results.cost.search_evaluations)} scored candidates, those of "
        "live search among them): equal epochs of learning are not equal cost."
    ]
    if depths > 1:
        found.append(
            f"The baseline is the best of {depths} depths on validation; the searched networks had one depth, "
            f"{plural(config.network.groups, 'ConvGroup')} a block."
        )
    chosen = "Epochs, and the baseline's depth," if depths > 1 else "Epochs"
    found.append(
        f"{chosen} were chosen on {plural(results.images['validation'], 'validation image')}: validation accuracies are optimistic."
    )
    found.append(
        f"Trajectories are measured on {count(results.compare.images)} of these images; entropies depend on how many there are."
    )
    if config.network.statistics == "batch":
        found.append("BatchNorm normalises by the evaluated batch: an answer depends on the images that share its batch.")
    return found


def _limits_of_q0(config: RunConfig, results: Results) -> list[str]:
    members, images = len(results.q0.members), results.images["prior"]
    found = [
        f"NLL on the prior split is in-sample for the learned prior: {plural(members, 'weight')} fitted on "
        f"{plural(images, 'image')}. Compare ensembles by the test columns."
    ]
    best = min(results.q0.test_nll.single, results.q0.test_nll.uniform)
    if results.q0.test_nll.learned_prior > best:
        way = "the best single member" if best == results.q0.test_nll.single else "uniform weights"
        found.append(
            f"Here the learned prior did not help: on test images its NLL, not calibrated, is higher than that of {way}."
        )
    seeded = config.q0.init == "searched"
    found.append(
        f"The population trained for {plural(results.q0.epochs, 'epoch')} with cross-entropy"
        + (", beyond the learning that seeded it" if seeded else "")
        + ": it is not compared with a single network, or with an SGD ensemble, of the same total cost."
    )
    return found
