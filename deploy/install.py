"""Install quietbeam into the environment of the running Python: pinned versions, and the right build of torch.

Standard library only: this runs before anything is installed. On Linux the project's main package index carries torch
with CUDA, some gigabytes that a machine without a GPU has no use for. Where pip can find a CPU build (a folder in
``PIP_FIND_LINKS``, a mirror in ``PIP_EXTRA_INDEX_URL``) it is taken; where it cannot, this says so before the download.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
CUDA = re.compile(r"^(nvidia|cuda|triton)", re.IGNORECASE)


def say(text: str) -> None:
    """Write a line at once, in order with pip's own output."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def pip(*arguments: str, capture: bool = False) -> str:
    """Run pip under the constraints; its exit ends ours."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE if capture else None, check=False)
    if done.returncode:
        raise SystemExit(f"install: pip failed ({' '.join(arguments)}); its message is above")
    return done.stdout or ""


def pinned(name: str) -> str:
    """Return the version of a package in the constraints."""
    found = re.search(rf"^{name}==([^\s;]+)", CONSTRAINTS.read_text(), re.MULTILINE)
    assert found, f"{name} is not in {CONSTRAINTS}"
    return found[1]


def plan(requirement: str) -> list[str]:
    """Return ``name==version`` of what pip would install for `requirement`, without downloading it."""
    report = json.loads(
        pip("install", "--dry-run", "--quiet", "--report", "-", "-c", str(CONSTRAINTS), requirement, capture=True)
    )
    return [f"{p['metadata']['name']}=={p['metadata']['version']}" for p in report["install"]]


def torch_requirement(choice: str, version: str, *, gpu: bool) -> str:
    """Return what to ask pip for.

    ``==`` also takes a local CPU build (``2.13.0+cpu``) and prefers it; ``===`` takes the plain build only.
    """
    if choice != "auto":
        return choice
    return f"torch==={version}" if gpu else f"torch=={version}"


def install_torch(choice: str) -> None:
    """Install torch, saying which build and why."""
    version = pinned("torch")
    gpu = shutil.which("nvidia-smi") is not None
    try:
        there = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        there = ""
    if choice == "auto" and there.partition("+")[0] == version:
        say(f"install: torch {there} is there")
        return
    requirement = torch_requirement(choice, version, gpu=gpu)
    packages = plan(requirement)
    cuda = [p for p in packages if CUDA.match(p)]
    build = next((p for p in packages if p.startswith("torch==")), requirement)
    say(f"install: {build}, {'with' if cuda else 'without'} CUDA packages (GPU {'found' if gpu else 'not found'})")
    if cuda and not gpu:
        say(
            "install: NOTE pip finds no CPU build of torch here, only the one with CUDA (it runs on the CPU as well,\n"
            f"install: but brings {len(cuda)} packages and some gigabytes). To avoid them, stop now and let\n"
            "install: PIP_FIND_LINKS or PIP_EXTRA_INDEX_URL name a place with CPU wheels of torch."
        )
    pip("install", "-c", str(CONSTRAINTS), requirement)


def freeze() -> None:
    """Print the constraints that belong to this environment."""
    keep = [line for line in CONSTRAINTS.read_text().splitlines() if line.startswith("#")]
    skip = re.compile(r"^(#|-e|(quietbeam|nvidia|cuda|triton|pip|wheel)\b)", re.IGNORECASE)
    lines = pip("freeze", "--all", "--exclude-editable", capture=True).splitlines()
    pins = [re.sub(r"^(torch==[^+]+)\+.*", r"\1", line) for line in lines if not skip.match(line)]
    say("\n".join([*keep, *pins]))


def dependencies(extras: str) -> list[str]:
    """Return what quietbeam needs with these extras; an extra that names others of quietbeam is resolved."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found: list[str] = list(project["dependencies"])
    for extra in filter(None, extras.split(",")):
        for requirement in project["optional-dependencies"][extra]:
            inner = re.fullmatch(r"quietbeam\[(.+)\]", requirement)
            found += dependencies(inner[1]) if inner else [requirement]
    return list(dict.fromkeys(found))


def wanted(options: argparse.Namespace) -> list[str]:
    """Return what pip shall install besides torch."""
    if options.only_dependencies:
        return dependencies(options.extras)
    here = f"{ROOT}[{options.extras}]" if options.extras else str(ROOT)
    return [here] if options.no_editable else ["-e", here]


def main() -> None:
    """Install, or print constraints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torch", default="auto", help="'auto', or a requirement such as 'torch' or 'torch===2.13.0'")
    parser.add_argument("--extras", default="test", help="extras of quietbeam to install ('' for none)")
    parser.add_argument("--no-editable", action="store_true", help="install a copy, not a link to this folder")
    parser.add_argument("--only-dependencies", action="store_true", help="install what quietbeam needs, not quietbeam")
    parser.add_argument("--freeze", action="store_true", help="print constraints instead of installing")
    options = parser.parse_args()
    if options.freeze:
        freeze()
        return
    install_torch(options.torch)
    say("install: quietbeam and what it stands on (some minutes the first time)")
    pip("install", "--quiet", "-c", str(CONSTRAINTS), *wanted(options))
    say(f"install: done; {Path(sys.executable).parent / 'quietbeam'} --help")


if __name__ == "__main__":
    main()
