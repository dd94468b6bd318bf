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

from decouple.errors import DamagedFileError, RunDirectoryError, first_line

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


def write_bytes(path: Path, *parts: bytes | memoryview) -> None:
    """Write `parts`, one after the other, to `path` atomically and durably, with the permissions that the umask leaves. Raises
    RunDirectoryError: the folder cannot be written, its name is not UTF-8, or the disk is full. An existing file stays as it was."""
    path = Path(path)
    # Not tempfile.mkstemp, which opens for the owner only: the umask of the process would not count.
    temporary = path.parent / f"{TEMPORARY}{secrets.token_hex(8)}"
    try:
        if os.fsencode(path).decode(errors="replace") != str(path):  # safetensors could not read it again
            raise OSError(errno.EILSEQ, "its name is not UTF-8")
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            for part in parts:
                file.write(part)
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
    """The JSON value in `path`. Raises DamagedFileError: the file is missing, is not a file or holds no JSON."""
    try:
        return json.loads(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise DamagedFileError(f"{path} cannot be read as JSON ({first_line(error)})") from error


def remove_partial(folder: Path) -> int:
    """Remove the temporary files that a kill has left under `folder`; returns how many there were."""
    left = [path for path in Path(folder).rglob(TEMPORARY + "*") if path.is_file()]
    for path in left:
        with contextlib.suppress(OSError):  # another's, perhaps; it does no harm
            path.unlink()
    return len(left)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any], *, unit: str) -> None:
    """Write named tensors and JSON metadata to `path` as one checked safetensors file: see `pack_tensors`."""
    write_bytes(path, *_packed(tensors, meta, unit))


def pack_tensors(tensors: Mapping[str, Tensor], meta: Mapping[str, Any], *, unit: str) -> bytes:
    """The contents of a checked safetensors file. Memory that several tensors share (tied weights) is written once.

    Args:
        tensors: any shapes and types; copied to the CPU.
        meta: anything that JSON holds.
        unit: the identity of this file (stage, settings, index). It goes into the checksum, so that a file moved to
            another unit's place is noticed.
    """
    return b"".join(_packed(tensors, meta, unit))


def _packed(tensors: Mapping[str, Tensor], meta: Mapping[str, Any], unit: str) -> tuple[bytes, memoryview]:
    """`pack_tensors` as its header and its values, which are not copied once more."""
    apart, aliases = without_sharing({name: tensor.detach() for name, tensor in tensors.items()})
    plain = {name: tensor.to("cpu").contiguous() for name, tensor in apart.items()}
    header = {"format": str(FORMAT), "unit": unit, "meta": json.dumps(meta, sort_keys=True, allow_nan=False)}
    if aliases:
        header["aliases"] = json.dumps(aliases, sort_keys=True)
    header["xxh3"] = _checksum(plain, header)
    # safetensors writes the metadata in the order of a hash map, seeded per process. Equal contents should give equal
    # bytes (two runs can then be compared file by file), so the header is put in order.
    return _sorted_header(safetensors.torch.save(plain, metadata=header))


def load_tensors(path: Path, *, unit: str, checked: bool = True) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors (memory-mapped, on the CPU) and metadata that `save_tensors` wrote; `checked`: by their checksum too.

    Tensors that shared memory share it again. Raises DamagedFileError: missing, truncated, altered, of another format
    version, or another unit's file."""
    path = Path(path)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise DamagedFileError(f"{path} is missing, truncated or not a safetensors file ({first_line(error)})") from error
    if "format" not in header or "unit" not in header:
        raise DamagedFileError(f"{path} is a safetensors file that decouple has not written; was the right one given?")
    checksum = header.pop("xxh3", None)
    _expect(path, header, str(FORMAT), lambda: not checked or checksum == _checksum(tensors, header), unit)
    views = {
        name: tensors[source].as_strided(shape, stride, tensors[source].storage_offset() + offset)
        for name, (source, shape, stride, offset) in json.loads(header.get("aliases", "{}")).items()
    }
    return tensors | views, json.loads(header["meta"])


