"""Files of settings and profiles: what is there twice, and what is no UTF-8, is refused with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from quietbeam.core.errors import InputError, ProfileError
from quietbeam.core.settings import load_settings
from quietbeam.core.yaml_file import read_yaml
from quietbeam.ingest.profile import load_profile


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "c.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("serve: {port: 1}\ningest: {}\nserve: {host: x}\n", "'serve' is there twice, in lines 1 and 3"),
        ("serve:\n  port: 1\n  host: x\n  port: 2\n", "'port' is there twice, in lines 2 and 4"),
        ('"serve": {}\nserve: {}\n', "'serve' is there twice"),
        ("a: [{b: 1, b: 2}]\n", "'b' is there twice"),
    ],
)
def test_a_key_that_is_there_twice_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=words):
        load_settings(path)
    with pytest.raises(ProfileError, match=words):
        load_profile(path)


def test_keys_of_other_levels_and_merged_ones_are_none_twice(tmp_path: Path) -> None:
    text = "base: &base {a: 1, b: 2}\nother: {<<: *base, b: 3}\n1: x\n'1': y\n"
    assert read_yaml(write(tmp_path, text)) == {
        "base": {"a": 1, "b": 2},
        "other": {"a": 1, "b": 3},
        1: "x",
        "1": "y",
    }


def test_what_is_no_utf8_is_named_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, "log_level: info\n# Größe\n".encode("latin-1"))
    for load, error in ((load_settings, InputError), (load_profile, ProfileError)):
        with pytest.raises(error, match=r"not UTF-8: see line 2: save it as UTF-8"):
            load(path)


def test_the_marks_of_other_editors_are_taken(tmp_path: Path) -> None:
    path = write(tmp_path, b"\xef\xbb\xbf# \xc2\xb5\r\nlog_level: debug\r\n")
    assert load_settings(path).log_level == "debug"


def test_a_config_below_the_home_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "log_level: debug\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("QUIETBEAM_CONFIG", "~/c.yaml")
    assert load_settings().log_level == "debug"
