"""The exact tables of finite environments."""

from typing import Any

import gymnasium as gym

from mbrl_bilevel.environments import env_name
from mbrl_bilevel.errors import EnvError
from mbrl_bilevel.tabular import TabularMDP, mdp_from_outcomes


def read_tables(env: gym.Env[Any, Any]) -> TabularMDP:
    """Return the tables of an environment that has them as Gymnasium's toy-text ones do.

    Args:
        env: With `P[s][a]`, a list of `(probability, next state, reward, terminated)`, and
            `initial_state_distrib [S]`, wrapped or not.

    Raises:
        EnvError: It has no such tables, or they do not fit its spaces.
    """
    inner: Any = env.unwrapped
    for name in ("P", "initial_state_distrib"):
        if not hasattr(inner, name):
            raise EnvError(f"{env_name(env)} has no tables: the environment has no {name!r}")
    sizes = [
        int(space.n) if isinstance(space, gym.spaces.Discrete) else 0
        for space in (inner.observation_space, inner.action_space)
    ]
    try:
        mdp = mdp_from_outcomes(inner.P, inner.initial_state_distrib)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise EnvError(f"the tables of {env_name(env)} cannot be read: {error!r}") from error
    if sizes != [mdp.num_states, mdp.num_actions]:
        raise EnvError(
            f"the tables of {env_name(env)} have {mdp.num_states} states and {mdp.num_actions} "
            f"actions, its spaces are {inner.observation_space} and {inner.action_space}"
        )
    return mdp
