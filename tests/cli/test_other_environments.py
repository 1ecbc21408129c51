"""Environments that the project has never seen: reward and termination are learned."""

from pathlib import Path

import pytest

from tests.agents.small import assert_identical
from tests.cli.small import (
    EPISODE_LENGTH,
    TINY,
    cli,
    final_state,
    metrics,
    program,
    resume,
    summary,
    train,
    video_frames,
)

MY_MODULE = """
import gymnasium as gym
import numpy as np


class MyEnv(gym.Env):
    "A point that drifts; the episode ends where it leaves."

    observation_space = gym.spaces.Box(-10, 10, (2,), np.float64)
    action_space = gym.spaces.Discrete(3, start=-1)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.obs = self.np_random.uniform(-1, 1, size=2)
        return self.obs.copy(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.obs = self.obs + [0.3 * action, 0.1]
        return self.obs.copy(), float(action), bool(self.obs[1] > 1), False, {}


gym.register("MyEnv-v0", MyEnv, max_episode_steps=25)
"""


@pytest.mark.parametrize("env_id", ["MountainCarContinuous-v0", "CartPole-v1"])
def test_of_gymnasium(env_id: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train(run, f"env.id={env_id}", "eval.video=true") == 0
    result = summary(run)
    assert (result["status"], result["env_id"]) == ("completed", env_id)
    tags = {tag for row in metrics(run) for tag in row}
    assert {"model/val_nll", "bilevel/outer_loss", "rollout/ep_rew_mean"} <= tags
    frames = video_frames(run / "videos" / "final.mp4", 400, 600)
    assert len(frames) == result["eval_length_mean"] + 1
    plots = {path.stem for path in (run / "plots").iterdir()}
    assert plots == {"calibration", "learning_curve", "trajectory", "what_matters"}
    assert final_state(run)["learns"] == {"reward": True, "termination": True}


@pytest.mark.usefixtures("no_plots")
def test_discrete_actions_and_terminations_are_recorded_and_resumed(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(whole, "env.id=CartPole-v1") == 0
    buffer = final_state(whole)["state"]["buffer"]["arrays"]
    assert set(buffer["actions"].tolist()) == {0, 1}
    assert set(buffer["rewards"].tolist()) == {1.0}
    episodes = [row for row in metrics(whole) if "rollout/ep_len" in row]
    ended_by_the_task = [row for row in episodes if row["rollout/ep_len"] < EPISODE_LENGTH]
    assert buffer["terminated"].sum() == len(ended_by_the_task) > 2

    assert train(parts, "env.id=CartPole-v1", "total_timesteps=45") == 0
    assert resume(parts, "total_timesteps=60") == 0
    assert_identical(final_state(parts), final_state(whole))


def test_of_one_s_own_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my_module.py").write_text(MY_MODULE)
    words = ("train", "pets_pendulum", *TINY, "env.kwargs={}", "env.id=my_module:MyEnv-v0")
    result = program(*words, "--run-dir", "run", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "no video: my_module:MyEnv-v0 has no render mode rgb_array\n" in result.stderr
    assert "Traceback" not in result.stderr
    content = summary(tmp_path / "run")
    assert (content["status"], content["env_id"]) == ("completed", "my_module:MyEnv-v0")
    assert list((tmp_path / "run" / "videos").iterdir()) == []

    # From another folder the module cannot be imported, and that is what is said.
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert cli("evaluate", tmp_path / "run") == 2
    assert capsys.readouterr().err == (
        "mbrl-bilevel: error: env.id='my_module:MyEnv-v0': no module 'my_module' can be imported; "
        "is it installed, or in the current folder?\n"
    )
