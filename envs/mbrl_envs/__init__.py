"""Gymnasium environments and task definitions; importing the module registers the environments."""

import gymnasium as gym

ENVIRONMENTS = {
    "CartPoleSwingUp-v0": "mbrl_envs.cartpole_swingup:CartPoleSwingUpEnv",
    "Chain-v0": "mbrl_envs.tabular:ChainEnv",
    "ContinuousCartPole-v0": "mbrl_envs.continuous_cartpole:ContinuousCartPoleEnv",
    "Garnet-v0": "mbrl_envs.tabular:GarnetEnv",
    "GridWorld-v0": "mbrl_envs.tabular:GridWorldEnv",
}
"""Entry points by id."""

for env_id, entry_point in ENVIRONMENTS.items():
    # Registering an id twice, as a reload would, makes Gymnasium warn.
    if env_id not in gym.registry:
        gym.register(id=env_id, entry_point=entry_point, max_episode_steps=200)
