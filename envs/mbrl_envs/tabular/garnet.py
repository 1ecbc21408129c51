"""Random processes."""

import math

import numpy as np

from mbrl_envs.tabular.base import TabularEnv
from mbrl_envs.tabular.drawing import plain_board


class GarnetEnv(TabularEnv):
    """
    ## Description

    A random process: each action in each state leads to one of `branching` states, drawn without
    replacement, with probabilities between uniformly drawn cuts of the unit interval. After T.
    Archibald, K. McKinnon and L. Thomas, "On the Generation of Markov Decision Processes" (1995),
    as in S. Bhatnagar et al., "Natural actor-critic algorithms" (2009).

    `mdp_seed` decides on the process; the seed of `reset` only on what happens in it.

    ## Action Space

    `Discrete(num_actions)`.

    ## Observation Space

    `Discrete(num_states)`.

    ## Rewards

    Each state and action has a reward of its own, drawn from the standard normal distribution.

    ## Starting State

    Any state, with equal chance.

    ## Episode End

    - Termination: never.
    - Truncation: the episode reaches 200 steps.

    ## Tables

    `env.unwrapped` has `transition_table` and `reward_table`, both `[S, A, S']`,
    `terminal_states` and `initial_distribution`, both `[S]`, and all of it as `P` in the format
    of Gymnasium's toy-text environments.

    ## Arguments

    - `num_states`, `num_actions`: at least 2 and 1. Default: 20 and 4.
    - `branching`: from 1 to `num_states`. Default: 3.
    - `mdp_seed`: at least 0. Default: 0.
    - `render_mode`: `None`, `"ansi"` or `"rgb_array"`.

    ```python
    >>> import gymnasium as gym
    >>> env = gym.make("mbrl_envs:Garnet-v0", num_states=10, mdp_seed=7)
    >>> (env.unwrapped.transition_table > 0).sum(axis=-1).max()
    np.int64(3)

    ```

    ## Version History

    * v0: Initial version.
    """

    def __init__(
        self,
        num_states: int = 20,
        num_actions: int = 4,
        branching: int = 3,
        mdp_seed: int = 0,
        render_mode: str | None = None,
    ) -> None:
        for name, value, low, high in (
            ("num_states", num_states, 2, math.inf),
            ("num_actions", num_actions, 1, math.inf),
            ("branching", branching, 1, num_states),
            ("mdp_seed", mdp_seed, 0, math.inf),
        ):
            if not isinstance(value, int) or not low <= value <= high:
                raise ValueError(f"{name}={value!r}; it must be an integer from {low} to {high}")
        rng = np.random.default_rng(mdp_seed)
        transitions = np.zeros((num_states, num_actions, num_states))
        for row in transitions.reshape(-1, num_states):
            cuts = np.sort(rng.random(branching - 1))
            probs = np.diff(np.concatenate([[0.0], cuts, [1.0]]))
            row[rng.choice(num_states, branching, replace=False)] = probs
        rewards = rng.standard_normal((num_states, num_actions, 1))
        super().__init__(
            transitions,
            np.broadcast_to(rewards, transitions.shape),
            np.zeros(num_states, np.bool_),
            np.full(num_states, 1.0 / num_states),
            plain_board(num_states, math.ceil(math.sqrt(num_states))),
            [str(action) for action in range(num_actions)],
            render_mode,
        )
