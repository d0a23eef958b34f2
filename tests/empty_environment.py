"""Empty environments that sdist and wheel are installed into, and the closure of what an extra of quietbeam needs."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]


def build(folder: Path) -> tuple[Path, Path]:
    """Build the sdist of this tree, and a wheel from what the sdist holds; return both files."""
    hatch = [sys.executable, "-m", "hatchling", "build"]
    subprocess.run([*hatch, "-t", "sdist", "-d", str(folder)], cwd=ROOT, check=True, capture_output=True)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (sources,) = (folder / "unpacked").iterdir()
    subprocess.run([*hatch, "-t", "wheel", "-d", str(folder)], cwd=sources, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return sdist, wheel


def dependencies(wheel: Distribution, extra: str = "") -> set[str]:
    """Return the canonical names of all packages that a distribution needs with an extra, as installed here."""
    found: set[str] = set()
    todo = [(wheel, frozenset({extra}))]
    while todo:
        package, extras = todo.pop()
        for text in package.requires or []:
            wanted = Requirement(text)
            environments = [{**default_environment(), "extra": one} for one in extras | {""}]
            if wanted.marker and not any(wanted.marker.evaluate(environment) for environment in environments):
                continue
            name = canonicalize_name(wanted.name)
            if name == "quietbeam":
                todo += [(wheel, frozenset(wanted.extras))]
            elif name not in found:
                found.add(name)
                todo.append((distribution(name), frozenset(wanted.extras)))
    return found


class EmptyEnvironment:
    """A virtual environment with nothing in it, not even pip."""

    def __init__(self, folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        self.bin = folder / "bin"
        self.python = self.bin / "python"
        done = self.run("-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
        self.packages = Path(done.stdout.strip())

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run its Python; a failure shows what it wrote."""
        command = [str(self.python), "-I", *arguments]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, cwd="/")
        if check and done.returncode:
            raise AssertionError(f"{' '.join(arguments)}\n{done.stdout}{done.stderr}")
        return done

    def install(self, *arguments: str) -> None:
        """Let the pip of this Python install into it."""
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(self.python)]
        subprocess.run([*pip, "install", "--quiet", *arguments], check=True)

    def installed(self) -> Distribution:
        """Return its quietbeam."""
        (found,) = Distribution.discover(name="quietbeam", path=[str(self.packages)])
        return found

    def link(self, names: set[str]) -> None:
        """Show it the packages of these names that are installed here, without a download."""
        for name in names:
            try:
                package = distribution(name)
            except PackageNotFoundError as error:  # pragma: no cover
                raise AssertionError(f"{name} is not installed here") from error
            tops = {file.parts[0] for file in package.files or [] if file.parts[0] not in ("..", "__pycache__")}
            for top in tops:
                target = self.packages / top
                if not target.exists():
                    target.symlink_to(str(package.locate_file(top)))
