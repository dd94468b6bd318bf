"""Networks and ensembles in files that are used without decouple, and that are checked before they are kept."""

from __future__ import annotations

import importlib.util
import io
import json
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from decouple.data.images import as_float
from decouple.errors import ConfigError, DecoupleError, NetworkError, expect, first_line
from decouple.files import pack_tensors, write_bytes
from decouple.networks.stages import Stages
from decouple.networks.state import load_state, own_copy, state_of
from decouple.q0.ensemble import Ensemble
from decouple.q0.members import NETWORK_UNIT, about, plain_state, whole_state
from decouple.torch_state import torch_defaults

Answer = Callable[[Tensor], Tensor]
"""What a written file makes of images."""


@torch_defaults()
def export(
    model: nn.Module, path: Path | str, examples: Tensor, *, network: nn.Module | None = None, overwrite: bool = False
) -> Path:
    """Write a network or an ensemble to a file that is used without decouple, by the end of its name:

    - `.safetensors`: the weights of one network, by the names of the `state_dict` of the module that was cut:
      `MyNet().load_state_dict(safetensors.torch.load_file(path))`.
    - `.pt2`: a program of torch's: `torch.export.load(path).module()(images)`.
    - `.onnx`: needs the packages onnx and onnxscript, `pip install 'decouple-learn[onnx]'`.

    A file is kept only if it answers as the model does, in evaluation mode, on the examples and on twice as many. It takes batches
    of any size, on the CPU, of float images on the scale of the training: a model trained on uint8 images takes these as floats
    in 0..1. With it go the names of the classes and the scale.

    Args:
        model: as it is, on any device; an ensemble of one counts as its network.
        path: of the file.
        examples: (B, …) images, B ≥ 2, or (B, T) tokens, of which a program then takes up to T.
        network: a network of your own that the model was cut from, or like it, to check .safetensors with.
        overwrite: replace a file that is there.

    Returns:
        The path.

    Raises:
        ConfigError: there is such a file already, another ending, fewer than 2 examples, or a package is not installed.
        NetworkError: the model cannot be exported, or the file does not answer as it does; nothing is written.
    """
    expect(model, nn.Module, "model")
    path = Path(path)
    write = check_target(path, overwrite=overwrite)
    if not isinstance(examples, Tensor) or examples.dim() < 2 or len(examples) < 2:
        raise ConfigError("examples must be a tensor (B, …) of at least 2 images")
    model = own_copy(model).cpu().eval()
    if isinstance(model, Ensemble):
        model.evaluation = "loop"  # in a program there is nothing to be batched anew
    examples = as_float(examples.cpu()) if examples.dtype == torch.uint8 else examples.cpu()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's exporters, about themselves
        try:
            data, answer = write(model, examples, network)
            check_same(answer, model, examples, path)
        except DecoupleError:
            raise
        except Exception as error:  # whatever torch raises on what the model does
            raise NetworkError(
                f"{type(model).__name__} cannot be exported as {path.suffix} ({first_line(error)})"
            ) from error
    write_bytes(path, data)
    return path


def check_target(path: Path, *, overwrite: bool) -> Callable[[nn.Module, Tensor, nn.Module | None], tuple[bytes, Answer]]:
    """What writes such a file. Raises ConfigError: it is there already, has another ending, or
    needs packages that are not installed."""
    if path.suffix not in WRITERS:
        raise ConfigError(f"{path} ends in '{path.suffix}': expected one of {', '.join(WRITERS)}")
    if path.exists() and not overwrite:
        raise ConfigError(f"{path} is there already: choose another file, or replace it with --overwrite")
    if path.suffix == ".onnx" and not all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript")):
        raise ConfigError(
            "ONNX needs the packages onnx and onnxscript, which are not installed: pip install 'decouple-learn[onnx]'"
        )
    return WRITERS[path.suffix]


