"""Records how the representations of fixed samples move while a network trains: any `nn.Module`, layers by name."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from decouple.errors import ConfigError, DataError, NetworkError, NotFiniteError, did_you_mean
from decouple.files import save_tensors
from decouple.settings import fingerprint
from decouple.trajectories.recording import About, record_path, samples_digest

BATCH = 500
"""Samples that go through the network together."""

LOST = 1e-3
"""Relative error up to which a layer is kept in half precision; beyond it (numbers too large or too small) in float32."""


class Recorder:
    """Writes the activations of chosen layers on fixed samples to a folder, a file a step: call it while you train.

        recorder = Recorder(["layer1", "layer4", "fc"], images, "records/sgd-0", labels=labels, logits="fc", kind="sgd")
        recorder(0, network)
        for epoch in range(epochs):
            ...  # train
            recorder(epoch + 1, network)

    A step's file is whole or absent. The network is left as it was: its modes, its buffers, its gradients, and the random
    numbers that it would have drawn; it keeps no hooks between calls.

    Args:
        layers: names as in `network.named_modules()`; or a mapping of what to call them to these names.
        samples: (N, …) what the network takes, always the same ones; a few hundred are enough.
        folder: where the files go; `Recording.open` reads them.
        ids: (N,) integers that name the samples wherever they are recorded; default: their positions.
        labels: (N,) classes, for entropies within and between classes.
        at: steps at which to record; None: at each call.
        name: of this training, in figures; default: the folder's name.
        kind: of training ("search", "sgd", "q0", or a word of your own), by which comparisons are grouped.
        logits: the one of `layers` whose outputs are class scores; None: predictions are not compared.
        solution: name of the searched solution that the network learns; None: it learns none.
        start: name of its initialisation and batches; default: `name`.
        unit: identity of the training, which each file carries; default: from everything above.

    Raises:
        ConfigError: no layers, or `logits` that is none of them.
        DataError: samples, ids or labels that do not fit one another.
    """

    def __init__(
        self,
        layers: Sequence[str] | Mapping[str, str],
        samples: Tensor,
        folder: Path | str,
        *,
        ids: Tensor | None = None,
        labels: Tensor | None = None,
        at: Collection[int] | None = None,
        name: str | None = None,
        kind: str = "",
        logits: str | None = None,
        solution: str | None = None,
        start: str | None = None,
        unit: str | None = None,
    ) -> None:
        if isinstance(layers, str):
            raise ConfigError(f"give the layers as a list of names, such as [{layers!r}], not as one text")
        named = dict(layers) if isinstance(layers, Mapping) else {layer: layer for layer in layers}
        if not named:
            raise ConfigError("there are no layers to record: give at least one name of network.named_modules()")
        if logits is not None and logits not in named:
            raise ConfigError(f"logits = '{logits}' is none of the recorded layers{did_you_mean(logits, named)}")
        ids = torch.arange(len(samples)) if ids is None else ids.cpu()
        _check_samples(samples, ids, labels)
        self.folder = Path(folder)
        self._layers, self._samples, self._at = named, samples, at
        self._known: dict[str, Tensor] = {"ids": ids.long()}
        if labels is not None:
            self._known["labels"] = labels.cpu().long()
        name = name or self.folder.name
        self._about = About(
            name=name,
            kind=kind,
            layers=list(named),
            logits=logits,
            solution=solution,
            start=start or name,
            samples=samples_digest(samples, self._known["ids"], self._known.get("labels")),
        )
        self.unit = unit or f"recording/{fingerprint(named, self._about.values())}"

    def path(self, step: int) -> Path:
        """The file of a step."""
        return record_path(self.folder, step)

    def unit_of(self, step: int) -> str:
        """The identity that the file of a step carries."""
        return f"{self.unit}/record-{step}"

    def __call__(self, step: int, network: nn.Module) -> None:
        """Record `network` as it is after `step` epochs, or steps, of training, if `at` holds it.

        Raises:
            NetworkError: an unknown layer (near matches are named), or one that does not run once in a forward pass and
                give a tensor of a row for each sample.
            NotFiniteError: a layer gives NaN or infinity.
            RunDirectoryError: the file cannot be written.
        """
        if self._at is not None and step not in self._at:
            return
        found = {f"layer.{name}": _compact(values, name, step) for name, values in self._activations(network).items()}
        # Networks of one architecture can be asked whether it is the start, or the training, that makes them differ.
        shapes = fingerprint([(name, list(value.shape)) for name, value in network.state_dict().items()])
        meta = {**self._about.values(), "step": step, "architecture": shapes}
        save_tensors(self.path(step), {**found, **self._known}, meta, unit=self.unit_of(step))

    @torch.no_grad()
    def _activations(self, network: nn.Module) -> dict[str, Tensor]:
        device = next((tensor.device for tensor in network.parameters()), torch.device("cpu"))
        parts: dict[str, list[Tensor]] = {name: [] for name in self._layers}
        with _undisturbed(network, device), _watched(network, self._layers) as seen:
            for batch in self._samples.split(BATCH):
                seen.clear()
                network(batch.to(device))
                for name, layer in self._layers.items():
                    parts[name].append(_rows(seen.get(name, []), name, layer, len(batch)))
        return {name: torch.cat(values) for name, values in parts.items()}


def _check_samples(samples: Tensor, ids: Tensor, labels: Tensor | None) -> None:
    if not isinstance(samples, Tensor) or samples.dim() < 1 or not len(samples):
        raise DataError("samples must be a tensor (N, …) with N > 0, of what the network takes")
    if ids.shape != (len(samples),) or ids.is_floating_point() or len(ids.unique()) != len(ids):
        raise DataError(
            f"ids have shape {tuple(ids.shape)} and type {ids.dtype}: expected ({len(samples)},) different integers"
        )
    if labels is not None and (labels.shape != (len(samples),) or labels.is_floating_point()):
        raise DataError(
            f"labels have shape {tuple(labels.shape)} and type {labels.dtype}: expected ({len(samples)},) integers"
        )


@contextmanager
def _undisturbed(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Evaluation mode inside; outside everything is as it was."""
    modes = {module: module.training for module in network.modules()}
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        network.eval()
        try:
            yield
        finally:
            for module, training in modes.items():
                module.training = training


