"""An environment that returns nan."""

from pathlib import Path

import pytest

from mbrl_agents import PETS
from mbrl_bilevel.runs import latest_checkpoint
from tests.cli.conftest import OwnModule
from tests.cli.small import cli, metrics, summary, train

NAN = """
import gymnasium as gym
import numpy as np


class Nan(gym.Env):
    "Returns nan for one of its steps, counted over all episodes."

    observation_space = gym.spaces.Box(-10, 10, (2,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, at=0, what="obs"):
        self.num_steps, self.at, self.what = 0, at, what

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.normal(size=2).astype(np.float32), {}

    def step(self, action):
        self.num_steps += 1
        obs, reward = np.array([0.5, action[0]], np.float32), 1.0
        if self.num_steps == self.at:
            if self.what == "obs":
                obs[1] = np.nan
            else:
                reward = float("nan")
        return obs, reward, False, False, {}


gym.register("Nan-v0", Nan)
"""


@pytest.mark.usefixtures("no_plots")
@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("obs", "Nan-v0, episode 1, step 20: step returned an observation that is not finite at"),
        ("reward", "Nan-v0, episode 1, step 20: step returned reward nan; it must be finite"),
    ],
)
def test_nan_ends_a_run_and_leaves_what_was_learned_before(
    what: str,
    message: str,
    own_module: OwnModule,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    own_module("nan", NAN)
    run = tmp_path / "run"
    # Step 20 of the episode that begins after 25 steps, counted from 0.
    kwargs = f"env.kwargs={{max_episode_steps: 25, at: 46, what: {what}}}"
    assert train(run, "env.id=nan:Nan-v0", kwargs) == 1
    out, err = capsys.readouterr()
    errors = [line for line in err.splitlines() if not line.startswith("step ")]
    assert len(errors) == 1
    assert errors[0].startswith(f"mbrl-bilevel: error: {message}")
    assert out == ""
    result = summary(run)
    assert (result["status"], result["env_steps"]) == ("failed", 45)
    assert message in result["error"]
    assert "eval_return_mean" not in result
    assert [row["step"] for row in metrics(run)] == [20, 25, 40]
    checkpoint = latest_checkpoint(run / "checkpoints")
    assert checkpoint is not None
    agent = PETS.load(checkpoint)
    assert agent.num_timesteps == 40
    assert cli("evaluate", run) == 0
