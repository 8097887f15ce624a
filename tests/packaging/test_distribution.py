"""The wheel and the sdist: built, installed into an empty environment, and tried; and how heavy each install is."""

import json
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
DISTRIBUTION = "commentary-hub"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(wheel, sdist), built from the sdist as an index would get them."""
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT], check=True, capture_output=True
    )
    return next(out.glob("*.whl")), next(out.glob("*.tar.gz"))


def closure(requirements):
    """Names of all distributions that ``requirements`` bring, by the metadata of what is installed."""
    found, waiting = set(), [Requirement(text) for text in requirements]
    while waiting:
        one = waiting.pop()
        extras = one.extras or {""}
        if one.marker and not any(one.marker.evaluate({"extra": extra}) for extra in extras):
            continue
        key = (canonicalize_name(one.name), frozenset(one.extras))
        if key in found:
            continue
        found.add(key)
        for text in metadata.distribution(one.name).requires or ():
            child = Requirement(text)
            if child.marker is None or any(child.marker.evaluate({"extra": extra}) for extra in extras):
                child.marker = None
                waiting.append(child)
    return {name for name, _ in found}


def requirements(wheel, extra=""):
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith("METADATA"))
        lines = archive.read(name).decode().splitlines()
    wanted = [Requirement(line.partition(": ")[2]) for line in lines if line.startswith("Requires-Dist")]
    chosen = [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": extra})]
    for one in chosen:
        one.marker = None
    return [str(one) for one in chosen]


def size_mb(names):
    """What the files of these distributions take, without compiled Python (an install without pip's compilation)."""
    total = 0
    for name in names:
        for file in metadata.distribution(name).files or ():
            path = Path(file.locate())
            if path.suffix != ".pyc" and path.is_file():
                total += path.stat().st_size
    return total / 1e6


def test_the_client_alone_is_light_and_has_no_torch(built):
    names = closure(requirements(built[0]))
    assert not names & {"torch", "numpy", "datasets", "fastapi", "pandas"}
    assert size_mb(names) < 100


def test_the_server_has_no_torch(built):
    assert not closure(requirements(built[0], "server")) & {"torch", "torchvision", "datasets"}


def test_the_extras_are_named_as_the_readme_says(built):
    with zipfile.ZipFile(built[0]) as archive:
        name = next(name for name in archive.namelist() if name.endswith("METADATA"))
        text = archive.read(name).decode()
    extras = {line.partition(": ")[2] for line in text.splitlines() if line.startswith("Provides-Extra")}
    assert {"learn", "server", "demo", "bench", "all"} <= extras


def test_both_hold_what_runs_and_nothing_general(built):
    with zipfile.ZipFile(built[0]) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"commentary_hub", "commentary_hub_server"}
    for needed in (
        "commentary_hub/py.typed",
        "commentary_hub/manifest/schema/commentary-1.json",
        "commentary_hub_server/templates/home.html",
        "commentary_hub_server/static/site.css",
    ):
        assert needed in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    with tarfile.open(built[1]) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "LICENSE", "README.md", "commentary_hub/__init__.py"} <= inside


def test_the_installed_wheel_runs_without_torch(built, tmp_path):
    """In an environment of its own; its dependencies are those of this one, but torch cannot be imported."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-index", "--no-deps", built[0]],
        check=True,
    )
    packages = next((tmp_path / "env" / "lib").glob("python*/site-packages"))
    here = Path(metadata.distribution("pydantic").locate_file(""))
    (packages / "dependencies.pth").write_text(f"{here}\n")
    probe = (
        "import sys, json; sys.modules['torch'] = None\n"
        "import commentary_hub, commentary_hub.hub, commentary_hub.manifest, commentary_hub.cli\n"
        "import commentary_hub_server\n"
        "print(json.dumps([commentary_hub.__file__, str(commentary_hub.push)]))"
    )
    done = subprocess.run(
        [python, "-I", "-c", probe], check=True, capture_output=True, text=True, cwd=tmp_path, env={"PATH": ""}
    )
    where = json.loads(done.stdout)[0]
    assert Path(where).is_relative_to(packages)
    command = tmp_path / "env" / "bin" / "commentary-hub"
    version = subprocess.run([command, "--version"], check=True, capture_output=True, text=True).stdout.strip()
    assert version == metadata.version(DISTRIBUTION)


def test_the_front_doors_load_no_torch():
    for module in ("commentary_hub", "commentary_hub.manifest", "commentary_hub.hub", "commentary_hub.cli",
                   "commentary_hub_server.app", "commentary_hub_server.commands"):  # fmt: skip
        probe = f"import sys, {module}; print(sorted({{'torch', 'numpy', 'datasets'}} & set(sys.modules)))"
        done = subprocess.run([sys.executable, "-c", probe], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == "[]", module