def unit_of(path: Path) -> str:
    """The unit that a file of `save_tensors` says to hold, to be given to `load_tensors`, which checks it. Raises
    DamagedFileError: missing, truncated or not a file of `save_tensors`."""
    return header_of(path)[0]


def header_of(path: Path) -> tuple[str, dict[str, Any]]:
    """Unit and metadata of a file of `save_tensors`, which is not read beyond them, nor checked. Raises as `unit_of`."""
    try:
        with safetensors.safe_open(Path(path), framework="pt") as file:
            header = file.metadata() or {}
        return str(header["unit"]), json.loads(header["meta"])
    except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
        raise DamagedFileError(f"{path} is missing, truncated or not a file of decouple's ({first_line(error)})") from error


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
    """The value that `save_record` wrote. Raises DamagedFileError: missing, altered, of another format version, or another
    unit's file."""
    record = read_json(path)
    if not isinstance(record, dict) or not {"format", "unit", "xxh3"} <= record.keys():
        raise DamagedFileError(f"{path} is a JSON file that is no record of decouple's; was the right one given?")
    _expect(path, record, FORMAT, lambda: record["xxh3"] == _record_checksum(record.get("value"), record["unit"]), unit)
    return record["value"]


def _expect(path: Path, found: Mapping[str, Any], version: object, is_whole: Callable[[], bool], unit: str) -> None:
    """Refuse a file of another format version, an altered one, or another unit's."""
    if found["format"] != version:
        raise DamagedFileError(
            f"{path} has format version {found['format']!r}, this release reads {FORMAT}; make it again with this release"
        )
    if not is_whole():
        raise DamagedFileError(f"{path} is damaged: its checksum does not match its contents")
    if found["unit"] != unit:
        raise DamagedFileError(f"{path} holds unit {found['unit']!r}, expected {unit!r}: was it moved or copied?")


def sharing(tensors: Mapping[str, Tensor]) -> list[list[str]]:
    """The names of tensors that lie in the same memory, wholly or in part, in groups of at least two.

    >>> both = torch.arange(6)
    >>> sharing({"a": both[:4], "b": both[3:], "c": torch.arange(6), "d": both[:2]})
    [['d', 'a', 'b']]

    Tensors with gaps (every second column, say) are left out, for their elements may lie between each other's.
    """
    spans: dict[Any, list[tuple[int, int, str]]] = {}
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or not tensor.numel() or tensor.is_meta or tensor.is_conj() or tensor.is_neg():
            continue
        length = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
        if length == tensor.numel():
            begin = tensor.storage_offset()
            place = (tensor.untyped_storage().data_ptr(), tensor.dtype, tensor.device)
            spans.setdefault(place, []).append((int(begin), int(begin) + tensor.numel(), name))
    groups: list[list[str]] = []
    for found in spans.values():
        reached = -1
        for begin, end, name in sorted(found):
            if begin >= reached:
                groups.append([])
            groups[-1].append(name)
            reached = max(reached, end)
    return [group for group in groups if len(group) > 1]


def without_sharing(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors of which no two share memory, and which views of them (source, shape, strides, offset) are those that do."""
    stored, aliases = dict(tensors), {}
    for names in sharing(tensors):
        group = [stored.pop(name) for name in names]
        begin = min(tensor.storage_offset() for tensor in group)
        end = max(tensor.storage_offset() + tensor.numel() for tensor in group)
        stored[min(names)] = group[0].as_strided((end - begin,), (1,), begin)
        for name, tensor in zip(names, group, strict=True):
            aliases[name] = [min(names), list(tensor.shape), list(tensor.stride()), tensor.storage_offset() - begin]
    return stored, aliases


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


def _sorted_header(data: bytes) -> tuple[bytes, memoryview]:
    """The same safetensors file with its JSON header in sorted order, padded to 8 bytes as the format asks: header and values."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(dict(sorted(header.items())), separators=(",", ":"), ensure_ascii=False).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    return struct.pack("<Q", len(text)) + text, memoryview(data)[8 + length :]
