"""q0 on text from settings to report: token file, trajectories, learned prior, and every way to choose members."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from decouple import device as devices, results
from decouple.config import TextConfig
from decouple.errors import expect
from decouple.files import save_tensors, try_tensors, write_json, write_text
from decouple.group import Group, process_group
from decouple.pipeline.directory import RunDirectory
from decouple.progress import Progress
from decouple.q0 import fit_prior, greedy_members, nll, select_members
from decouple.q0.architecture import GptArchitecture
from decouple.q0.ensemble import write_index
from decouple.q0.trajectories import Chain, Snapshot, snapshots_of, train_trajectory
from decouple.results import TextMember, TextResults, TextWays
from decouple.seeds import derive
from decouple.settings import fingerprint
from decouple.text.corpus import HELD_OUT, Corpus, load_corpus
from decouple.text.evaluate import p_truth
from decouple.text.gpt import Gpt
from decouple.text.task import TextTask

FORMAT = 1


@dataclass(frozen=True)
class TextRun:
    """What the steps of a run on text share."""

    config: TextConfig
    corpus: Corpus
    group: Group
    folder: Path
    directory: RunDirectory | None
    """Of the first process; the others write nothing but their snapshots' answers."""
    progress: Progress

    @property
    def identity(self) -> str:
        """Fingerprint of what a snapshot depends on: not of how many trajectories there are, nor of the prior."""
        config = self.config
        return fingerprint(self.corpus.digest, config.network, config.precision, config.compile, config.seed, config.q0)

    def network(self, seed: int = 0) -> Gpt:
        """A new network on the run's device."""
        return Gpt(self.config.network, vocabulary=self.corpus.vocabulary, seed=seed).to(self.group.device)


def run_text(
    config: TextConfig, data: Path, out: Path, *, resume: bool = False, device: str = "auto", quiet: bool = True
) -> TextResults | None:
    """Do everything that `decouple q0 text` does; returns the results, in the first process of a torchrun alone.

    Args:
        config: such as `decouple.text_preset("tiny")`.
        data: a text file, read as `decouple.text.corpus.read_text` says.
        out: run directory, on a disk that all processes see.
        resume: go on with the run that `out` holds.

    Raises:
        DecoupleError: whatever the user can mend; see `decouple.errors`.
    """
    expect(config, TextConfig, "config", "such as decouple.text_preset('tiny')")
    devices.prepare()
    with ExitStack() as stack:
        group = stack.enter_context(process_group(device))
        with group.first_alone():  # it makes the token file
            directory = stack.enter_context(RunDirectory.create(out, config, resume=resume)) if group.first else None
            corpus = load_corpus(data, config.corpus, Path(out) / "q0")
        if directory is not None:
            described = {"digest": corpus.digest, "file": str(Path(data).resolve())}
            directory.describe(seed=config.seed, device=group.device, data=described, processes=group.size)
        run = TextRun(config, corpus, group, Path(out), directory, Progress(quiet=quiet or not group.first))
        run.progress.say(_about(run))
        snapshots = train(run)
        found = evaluate(run, snapshots)
        if found is not None:
            write_json(Path(out) / "results.json", results.to_json(found))
            write_text(Path(out) / "report.md", report(found))
        group.wait()  # no process leaves while another still reads
        return found


def train(run: TextRun) -> list[Snapshot]:
    """The snapshots of every trajectory; trains those that are not there yet."""
    config, corpus, found = run.config, run.corpus, []
    task = TextTask(corpus.train, config.network, corpus.vocabulary)
    for trajectory in range(config.q0.trajectories or 1):
        own = snapshots_of(
            config.q0,
            run.folder / "q0" / run.identity,
            trajectory=trajectory,
            seed=config.seed,
            identity=run.identity,
        )
        found += own
        what = f"q0, trajectory {trajectory + 1}/{config.q0.trajectories}"
        epochs = config.q0.epochs_before(config.q0.cycles)
        with run.progress.task(what, epochs, "epochs") as advance:

            def log(cycle: int, epoch: int, loss: float, unit: str = f"trajectory-{trajectory}") -> None:
                if run.directory is not None:
                    run.directory.log("q0", unit=unit, cycle=cycle, epoch=epoch, loss=loss)

            network = run.network(derive(config.seed, "q0-text", "network", trajectory))
            seed = derive(config.seed, "q0-text", trajectory)
            chain = Chain(network, task, config.q0, seed, config.precision, config.compile)
            train_trajectory(chain, own, group=run.group, advance=advance, log=log)
    return found


