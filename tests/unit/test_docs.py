"""What the documentation points at is there: files, commands, options, headings, example configs."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from typer.main import get_command

from quietbeam.cli import app
from quietbeam.core.settings import Settings, load_settings
from quietbeam.ingest.profile.schema import load_profile

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "models").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"(?:^|[\s`/(])quietbeam ((?:[a-z][a-z-]*)(?: [a-z][a-z-]*)?)([^`\n#]*)", re.MULTILINE)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def commands() -> dict[str, Any]:
    """Return every command and subcommand by its words."""
    found: dict[str, Any] = {}
    for word, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        found[word] = command
        for second, sub in getattr(command, "commands", {}).items():
            found[f"{word} {second}"] = sub
    return found


def as_code(text: str) -> str:
    """Return what stands in fences and backticks: prose may say 'quietbeam needs'."""
    fences = "\n".join(match[2] for match in FENCE.finditer(text))
    return fences + "\n" + "\n".join(re.findall(r"`([^`\n]+)`", FENCE.sub("", text)))


@pytest.mark.parametrize("document", PAGES, ids=name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in LINK.findall(document.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        where = (document.parent / file).resolve() if file else document
        assert where.exists(), f"{name(document)} links to {target}"
        assert where.is_relative_to(ROOT), f"{name(document)} links out of the project: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", where.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}
            assert anchor in slugs, f"{name(document)} links to {target}"


@pytest.mark.parametrize("document", PAGES, ids=name)
def test_commands_and_options_exist(document: Path) -> None:
    known = commands()
    for words, rest in COMMAND.findall(as_code(document.read_text())):
        first, _, second = words.partition(" ")
        assert first in known, f"{name(document)}: no command `quietbeam {first}`"
        subcommands = {key.split()[1] for key in known if key.startswith(f"{first} ")}
        if subcommands and second:
            assert second in subcommands, f"{name(document)}: no command `quietbeam {words}`"
        command = known.get(words, known[first])
        options = {option for parameter in command.params for option in parameter.opts + parameter.secondary_opts}
        for option in re.findall(r"(?<=\s)--?[a-z][a-z0-9-]*", rest):
            assert option in options | {"--help"}, f"{name(document)}: `quietbeam {words}` has no {option}"


@pytest.mark.parametrize("document", PAGES, ids=name)
def test_settings_that_are_named_exist(document: Path) -> None:
    """Every `section.key` and QUIETBEAM_SECTION__KEY of the settings' sections is a setting."""
    text = document.read_text()
    sections = {key: field.annotation for key, field in Settings.model_fields.items()}
    named = re.findall(r"`([a-z]+)\.([a-z_]+)\b(?!\.)", text)
    named += [(a.lower(), b.lower().partition("__")[0]) for a, b in re.findall(r"QUIETBEAM_([A-Z]+)__([A-Z_]+)", text)]
    for section, key in named:
        fields = getattr(sections.get(section), "model_fields", None)
        assert fields is None or key in fields, f"{name(document)}: no setting {section}.{key}"


@pytest.mark.parametrize("document", PAGES, ids=name)
def test_settings_in_yaml_examples_load(document: Path, tmp_path: Path) -> None:
    for language, body in FENCE.findall(document.read_text()):
        example = yaml.safe_load(body) if language == "yaml" else None
        if isinstance(example, dict) and set(example) <= set(Settings.model_fields):
            path = tmp_path / "example.yaml"
            path.write_text(body)
            load_settings(path)


CONFIGS = [path for path in sorted((ROOT / "configs").rglob("*.yaml")) if path.parent.name != "queueserver"]


@pytest.mark.parametrize("path", CONFIGS, ids=name)
def test_shipped_configs_load(path: Path) -> None:
    if path.parent.name == "beamlines":
        assert load_profile(str(path)).name == path.stem
    else:
        settings = load_settings(path)
        for profile in settings.ingest.profiles:
            load_profile(profile)


def test_the_index_leads_to_every_page() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / target.partition("#")[0]).resolve() for target in LINK.findall(index.read_text())}
    missing = {p for p in (ROOT / "docs").rglob("*.md") if linked.isdisjoint({p, p.parent})} - {index}
    assert not missing, f"docs/README.md leaves out {sorted(map(name, missing))}"


def test_decisions_are_numbered_without_gaps() -> None:
    pages = sorted((ROOT / "docs" / "adr").glob("*.md"))
    assert [int(document.name[:4]) for document in pages] == list(range(1, len(pages) + 1))
    for number, document in enumerate(pages, 1):
        text = document.read_text()
        assert text.startswith(f"# {number}. "), name(document)
        assert all(f"**{part}.**" in text for part in ("Context", "Decision", "Consequence")), name(document)


def test_names_in_the_glossary_exist() -> None:
    text = (ROOT / "docs" / "reference" / "glossary.md").read_text()
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
    names = [cells[-1].strip().strip("`") for cells in rows if cells[0].strip() != "word"]
    assert len(names) > 40
    for dotted in filter(None, names):
        parts = dotted.split(".")
        for n in range(len(parts), 0, -1):
            try:
                found = importlib.import_module(".".join(["quietbeam", *parts[:n]]))
            except ModuleNotFoundError:
                continue
            break
        else:
            pytest.fail(f"no module in {dotted}")
        for part in parts[n:]:
            fields = getattr(found, "__dataclass_fields__", {})
            assert hasattr(found, part) or part in fields, dotted
            found = getattr(found, part, None)


def test_the_pictures_of_orders_are_made_of_real_runs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "docs.pictures", "orders", "--images", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "order.png") as made, Image.open(ROOT / "docs" / "images" / "order.png") as shown:
        assert made.size == shown.size


def test_the_command_makes_every_picture_that_a_page_shows() -> None:
    listed = (ROOT / "docs" / "pictures").glob("[a-z]*.py")
    source = "\n".join(script.read_text(encoding="utf-8") for script in listed)
    patterns = [re.sub(r"\{\w+\}", "*", found) for found in re.findall(r'"([\w{}-]+\.(?:png|gif))"', source)]
    for image in (ROOT / "docs" / "images").iterdir():
        if image.suffix != ".svg":
            assert any(fnmatch(image.name, pattern) for pattern in patterns), f"no script writes {image.name}"
