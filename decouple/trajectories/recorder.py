"""Records how the representations of fixed samples move while a network trains: any `nn.Module`, layers by name."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from decouple.errors import (
    ConfigError,
    DataError,
    DecoupleError,
    NetworkError,
    NotFiniteError,
    did_you_mean,
    expect,
    first_line,
)
from decouple.files import save_tensors
from decouple.networks.layers import find_layer, unwrapped
from decouple.networks.state import check_values
from decouple.settings import fingerprint
from decouple.tensors import as_tensor, digest_of, whole_number
from decouple.torch_state import device_of, evaluated, generators_kept
from decouple.trajectories.recording import Header, Recording, record_path, recorded_steps

BATCH = 500
"""Samples that go through the network together."""

LOST = 1e-3
"""Relative error of a sample up to which a layer is kept in half precision; beyond it (numbers too large or too small) in float32."""

BLURRED = 0.03
"""Error relative to how the samples differ, likewise: of large numbers that differ little, rounding would leave nothing to compare."""

RESERVED = ("same solution", "other solutions")
"""What comparisons call pairs of searched networks: no kind of training may be called so."""


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
        layers: names as in `network.named_modules()`, or of search points of `Stages`; or a mapping of what to call them to these
            names. What is kept is what the layer gave, whatever works on it in place later.
        samples: (N, …) what the network takes, always the same ones; a few hundred are enough. Tensors or numpy arrays, as
            are ids and labels.
        folder: where the files go; `Recording.open` reads them. Its name is the training's in figures. Give each training a folder of
            its own. Records of later steps than the one that is recorded are removed, so that a training that was stopped can go
            on from any step; earlier ones stay, and `Recording.open` refuses them if they are of another architecture.
        ids: (N,) integers that name the samples wherever they are recorded; default: their positions.
        labels: (N,) classes, for entropies within and between classes.
        at: steps at which to record, whole numbers from 0 on; None: at each call.
        kind: of training ("search", "sgd", "q0", or a word of your own), by which comparisons are grouped.
        logits: the one of `layers` whose outputs (N, classes) are class scores; None: predictions are not compared.
        solution: name of the searched solution that the network learns; None: it learns none.
        start: name of its initialisation and batches; default: the folder's name.

    Attributes:
        unit: identity of the training, which each file carries; set from everything above.

    Raises:
        ConfigError: no layers, `logits` that is none of them, steps that are no whole numbers, or names that are no text.
        DataError: samples, ids or labels that do not fit one another, or are no numbers.
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
        kind: str = "",
        logits: str | None = None,
        solution: str | None = None,
        start: str | None = None,
    ) -> None:
        if isinstance(layers, str):
            raise ConfigError(f"give the layers as a list of names, such as [{layers!r}], not as one string")
        named = dict(layers) if isinstance(layers, Mapping) else {layer: layer for layer in layers}
        if not named:
            raise ConfigError("there are no layers to record: give at least one name of network.named_modules()")
        self.folder = Path(folder)
        name = os.fsencode(self.folder.resolve().name).decode(errors="replace")
        for text in (*named, *named.values(), name, kind, logits, solution, start):
            _check_text(text)
        if logits is not None and logits not in named:
            raise ConfigError(f"logits = '{logits}' is none of the recorded layers{did_you_mean(logits, named)}")
        if kind in RESERVED:
            raise ConfigError(
                f"a kind of training cannot be called '{kind}', which comparisons say of pairs; choose another word"
            )
        if at is not None:
            expect(at, Collection, "at", "give the steps as a list or a range")  # type: ignore[type-abstract]
        self._at = at if at is None or isinstance(at, range) else {whole_number(step, "a step", least=0) for step in at}
        self._layers = named
        self._samples, self._known = _checked(samples, ids, labels)
        self._about = Header(
            name=name,
            kind=kind,
            layers=list(named),
            logits=logits,
            solution=solution,
            start=start or name,
            samples=digest_of(("", tensor) for tensor in (self._samples, *self._known.values())),
        )
        self._written: set[Path] = set()
        self.unit = f"recording/{fingerprint(named, self._about.values())}"

    def planned(self) -> Recording:
        """What it is going to write, without steps yet."""
        values = {**self._about.values(), "layers": tuple(self._about.layers), "ids": self._known["ids"]}
        return Recording(self.folder, self.unit, architecture="", labels=self._known.get("labels"), steps=(), **values)

    def path(self, step: int) -> Path:
        """The file of a step."""
        return record_path(self.folder, step)

    def unit_of(self, step: int) -> str:
        """The identity that the file of a step carries."""
        return f"{self.unit}/record-{step}"

    def __call__(self, step: int, network: nn.Module) -> None:
        """Record `network` as it is after `step` epochs, or steps, of training, if `at` holds it.

        Compiled networks run as they were written; of DataParallel and DistributedDataParallel the network inside does.

        Raises:
            ConfigError: a step that is no whole number from 0 on.
            NetworkError: an unknown layer (near matches are named), or one that does not run once in a forward pass and
                give a tensor of a row for each sample; a network that does not take the samples, or has no values.
            NotFiniteError: a layer gives NaN or infinity.
            RunDirectoryError: the file cannot be written.
        """
        step = whole_number(step, "a step", least=0)
        expect(network, nn.Module, "network")
        if self._at is not None and step not in self._at:
            return
        found = {f"layer.{name}": _compact(values, name, step) for name, values in self._activations(network).items()}
        # Networks of one architecture can be asked whether it is the start, or the training, that makes them differ.
        state = {name.replace("_orig_mod.", ""): value for name, value in unwrapped(network).state_dict().items()}
        shapes = fingerprint([(name, list(getattr(value, "shape", ()))) for name, value in state.items()])
        meta = {**self._about.values(), "step": step, "architecture": shapes}
        self._forget_later(step)
        save_tensors(self.path(step), {**found, **self._known}, meta, unit=self.unit_of(step))
        self._written.add(self.path(step))

    def _forget_later(self, step: int) -> None:
        """Remove the records of later steps that an earlier training has left in the folder: this one goes another way from here, or
        makes them again."""
        for later, path in recorded_steps(self.folder):
            if later > step and path not in self._written:
                path.unlink(missing_ok=True)

    @torch.no_grad()
    def _activations(self, network: nn.Module) -> dict[str, Tensor]:
        check_values(network)
        device = device_of(network)
        parts: dict[str, list[Tensor]] = {name: [] for name in self._layers}
        # Compiled code skips hooks that came after it, so everything runs as it was written.
        plain: Any = torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()
        with evaluated(network), generators_kept(device), plain, _watched(network, self._layers) as seen:
            for batch in self._samples.split(BATCH):
                seen.clear()
                _forward(unwrapped(network), batch.to(device, copy=True))  # a layer may work on its input in place
                for name, layer in self._layers.items():
                    rows = _rows(seen.get(name, []), layer, len(batch))
                    if name == self._about.logits and rows.dim() != 2:
                        raise NetworkError(
                            f"layer '{layer}' gives shape {tuple(rows.shape)}: expected (N, classes) of `logits`; record it without"
                        )
                    parts[name].append(rows)
        return {name: torch.cat(values) for name, values in parts.items()}


def _check_text(text: object) -> None:
    if text is not None and not isinstance(text, str):
        raise ConfigError(f"names must be strings, not {type(text).__name__}: write {str(text)!r} for {text!r}")
    try:
        (text or "").encode()
    except UnicodeEncodeError:
        raise ConfigError(f"the name {text!r} cannot be written as text; choose another") from None


def _checked(samples: Any, ids: Any, labels: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Samples of our own, which nobody changes between steps; ids and labels by name, on the CPU."""
    samples = as_tensor(samples, "samples").detach().clone()
    if samples.dim() < 1 or not len(samples):
        raise DataError("samples must be a tensor (N, …) with N > 0, of what the network takes")
    known = {"ids": torch.arange(len(samples), device="cpu") if ids is None else as_tensor(ids, "ids")}
    if labels is not None:
        known["labels"] = as_tensor(labels, "labels")
    for name, values in known.items():
        fits = values.shape == (len(samples),) and not values.is_floating_point() and not values.is_complex()
        known[name] = values.cpu().long() if fits else values
        if not fits or (name == "ids" and len(known[name].unique()) != len(samples)):
            kind = "different integers" if name == "ids" else "integers"
            raise DataError(
                f"{name} have shape {tuple(values.shape)} and type {values.dtype}: expected ({len(samples)},) {kind}"
            )
    return samples, known


