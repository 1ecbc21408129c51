"""Exact reward and termination functions of known environments.

`find_task(env)` gives those of an environment; `register_task` adds those of your own. Packages
with environments of their own list their tasks through the entry point group
`mbrl_bilevel.tasks`, as this one does with `list_tasks`.
"""

from mbrl_envs.tasks import cartpole_swingup, inverted_pendulum, pendulum
from mbrl_envs.tasks.base import Task, find_task, list_tasks, register_task

register_task(
    "CartPoleSwingUp-v0",
    reward_fn=cartpole_swingup.reward_fn,
    termination_fn=cartpole_swingup.termination_fn,
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

__all__ = ["Task", "find_task", "list_tasks", "register_task"]
