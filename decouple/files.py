"""Files that are whole or absent, and whose contents are checked when they are read.

Every write goes to a temporary file in the same folder, is flushed to disk and renamed into place, so that a kill at
any moment leaves the old file or the new one. Tensors are kept as safetensors with an xxh3 checksum over names, types,
shapes, values and metadata: neither safetensors nor torch notices a flipped bit by itself. Loading never runs code.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import secrets
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
import xxhash
from torch import Tensor

from decouple.errors import DamagedFileError, RunDirectoryError

FORMAT = 1
"""Version of the layout of checked tensor files; a file of another version is refused by name."""

_LOG = logging.getLogger("decouple")

TEMPORARY = ".partial-"
"""Prefix of temporary files; what a kill leaves of them is removed by `remove_partial`."""


def cache_folder() -> Path | None:
    """Where what can be made again is kept: `$XDG_CACHE_HOME`, or `~/.cache`; None for a user who has no home."""
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given)
    try:
        return Path.home() / ".cache"
    except RuntimeError:  # no HOME in the environment, and a user whom the system does not know
        return None


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically and durably, with the permissions that the umask leaves.

    Raises:
        RunDirectoryError: the folder cannot be written, or the disk is full. An existing file stays as it was.
    """
    path = Path(path)
    # Not tempfile.mkstemp, which opens for the owner only: the umask of the process would not count.
    temporary = path.parent / f"{TEMPORARY}{secrets.token_hex(8)}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise RunDirectoryError(f"cannot write {path}: {why_not_written(error)}; earlier files are intact") from error
    finally:
        with contextlib.suppress(OSError):  # renamed, or never there
            temporary.unlink()
    with contextlib.suppress(OSError):  # network and FUSE file systems may refuse to flush a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a system says where there is no room."""

_REMEDIES = {
    "free some space and resume": FULL,
    "change its permissions, or choose another place": (errno.EACCES, errno.EPERM, errno.EROFS),
    "a folder has that name: choose another": (errno.EISDIR,),
    "a part of the path is a file: choose another place": (errno.ENOTDIR, errno.EEXIST),
    "choose a shorter name": (errno.ENAMETOOLONG,),
}


