"""docs/reference/support.md, made from the marks ``@pytest.mark.supports(kind, what)`` of the tests.

``python -m tests.support`` writes the page; tests/unit/test_support.py fails when it is out of date. The marks are read
from the source, so that no test and no optional package is needed.
"""

from __future__ import annotations

import ast
import gc
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reference" / "support.md"
KINDS = {
    "transport": "Transports",
    "document shape": "Document shapes",
    "geometry": "Geometries",
    "damage": "Damage: what it costs, or how it is refused",
    "profile": "Beamline profiles, each with a recorded run",
    "file in": "Files in",
    "file out": "Files out",
    "control system": "Control systems",
}
_HEAD = """# What is supported, and the test that proves it

Made from the tests by `python -m tests.support`; every row names a test that reads or writes the real thing.
"""


def _parse(path: Path) -> ast.Module:
    """Parse without garbage collection: CPython 3.11 loses count of its depth when a finalizer runs meanwhile."""
    gc.disable()
    try:
        return ast.parse(path.read_text())
    finally:
        gc.enable()


def claims() -> Iterator[tuple[str, str, str]]:
    """Yield (kind, what, test) of every mark, in the order of the files.

    Raises
    ------
    ValueError
        A mark whose arguments are not two texts, or of an unknown kind.
    """
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        tree = _parse(path)
        file = path.relative_to(ROOT).as_posix()
        module_marks = [n for node in tree.body if isinstance(node, ast.Assign) for n in _marks(node.value)]
        for kind, what in module_marks:
            yield kind, what, file
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            for decorator in node.decorator_list:
                for kind, what in _marks(decorator):
                    yield kind, what, f"{file}::{node.name}"


def _marks(node: ast.AST) -> Iterator[tuple[str, str]]:
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "supports":
            arguments = [a.value if isinstance(a, ast.Constant) else None for a in call.args]
            kind, what = arguments if len(arguments) == 2 else (None, None)
            if not isinstance(kind, str) or not isinstance(what, str) or kind not in KINDS:
                raise ValueError(f"supports(kind, what) wants two texts, kind one of {', '.join(KINDS)}: {arguments}")
            yield kind, what


def page() -> str:
    """Return the page."""
    rows: dict[str, dict[str, list[str]]] = {kind: {} for kind in KINDS}
    for kind, what, test in claims():
        rows[kind].setdefault(what, []).append(test)
    parts = [_HEAD]
    for kind, title in KINDS.items():
        if rows[kind]:
            table = [
                f"| {what} | {', '.join(f'`{test}`' for test in tests)} |" for what, tests in sorted(rows[kind].items())
            ]
            parts.append("\n".join([f"## {title}\n", "| what | test |", "|---|---|", *table]) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