@contextmanager
def _watched(network: nn.Module, layers: Mapping[str, str]) -> Iterator[dict[str, list[Any]]]:
    """Gives what each layer returns, call by call, while inside."""
    modules = dict(network.named_modules())
    seen: dict[str, list[Any]] = {}
    hooks = []
    try:
        for name, layer in layers.items():
            if layer not in modules:
                raise NetworkError(f"the network has no layer '{layer}'{did_you_mean(layer, [m for m in modules if m])}")

            def note(module: nn.Module, inputs: Any, output: Any, name: str = name) -> None:
                seen.setdefault(name, []).append(output)

            hooks.append(modules[layer].register_forward_hook(note))
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _rows(outputs: list[Any], name: str, layer: str, count: int) -> Tensor:
    """A layer's output on the CPU, if it is one tensor with a row for each sample."""
    if len(outputs) != 1:
        raise NetworkError(
            f"layer '{layer}' ran {len(outputs)} times in a forward pass: expected once; name the layer around it, or one of its own"
        )
    output = outputs[0]
    if isinstance(output, (tuple, list)) and output and isinstance(output[0], Tensor):
        output = output[0]  # attention and recurrent layers give their output first
    if not isinstance(output, Tensor) or output.dim() < 2 or len(output) != count:
        got = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        raise NetworkError(
            f"layer '{layer}' gives {got} for {count} samples: expected a tensor ({count}, …); record another layer"
        )
    return output.detach().cpu()


def _compact(values: Tensor, name: str, step: int) -> Tensor:
    """In half precision, unless that loses more than rounding."""
    if not bool(torch.isfinite(values).all()):
        raise NotFiniteError(f"layer '{name}' gives NaN or infinity at step {step}: has the training diverged?")
    values = values.float()
    half = values.half()
    error = (half.float() - values).norm()
    return half if float(error) <= LOST * float(values.norm()) else values
