"""What there is, by name: `mbrl-bilevel list`."""

from argparse import Namespace
from collections.abc import Callable


def list_names(arguments: Namespace) -> int:
    """`mbrl-bilevel list`."""
    rows = LISTINGS[arguments.what]()
    width = max(len(name) for name, _ in rows)
    for name, meaning in rows:
        print(f"{name:<{width}}  {meaning}".rstrip())
    return 0


def _list_agents() -> list[tuple[str, str]]:
    from mbrl_bilevel import build

    return [(name, first_line(build.agent_class(name))) for name in build.agent_names()]


def _list_envs() -> list[tuple[str, str]]:
    from mbrl_bilevel import build

    rows = []
    for env in build.known_envs():
        exact = [
            name
            for name, known in (
                ("reward", env.exact_reward),
                ("termination", env.exact_termination),
                ("tables", env.exact_tables),
            )
            if known
        ]
        condition = "".join(f", with {name}={value}" for name, value in env.kwargs.items())
        rows.append((env.env_id, f"exact {' and '.join(exact)}{condition}"))
    return [*rows, ("any other Gymnasium id", "what is not known is learned")]


def _list_objectives() -> list[tuple[str, str]]:
    from mbrl_bilevel.config import OBJECTIVE_CONFIGS

    return [(name, first_line(config)) for name, config in OBJECTIVE_CONFIGS.items()]


def _list_solvers() -> list[tuple[str, str]]:
    from mbrl_bilevel.bilevel import SOLVERS

    return [(name, first_line(solver)) for name, solver in SOLVERS.items()]


def _list_configs() -> list[tuple[str, str]]:
    from mbrl_bilevel.config import find_config, list_configs

    rows = []
    for name in list_configs():
        first = find_config(name).read_text(encoding="utf-8").partition("\n")[0]
        rows.append((name, first.removeprefix("#").strip()))
    return rows


LISTINGS: dict[str, Callable[[], list[tuple[str, str]]]] = {
    "agents": _list_agents,
    "configs": _list_configs,
    "envs": _list_envs,
    "objectives": _list_objectives,
    "solvers": _list_solvers,
}


def first_line(thing: object) -> str:
    """Return the first line of a thing's docstring."""
    return (thing.__doc__ or "").strip().partition("\n")[0]
