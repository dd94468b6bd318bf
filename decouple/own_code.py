"""Code of the user's own, named as FILE.py:NAME or package.module:NAME.

Loading it runs it, so it is loaded only where the user has named it in a call, on the command line or in a configuration that
they pass. Nothing here imports torch.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any

from decouple.errors import ConfigError, did_you_mean, failure

FROM_FILE = "decouple_own_"
"""What the names of modules begin with that were read from a FILE.py."""


def is_address(name: str) -> bool:
    """Whether `name` has the form of an address of code.

    >>> is_address("mine.py:Net"), is_address("package.module:net"), is_address("resnet18"), is_address("npz:x.npz")
    (True, True, False, False)
    """
    where, _, what = name.rpartition(":")
    return what.isidentifier() and (where.endswith(".py") or all(part.isidentifier() for part in where.split(".")))


def located(name: str) -> str:
    """The address with an absolute path, where it is one of code in a file."""
    where, _, what = name.rpartition(":")
    return f"{os.path.realpath(os.path.expanduser(where))}:{what}" if where.endswith(".py") else name


def load(name: str, setting: str) -> Any:
    """What the address names; this runs the code that defines it.

    Args:
        setting: that holds the address, for messages.

    Raises:
        ConfigError: there is none, or the code fails.
    """
    where, _, what = name.rpartition(":")
    try:
        module = _module_of_file(Path(where)) if where.endswith(".py") else importlib.import_module(where)
    except Exception as error:  # whatever the user's code raises
        raise ConfigError(f"{setting} = {name} cannot be loaded ({failure(error)})") from error
    if not hasattr(module, what):
        raise ConfigError(f"{setting} = {name}: {where} defines no '{what}'{did_you_mean(what, vars(module))}")
    return getattr(module, what)


def digest_of(name: str, setting: str, loader: Callable[[], Any] | None = None) -> str:
    """16 hexadecimal digits of the file that defines what the address names, and of the files beside a FILE.py that it imports. A
    FILE.py is read, not run.

    Args:
        loader: gives what is not in a FILE.py; None: `load`.

    Raises:
        ConfigError: there is no file that can be read.
    """
    where = name.rpartition(":")[0]
    try:
        file = where if where.endswith(".py") else inspect.getsourcefile(loader() if loader else load(name, setting))
        path = Path(str(file)).expanduser()
        files = _with_neighbours(path) if where.endswith(".py") else [path]
        return hashlib.blake2b(b"".join(each.read_bytes() for each in files), digest_size=8).hexdigest()
    except (OSError, TypeError) as error:
        if where.endswith(".py"):
            raise ConfigError(f"{setting} = {name}: {where} cannot be read ({getattr(error, 'strerror', error)})") from None
        raise ConfigError(f"{setting} = {name}: no file defines it, so changes to it cannot be detected") from None


def _with_neighbours(path: Path) -> list[Path]:
    """A file, and those in its folder that it imports, or that these import."""
    files = [path]
    for file in files:
        try:
            nodes = list(ast.walk(ast.parse(file.read_bytes())))
        except SyntaxError:  # its own error comes when it is run
            continue
        names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
        for node in nodes:
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            inner = path.parent.joinpath(*name.split("."))
            found = [each for each in (inner.with_suffix(".py"), inner / "__init__.py") if each.is_file()]
            files += [each for each in found if each not in files]
    return files


def behaviour(found: Any, seen: set[int] | None = None) -> list[Any]:
    """What a function, or a class, of the user's own does, to tell when it changes: its bytecode and values, those of the classes that
    it is derived from, but decouple's, and what it uses of its own module: functions, classes, and values as they are now.

    Unlike source text it is always there, in a notebook too.

    >>> behaviour(lambda x: x + 1) == behaviour(lambda x: x + 1) != behaviour(lambda x: x + 2)
    True

    Args:
        seen: the functions and classes that are described already, by `id`.
    """
    seen = set() if seen is None else seen
    if isinstance(found, (tuple, list)):
        return [behaviour(each, seen) for each in found]
    if not isinstance(found, (type, CodeType, FunctionType)):
        inside = [getattr(found, name) for name in ("__func__", "fget", "func") if hasattr(found, name)]
        inside += [type(found)] if callable(found) else []
        return [written(found), *(behaviour(each, seen) for each in inside)]
    if id(found) in seen:
        return []
    seen.add(id(found))
    if isinstance(found, CodeType):
        values = [behaviour(each, seen) if isinstance(each, CodeType) else written(each) for each in found.co_consts]
        return [found.co_code.hex(), found.co_names, values]
    if isinstance(found, type):
        own = [each for each in found.__mro__ if is_own(each)]
        told = [(name, value) for each in own for name, value in sorted(vars(each).items()) if name not in UNTOLD]
        return [[name, behaviour(value, seen)] for name, value in told]
    named = [found.__globals__[name] for name in _names(found.__code__) if name in found.__globals__]
    inside = [_content(cell) for cell in found.__closure__ or ()]
    used = [each for each in (*named, *inside) if _decides(each, found.__module__)]
    defaults = [written(found.__defaults__), written(found.__kwdefaults__)]
    return [behaviour(found.__code__, seen), *defaults, *(behaviour(each, seen) for each in used)]


def _names(code: CodeType) -> list[str]:
    """What code, and the functions that are defined in it, look up in their module."""
    inner = [each for each in code.co_consts if isinstance(each, CodeType)]
    return list(dict.fromkeys([*code.co_names, *(name for each in inner for name in _names(each))]))


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None


def _decides(value: Any, module: str) -> bool:
    """Whether what code does can change with the value, and the value tells: a function or class of its own module, or data."""
    if isinstance(value, (FunctionType, type)):
        return value.__module__ == module
    return isinstance(value, DATA) or hasattr(value, "__array__") or is_dataclass(value)


DATA = (bool, int, float, complex, str, bytes, tuple, list, dict, set, frozenset)
"""Types of values whose text tells all of them."""


UNTOLD = frozenset(
    f"__{name}__"
    for name in (
        *("doc", "module", "dict", "weakref", "firstlineno", "static_attributes"),
        *("annotations", "annotate", "annotate_func", "annotations_cache"),
    )
) | {"_abc_impl"}
"""Of a class: what does not decide what it does."""


def is_own(found: type | FunctionType) -> bool:
    """Whether a class or function is no part of Python, torch or decouple."""
    return found.__module__.partition(".")[0] not in (__package__, "abc", "builtins", "torch", "torchvision")


def written(value: Any) -> str:
    """A value as text that shows all of it and is the same in every process: with the contents of tensors, arrays and networks,
    without memory addresses, and with sets in order.

    >>> written({1, 0}), written((1.0, "a"))
    ('set(0, 1)', "tuple(1.0, 'a')")
    """
    name = type(value).__name__
    if isinstance(value, type):
        return repr(value)
    if hasattr(value, "state_dict"):
        return f"{value!r} {written(dict(value.state_dict()))}"
    if hasattr(value, "detach"):  # a tensor's text leaves out what is in the middle
        import torch

        content = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        return f"{value.dtype} {tuple(value.shape)} {hashlib.blake2b(content.tobytes(), digest_size=8).hexdigest()}"
    if hasattr(value, "__array__"):
        import numpy as np

        array = np.asarray(value)
        return f"{array.dtype} {array.shape} {hashlib.blake2b(array.tobytes(), digest_size=8).hexdigest()}"
    if is_dataclass(value):
        return f"{name}({', '.join(f'{each.name}={written(getattr(value, each.name))}' for each in fields(value))})"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{written(key)}: {written(each)}' for key, each in value.items())}}}"
    if isinstance(value, (set, frozenset)):
        return f"set({', '.join(sorted(map(written, value)))})"
    if type(value) in (list, tuple):
        return f"{name}({', '.join(map(written, value))})"
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _module_of_file(path: Path) -> ModuleType:
    """The module in a file, run once in a process while the file stays as it is."""
    path = path.expanduser().resolve()
    name = f"{FROM_FILE}{path.stem}_{hashlib.blake2b(os.fsencode(path) + path.read_bytes(), digest_size=8).hexdigest()}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses look themselves up there
        if (folder := str(path.parent)) not in sys.path:
            sys.path.append(folder)  # where the files beside it are, which its functions may import later, too
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]
