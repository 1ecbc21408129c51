"""Exact reward and termination functions of known environments.

`find_task(env)` gives those of an environment; `register_task` adds those of your own. Packages
with environments of their own list their tasks through the entry point group
`mbrl_bilevel.tasks`, as this one does with `list_tasks`.
"""

from mbrl_envs.distractors import DISTRACTED
from mbrl_envs.tasks import (
    ant,
    cartpole_swingup,
    continuous_cartpole,
    half_cheetah,
    hopper,
    inverted_double_pendulum,
    inverted_pendulum,
    pendulum,
    pusher,
    reacher,
    swimmer,
    walker2d,
)
from mbrl_envs.tasks.base import Task, find_task, list_tasks, register_task
from mbrl_envs.tasks.distractors import of_first_dimensions
from mbrl_envs.tasks.never import never
from mbrl_envs.tasks.one_step import always
from mbrl_envs.tasks.tables import read_tables

register_task(
    "CartPoleSwingUp-v0",
    reward_fn=cartpole_swingup.reward_fn,
    termination_fn=cartpole_swingup.termination_fn,
)
register_task(
    "ContinuousCartPole-v0",
    reward_fn=continuous_cartpole.reward_fn,
    termination_fn=continuous_cartpole.termination_fn,
)
# Their rewards depend on a target that is in no observation.
register_task(
    "GaussianToy-v0",
    termination_fn=always,
    harmless_kwargs=("dim", "mean", "noise", "u", "temperature", "x_limit"),
)
register_task(
    "TabularClassification-v0",
    termination_fn=always,
    harmless_kwargs=(
        "dataset",
        "split",
        "u",
        "temperature",
        "split_seed",
        "fractions",
        "target",
    ),
)
register_task(
    "InvertedDoublePendulum-v5",
    termination_fn=inverted_double_pendulum.termination_fn,
    harmless_kwargs=("frame_skip", "healthy_reward", "reset_noise_scale"),
)
register_task(
    "InvertedPendulum-v5",
    reward_fn=inverted_pendulum.reward_fn,
    termination_fn=inverted_pendulum.termination_fn,
    harmless_kwargs=("xml_file", "frame_skip", "reset_noise_scale"),
)
register_task(
    "Pendulum-v1",
    reward_fn=pendulum.reward_fn,
    termination_fn=pendulum.termination_fn,
    harmless_kwargs=("g",),
)
register_task(
    "Pusher-v5",
    reward_fn=pusher.reward_fn,
    termination_fn=never,
    harmless_kwargs=("frame_skip",),
)
register_task(
    "Reacher-v5",
    reward_fn=reacher.reward_fn,
    termination_fn=never,
    harmless_kwargs=("frame_skip",),
)


# With distractors behind them, the same functions of the dimensions that matter.
for distracted_id, (base_id, base_size) in DISTRACTED.items():
    (original,) = (task for task in list_tasks() if task.env_id == base_id)
    register_task(
        distracted_id,
        reward_fn=of_first_dimensions(original.reward_fn, base_size),
        termination_fn=of_first_dimensions(original.termination_fn, base_size),
        harmless_kwargs=(
            *original.harmless_kwargs,
            "num_distractors",
            "kind",
            "noise_std",
            "matrix_seed",
        ),
    )


# Runners: paid for the change of a position that the default observation leaves out.
POSITIONS = "exclude_current_positions_from_observation"
WITH_POSITIONS = {POSITIONS: False}
REWARD_KWARGS = ("frame_skip", "forward_reward_weight", "ctrl_cost_weight", "reset_noise_scale")
"""Arguments that do not matter where only the termination is given."""

register_task(
    "Ant-v5",
    termination_fn=ant.termination_fn,
    harmless_kwargs=(*REWARD_KWARGS, *ant.HARMLESS_KWARGS),
)
register_task(
    "Ant-v5",
    kwargs=WITH_POSITIONS,
    termination_fn=ant.termination_fn_with_positions,
    harmless_kwargs=(*REWARD_KWARGS, *ant.HARMLESS_KWARGS),
)
register_task(
    "HalfCheetah-v5",
    termination_fn=never,
    harmless_kwargs=("xml_file", POSITIONS, *REWARD_KWARGS),
)
register_task(
    "HalfCheetah-v5",
    kwargs=WITH_POSITIONS,
    reward_fn=half_cheetah.reward_fn_with_positions,
    termination_fn=never,
    harmless_kwargs=("reset_noise_scale",),
)
register_task(
    "Hopper-v5",
    termination_fn=hopper.termination_fn,
    harmless_kwargs=("healthy_reward", *REWARD_KWARGS),
)
register_task(
    "Hopper-v5",
    kwargs=WITH_POSITIONS,
    reward_fn=hopper.reward_fn_with_positions,
    termination_fn=hopper.termination_fn_with_positions,
    harmless_kwargs=("reset_noise_scale",),
)
register_task(
    "Swimmer-v5",
    termination_fn=never,
    harmless_kwargs=("xml_file", POSITIONS, *REWARD_KWARGS),
)
register_task(
    "Swimmer-v5",
    kwargs=WITH_POSITIONS,
    reward_fn=swimmer.reward_fn_with_positions,
    termination_fn=never,
    harmless_kwargs=("reset_noise_scale",),
)
register_task(
    "Walker2d-v5",
    termination_fn=walker2d.termination_fn,
    harmless_kwargs=("healthy_reward", *REWARD_KWARGS),
)
register_task(
    "Walker2d-v5",
    kwargs=WITH_POSITIONS,
    reward_fn=walker2d.reward_fn_with_positions,
    termination_fn=walker2d.termination_fn_with_positions,
    harmless_kwargs=("reset_noise_scale",),
)

# Finite environments: whatever they were made with, their own tables say.
FROZEN_LAKE_KWARGS = ("desc", "map_name", "is_slippery", "success_rate", "reward_schedule")
FINITE: dict[str, tuple[str, ...]] = {
    "Chain-v0": ("num_states", "slip"),
    "CliffWalking-v0": (),
    "CliffWalking-v1": ("is_slippery",),
    "CliffWalkingSlippery-v1": ("is_slippery",),
    "FrozenLake-v1": FROZEN_LAKE_KWARGS,
    "FrozenLake8x8-v1": FROZEN_LAKE_KWARGS,
    "Garnet-v0": ("num_states", "num_actions", "branching", "mdp_seed"),
    "GridWorld-v0": ("layout", "slip", "goal_reward", "hole_reward", "step_reward"),
    # Not `fickle_passenger`: what it does is in no table.
    "Taxi-v3": ("is_rainy", "rainy_probability"),
    "Taxi-v4": ("is_rainy", "rainy_probability"),
}
"""Arguments that the tables know of, by id."""

for env_id, kwargs in FINITE.items():
    register_task(env_id, tables_fn=read_tables, harmless_kwargs=kwargs)

__all__ = ["Task", "find_task", "list_tasks", "read_tables", "register_task"]
