"""Sdist and wheel are complete, and the light part of what is installed needs no more than it declares."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from empty_environment import ROOT, EmptyEnvironment, build, dependencies
from quietbeam.core.wire.bus import Connection

HEAVY = {"torch", "zarr", "tiled", "fastapi", "pydantic", "scipy", "h5py", "pandas", "xarray", "bluesky", "typer"}
PUBLISH = """
import sys
from quietbeam.runengine import RedisPublisher
publisher = RedisPublisher(sys.argv[1], spool_dir=sys.argv[2])
publisher("start", {"uid": "light", "time": 1.0})
assert publisher.close(30), publisher.stats()
import quietbeam.client
print(len(sys.modules))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    return build(folder)[1]


@pytest.fixture(scope="module")
def light(built: Path, tmp_path_factory: pytest.TempPathFactory) -> EmptyEnvironment:
    """The wheel in an environment that has its dependencies and nothing else: as after `pip install quietbeam`."""
    environment = EmptyEnvironment(tmp_path_factory.mktemp("light"))
    environment.install("--no-deps", "--no-index", str(built))
    environment.link(dependencies(environment.installed()))
    return environment


def test_the_wheel_made_from_the_sdist_carries_weights_configs_dashboard_and_licence(built: Path) -> None:
    names = zipfile.ZipFile(built).namelist()
    for wanted in (
        "quietbeam/configs/embedded.yaml",
        "quietbeam/configs/beamlines/simulated.yaml",
        "quietbeam/serve/dashboard/index.html",
        "quietbeam/serve/dashboard/js/main.js",
        "quietbeam/denoiser/session.py",
        "quietbeam/py.typed",
        "quietbeam_models/py.typed",
    ):
        assert wanted in names
    assert any(name.startswith("quietbeam_models/weights/") and name.endswith(".safetensors") for name in names)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    tops = {name.split("/")[0] for name in names}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"quietbeam", "quietbeam_models"}
    assert not any("dashboard" in name and name.endswith((".ts", "package.json", "tsconfig.json")) for name in names)
    assert not any(name.startswith("quietbeam/tests") or ".scratch" in name for name in names)


def test_no_link_of_the_description_leads_to_a_file_beside_it(built: Path) -> None:
    """Addresses of the repository where pyproject.toml knows one, plain text where it does not."""
    archive = zipfile.ZipFile(built)
    (name,) = (one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
    headers, _, description = archive.read(name).decode().partition("\n\n")
    assert "Description-Content-Type: text/markdown" in headers
    assert description.startswith("# quietbeam")
    targets = re.findall(r"\]\(([^)\s]+)\)", description)
    assert all(re.match("https://|#", target) for target in targets), targets


@pytest.mark.parametrize(
    ("text", "files", "shown"),
    [
        (
            "[a](docs/a.md#b) [c](https://c.example/)",
            "https://r.example/v1/",
            "[a](https://r.example/v1/docs/a.md#b) [c](https://c.example/)",
        ),
        ("![p](docs/p.png)", "https://r.example/v1", "![p](https://r.example/v1/docs/p.png?raw=true)"),
        ("see\n\n![p](docs/p.png)\n\n[a](docs/a.md), [b](#b)", "", "see\n\na, [b](#b)"),
    ],
)
def test_links_of_the_readme_get_the_address_of_the_repository(text: str, files: str, shown: str) -> None:
    assert runpy.run_path(str(ROOT / "deploy" / "pypi_readme.py"))["with_addresses"](text, files) == shown


def test_the_light_installation_needs_none_of_the_heavy_packages(light: EmptyEnvironment) -> None:
    needed = dependencies(light.installed())
    assert {"numpy", "msgpack", "redis"} <= needed
    assert not needed & HEAVY
    assert len(needed) < 20
    assert dependencies(light.installed(), "all") > dependencies(light.installed(), "denoise") | HEAVY - {"pandas"}


def test_the_light_installation_sends_documents(
    light: EmptyEnvironment, redis_server: str, redis: Connection, tmp_path: Path
) -> None:
    light.run("-c", PUBLISH, redis_server, str(tmp_path))
    assert redis.xlen("qb:docs") == 1


def test_the_light_installation_says_what_to_install_for_the_rest(light: EmptyEnvironment) -> None:
    command = light.run(str(light.bin / "quietbeam"), "up", check=False)
    assert command.returncode == 2
    assert command.stderr.splitlines() == [
        "quietbeam: the command `quietbeam` needs the package 'typer', which is not installed: "
        "pip install 'quietbeam[all]'"
    ]
    denoise = light.run("-c", "import quietbeam; quietbeam.denoise", check=False)
    assert re.search(r"quietbeam\.denoise needs the package '\w+'.*'quietbeam\[denoise\]'", denoise.stderr)
    maps = light.run("-c", "from quietbeam.client.http import Client; Client('http://127.0.0.1:9', 'k')")
    assert maps.returncode == 0


def test_denoising_needs_no_more_than_its_extra(built: Path, tmp_path: Path) -> None:
    environment = EmptyEnvironment(tmp_path / "environment")
    environment.install("--no-deps", "--no-index", str(built))
    environment.link(dependencies(environment.installed(), "denoise"))
    code = (
        "import numpy, quietbeam; counts = numpy.random.default_rng(0).poisson(5, (3, 1, 16, 16));"
        "r = quietbeam.denoise(counts, lines=['Fe_Ka'], steps=1, device='cpu'); print(r.denoised.shape)"
    )
    assert environment.run("-c", code).stdout.split("\n")[0] == "(1, 16, 16)"


def test_importing_quietbeam_is_light() -> None:
    code = (
        "import quietbeam, sys; print(quietbeam.__version__); sys.exit('torch' in sys.modules or 'zarr' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0


def test_the_version_of_a_clone_without_tags_follows_the_newest_release() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    fallback = project["tool"]["hatch"]["version"]["fallback-version"]
    releases = re.findall(r"^## \[(\d+)\.(\d+)\.(\d+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert tuple(map(int, re.findall(r"\d+", fallback)[:3])) > max(tuple(map(int, one)) for one in releases)
