"""Policies learned by algorithms of Stable-Baselines3: what agents share about them."""

from mbrl_agents.policies.algorithms import (
    ALGORITHMS,
    SpacesOnly,
    is_off_policy,
    make_algorithm,
)
from mbrl_agents.policies.randomness import OwnRandomness
from mbrl_agents.policies.state import algorithm_state, load_algorithm_state

__all__ = [
    "ALGORITHMS",
    "OwnRandomness",
    "SpacesOnly",
    "algorithm_state",
    "is_off_policy",
    "load_algorithm_state",
    "make_algorithm",
]
