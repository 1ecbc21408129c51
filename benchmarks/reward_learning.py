"""How well are rewards learned? The problems of the learning tests, over more seeds.

    python -m benchmarks.reward_learning [--seeds N]

prints one line a seed: the relative Frobenius error of a full U (4 dimensions, condition number 20)
against the held-out residuals' and the true covariance; the mean error of log sigma(x) that a
state-dependent U finds, and its test likelihood beside that of a neural reward on the same data.
"""

import argparse

import torch

from tests.learning.test_reward_learning import (
    learn_full_u,
    learn_neural_reward,
    learn_state_dependent_u,
)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    torch.set_num_threads(1)
    print("seed  U/residuals  U/truth  log sigma  NLL U(x)  NLL neural  difference")
    for seed in range(parser.parse_args().seeds):
        full, dependent = learn_full_u(seed), learn_state_dependent_u(seed)
        neural = learn_neural_reward(seed)
        print(
            f"{seed:4}  {full.to_residuals:11.4f}  {full.to_truth:7.3f}"
            f"  {dependent.log_sigma_error:9.3f}  {dependent.test_nll:8.4f}  {neural:10.4f}"
            f"  {neural - dependent.test_nll:10.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
