"""Variance of policy gradients where the exact one is known: through the model, or by scores.

A linear system with noise, quadratic rewards and a Gaussian policy, linear in the state: states
stay Gaussian, and their moments give the expected return and its gradient in closed form. Beyond
the horizon the value of the best policy counts, which is known too (Riccati's equation).

    x' = A x + B u + w,    u = K x + b + std * noise,    r = -(x'Qx + u'Ru)

The estimates, each of one trajectory:

- `pathwise`: MAAC's, through policy and model (`mbrl_agents.maac.rollout`);
- `score_value`: REINFORCE, `sum_t discount^t grad log pi(u_t | x_t) (G_t - V_t(x_t))`, with returns
  to go G_t and the policy's exact value as the baseline: no learned one could be as good;
- `score_constant`: the same with one constant for each step, the mean return to go.

Variances are summed over the policy's parameters. The means over all trajectories are compared with
the exact gradient, in standard errors.
"""

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from mbrl_agents.maac.rollout import Rollout, roll_out, soft_returns

HORIZONS = range(1, 21)
NUM_TRAJECTORIES = 50_000
DISCOUNT = 0.99
ENT_COEF = 0.01
TIME_STEP = 0.1
LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)
ESTIMATES = ("pathwise", "score_value", "score_constant")

Params = dict[str, Tensor]
"""`gain` `[..., A, D]`, `offset` and `log_std` `[..., A]`, with or without a row a trajectory."""


@dataclass(frozen=True)
class System:
    """The linear-quadratic problem; the letters are those above.

    Attributes:
        a, b, q, r: `[D, D]`, `[D, A]`, `[D, D]`, `[A, A]`.
        noise: Covariance of w, `[D, D]`.
        start: Covariance of the first state, whose mean is zero, `[D, D]`.
        best_value: P of the value `-x'Px` that the best policy without noise has, `[D, D]`.
        best_gain: K of that policy, `[A, D]`.
    """

    a: Tensor
    b: Tensor
    q: Tensor
    r: Tensor
    noise: Tensor
    start: Tensor
    best_value: Tensor
    best_gain: Tensor


def two_masses() -> System:
    """Return two masses between which a spring pulls, a force on each; D = 4, A = 2."""
    rates = torch.tensor(
        [[0, 1, 0, 0], [-1, -0.1, 1, 0], [0, 0, 0, 1], [1, 0, -1, -0.1]], dtype=torch.float64
    )
    a = torch.eye(4, dtype=torch.float64) + TIME_STEP * rates
    b = TIME_STEP * torch.tensor([[0, 0], [1, 0], [0, 0], [0, 1]], dtype=torch.float64)
    q = torch.diag(torch.tensor([1, 0.1, 1, 0.1], dtype=torch.float64))
    r = 0.1 * torch.eye(2, dtype=torch.float64)
    value, gain = solve_riccati(a, b, q, r)
    noise = 1e-4 * torch.eye(4, dtype=torch.float64)
    return System(a, b, q, r, noise, 0.25 * torch.eye(4, dtype=torch.float64), value, gain)


