"""What MkDocs needs beyond the pages in docs/: globs in the navigation, generated references, files outside of docs/.

The Markdown in docs/ is written for the repository, where links lead to files of the project. In the site these files
are pages below ``project/``. Links that lead nowhere stay as they are, and the strict build fails on them.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from typer.cli import get_docs_for_click
from typer.main import get_command

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")
DIAGRAM = re.compile(r"^```mermaid\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
_CLIENT = [f"quietbeam.client.{name}" for name in ("Client", "Run", "ActionHandle", "errors")]
_RUNENGINE = [f"quietbeam.runengine.{name}" for name in ("RedisPublisher", "zmq_publisher", "stop_at_snr")]
_MODELS = ("network", "weights", "losses", "training", "pretraining", "features", "patches", "pruning")
PYTHON = {
    "quietbeam": (
        "Denoise an array: `pip install 'quietbeam[denoise]'`.",
        ["quietbeam.denoiser.offline.denoise", "quietbeam.DenoiseOptions", "quietbeam.DenoiseResult"],
    ),
    "quietbeam.runengine": ("Runs in the RunEngine's process: `pip install quietbeam`.", _RUNENGINE),
    "quietbeam.client": (
        "Runs and maps of a running quietbeam: `pip install 'quietbeam[client]'`.",
        [*_CLIENT, "quietbeam.core.errors"],
    ),
    "quietbeam_models": ("Networks, weights and pretraining.", [f"quietbeam_models.{name}" for name in _MODELS]),
}
"""Page below reference/python -> first sentence, modules."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Replace globs in the navigation by the pages of the folder that it does not name."""
    named = set(re.findall(r"[\w./-]+\.md", json.dumps(config.nav)))
    config.nav = _expanded(config.nav, Path(config.docs_dir), named)
    return config


def _expanded(nav: Any, docs: Path, named: set[str]) -> Any:
    if isinstance(nav, dict):
        return {title: _expanded(part, docs, named) for title, part in nav.items()}
    if not isinstance(nav, list):
        return nav
    found: list[Any] = []
    for part in nav:
        if isinstance(part, str) and part.endswith("/*"):
            pages = (page.relative_to(docs).as_posix() for page in sorted(docs.glob(f"{part}.md")))
            found += [page for page in pages if page not in named]
        else:
            found.append(_expanded(part, docs, named))
    return found


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated references, and the files of the project that pages link to."""
    for name, (text, modules) in PYTHON.items():
        body = "\n\n".join(f"::: {module}" for module in modules)
        _add(files, config, f"reference/python/{name}.md", f"# {name}\n\n{text}\n\n{body}\n")
    shim = str(ROOT / "docs" / "site" / "iframe-worker.js")
    files.append(File.generated(config, "assets/iframe-worker.js", abs_src_path=shim))
    _add(files, config, "reference/commands.md", _commands())
    _add(files, config, "reference/rest-requests.md", _requests())
    todo = [Path(str(file.abs_src_path)) for file in files.documentation_pages() if file.abs_src_path]
    todo += [ROOT / name for name in ("CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]
    seen: set[Path] = set()
    while todo:
        page = todo.pop()
        if page in seen:
            continue
        seen.add(page)
        if not page.is_relative_to(config.docs_dir):
            _add(files, config, _site_path(page, config), page.read_text(encoding="utf-8"))
        for target in _outside(page, config):
            if target.suffix == ".md":
                todo.append(target)
            elif target.is_file() and files.get_file_from_path(_site_path(target, config)) is None:
                files.append(File.generated(config, _site_path(target, config), abs_src_path=str(target)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Show diagrams as drawings; let links lead to where the files are in the site (a folder is its first page)."""
    source = _source(page.file, config)
    if source is None:
        return markdown
    here = posixpath.dirname(page.file.src_uri)
    images = posixpath.relpath("images", here or ".")

    def shown(found: re.Match[str]) -> str:
        drawing = f"{images}/{drawing_of(found[1])}"
        return f"[![Diagram]({drawing})]({drawing})\n"

    markdown = DIAGRAM.sub(shown, markdown)

    def moved(match: re.Match[str]) -> str:
        target = (source.parent / match[2]).resolve()
        if ":" in match[2] or not target.exists():
            return match[0]
        if target.is_dir():
            first = next(
                (f.src_uri for f in files.documentation_pages() if f.src_uri.startswith(f"{target.name}/")), ""
            )
            return f"{match[1]}{posixpath.relpath(first or page.file.src_uri, here)}{match[3]}"
        return f"{match[1]}{posixpath.relpath(_site_path(target, config), here or '.')}{match[3]}"

    return LINK.sub(moved, markdown)


