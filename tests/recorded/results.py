"""Results of every training on fixed seeds and one thread: what a change of the code must leave as it is.

    OMP_NUM_THREADS=1 python -m tests.recorded.results > new.json      # compare two commits, bit by bit, on one machine
    OMP_NUM_THREADS=1 python -m tests.recorded.results --write         # record the values that the test compares with

Digests are of all bits, and differ between kinds of CPU; the numbers differ only by rounding.
"""

from __future__ import annotations

import copy
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors.torch import load_file
from torch import Tensor

import decouple
from decouple.config import (
    TEXT_Q0,
    CorpusConfig,
    EsConfig,
    GptConfig,
    LearnConfig,
    LiveConfig,
    NetworkConfig,
    Q0Config,
    RoundsConfig,
    SearchConfig,
    SgdConfig,
    TextConfig,
)
from decouple.pipeline.text import run_text
from decouple.results import to_json

RECORD = Path(__file__).with_name("results.json")
SEARCH = SearchConfig(es=EsConfig(population=8, generations={"blocks": 6, "logits": 3}))
WORDS = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "a",
    "is",
    "that",
    "for",
    "it",
    "as",
    "was",
    "with",
    "be",
    "by",
    "on",
    "not",
    "he",
    "his",
    "but",
    "at",
    "are",
    "this",
    "have",
    "from",
    "or",
    "had",
    "an",
    "they",
    "which",
]


def digest(tensors: list[Tensor]) -> str:
    """Of all bits."""
    found = xxhash.xxh3_64()
    for tensor in tensors:
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def fitted(network: decouple.Stages, fit: decouple.Fit, data: decouple.ImageData) -> dict[str, Any]:
    return {
        "losses": fit.losses,
        "validation": fit.validation,
        "test": decouple.accuracy(network, data.test),
        "bits": digest(list(network.state_dict().values())),
    }


def text() -> str:
    """Documents of words that depend on the one before."""
    stream, documents = torch.Generator().manual_seed(0), []
    for _ in range(260):
        word, line = 0, []
        for _ in range(12):
            word = (3 * word + int(torch.randint(4, (1,), generator=stream))) % len(WORDS)
            line.append(WORDS[word])
        documents.append(" ".join(line))
    return "\n\n".join(documents)


def results(folder: Path) -> dict[str, Any]:
    """By name: numbers, and digests of all bits."""
    found: dict[str, Any] = {}
    data = decouple.load_data("digits")
    train = data.train.subset(torch.arange(256))
    size = NetworkConfig(width=8)
    searched, new = (decouple.paper_network(train.images, 10, size, groups=1, seed=seed) for seed in (0, 1))

    for name, config in (("es", SEARCH), ("es, all blocks", SearchConfig(points="all", es=SEARCH.es))):
        targets = decouple.search_solution(searched, train, folder / name, config=config, seed=0)
        after = targets.diagnostics()["after"].mean(1)
        found[f"search: {name}"] = {"after": after.tolist(), "bits": digest(targets.rows(torch.arange(len(train))))}
    targets = decouple.search_solution(searched, train, folder / "es", config=SEARCH, seed=0)

    for name, learn in (
        ("stored", LearnConfig(epochs=4, live=LiveConfig(weight=0.0), augment="flip-crop")),
        ("live", LearnConfig(epochs=4)),
    ):
        network = copy.deepcopy(new)
        fit = decouple.learn_targets(network, train, targets, validation=data.validation, config=learn, seed=3)
        found[f"learn: {name}"] = fitted(network, fit, data)
    again = SearchConfig(
        es=EsConfig(
            population=8, generations={"blocks": 4, "logits": 2}, step={"blocks": 0.03, "logits": 0.5}, moments="own"
        )
    )
    targets = decouple.search_solution(network, train, folder / "round", config=again, seed=1)
    settings = RoundsConfig(lr=0.05).learning(LearnConfig(epochs=2))
    fit = decouple.learn_targets(network, train, targets, validation=data.validation, config=settings, seed=4)
    found["learn: a round"] = fitted(network, fit, data)

    for name, sgd in (("sgd", SgdConfig(epochs=4)), ("adamw", SgdConfig(epochs=3, optimizer="adamw", lr=0.002, batch=50))):
        network = copy.deepcopy(new)
        fit = decouple.train_sgd(network, train, validation=data.validation, config=sgd, seed=3)
        found[f"sgd: {name}"] = fitted(network, fit, data)

    small = decouple.ImageData(data.name, data.classes, train, data.validation, data.prior, data.test)
    for name, q0 in (
        ("sgd", Q0Config(cycles=3, epochs=2, alpha=0.4, perturb=0.2, augment="crop", warmup=0.1)),
        ("muon", Q0Config(cycles=2, epochs=2, optimizer="muon", lr=0.003, weight_decay=1.0)),
    ):
        ensemble = decouple.q0.train_population([searched, new], small, folder / f"q0 {name}", config=q0, seed=5)
        truth = ensemble(data.test.images).gather(1, data.test.labels[:, None])
        found[f"q0: {name}"] = {
            "weights": ensemble.weights.tolist(),
            "nll": -float(truth.double().mean()),
            "bits": digest(list(ensemble.members.state_dict().values())),
        }

    (folder / "text.txt").write_text(text())
    corpus = CorpusConfig(validation=1500, prior=1500, test=2000)
    for restart in ("new", "continue"):
        config = TextConfig(
            precision="float32",
            corpus=corpus,
            network=GptConfig(layers=1, width=16, heads=1, context=32, dropout=0.1),
            q0=replace(
                TEXT_Q0,
                trajectories=2,
                cycles=2,
                first_epochs=2,
                epochs=2,
                restart=restart,
                perturb=0.2 if restart == "continue" else 0.0,
            ),
        )
        text_results = run_text(config, folder / "text.txt", folder / f"text-{restart}", device="cpu")
        assert text_results is not None
        snapshots = sorted((folder / f"text-{restart}").rglob("cycle-*[0-9].safetensors"))
        values = to_json(text_results)
        found[f"q0 text: {restart}"] = {
            "test_nll": values["q0"]["test_nll"],
            "members": [[member["weight"], member["test_nll"]] for member in values["q0"]["members"]],
            "bits": digest([weights for path in snapshots for weights in _weights_of(path)]),
        }
    return found


def _weights_of(path: Path) -> list[Tensor]:
    """The network's in a snapshot, in the order of their names."""
    tensors = load_file(path)
    return [tensors[name] for name in sorted(tensors) if name.startswith("network.")]


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        text = json.dumps(results(Path(folder)), indent=1) + "\n"
    if "--write" in sys.argv:
        RECORD.write_text(text)
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