def solve_riccati(a: Tensor, b: Tensor, q: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    """Return P `[D, D]` and K `[A, D]` of the best policy u = K x, by value iteration."""
    value = q
    for _ in range(2_000):
        gain = -torch.linalg.solve(r + DISCOUNT * b.T @ value @ b, DISCOUNT * b.T @ value @ a)
        value = q + gain.T @ r @ gain + DISCOUNT * (a + b @ gain).T @ value @ (a + b @ gain)
    return value, gain


def policy_params(system: System, *, share_of_best: float, std: float) -> Params:
    """Return a policy with a share of the best gain, a small offset, and this noise."""
    offset = torch.full((system.b.shape[1],), 0.1 * (1 - share_of_best), dtype=torch.float64)
    log_std = torch.full_like(offset, math.log(std))
    return {"gain": share_of_best * system.best_gain, "offset": offset, "log_std": log_std}


def exact_objective(system: System, params: Params, horizon: int) -> Tensor:
    """Return the expected soft return by the moments of the states, `[]`; differentiable."""
    gain, offset, log_std = params["gain"], params["offset"], params["log_std"]
    action_noise = torch.diag((2 * log_std).exp())
    entropy = (log_std + 0.5 + LOG_SQRT_2PI).sum()
    mean, covariance = torch.zeros_like(system.a[0]), system.start
    closed_loop = system.a + system.b @ gain
    spread = system.b @ action_noise @ system.b.T + system.noise
    total = torch.zeros((), dtype=torch.float64)
    for t in range(horizon + 1):
        action_mean = gain @ mean + offset
        action_covariance = gain @ covariance @ gain.T + action_noise
        reward = -expected_quadratic(system.q, mean, covariance)
        reward = reward - expected_quadratic(system.r, action_mean, action_covariance)
        total = total + DISCOUNT**t * (reward + ENT_COEF * entropy)
        mean = closed_loop @ mean + system.b @ offset
        covariance = closed_loop @ covariance @ closed_loop.T + spread
    beyond = -expected_quadratic(system.best_value, mean, covariance)
    return total + DISCOUNT ** (horizon + 1) * beyond


def expected_quadratic(weight: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    """Return the mean of `x' weight x`, `[]`."""
    return mean @ weight @ mean + (weight @ covariance).trace()


def quadratic(weight: Tensor, x: Tensor) -> Tensor:
    """Return `x' weight x`, `[N]`, for `[N, D]`."""
    return torch.einsum("ni,ij,nj->n", x, weight, x)


def exact_gradient(system: System, params: Params, horizon: int) -> Tensor:
    """Return the gradient of `exact_objective`, `[parameters]`."""
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    gradients = torch.autograd.grad(
        exact_objective(system, leaves, horizon), tuple(leaves.values())
    )
    return torch.cat([gradient.flatten() for gradient in gradients])


def values_to_go(system: System, params: Params, rollout: Rollout) -> list[Tensor]:
    """Return the policy's exact soft values of the states of H + 1 steps, `[N]` each.

    V_t(x) = x'Mx + m'x + c, backwards from what counts beyond the last action.
    """
    gain, offset, log_std = params["gain"], params["offset"], params["log_std"]
    variance = torch.diag((2 * log_std).exp())
    entropy = (log_std + 0.5 + LOG_SQRT_2PI).sum()
    closed_loop, push = system.a + system.b @ gain, system.b @ offset
    spread = system.b @ variance @ system.b.T + system.noise
    big_m, small_m = -system.best_value, torch.zeros_like(push)
    constant = torch.zeros((), dtype=torch.float64)
    values: list[Tensor] = []
    for x in reversed(rollout.obs):
        constant = DISCOUNT * (
            constant + push @ big_m @ push + (big_m @ spread).trace() + small_m @ push
        )
        constant = constant - offset @ system.r @ offset - (system.r @ variance).trace()
        constant = constant + ENT_COEF * entropy
        small_m = DISCOUNT * closed_loop.T @ (2 * big_m @ push + small_m)
        small_m = small_m - 2 * gain.T @ system.r @ offset
        big_m = DISCOUNT * closed_loop.T @ big_m @ closed_loop
        big_m = big_m - system.q - gain.T @ system.r @ gain
        values.append(quadratic(big_m, x) + x @ small_m + constant)
    return values[::-1]


def sample(
    system: System, params: Params, horizon: int, num_trajectories: int, generator: torch.Generator
) -> tuple[Rollout, Tensor, Params]:
    """Return trajectories, Q at their ends `[N]`, and the parameters, a row for each."""
    rows = {
        name: value.expand(num_trajectories, *value.shape).clone().requires_grad_()
        for name, value in params.items()
    }
    num_actions, size = params["gain"].shape

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def policy(obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        action = action_mean(rows, obs) + rows["log_std"].exp() * noise
        return action, (-0.5 * noise.square() - rows["log_std"] - LOG_SQRT_2PI).sum(dim=-1)

    def dynamics(obs: Tensor, action: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        next_obs = obs @ system.a.T + action @ system.b.T + noise @ system.noise.sqrt()
        reward = -quadratic(system.q, obs) - quadratic(system.r, action)
        return next_obs, reward, torch.zeros(len(obs), dtype=torch.bool)

    start = draw(num_trajectories, size) @ system.start.sqrt()
    action_noise = draw(horizon + 1, num_trajectories, num_actions)
    model_noise = draw(horizon, num_trajectories, size)
    rollout = roll_out(start, policy, dynamics, action_noise, model_noise)
    obs, action = rollout.obs[-1], rollout.action[-1]
    next_mean = obs @ system.a.T + action @ system.b.T
    beyond = -quadratic(system.best_value, next_mean) - (system.best_value @ system.noise).trace()
    final_q = -quadratic(system.q, obs) - quadratic(system.r, action) + DISCOUNT * beyond
    return rollout, final_q, rows


def action_mean(rows: Params, obs: Tensor) -> Tensor:
    """Return `K x + b`, `[N, A]`."""
    return torch.einsum("nad,nd->na", rows["gain"], obs) + rows["offset"]


def pathwise_gradients(rollout: Rollout, final_q: Tensor, rows: Params) -> Tensor:
    """Return MAAC's gradient of each trajectory, `[N, parameters]`."""
    return gradients_of_rows(soft_returns(rollout, final_q, ENT_COEF, DISCOUNT), rows)


def score_gradients(
    rollout: Rollout, final_q: Tensor, rows: Params, baselines: list[Tensor] | None
) -> Tensor:
    """Return REINFORCE's gradient of each trajectory; None: constant baselines."""
    gains = [
        (gain - ENT_COEF * log_prob).detach()
        for gain, log_prob in zip((*rollout.reward, final_q), rollout.log_prob, strict=True)
    ]
    total = torch.zeros_like(final_q)
    to_go = torch.zeros_like(final_q)
    std = rows["log_std"].exp()
    for t in reversed(range(len(gains))):
        to_go = gains[t] + DISCOUNT * to_go
        baseline = to_go.mean() if baselines is None else baselines[t]
        scaled = (rollout.action[t].detach() - action_mean(rows, rollout.obs[t].detach())) / std
        log_prob = (-0.5 * scaled.square() - rows["log_std"] - LOG_SQRT_2PI).sum(dim=-1)
        total = total + DISCOUNT**t * log_prob * (to_go - baseline)
    return gradients_of_rows(total, rows)


def gradients_of_rows(values: Tensor, rows: Params) -> Tensor:
    """Return the gradient of each value `[N]` by its own row of parameters."""
    gradients = torch.autograd.grad(values.sum(), tuple(rows.values()), retain_graph=True)
    return torch.cat([gradient.flatten(1) for gradient in gradients], dim=1)


def measure(
    system: System, params: Params, horizon: int, num_trajectories: int, seed: int
) -> dict[str, Any]:
    """Return variances, their ratios to `pathwise`, and the largest errors in standard errors."""
    generator = torch.Generator().manual_seed(seed)
    rollout, final_q, rows = sample(system, params, horizon, num_trajectories, generator)
    detached = [obs.detach() for obs in rollout.obs]
    visited = Rollout(tuple(detached), *([()] * 5))
    values = values_to_go(system, params, visited)
    gradients = {
        "pathwise": pathwise_gradients(rollout, final_q, rows),
        "score_value": score_gradients(rollout, final_q, rows, values),
        "score_constant": score_gradients(rollout, final_q, rows, None),
    }
    exact = exact_gradient(system, params, horizon)
    report: dict[str, Any] = {"horizon": horizon, "exact_norm": exact.norm().item()}
    for name, found in gradients.items():
        standard_error = (found.var(dim=0) / num_trajectories).sqrt()
        report[name] = {
            "variance": found.var(dim=0).sum().item(),
            "largest_z": ((found.mean(dim=0) - exact).abs() / standard_error).max().item(),
        }
    for name in ESTIMATES[1:]:
        report[name]["ratio"] = report[name]["variance"] / report["pathwise"]["variance"]
    return report


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw the variances over the horizon."""
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    labels = {
        "pathwise": "through the model (MAAC)",
        "score_value": "score function, exact value as baseline",
        "score_constant": "score function, constant baseline a step",
    }
    horizons = [row["horizon"] for row in rows]
    for name, label in labels.items():
        axes.plot(horizons, [row[name]["variance"] for row in rows], marker="o", label=label)
    axes.set_xticks(horizons[1::2])
    axes.set(yscale="log", xlabel="horizon H", ylabel="variance of one trajectory's gradient")
    axes.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    """Print a line for each horizon."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-trajectories", type=int, default=NUM_TRAJECTORIES)
    parser.add_argument("--share-of-best", type=float, default=0.5, help="of the best gain")
    parser.add_argument("--std", type=float, default=0.1, help="of the policy's noise")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--png", type=Path, metavar="FILE")
    args = parser.parse_args()
    torch.set_num_threads(1)
    system = two_masses()
    params = policy_params(system, share_of_best=args.share_of_best, std=args.std)
    rows = []
    for horizon in HORIZONS:
        row = measure(system, params, horizon, args.num_trajectories, args.seed + horizon)
        rows.append(row)
        print(
            f"H = {horizon:2}: variance {row['pathwise']['variance']:9.3g} (pathwise); "
            + "; ".join(f"{row[n]['ratio']:8.3g} times ({n})" for n in ESTIMATES[1:])
            + "; largest error "
            + ", ".join(f"{row[name]['largest_z']:.1f}" for name in ESTIMATES)
            + " standard errors",
            flush=True,
        )
    if args.json:
        settings = {name: getattr(args, name) for name in ("share_of_best", "std", "seed")}
        report = {**settings, "num_trajectories": args.num_trajectories, "horizons": rows}
        args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if args.png:
        plot(rows, args.png)


if __name__ == "__main__":
    main()
