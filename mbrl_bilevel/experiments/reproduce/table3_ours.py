"""Our row of table 3: a reward that knows the state, learned by the bilevel objective."""

import torch
from torch import Tensor, nn

from mbrl_bilevel.bilevel.state_dependent import StateDependentBilevel
from mbrl_bilevel.config import BilevelConfig
from mbrl_bilevel.dynamics.log_var_head import solve_head
from mbrl_bilevel.dynamics.soap import SOAP
from mbrl_bilevel.experiments.reproduce.table3_task import Descent, Fitted, Task, make_model
from mbrl_bilevel.types import Gaussian


def fit_bilevel(task: Task) -> Fitted:
    """The diagonal U(x) of `StateDependentBilevel`, which is solved for on held-out data."""
    return Fitted(_train(task), task.head, task.config.num_updates)


def _train(task: Task) -> nn.Sequential:
    config, size = task.config, task.target_size
    objective = StateDependentBilevel(size, BilevelConfig(temperature=config.temperature))
    model = make_model(task)
    descent = Descent(model, config, SOAP(model.parameters(), lr=config.lr))

    def training_loss(outputs: Tensor, x: Tensor, y: Tensor) -> Tensor:
        del x
        mean, log_var = outputs[None].chunk(2, dim=-1)
        return objective.loss(Gaussian(mean, log_var), y)

    descent.run(training_loss, task.training, config.num_updates)
    last = model[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        x, y = task.held_out
        features = torch.cat([model[:-1](x), torch.ones_like(x[:, :1])], dim=-1)
        head = torch.cat([last.weight, last.bias[:, None]], dim=-1).mT
        squared_residuals = (features @ head[:, :size] - y).square()
        solution = solve_head(features, squared_residuals, head[:, size:])
        last.weight[size:] = solution[:-1].mT
        last.bias[size:] = solution[-1]
    return model