def evaluate(run: TextRun, snapshots: Sequence[Snapshot]) -> TextResults | None:
    """Fit the prior on the prior part and report on test; the processes share the snapshots, the first one reports."""
    with run.progress.task("q0, evaluation", len(snapshots), "members") as advance:
        network = run.network()
        for number, snapshot in enumerate(snapshots):
            if number % run.group.size == run.group.rank:
                answers(run, snapshot, network)
            advance(1)
    run.group.wait()
    if not run.group.first:
        return None
    found = [answers(run, snapshot, network) for snapshot in snapshots]
    held_out = {name: torch.stack([one[name] for one in found]) for name in HELD_OUT}
    weights = fit_prior(held_out["prior"], method=run.config.q0.prior).weights
    corpus, config = run.corpus, run.config
    members = min(config.q0.members or len(snapshots), len(snapshots))
    write_index(run.folder, snapshots, weights, members, GptArchitecture(config.network, corpus.vocabulary))
    sizes = [ways(held_out["prior"], held_out["test"], weights, k, snapshots) for k in range(1, len(snapshots) + 1)]
    test = sizes[members - 1]
    return TextResults(
        format=FORMAT,
        preset=config.preset,
        seed=config.seed,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        vocabulary=corpus.vocabulary,
        bytes={name: getattr(corpus, name).bytes for name in ("train", *HELD_OUT)},
        tokens={name: len(getattr(corpus, name)) for name in ("train", *HELD_OUT)},
        epochs=(config.q0.trajectories or 1) * config.q0.epochs_before(config.q0.cycles),
        test_nll=test,
        test_bits_per_byte=_bits(run, test),
        by_size=sizes,
        members=[
            TextMember(
                trajectory=snapshot.trajectory,
                cycle=snapshot.cycle,
                weight=float(weights[i]),
                validation_nll=float(nll(held_out["validation"][i])),
                prior_nll=float(nll(held_out["prior"][i])),
                test_nll=float(nll(held_out["test"][i])),
            )
            for i, snapshot in enumerate(snapshots)
        ],
    )


def answers(run: TextRun, snapshot: Snapshot, network: Gpt) -> dict[str, Tensor]:
    """By held-out part: the probability that a snapshot gave to every token (N,); kept beside it."""
    path, unit = snapshot.path.with_suffix(".answers.safetensors"), f"{snapshot.unit}/answers"
    if (known := try_tensors(path, unit=unit)) is not None:
        return known[0]
    snapshot.load_into(network)
    found = {name: p_truth(network, getattr(run.corpus, name), precision=run.config.precision) for name in HELD_OUT}
    save_tensors(path, found, {}, unit=unit)
    return found


def ways(prior: Tensor, test: Tensor, weights: Tensor, k: int, snapshots: Sequence[Snapshot]) -> TextWays:
    """Test NLL (nats a token) of `k` members, chosen and weighted in every way on the prior part alone.

    Args:
        prior: (M, N) probability of the truth on the prior part; `test` alike.
        weights: (M,) the learned prior.
    """
    latest = sorted(range(len(snapshots)), key=lambda i: (-snapshots[i].cycle, snapshots[i].trajectory))[:k]
    chosen, share = select_members(weights, k)
    greedy, picks = greedy_members(prior, k)

    def of(indices: Tensor, of_each: Tensor) -> float:
        return float(nll(of_each @ test[indices].double()))

    return TextWays(
        single=of(*greedy_members(prior, 1)),
        uniform=of(torch.tensor(latest), torch.full((k,), 1 / k, dtype=torch.float64)),
        learned_prior=of(chosen, share),
        greedy=of(greedy, picks),
    )


def report(found: TextResults) -> str:
    """The results as a short page of Markdown."""
    rows = ["| members | uniform, the latest | learned prior | greedy |", "| --- | --- | --- | --- |"]
    scale = found.test_bits_per_byte.single / found.test_nll.single
    sizes = [k for k in range(1, len(found.by_size) + 1) if k & (k - 1) == 0 or k == len(found.by_size)]
    for k in sizes:
        at = found.by_size[k - 1]
        values = (at.uniform, at.learned_prior, at.greedy)
        rows.append(f"| {k} | {' | '.join(f'{value * scale:.4f}' for value in values)} |")
    table = "\n".join(rows)
    return (
        f"# q0 on text: {found.preset}, seed {found.seed}\n\n"
        f"{found.parameters:,} parameters, {found.bytes['train']:,} bytes of training text, {found.epochs} epochs in all, "
        f"{len(found.members)} snapshots. Best single member: {found.test_bits_per_byte.single:.4f} bits per byte on test.\n\n"
        f"Test, bits per byte, by number of members:\n\n{table}\n"
    )


def summary(found: TextResults) -> str:
    """The headline figures, as text."""
    bits = found.test_bits_per_byte
    rows = [
        ("best single member", bits.single, found.test_nll.single),
        ("uniform", bits.uniform, found.test_nll.uniform),
        ("learned prior", bits.learned_prior, found.test_nll.learned_prior),
        ("greedy", bits.greedy, found.test_nll.greedy),
    ]
    lines = [f"{'':<20}  test bits per byte  test NLL (nats a token)"]
    return "\n".join(lines + [f"{name:<20}  {bits:>18.4f}  {loss:>23.4f}" for name, bits, loss in rows])


def _bits(run: TextRun, nats: TextWays) -> TextWays:
    """The same figures in bits per byte of the test part."""
    bits = run.corpus.test.bits_per_byte
    return TextWays(
        single=bits(nats.single),
        uniform=bits(nats.uniform),
        learned_prior=bits(nats.learned_prior),
        greedy=bits(nats.greedy),
    )


def _about(run: TextRun) -> str:
    processes = f", {run.group.size} processes" if run.group.size > 1 else ""
    parameters = sum(parameter.numel() for parameter in run.network().parameters())
    read = f" ({'; '.join(run.corpus.notes)})" if run.corpus.notes else ""
    return (
        f"q0 text, {run.config.preset}, seed {run.config.seed}: {run.corpus.train.bytes:,} bytes of training text{read}, "
        f"{parameters:,} parameters, on {run.group.device}{processes}; in {run.folder}"
    )