def why_not_written(error: OSError) -> str:
    """What the system said, and what helps against it.

    >>> why_not_written(OSError(errno.ENOSPC, "No space left on device"))
    'No space left on device (free some space and resume)'
    """
    remedy = next((text for text, numbers in _REMEDIES.items() if error.errno in numbers), "choose another place")
    return f"{error.strerror or error} ({remedy})"


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` atomically, as indented JSON without NaN."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The JSON value in `path`.

    Raises:
        DamagedFileError: the file is missing, is not a file or holds no JSON.
    """
    try:
        return json.loads(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise DamagedFileError(f"{path} cannot be read as JSON ({_reason(error)})") from error


def remove_partial(folder: Path) -> int:
    """Remove the temporary files that a kill has left under `folder`; returns how many there were."""
    left = [path for path in Path(folder).rglob(TEMPORARY + "*") if path.is_file()]
    for path in left:
        with contextlib.suppress(OSError):  # another's, perhaps; it does no harm
            path.unlink()
    return len(left)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any], *, unit: str) -> None:
    """Write named tensors and JSON metadata to `path` as one checked safetensors file: see `pack_tensors`."""
    write_bytes(path, pack_tensors(tensors, meta, unit=unit))


def pack_tensors(tensors: Mapping[str, Tensor], meta: Mapping[str, Any], *, unit: str) -> bytes:
    """The contents of a checked safetensors file.

    Args:
        tensors: any shapes and types; copied to the CPU.
        meta: anything that JSON holds.
        unit: the identity of this file (stage, settings, index). It goes into the checksum, so that a file moved to
            another unit's place is noticed.
    """
    plain = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
    header = {"format": str(FORMAT), "unit": unit, "meta": json.dumps(meta, sort_keys=True, allow_nan=False)}
    header["xxh3"] = _checksum(plain, header)
    # safetensors writes the metadata in the order of a hash map, seeded per process. Equal contents should give equal
    # bytes (two runs can then be compared file by file), so the header is put in order.
    return _sorted_header(safetensors.torch.save(plain, metadata=header))


def load_tensors(path: Path, *, unit: str, checked: bool = True) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors (memory-mapped, on the CPU) and metadata that `save_tensors` wrote; `checked`: by their checksum too.

    Raises:
        DamagedFileError: missing, truncated, altered, of another format version, or another unit's file.
    """
    path = Path(path)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise DamagedFileError(f"{path} is missing, truncated or not a safetensors file ({_reason(error)})") from error
    if "format" not in header or "unit" not in header:
        raise DamagedFileError(f"{path} is a safetensors file that decouple has not written; was the right one given?")
    if header["format"] != str(FORMAT):
        raise DamagedFileError(
            f"{path} has format version {header['format']!r}, this release reads {FORMAT}; make it again with this release"
        )
    checksum = header.pop("xxh3", None)
    if checked and checksum != _checksum(tensors, header):
        raise DamagedFileError(f"{path} is damaged: its checksum does not match its contents")
    if header["unit"] != unit:
        raise DamagedFileError(f"{path} holds unit {header['unit']!r}, expected {unit!r}: was it moved or copied?")
    return tensors, json.loads(header["meta"])


def unit_of(path: Path) -> str:
    """The unit that a file of `save_tensors` says to hold, to be given to `load_tensors`, which checks it.

    Raises:
        DamagedFileError: missing, truncated or not a file of `save_tensors`.
    """
    try:
        with safetensors.safe_open(Path(path), framework="pt") as file:
            return str((file.metadata() or {})["unit"])
    except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
        raise DamagedFileError(f"{path} is missing, truncated or not a file of decouple's ({_reason(error)})") from error


def try_tensors(path: Path, *, unit: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """What `load_tensors` gives; None where the file is missing, or damaged, which is logged, for its unit is redone."""
    return _tried(load_tensors, path, unit)


def try_record(path: Path, *, unit: str) -> Any:
    """What `load_record` gives; None where the file is missing, or damaged, which is logged, for its unit is redone."""
    return _tried(load_record, path, unit)


def _tried(load: Callable[..., Any], path: Path, unit: str) -> Any:
    try:
        return load(path, unit=unit)
    except DamagedFileError as error:
        if os.path.exists(path):
            _LOG.warning("%s; it is made again", error)
        return None


def save_record(path: Path, value: Any, *, unit: str) -> None:
    """Write a JSON value with its identity and checksum, atomically."""
    write_json(path, {"format": FORMAT, "unit": unit, "xxh3": _record_checksum(value, unit), "value": value})


def load_record(path: Path, *, unit: str) -> Any:
    """The value that `save_record` wrote.

    Raises:
        DamagedFileError: missing, altered, of another format version, or another unit's file.
    """
    record = read_json(path)
    if not isinstance(record, dict) or not {"format", "unit", "xxh3"} <= record.keys():
        raise DamagedFileError(f"{path} is a JSON file that is no record of decouple's; was the right one given?")
    if record["format"] != FORMAT:
        raise DamagedFileError(
            f"{path} has format version {record['format']!r}, this release reads {FORMAT}; make it again with this release"
        )
    if record.get("xxh3") != _record_checksum(record.get("value"), record.get("unit")):
        raise DamagedFileError(f"{path} is damaged: its checksum does not match its contents")
    if record["unit"] != unit:
        raise DamagedFileError(f"{path} holds unit {record['unit']!r}, expected {unit!r}: was it moved or copied?")
    return record["value"]


def _record_checksum(value: Any, unit: Any) -> str:
    return xxhash.xxh3_128(json.dumps([unit, value], sort_keys=True).encode()).hexdigest()


def _checksum(tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> str:
    digest = xxhash.xxh3_128()
    digest.update(json.dumps(dict(sorted(header.items()))).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}".encode())
        if tensor.numel():
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _sorted_header(data: bytes) -> bytes:
    """The same safetensors file with its JSON header in sorted order, padded to 8 bytes as the format asks."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(dict(sorted(header.items())), separators=(",", ":"), ensure_ascii=False).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