def check_same(answer: Answer, model: nn.Module, examples: Tensor, path: Path) -> None:
    """Raise NetworkError if the file's answers differ from the model's by more than rounding."""
    for images in (examples, torch.cat([examples, examples])):
        wanted, found = model(images.clone()), answer(images.clone())
        tolerance = 1e-4 * max(1.0, float(wanted.abs().max()))
        if wanted.shape != found.shape or not torch.allclose(found, wanted, rtol=1e-4, atol=tolerance):
            apart = float((found - wanted).abs().max()) if wanted.shape == found.shape else f"{tuple(found.shape)} logits"
            raise NetworkError(f"{path} does not answer as the {type(model).__name__} does ({apart} apart), and is not kept")


def _weights(model: nn.Module, examples: Tensor, own: nn.Module | None) -> tuple[bytes, Answer]:
    single = model
    if isinstance(model, Ensemble):
        if len(model.members) > 1:
            raise ConfigError(
                f"an ensemble of {len(model.members)} members is not one network: distil it, write .pt2 or .onnx, or use Ensemble.save"
            )
        single = model.members[0]
    known = about([single], _classes(model), getattr(model, "architecture", None))
    temperature = model.temperature if isinstance(model, Ensemble) else 1.0
    meta = {**asdict(known), "temperatures": [temperature]}
    data = pack_tensors(plain_state(state_of(single), single), meta, unit=NETWORK_UNIT)
    read = safetensors.torch.load(data)
    copied = own_copy(single if own is None else own).cpu().eval()
    load_state(copied, whole_state(read, copied))
    return data, copied if single is model else Ensemble([copied], [1.0], temperature=temperature, evaluation="loop")


def _program(model: nn.Module, examples: Tensor) -> Any:
    sizes = {0: torch.export.Dim("batch")}
    if examples.dim() == 2 and not examples.is_floating_point():
        sizes[1] = torch.export.Dim("tokens", min=2, max=examples.shape[1])
    return torch.export.export(model, (examples,), dynamic_shapes=(sizes,), strict=False)


def _pt2(model: nn.Module, examples: Tensor, own: nn.Module | None) -> tuple[bytes, Answer]:
    file = io.BytesIO()
    torch.export.save(_program(model, examples), file, extra_files={"about.json": json.dumps(_notes(model))})
    data = file.getvalue()
    return data, torch.export.load(io.BytesIO(data)).module()


def _onnx(model: nn.Module, examples: Tensor, own: nn.Module | None) -> tuple[bytes, Answer]:
    import onnx

    program = _program(model, examples)
    names: dict[str, Any] = {"input_names": ["images"], "output_names": ["logits"]}
    made = torch.onnx.export(program, (examples,), dynamo=True, verbose=False, **names)
    assert made is not None
    proto: Any = made.model_proto
    onnx.helper.set_model_props(proto, {name: json.dumps(value) for name, value in _notes(model).items()})
    data: bytes = proto.SerializeToString()
    return data, _onnx_answer(data)


def _onnx_answer(data: bytes) -> Answer:
    """By ONNX Runtime where it is installed, or else by ONNX's own reference."""
    session: Any
    try:
        import onnxruntime

        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    except ImportError:
        import onnx.reference

        session = onnx.reference.ReferenceEvaluator(onnx.load_from_string(data))
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


WRITERS: dict[str, Callable[[nn.Module, Tensor, nn.Module | None], tuple[bytes, Answer]]] = {
    ".safetensors": _weights,
    ".pt2": _pt2,
    ".onnx": _onnx,
}


def _classes(model: nn.Module) -> tuple[str, ...]:
    return model.classes if isinstance(model, (Stages, Ensemble)) else ()


def _notes(model: nn.Module) -> dict[str, Any]:
    """What a program is accompanied by."""
    members = model.members if isinstance(model, Ensemble) else [model]
    return {"classes": list(_classes(model)), "unit_scale": about(members, (), None).unit_scale}
