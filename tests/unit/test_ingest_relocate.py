"""A recording on another machine: its detector files are found by the end of their recorded path."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, unquote

import pytest

from quietbeam.core.errors import InputError
from quietbeam.ingest.documents.relocate import relocate

NAMES = ["xsp3_00001.h5", "map [2] 50% µ.h5", "a#b?.nxs"]


def resource(path: str) -> tuple[str, dict]:
    return "stream_resource", {"uid": "r", "uri": f"file://localhost{quote(path)}"}


def where(document: tuple[str, dict]) -> Path:
    doc = document[1]
    return Path(unquote(doc["uri"].removeprefix("file://localhost")) if "uri" in doc else doc["root"]) / (
        doc.get("resource_path", "")
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_file_with_the_same_folders_is_taken(tmp_path: Path, name: str) -> None:
    for folder in ("2026/sampleA/raw", "2026/sampleB/raw", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / name).write_text(folder)
    for sample in ("sampleA", "sampleB"):
        old = f"/nsls2/data/2026/{sample}/raw/{name}"
        legacy = ("resource", {"root": "/nsls2/data", "resource_path": f"2026/{sample}/raw/{name}"})
        for document in relocate([resource(old), legacy], [tmp_path]):
            assert where(document).read_text() == f"2026/{sample}/raw"


def test_several_that_fit_equally_are_refused_by_name(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "scan.h5").touch()
    with pytest.raises(InputError, match=r"may be any of .*one/scan\.h5.*two/scan\.h5"):
        relocate([resource("/data/scan.h5")], [tmp_path])


def test_what_is_there_or_nowhere_stays(tmp_path: Path) -> None:
    (tmp_path / "there.h5").touch()
    for path in (tmp_path / "there.h5", Path("/data/nowhere.h5")):
        assert where(relocate([resource(str(path))], [tmp_path])[0]) == path