def _forward(network: nn.Module, batch: Tensor) -> None:
    try:
        network(batch)
    except DecoupleError:
        raise
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        types = dict.fromkeys(str(p.dtype) for p in network.parameters() if p.is_floating_point())
        hint = f"; its parameters are {', '.join(types)}" if types and str(batch.dtype) not in types else ""
        reason = first_line(error)
        raise NetworkError(
            f"the network fails on samples of shape {tuple(batch.shape)} and type {batch.dtype} ({reason}){hint}"
        ) from error


@contextmanager
def _watched(network: nn.Module, layers: Mapping[str, str]) -> Iterator[dict[str, list[Any]]]:
    """Gives what each layer returns, call by call, while inside."""
    seen: dict[str, list[Any]] = {}
    hooks = []
    try:
        for name, layer in layers.items():

            def note(module: nn.Module, inputs: Any, output: Any, name: str = name) -> None:
                seen.setdefault(name, []).append(_kept(output))

            module = find_layer(network, layer)
            if any(isinstance(part, torch.jit.ScriptModule) for part in (module, network)):
                raise NetworkError(
                    f"layer '{layer}' is compiled by torch.jit and cannot be watched: record what it was made of"
                )
            hooks.append(module.register_forward_hook(note))
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _kept(output: Any) -> Any:
    """A copy on the CPU of what a layer gave, made at once: the next layer may work on it in place."""
    if isinstance(output, (tuple, list)) and output:
        output = output[0]  # attention and recurrent layers give their output first
    return output.detach().to("cpu", copy=True) if isinstance(output, Tensor) else output


