"""Which part of the package may import which, and the limits of size that keep it readable."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "decouple"
LAYERS = (
    {"_version", "_backend", "errors", "encoding", "formats", "streams", "progress"},
    {"tensors", "files", "own_code", "torch_state", "device"},
    {"seeds", "loggers"},
    {"workers"},
    {"results", "registry"},
    {"config"},
    {"settings", "presets"},
    {"data"},
    {"networks"},
    {"fitness"},
    {"training"},
    {"analysis"},
    {"tasks"},
    {"text"},
    {"search", "learn", "q0"},  # which do not know one another: the pipeline joins them
    {"trajectories"},
    {"report", "estimate"},
    {"evaluation"},
    {"pipeline"},
    {"cli"},
    {"__main__", "__init__"},
)
"""Folders and files of the package. Each imports from itself and from the layers before its own, not from its neighbours."""
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = {
    ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): file for file in FILES
}


def _part(module: str) -> str:
    return [*module.split("."), "__init__"][1]


class _Imports(ast.NodeVisitor):
    """Every import, also inside of functions, but for what only type checkers read."""

    def __init__(self) -> None:
        self.found: set[str] = set()

    def visit_If(self, node: ast.If) -> None:
        for child in node.orelse if "TYPE_CHECKING" in ast.unparse(node.test) else ast.iter_child_nodes(node):
            self.visit(child)

    def visit_Import(self, node: ast.Import) -> None:
        self.found |= {name.name for name in node.names}

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for name in node.names:
            inner = f"{node.module}.{name.name}"
            self.found.add(inner if inner in MODULES else str(node.module))


def _imports(module: str) -> set[str]:
    visitor = _Imports()
    visitor.visit(ast.parse(MODULES[module].read_text()))
    return {found for found in visitor.found if found in MODULES and found != module}


def test_every_part_has_its_layer() -> None:
    assert {_part(module) for module in MODULES} == set(LEVEL)


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way(module: str) -> None:
    own = _part(module)
    for found in _imports(module):
        part = _part(found)
        assert part == own or LEVEL[part] < LEVEL[own], f"{module} imports {found}"


def test_no_files_import_each_other() -> None:
    TopologicalSorter({module: _imports(module) for module in MODULES}).prepare()  # raises CycleError


def _functions() -> Iterator[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield file, node


def test_functions_and_files_are_short() -> None:
    long = [f"{file.name}: {node.name}" for file, node in _functions() if node.end_lineno - node.lineno >= 50]  # type: ignore[operator]
    assert long == []
    assert [file.name for file in FILES if len(file.read_text().splitlines()) > 400] == []


def test_parameter_lists_are_short() -> None:
    """At most 8; at most 10 where those after the first five go by name."""
    many = []
    for file, node in _functions():
        arguments = node.args
        positional = [*arguments.posonlyargs, *arguments.args]
        positional = positional[bool(positional) and positional[0].arg in ("self", "cls") :]
        total = len(positional) + len(arguments.kwonlyargs)
        public = not node.name.startswith("_") or node.name == "__init__"
        if total > (10 if len(positional) <= 5 and public else 8):
            many.append(f"{file.name}: {node.name} takes {total}")
    assert many == []
