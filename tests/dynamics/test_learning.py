"""Every objective learns a noisy linear system to near its noise."""

import math

import pytest
import torch

from mbrl_bilevel.dynamics import ModelTrainer
from mbrl_bilevel.objectives import gaussian_nll
from mbrl_bilevel.types import Gaussian
from tests.dynamics.cases import NOISE, generator, linear_system, make_model, settings

TRUE_NLL = 0.5 * (math.log(2 * math.pi * math.e) + 2 * NOISE.log()).mean().item()
"""Of new data under the system itself, in nats per dimension."""
BOUNDS = {"mse": 0.3, "nll": 0.15, "beta_nll": 0.15, "bilevel": 0.12}
"""By how much new data may be less likely under each member. MSE neglects the small dimension."""


@pytest.mark.learning
@pytest.mark.parametrize("objective", BOUNDS)
def test_it_learns_the_system_and_its_noise(objective: str) -> None:
    config = settings(
        ensemble_size=2, hidden_sizes=[32, 32], num_updates=1500, lr=3e-3, patience=30
    )
    model = make_model(objective, config, learns_reward=True)
    trainer = ModelTrainer(model, config, seed=0)
    trainer.fit(linear_system(1000), linear_system(300, seed=1), generator())
    inputs, targets = model.tensors(linear_system(1000, seed=2))
    with torch.no_grad():
        prediction = model.members(model.elite_indices).predict(inputs.expand(2, -1, -1))
    log_var = prediction.log_var.expand_as(prediction.mean)
    nll = gaussian_nll(Gaussian(prediction.mean, log_var), targets).mean(dim=(1, 2))
    assert (nll < TRUE_NLL + BOUNDS[objective]).all()
