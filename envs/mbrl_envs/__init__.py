"""Gymnasium environments and task definitions; importing the module registers the environments."""

import gymnasium as gym

# Registering an id twice, as a reload would, makes Gymnasium warn.
if "CartPoleSwingUp-v0" not in gym.registry:
    gym.register(
        id="CartPoleSwingUp-v0",
        entry_point="mbrl_envs.cartpole_swingup:CartPoleSwingUpEnv",
        max_episode_steps=200,
    )
