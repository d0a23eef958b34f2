"""The table of what is supported says what the tests prove, no more and no less."""

from __future__ import annotations

import importlib.util
from pathlib import Path

_SPEC = importlib.util.spec_from_file_location("support", Path(__file__).parent.parent / "support.py")
assert _SPEC is not None and _SPEC.loader is not None
support = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(support)


def test_the_page_is_what_the_tests_prove() -> None:
    remedy = "docs/reference/support.md is out of date: python -m tests.support"
    assert support.PAGE.read_text() == support.page(), remedy


def test_every_row_names_a_test_that_is_there() -> None:
    found = list(support.claims())
    assert {kind for kind, _, _ in found} <= set(support.KINDS) and len(found) > 20
    for _, _, test in found:
        path, _, name = test.partition("::")
        assert (
            not name
            or f"def {name}(" in (support.ROOT / path).read_text()
            or f"class {name}" in (support.ROOT / path).read_text()
        )
