"""Environments that the project has never seen: reward and termination are learned."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import OwnModule
from tests.cli.small import (
    EPISODE_LENGTH,
    TINY,
    cli,
    final_state,
    metrics,
    program,
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


@pytest.mark.parametrize(
    ("env_id", "width"), [("MountainCarContinuous-v0", 600), ("CartPole-v1", 600)]
)
def test_of_gymnasium(env_id: str, width: int, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train(run, f"env.id={env_id}", "eval.video=true") == 0
    result = summary(run)
    assert (result["status"], result["env_id"]) == ("completed", env_id)
    tags = {tag for row in metrics(run) for tag in row}
    assert {"model/val_nll", "bilevel/outer_loss", "rollout/ep_rew_mean"} <= tags
    frames = video_frames(run / "videos" / "final.mp4", 400, width)
    assert len(frames) == result["eval_length_mean"] + 1
    assert {path.stem for path in (run / "plots").iterdir()} == {
        "calibration",
        "learning_curve",
        "trajectory",
    }


@pytest.mark.usefixtures("no_plots")
def test_discrete_actions_terminations_and_learned_rewards_are_recorded(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train(run, "env.id=CartPole-v1") == 0
    buffer = final_state(run)["state"]["buffer"]
    stored = {
        key: value
        for part in buffer.values()
        if isinstance(part, dict)
        for key, value in part.items()
    }
    print(buffer.keys(), stored.keys())


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
