"""Gymnasium environments and task definitions; importing the module registers the environments."""

import gymnasium as gym

from mbrl_envs.distractors import DISTRACTED, Distractors
from mbrl_envs.tasks import register_task

__all__ = ["ENVIRONMENTS", "Distractors", "register_task"]

ENVIRONMENTS = {
    "CartPoleSwingUp-v0": "mbrl_envs.cartpole_swingup:CartPoleSwingUpEnv",
    "Chain-v0": "mbrl_envs.tabular:ChainEnv",
    "ContinuousCartPole-v0": "mbrl_envs.continuous_cartpole:ContinuousCartPoleEnv",
    "Garnet-v0": "mbrl_envs.tabular:GarnetEnv",
    "GaussianToy-v0": "mbrl_envs.gaussian_toy:GaussianToyEnv",
    "GridWorld-v0": "mbrl_envs.tabular:GridWorldEnv",
    "TabularClassification-v0": "mbrl_envs.tabular_classification:TabularClassificationEnv",
}
"""Entry points by id."""

VECTOR_ENTRY_POINTS = {
    "GaussianToy-v0": "mbrl_envs.gaussian_toy:GaussianToyVectorEnv",
    "TabularClassification-v0": "mbrl_envs.tabular_classification:TabularClassificationVectorEnv",
}
"""Of the environments that have a batched version; their episodes have one step and no limit."""

for env_id, entry_point in ENVIRONMENTS.items():
    # Registering an id twice, as a reload would, makes Gymnasium warn.
    if env_id not in gym.registry:
        vector_entry_point = VECTOR_ENTRY_POINTS.get(env_id)
        gym.register(
            id=env_id,
            entry_point=entry_point,
            vector_entry_point=vector_entry_point,
            max_episode_steps=200 if vector_entry_point is None else None,
        )

for env_id, (base_id, _) in DISTRACTED.items():
    if env_id not in gym.registry:
        gym.register(
            id=env_id,
            entry_point="mbrl_envs.distractors:make_with_distractors",
            kwargs={"base_id": base_id},
            max_episode_steps=gym.spec(base_id).max_episode_steps,
        )
