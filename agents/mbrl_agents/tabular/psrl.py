"""PSRL: posterior sampling (Strens 2000; Osband, Russo and Van Roy 2013)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mbrl_agents.tabular.config import PSRLConfig
from mbrl_agents.tabular.counting import CountingAgent
from mbrl_agents.tabular.exploration import best_actions
from mbrl_bilevel.config.tabular import DirichletSections
from mbrl_bilevel.tabular import TabularMDP, learned_mdp, policy_iteration


class PSRL(CountingAgent):
    """Draws a process from the posterior as an episode begins, and follows its optimal policy.

    Transitions: independent symmetric Dirichlet priors (`objective.prior_count`). Rewards and
    terminations are not drawn: they are means (see `learned_mdp`), but that `reward_prior_mean`
    counts as `reward_prior_count` visits in the reward of steps that have not been seen.
    `predict` follows the posterior mean of all, without that prior.

    Arguments and errors are those of `TabularAgent`; the settings are the fields of `PSRLConfig`.
    """

    config_class: ClassVar[type[PSRLConfig]] = PSRLConfig
    sections_class: ClassVar[type[DirichletSections]] = DirichletSections

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.policy: NDArray[np.int64] = np.zeros(self.num_states, np.int64)
        self._steps_followed = 0

    def draw_mdp(self) -> TabularMDP:
        """Return a process drawn from the posterior."""
        concentration = self.seen.counts + self.sections.objective.prior_count / self.num_states
        draws = self.rng.standard_gamma(concentration)
        totals = draws.sum(axis=-1, keepdims=True)
        # Draws of tiny concentrations may all vanish: then any state may have been meant.
        draws = np.where(totals > 0, draws, 1.0)
        transitions = draws / draws.sum(axis=-1, keepdims=True)
        mean = learned_mdp(self.seen, transitions, self.initial_counts)
        prior_count, visits = self.config.reward_prior_count, self.seen.visits[..., None]
        prior_sum = prior_count * self.config.reward_prior_mean
        elsewhere = (visits * mean.reward_table + prior_sum) / (visits + prior_count)
        rewards = np.where(self.seen.counts > 0, mean.reward_table, elsewhere)
        return replace(mean, reward_table=rewards)

    def _begin_episode(self, state: int) -> None:
        super()._begin_episode(state)
        self._redraw()

    def _redraw(self) -> None:
        drawn = self.draw_mdp()
        solution = policy_iteration(drawn, self.config.discount, initial_policy=self.policy)
        self.policy = best_actions(solution.q_values, self.rng)
        self._steps_followed = 0

    def _act(self, state: int) -> int:
        # A policy that never leads to an end would otherwise be followed for good.
        if self._steps_followed == self.config.redraw_after:
            self._redraw()
        self._steps_followed += 1
        return int(self.policy[state])

    def _own_state(self) -> dict[str, Any]:
        return super()._own_state() | {
            "policy": self.policy.copy(),
            "steps_followed": self._steps_followed,
        }

    def _load_own_state(self, state: Mapping[str, Any]) -> None:
        super()._load_own_state(state)
        self.policy = np.array(state["policy"])
        self._steps_followed = state["steps_followed"]
