"""The chain, on which exploration is hard."""

import numpy as np

from mbrl_envs.tabular.base import TabularEnv
from mbrl_envs.tabular.drawing import plain_board


class ChainEnv(TabularEnv):
    """
    ## Description

    States in a row. One action leads a step forward, the other all the way back to the first state.
    Going back pays a little at once; the large reward is at the end of the row, and staying there
    is best. The agent slips: with probability `slip` an action has the effect of the other one.

    From M. Strens, "A Bayesian Framework for Reinforcement Learning" (2000), figure 2, after the
    example of Dearden et al. (1998).

    ## Action Space

    `Discrete(2)`.

    | Num | Action  |
    |-----|---------|
    | 0   | Forward |
    | 1   | Back    |

    ## Observation Space

    `Discrete(num_states)`: the position in the row.

    ## Rewards

    2 for each step that leads back, 10 for each step forward from the last state, which leads to
    itself; else 0. What counts is where a step led, not what was meant.

    ## Starting State

    The first state.

    ## Episode End

    - Termination: never.
    - Truncation: the episode reaches 200 steps.

    ## Tables

    `env.unwrapped` has `transition_table` and `reward_table`, both `[S, A, S']`,
    `terminal_states` and `initial_distribution`, both `[S]`, and all of it as `P` in the format
    of Gymnasium's toy-text environments.

    ## Arguments

    - `num_states`: at least 2. Default: 5.
    - `slip`: in [0, 1]. Default: 0.2.
    - `render_mode`: `None`, `"ansi"` or `"rgb_array"`.

    ```python
    >>> import gymnasium as gym
    >>> env = gym.make("mbrl_envs:Chain-v0")
    >>> env.unwrapped.transition_table[1, 0]
    array([0.2, 0. , 0.8, 0. , 0. ])

    ```

    ## Version History

    * v0: Initial version.
    """

    def __init__(
        self, num_states: int = 5, slip: float = 0.2, render_mode: str | None = None
    ) -> None:
        if not isinstance(num_states, int) or num_states < 2:
            raise ValueError(f"num_states={num_states!r}; it must be an integer of at least 2")
        if not 0 <= slip <= 1:
            raise ValueError(f"slip={slip}; it must lie in [0, 1]")
        transitions = np.zeros((num_states, 2, num_states))
        rewards = np.zeros_like(transitions)
        last = num_states - 1
        for state in range(num_states):
            for action, forward in ((0, 1.0 - slip), (1, slip)):
                transitions[state, action, min(state + 1, last)] += forward
                transitions[state, action, 0] += 1.0 - forward
        rewards[:, :, 0] = 2.0
        rewards[last, :, last] = 10.0
        super().__init__(
            transitions,
            rewards,
            np.zeros(num_states, np.bool_),
            np.eye(num_states)[0],
            plain_board(num_states, num_states, moves=((0, 1), (0, -1))),
            ("forward", "back"),
            render_mode,
        )