def drawing_of(source: str) -> str:
    """Return the name of the SVG of a Mermaid diagram; ``python -m docs.pictures diagrams`` draws it."""
    return f"diagram-{hashlib.sha256(source.encode()).hexdigest()[:12]}.svg"


def _add(files: Files, config: MkDocsConfig, path: str, text: str) -> None:
    files.append(File.generated(config, path, content=text))


def _site_path(path: Path, config: MkDocsConfig) -> str:
    inside = path.is_relative_to(config.docs_dir)
    return path.relative_to(config.docs_dir).as_posix() if inside else f"project/{path.relative_to(ROOT).as_posix()}"


def _source(file: File, config: MkDocsConfig) -> Path | None:
    """Return the file of the repository that a page is made of; None for generated ones."""
    if file.src_uri.startswith("project/"):
        return ROOT / file.src_uri.removeprefix("project/")
    path = Path(config.docs_dir) / file.src_uri
    return path if path.exists() else None


def _outside(page: Path, config: MkDocsConfig) -> list[Path]:
    """Return the files outside of docs/ that a page links to."""
    targets = [
        (page.parent / m[2]).resolve() for m in LINK.finditer(page.read_text(encoding="utf-8")) if ":" not in m[2]
    ]
    return [t for t in targets if t.is_file() and t.is_relative_to(ROOT) and not t.is_relative_to(config.docs_dir)]


def _commands() -> str:
    """Return the help of every command as Markdown, by typer."""
    from quietbeam.cli import app

    command = get_command(app)
    for name in [name for name in command.commands if name.startswith("_")]:
        del command.commands[name]
    with command.make_context("quietbeam", [], resilient_parsing=True) as context:
        return get_docs_for_click(obj=command, ctx=context, name="quietbeam", title="Commands")


def _requests() -> str:
    """Return a page with every request of the OpenAPI document."""
    document = json.loads((ROOT / "docs" / "reference" / "openapi.json").read_text(encoding="utf-8"))
    parts = ["# All requests", "Made from the [OpenAPI document](openapi.json). [How to use them](rest.md)."]
    for path, methods in document["paths"].items():
        for method, request in methods.items():
            parts.append(f"## {method.upper()} `{path}`")
            parts.append(request.get("description", request.get("summary", "")))
            scopes = sorted({scope for way in request.get("security", []) for held in way.values() for scope in held})
            if scopes:
                parts.append(f"Scope: {', '.join(f'`{scope}`' for scope in scopes)}")
            parts.append(_table("parameter", [_parameter(p) for p in request.get("parameters", [])]))
            answers = request["responses"].items()
            parts.append(_table("answer", [(f"`{code}`", _cell(a.get("description", ""))) for code, a in answers]))
    for name, model in sorted(document["components"]["schemas"].items()):
        described = [(f"`{field}`", _cell(about["description"])) for field, about in _described(model).items()]
        if described:
            parts += [f"## Model `{name}`", model.get("description", ""), _table("field", described)]
    return "\n\n".join(filter(None, parts)) + "\n"


def _described(model: dict[str, Any]) -> dict[str, Any]:
    return {field: about for field, about in model.get("properties", {}).items() if about.get("description")}


def _parameter(parameter: dict[str, Any]) -> tuple[str, str]:
    schema = parameter.get("schema", {})
    default = f" Default: `{schema['default']}`." if schema.get("default") is not None else ""
    needed = "" if not parameter.get("required") else " Required."
    text = parameter.get("description") or schema.get("description") or parameter["in"]
    return f"`{parameter['name']}`", _cell(f"{text}{default}{needed}")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _table(kind: str, rows: list[tuple[str, str]]) -> str:
    if not rows:
        return ""
    return "\n".join([f"| {kind} | means |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows)])
