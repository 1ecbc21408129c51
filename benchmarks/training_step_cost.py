"""What does a bilevel training step cost beside a likelihood step of the same ensemble?

    python benchmarks/training_step_cost.py [--json FILE]

Ways to train an ensemble of five take turns, on the same data:

- `nll_step`, `likelihood_step`, `bilevel_step`: the updates that a fit of `ModelTrainer` consists
  of; with the bilevel objective every tenth is followed by an outer step on held-out rows. In
  `likelihood_step` (`outer: likelihood`, a fixed weight decay) the reward alone follows it, in
  `bilevel_step` (`outer: return`, five steps ahead) it is also asked what matters for the return
  and for the ends of episodes, and the weight decay is learned.
- `functional_step`: a bilevel update, followed every time by a full hypergradient step by the
  `functional` solver on a held-out batch.
- `nll_fit`, `bilevel_fit`: whole fits by `ModelTrainer`, divided by their number of updates. The
  bilevel one solves the outer problem at its end and measures the stationarity.

Printed are ratios of medians. Times are the process's CPU time on one thread, which other
programs on the machine disturb less than they do the wall clock.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from torch.func import functional_call

from mbrl_bilevel.bilevel import FunctionalProblem, hypergradient, make_objective, make_solver
from mbrl_bilevel.config import BilevelConfig, ModelConfig, NLLConfig
from mbrl_bilevel.data import ActionCodec, Transitions
from mbrl_bilevel.dynamics import DynamicsModel, ModelTrainer
from mbrl_bilevel.dynamics.backward import make_backward
from mbrl_bilevel.types import TaskFunctions

OBS_SIZE, ACTION_SIZE = 17, 6
"""Those of HalfCheetah."""
NUM_TRAINING, NUM_HELD_OUT = 4_000, 1_000
STEPS_PER_TURN = 50
OUTER_LR = 0.5


def make_transitions(count: int, seed: int) -> Transitions:
    """Return transitions of a noisy linear system; their values do not matter to the cost."""
    rng = np.random.default_rng(seed)
    obs = rng.standard_normal((count, OBS_SIZE), np.float32)
    actions = rng.uniform(-1.0, 1.0, (count, ACTION_SIZE)).astype(np.float32)
    noise = 0.1 * rng.standard_normal((count, OBS_SIZE), np.float32)
    push = np.tile(actions, 3)[:, :OBS_SIZE]
    never = np.zeros(count, np.bool_)
    rewards = np.zeros(count, np.float32)
    return Transitions(obs, actions, rewards, 0.9 * obs + push + noise, never, never)


def reward_fn(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
    """Return a smooth reward of the state and the action."""
    return next_obs[..., :3].sin().sum(dim=-1) - 0.1 * action.square().sum(dim=-1) - obs[..., 3]


def termination_fn(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:  # noqa: ARG001
    """Return which steps end: where one dimension is large."""
    return next_obs[..., 4].abs() > 2.0


def make_trainer(objective: NLLConfig | BilevelConfig, config: ModelConfig) -> ModelTrainer:
    """Return a trainer of a new ensemble."""
    codec = ActionCodec(spaces.Box(-1.0, 1.0, (ACTION_SIZE,)))
    model = DynamicsModel(
        OBS_SIZE,
        codec,
        config,
        make_objective(objective, config.ensemble_size, OBS_SIZE),
        learns_reward=False,
        learns_termination=False,
        generator=torch.Generator().manual_seed(0),
    )
    return ModelTrainer(model, config, 0, TaskFunctions(reward_fn, termination_fn))


class Steps:
    """Single updates with a trainer's model, objective and optimiser, one batch after another."""

    def __init__(self, trainer: ModelTrainer, training: Transitions, held_out: Transitions) -> None:
        self.trainer = trainer
        self.network = trainer.model.network
        self.backward = make_backward(self.network)
        self.x, self.y = trainer.model.tensors(training)
        self.x_held, self.y_held = trainer.model.tensors(held_out)
        trainer.model.input_normalizer.fit(self.x)
        trainer.model.target_normalizer.fit(self.y)
        next_obs = torch.as_tensor(training.next_obs)
        trainer.outer.begin(self.x, next_obs, self.x_held, self.y_held)
        self.batch_size = trainer.config.batch_size
        self.generator = torch.Generator().manual_seed(0)
        size = (self.network.ensemble_size, 1, OBS_SIZE)
        self.outer_params = {"log_u": torch.full(size, 0.5).log()}
        self.solver = make_solver("functional", compute_stationarity=False)
        self.num_updates = 0

    def inner_update(self) -> None:
        """Take one step on the objective's loss."""
        shape = (self.network.ensemble_size, self.batch_size)
        rows = torch.randint(len(self.x), shape, generator=self.generator)
        self.trainer.update(self.backward, self.x, self.y, rows)
        self.num_updates += 1

    def update(self) -> None:
        """Take one step, and an outer step when it is due."""
        self.inner_update()
        outer = self.trainer.outer
        if outer.every is not None and self.num_updates % outer.every == 0:
            outer.step(self.num_updates // outer.every)

    def functional_update(self) -> None:
        """Take one step, then one on the reward along the hypergradient of a held-out batch."""
        self.inner_update()
        rows = torch.randint(len(self.x_held), (self.batch_size,), generator=self.generator)
        held_out = self.x_held[rows], self.y_held[rows]
        problem = FunctionalProblem(
            self._outputs, inner_loss, outer_loss, expected_inner_loss, held_out, held_out
        )
        params: dict[str, Tensor] = dict(self.network.named_parameters())
        result = hypergradient(problem, params, self.outer_params, self.solver)
        # The mean over members and dimensions; each has a reward of its own.
        gradient = result.grad["log_u"] * self.outer_params["log_u"].numel()
        self.outer_params["log_u"] = self.outer_params["log_u"] - OUTER_LR * gradient

    def _outputs(self, params: dict[str, Tensor], x: Tensor) -> Tensor:
        prediction = functional_call(self.network, params, (self._for_all_members(x),))
        return torch.stack([prediction.mean, prediction.log_var], dim=-1)

    def _for_all_members(self, x: Tensor) -> Tensor:
        return x.expand(self.network.ensemble_size, -1, -1)


def inner_loss(z: Tensor, outer_params: dict[str, Tensor], _x: Tensor, y: Tensor) -> Tensor:
    """Return the inner loss of `z = (mean, log_var) [E, N, D, 2]` in each dimension."""
    mean, log_var = z.unbind(-1)
    return outer_params["log_u"].exp() * ((mean - y).square() + log_var.exp()) - 0.5 * log_var


def expected_inner_loss(
    z: Tensor, outer_params: dict[str, Tensor], x: Tensor, solution: Tensor
) -> Tensor:
    """Return its expectation over y given x, up to a constant."""
    return inner_loss(z, outer_params, x, solution[..., 0])


def outer_loss(z: Tensor, _outer_params: dict[str, Tensor], _x: Tensor, y: Tensor) -> Tensor:
    """Return the negative log-likelihood in each dimension, up to a constant."""
    mean, log_var = z.unbind(-1)
    return 0.5 * (log_var + (mean - y).square() * (-log_var).exp())


def fit_once(
    trainer: ModelTrainer, training: Transitions, held_out: Transitions
) -> Callable[[], None]:
    """Return what fits the trainer's model from where it is."""
    generator = torch.Generator().manual_seed(0)

    def run() -> None:
        trainer.fit(training, held_out, generator)

    return run


def take_steps(step: Callable[[], None]) -> Callable[[], None]:
    """Return what takes `STEPS_PER_TURN` steps."""

    def run() -> None:
        for _ in range(STEPS_PER_TURN):
            step()

    return run


def measure(
    runs: dict[str, Callable[[], None]], turns: int, updates: int
) -> dict[str, list[float]]:
    """Return each run's CPU milliseconds for an update, turn by turn."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(turns + 1):
        for name, run in runs.items():
            start = time.process_time()
            run()
            if turn > 0:  # the first turn only warms up
                times[name].append(1000 * (time.process_time() - start) / updates)
    return times


def main() -> None:
    """Print times and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=15, help="of steps; fits take a third")
    parser.add_argument("--num-held-out", type=int, default=NUM_HELD_OUT)
    parser.add_argument("--hidden-sizes", type=int, nargs="+", default=ModelConfig().hidden_sizes)
    parser.add_argument("--batch-size", type=int, default=ModelConfig().batch_size)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    torch.set_num_threads(1)
    num_updates = ModelConfig().num_updates
    config = ModelConfig(
        hidden_sizes=args.hidden_sizes,
        batch_size=args.batch_size,
        patience=num_updates,  # no early stopping: fits of the same length
    )
    training = make_transitions(NUM_TRAINING, seed=0)
    held_out = make_transitions(args.num_held_out, seed=1)
    nll, bilevel = NLLConfig(), BilevelConfig()
    likelihood = BilevelConfig(outer="likelihood")

    def steps(objective: NLLConfig | BilevelConfig) -> Steps:
        return Steps(make_trainer(objective, config), training, held_out)

    def fits(objective: NLLConfig | BilevelConfig) -> Callable[[], None]:
        return fit_once(make_trainer(objective, config), training, held_out)

    step_runs = {
        "nll_step": take_steps(steps(nll).update),
        "likelihood_step": take_steps(steps(likelihood).update),
        "bilevel_step": take_steps(steps(bilevel).update),
        "functional_step": take_steps(steps(bilevel).functional_update),
    }
    fit_runs = {"nll_fit": fits(nll), "bilevel_fit": fits(bilevel)}
    times = measure(step_runs, args.turns, STEPS_PER_TURN)
    times |= measure(fit_runs, max(1, args.turns // 3), num_updates)
    report(times, args.json)


def report(times: dict[str, list[float]], path: Path | None) -> None:
    """Print medians with their quartiles, and the ratios; write all of it as JSON."""
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratios = {
        name: medians[name] / medians[baseline]
        for name, baseline in [
            ("likelihood_step", "nll_step"),
            ("bilevel_step", "nll_step"),
            ("functional_step", "nll_step"),
            ("bilevel_fit", "nll_fit"),
        ]
    }
    for name, values in times.items():
        low, high = np.quantile(values, [0.25, 0.75])
        ratio = f"   ratio to nll {ratios[name]:.2f}" if name in ratios else ""
        print(f"{name:<16} {medians[name]:6.2f} ms ({low:.2f} to {high:.2f}){ratio}")
    if path:
        content = {"times_ms": times, "ratios": ratios}
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
