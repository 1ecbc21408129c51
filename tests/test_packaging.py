"""What is shipped, what it depends on, and what the files of the repository may say."""

import ast
import configparser
import importlib.metadata
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import mbrl_bilevel

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {
    "mbrl_bilevel": ROOT / "mbrl_bilevel",
    "mbrl_envs": ROOT / "envs" / "mbrl_envs",
    "mbrl_agents": ROOT / "agents" / "mbrl_agents",
}
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUNTIME = [Requirement(line) for line in PROJECT["dependencies"]]
RAY = [Requirement(line) for line in PROJECT["optional-dependencies"]["ray"]]
"""Imported by one engine of `compare` alone, once it is asked for."""
DEV = [Requirement(line) for line in PROJECT["optional-dependencies"]["dev"]]

# Imported, but installed by the requirement named here, which could not do without it.
COMES_WITH = {"pydantic-core": "pydantic", "pygame-ce": "gymnasium"}

# PyTorch built for a GPU pins these itself; the build for CPUs has none of them.
GPU_LIBRARIES = ("nvidia-", "cuda-", "triton")

# In two parts, so that this file does not contain them.
REGISTRY_HOSTS = [
    name + "." + domain
    for name, domain in [
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("download.pytorch", "org"),
        ("registry.npmjs", "org"),
        ("deb.debian", "org"),
    ]
]


def pins() -> dict[str, str]:
    """The versions of constraints.txt, by normalised name."""
    found: dict[str, str] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        name, version = line.split("==")
        assert canonicalize_name(name) == name
        assert name not in found, f"{name} is pinned twice"
        found[name] = version
    return found


PINS = pins()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The wheel that `python -m build` makes."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    result = subprocess.run([*build, str(ROOT)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


@pytest.mark.parametrize("package", PACKAGES)
def test_wheel_has_the_whole_package(package: str, wheel: zipfile.ZipFile) -> None:
    source = PACKAGES[package]
    modules = {path.relative_to(source.parent).as_posix() for path in source.rglob("*.py")}
    assert f"{package}/__init__.py" in modules
    names = set(wheel.namelist())
    assert modules <= names
    assert f"{package}/py.typed" in names


def test_wheel_has_the_configurations_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    configs = {f"mbrl_bilevel/configs/{path.name}" for path in (ROOT / "configs").glob("*.yaml")}
    assert "mbrl_bilevel/configs/pets_pendulum.yaml" in configs
    assert configs <= set(wheel.namelist())
    info = f"mbrl_bilevel-{PROJECT['version']}.dist-info"
    assert {name.split("/")[0] for name in wheel.namelist()} == {*PACKAGES, info}


def test_entry_points_are_in_the_wheel_and_can_be_loaded(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    parser = configparser.ConfigParser()
    parser.read_string(wheel.read(name).decode())
    assert parser["console_scripts"]["mbrl-bilevel"] == "mbrl_bilevel.cli:main"
    assert "pets" in parser["mbrl_bilevel.agents"]
    assert "mbrl_envs" in parser["mbrl_bilevel.tasks"]
    for group in parser.sections():
        for key, target in parser[group].items():
            assert callable(importlib.metadata.EntryPoint(key, target, group).load())


def test_version_of_the_package_is_that_of_the_project() -> None:
    assert mbrl_bilevel.__version__ == PROJECT["version"]


@pytest.mark.parametrize("requirement", RUNTIME + DEV, ids=lambda requirement: requirement.name)
def test_every_dependency_is_pinned_within_its_range(requirement: Requirement) -> None:
    assert PINS[canonicalize_name(requirement.name)] in requirement.specifier


def test_every_dependency_of_a_dependency_is_pinned() -> None:
    names = {str(canonicalize_name(name)) for name in installed_with(RUNTIME + DEV)}
    assert {name for name in names - set(PINS) if not name.startswith(GPU_LIBRARIES)} == set()


def test_pins_are_public_versions() -> None:
    assert PINS["torch"] == "2.13.0"
    for version in PINS.values():
        assert str(Version(version).public) == version


def test_every_import_is_of_a_declared_dependency() -> None:
    declared = {canonicalize_name(requirement.name) for requirement in RUNTIME + RAY}
    providers = importlib.metadata.packages_distributions()
    for package, source in PACKAGES.items():
        for module in imported_modules(source) - set(PACKAGES) - sys.stdlib_module_names:
            names = {str(canonicalize_name(name)) for name in providers[module]}
            names |= {COMES_WITH[name] for name in names & COMES_WITH.keys()}
            assert names & declared, f"{package} imports {module}, which is not a dependency"


def test_no_file_names_the_host_of_a_package_registry() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if tracked.returncode != 0:
        pytest.skip("not a git checkout")
    for name in filter(None, tracked.stdout.split("\0")):
        if not (ROOT / name).is_file():
            continue
        content = (ROOT / name).read_bytes().lower()
        assert [host for host in REGISTRY_HOSTS if host.encode() in content] == [], name


def installed_with(requirements: Iterable[Requirement]) -> set[str]:
    """Names of the distributions that these requirements, and theirs in turn, install here."""
    todo, seen = list(requirements), set[tuple[str, frozenset[str]]]()
    while todo:
        requirement = todo.pop()
        key = (requirement.name, frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        for line in importlib.metadata.requires(requirement.name) or []:
            needed = Requirement(line)
            if needed.marker is None or any(
                needed.marker.evaluate({"extra": extra}) for extra in ("", *requirement.extras)
            ):
                todo.append(needed)
    return {name for name, _ in seen}


def imported_modules(source: Path) -> set[str]:
    """Top-level names of all modules that the files below a folder import, at any place."""
    found: set[str] = set()
    for path in source.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                found.add(node.module.partition(".")[0])
    return found