def _rows(outputs: list[Any], layer: str, count: int) -> Tensor:
    """A layer's output, if it is one tensor of real numbers with a row for each sample."""
    if len(outputs) != 1:
        raise NetworkError(
            f"layer '{layer}' ran {len(outputs)} times in a forward pass: expected once; name the layer around it, or one of its own"
        )
    output = outputs[0]
    if not isinstance(output, Tensor):
        raise NetworkError(
            f"layer '{layer}' gives {type(output).__name__} for {count} samples: expected a tensor ({count}, …); record another layer"
        )
    if output.layout != torch.strided or output.is_nested or output.is_quantized or output.is_complex():
        raise NetworkError(f"layer '{layer}' gives {output.dtype}, {output.layout}: expected plain real numbers")
    if output.dim() < 2 or len(output) != count or not output.numel():
        raise NetworkError(
            f"layer '{layer}' gives shape {tuple(output.shape)} for {count} samples: expected a tensor ({count}, …); "
            "record another layer"
        )
    return output


def _compact(values: Tensor, name: str, step: int) -> Tensor:
    """In the shortest type that loses no more than rounding: half precision, float32 or float64."""
    if not bool(torch.isfinite(values).all()):
        raise NotFiniteError(f"layer '{name}' gives NaN or infinity at step {step}: has the training diverged?")
    values = values.float() if values.element_size() <= 2 or values.dtype == torch.float32 else values.double()
    shorter = (values.to(dtype) for dtype in (torch.float16, torch.float32))
    return next((short for short in shorter if _as_good(short.flatten(1), values.flatten(1))), values)


def _as_good(short: Tensor, values: Tensor) -> bool:
    """Whether (N, D) are the same but for rounding: of each sample, and of how the samples differ.

    Largest magnitudes are compared: norms of numbers that a type just holds can overflow, or vanish.
    """
    error = (short.to(values.dtype) - values).abs()
    if bool((error.amax(1) > LOST * values.abs().amax(1)).any()):
        return False
    differences = (values - values.mean(0, dtype=torch.float64).to(values.dtype)).abs()
    return float(error.max()) <= BLURRED * float(differences.max())
