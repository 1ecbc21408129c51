"""What does planning lose in a learned model? The same planner on the true equations.

    python benchmarks/pendulum_oracle.py RUN_DIR [RUN_DIR ...]

evaluates each run of `pets_pendulum` beside its planner on the simulator's own equations of motion,
over the same episodes.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from mbrl_agents import PETS
from mbrl_bilevel import build
from mbrl_bilevel.config import load_data
from mbrl_bilevel.evaluation import evaluate_episodes, summarise
from mbrl_bilevel.experiments import evaluate_run
from mbrl_bilevel.runs import RunDir, derive_seed
from mbrl_envs.tasks.pendulum import reward_fn

TIME_STEP, GRAVITY, LENGTH, MASS, MAX_SPEED = 0.05, 10.0, 1.0, 1.0, 8.0


class TrueDynamics:
    """Stands in for the sampler of a learned model."""

    def __init__(self, agent: PETS) -> None:
        self.codec = agent.codec

    @torch.inference_mode()
    def returns(self, obs: Tensor, plans: Tensor, generator: torch.Generator) -> Tensor:
        """Return the true return of each plan, `[B, C]`."""
        del generator
        current = obs[:, None].expand(-1, plans.shape[1], -1)
        total = torch.zeros(plans.shape[:2])
        for t in range(plans.shape[2]):
            action = self.codec.decode(plans[:, :, t])
            following = pendulum_step(current, action)
            total += reward_fn(current, action, following)
            current = following
        return total


def pendulum_step(obs: Tensor, action: Tensor) -> Tensor:
    """Return the next observation `[..., 3]`: Gymnasium's Pendulum-v1, semi-implicit Euler."""
    angle, speed = torch.atan2(obs[..., 1], obs[..., 0]), obs[..., 2]
    acceleration = 1.5 * GRAVITY / LENGTH * angle.sin() + 3 / (MASS * LENGTH**2) * action[..., 0]
    speed = (speed + TIME_STEP * acceleration).clamp(-MAX_SPEED, MAX_SPEED)
    angle = angle + TIME_STEP * speed
    return torch.stack([angle.cos(), angle.sin(), speed], dim=-1)


def main() -> None:
    """Print one line a run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_dirs", nargs="*", type=Path, metavar="RUN_DIR")
    run_dirs = parser.parse_args().run_dirs
    if not run_dirs:
        print("give run folders of pets_pendulum to compare; nothing to do")
    for run_dir in run_dirs:
        learned = evaluate_run(run_dir)
        config = build.train_config(load_data(RunDir.open(run_dir).config_path))
        oracle = build.build_agent(config, build.build_env(config))
        assert isinstance(oracle, PETS)
        oracle.sampler = TrueDynamics(oracle)  # type: ignore[assignment]
        episodes = evaluate_episodes(
            oracle,
            lambda mode, config=config: build.build_env(config, mode),  # type: ignore[misc]
            config.eval.episodes,
            derive_seed(config.seed, "evaluation"),
        )
        true = summarise(episodes)["eval_return_mean"]
        mine = learned["eval_return_mean"]
        print(
            f"{run_dir.name}: learned {mine:.1f}, true {true:.1f}, ratio {mine / true:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
