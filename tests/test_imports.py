"""The direction of imports: a module may only import what stands to its left."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {
    "mbrl_bilevel": ROOT / "mbrl_bilevel",
    "mbrl_envs": ROOT / "envs/mbrl_envs",
    "mbrl_agents": ROOT / "agents/mbrl_agents",
}
ORDER = [
    # The package's own __init__ holds the version.
    {"mbrl_bilevel", "mbrl_bilevel.types", "mbrl_bilevel.errors"},
    {"mbrl_bilevel.config", "mbrl_bilevel.callbacks", "mbrl_bilevel.environments"},
    {
        "mbrl_bilevel.rewards",
        "mbrl_bilevel.objectives",
        "mbrl_bilevel.data",
    },
    {"mbrl_bilevel.heads", "mbrl_bilevel.dynamics"},
    {"mbrl_bilevel.estimators"},
    {"mbrl_bilevel.bilevel", "mbrl_bilevel.tabular"},
    {"mbrl_bilevel.runs"},
    {"mbrl_bilevel.evaluation"},
    {"mbrl_envs"},
    {"mbrl_agents"},
    {"mbrl_bilevel.build"},
    {"mbrl_bilevel.experiments"},
    {"mbrl_bilevel.cli"},
    {"mbrl_bilevel.__main__"},
]
"""Rooms from left to right; those that stand together do not import each other."""
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}
MODULES = {
    ".".join((name, *file.relative_to(folder).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): file
    for name, folder in PACKAGES.items()
    for file in sorted(folder.rglob("*.py"))
}


def room_of(module: str) -> str:
    """`mbrl_bilevel.data.actions` -> `mbrl_bilevel.data`; the other two packages are one room."""
    first, *rest = module.split(".")
    return ".".join([first, *rest[:1]]) if first == "mbrl_bilevel" else first


def imports(module: str, source: str, *, is_package: bool) -> Iterator[str]:
    """Yield every module of the project that `source` imports, wherever in the file it does."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")[: None if is_package else -1]
                base = ".".join([*parents[: len(parents) - node.level + 1], base]).rstrip(".")
            # `from mbrl_bilevel import runs` imports a module, `... import __version__` does not.
            submodules = [f"{base}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else base for name in submodules]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in PACKAGES)


def imports_of(module: str) -> list[str]:
    file = MODULES[module]
    source = file.read_text(encoding="utf-8")
    return list(imports(module, source, is_package=file.name == "__init__.py"))


@pytest.mark.parametrize("module", MODULES)
def test_imports_only_point_left(module: str) -> None:
    room = room_of(module)
    assert room in RANK, f"{room} has no place in ORDER: say what may import it"
    for name in imports_of(module):
        imported = room_of(name)
        assert imported == room or RANK[imported] < RANK[room], f"{module} imports {name}"


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith("mbrl_bilevel")])
def test_the_core_knows_no_environment_and_no_agent(module: str) -> None:
    assert {name.split(".")[0] for name in imports_of(module)} <= {"mbrl_bilevel"}


def test_nothing_but_the_start_of_the_program_imports_the_command_line() -> None:
    users = {module for module in MODULES if "mbrl_bilevel.cli" in map(room_of, imports_of(module))}
    assert {room_of(module) for module in users} <= {"mbrl_bilevel.cli", "mbrl_bilevel.__main__"}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import mbrl_agents.pets as p", ["mbrl_agents.pets"]),
        ("from mbrl_bilevel import runs", ["mbrl_bilevel.runs"]),
        ("from mbrl_bilevel import __version__", ["mbrl_bilevel"]),
        ("from .. import runs", ["mbrl_bilevel.runs"]),
        ("from ..runs.files import x", ["mbrl_bilevel.runs.files"]),
        ("from .actions import x", ["mbrl_bilevel.data.actions"]),
        ("def f():\n    if True:\n        from mbrl_envs import tasks", ["mbrl_envs.tasks"]),
        ("import torch, mbrl_envs", ["mbrl_envs"]),
    ],
)
def test_every_way_to_import_is_seen(source: str, expected: list[str]) -> None:
    assert list(imports("mbrl_bilevel.data.bootstrap", source, is_package=False)) == expected


def test_relative_imports_of_a_package_start_at_itself() -> None:
    found = imports("mbrl_bilevel.data", "from .actions import x", is_package=True)
    assert list(found) == ["mbrl_bilevel.data.actions"]
