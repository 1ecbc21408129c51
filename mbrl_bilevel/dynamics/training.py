"""One fit of a dynamics model: bootstrap batches, outer steps, early stopping, elites."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from mbrl_bilevel.config import ModelConfig
from mbrl_bilevel.data import BootstrapBatches, Transitions
from mbrl_bilevel.dynamics.backward import Backward, make_backward
from mbrl_bilevel.dynamics.log_var_mixture import solve_log_var_heads
from mbrl_bilevel.dynamics.model import DynamicsModel
from mbrl_bilevel.dynamics.onednn import update_dtype
from mbrl_bilevel.dynamics.optimizers import SCHEDULES, make_optimizer
from mbrl_bilevel.dynamics.outer_problem import OuterProblem
from mbrl_bilevel.dynamics.own_predictions import BEGINS, OwnPredictions
from mbrl_bilevel.errors import MBRLError
from mbrl_bilevel.objectives import gaussian_nll
from mbrl_bilevel.types import Gaussian, TaskFunctions

STATIONARITY_ROWS = 1024
"""Training rows that the stationarity is measured on, at most."""
PROGRESS = 0.01
"""Least improvement of a held-out score that counts as progress, in nats per dimension."""


class ModelTrainer:
    """Trains a model fit after fit: weights, optimiser and reward go on from the last one.

    Args:
        model: On its device.
        config: Updates, batches, early stopping.
        seed: Of the members' bootstrap samples.
        task: For objectives that ask which dimensions matter; None: nothing is known of it.
    """

    def __init__(
        self,
        model: DynamicsModel,
        config: ModelConfig,
        seed: int,
        task: TaskFunctions | None = None,
    ) -> None:
        self.model = model
        self.config = config
        self.seed = seed
        network = model.network
        self.outer = OuterProblem(model, config, seed, task or TaskFunctions())
        self.optimizer = make_optimizer(
            config.optimizer,
            [
                {"params": list(network.weights), "weight_decay": self.outer.fixed_decay},
                {"params": list(network.biases), "weight_decay": 0.0},
            ],
            config.lr,
        )
        self.termination_optimizer = (
            torch.optim.Adam(model.termination.network.parameters(), lr=config.lr)
            if model.termination is not None
            else None
        )

    def fit(
        self, training: Transitions, held_out: Transitions, generator: torch.Generator
    ) -> dict[str, float]:
        """Fit the model; return what to log.

        Raises:
            MBRLError: If one of the two sets is empty, or training diverges.
        """
        if len(training) == 0 or len(held_out) == 0:
            raise MBRLError(
                f"a fit needs training and held-out transitions, got {len(training)} and "
                f"{len(held_out)}: collect more before the first fit"
            )
        model = self.model
        inputs, targets = model.tensors(training)
        model.input_normalizer.fit(inputs)
        model.target_normalizer.fit(targets)
        x, y = self._normalize(inputs, targets)
        x_held, y_held = self._normalize(*model.tensors(held_out))
        model.objective.prepare(y)
        batches = BootstrapBatches(
            len(x), model.network.ensemble_size, self.config.batch_size, self.seed, generator
        )
        own = None
        if self.config.own_predictions > 0:
            share, seed = self.config.own_predictions, self.seed
            own = OwnPredictions(model, training, inputs, targets, share, seed)
        next_obs = torch.as_tensor(training.next_obs, device=inputs.device, dtype=inputs.dtype)
        self.outer.begin(inputs, next_obs, x_held, y_held)
        metrics = self._descend(x, y, x_held, y_held, batches, own)
        model.measure_log_var(x)
        if model.termination is not None:
            self._fit_termination(training, generator)
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """Return the optimisers' state; the model's own is the model's."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "outer": self.outer.state_dict(),
            "termination_optimizer": (
                self.termination_optimizer.state_dict() if self.termination_optimizer else None
            ),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.outer.load_state_dict(state["outer"])
        if self.termination_optimizer is not None:
            self.termination_optimizer.load_state_dict(state["termination_optimizer"])

    def _descend(
        self,
        x: Tensor,
        y: Tensor,
        x_held: Tensor,
        y_held: Tensor,
        batches: Iterable[Tensor],
        own: OwnPredictions | None,
    ) -> dict[str, float]:
        """Minimise the objective; `x`, `y` are normalised, `[N, ...]`, on the model's device."""
        network, objective, config = self.model.network, self.model.objective, self.config
        metrics: dict[str, float] = {}
        if network.leverage is not None:
            network.leverage.forget()
        backward = make_backward(network, update_dtype(config.precision, config.batch_size))
        best = _BestWeights(network, self._score(x_held, y_held))
        evaluations_without_progress = num_updates = 0
        learning_rate = SCHEDULES[config.lr_schedule]
        for num_updates, rows in enumerate(batches, start=1):
            for group in self.optimizer.param_groups:
                group["lr"] = config.lr * learning_rate(num_updates / config.num_updates)
            begun = num_updates > BEGINS * config.num_updates
            losses = self.update(backward, x, y, rows, own if begun else None)
            if self.outer.every is not None and num_updates % self.outer.every == 0:
                metrics |= self.outer.step(num_updates // self.outer.every)
            if num_updates % config.eval_every == 0 or num_updates == config.num_updates:
                _check_finite("training loss", losses)
                metrics |= {"model/train_loss": losses.mean().item()}
                progressed = best.update(self._score(x_held, y_held))
                evaluations_without_progress = 0 if progressed else evaluations_without_progress + 1
                if evaluations_without_progress >= config.patience:
                    break
            if num_updates == config.num_updates:
                break
        _check_finite("held-out score", best.scores)
        if config.keep == "best":
            best.restore()
        order = best.scores.argsort()[: len(self.model.elite_indices)]
        self.model.elite_indices.copy_(order.sort().values)
        metrics |= objective.solve_outer(self._predict(x_held), y_held)
        if objective.log_var_head_is_reward:
            metrics |= solve_log_var_heads(network, x, x_held, y_held)
        if objective.outer_every is not None or objective.log_var_head_is_reward:
            metrics["bilevel/stationarity"] = self._stationarity(x, y)
        return {**metrics, **self._report(x_held, y_held), "model/num_updates": float(num_updates)}

    def update(
        self,
        backward: Backward,
        x: Tensor,
        y: Tensor,
        rows: Tensor,
        own: OwnPredictions | None = None,
    ) -> Tensor:
        """Take one step on the objective; return the losses `[E]` of before.

        Args:
            backward: Of the model's network; see `make_backward`.
            x, y: Normalised training data `[N, D_x]` and `[N, D]`.
            rows: Of each member's batch, `[E, B]`.
            own: Replaces some of them.
        """
        index = rows.flatten().to(x.device)
        batch_x = x.index_select(0, index).view(*rows.shape, -1)
        batch_y = y.index_select(0, index).view(*rows.shape, -1)
        if own is not None:
            batch_x, batch_y = own.replace(rows.to(x.device), batch_x, batch_y)
        losses = backward(self.model.objective, batch_x, batch_y)
        if self.outer.decay is not None:
            self.outer.decay.shrink(self.optimizer.param_groups[0]["lr"])
        self.optimizer.step()
        return losses

    def _stationarity(self, x: Tensor, y: Tensor) -> float:
        """Return the norm of the inner objective's gradient at the solution, over the members."""
        network = self.model.network
        rows = slice(0, STATIONARITY_ROWS)
        inputs = x[rows].expand(network.ensemble_size, -1, -1)
        loss = self.model.objective.loss(network(inputs), y[rows]).sum()
        parameters = [*network.weights, *network.biases]
        gradients = torch.autograd.grad(loss, parameters)
        return float(torch.stack([gradient.norm() for gradient in gradients]).norm())

    def _report(self, x_held: Tensor, y_held: Tensor) -> dict[str, float]:
        elites = self.model.elite_indices
        prediction = self.model.objective.predictive(self._predict(x_held))
        mean, log_var = prediction.mean[elites], prediction.log_var[elites]
        nll = gaussian_nll(Gaussian(mean, log_var), y_held).mean()
        rmse = (mean - y_held).square().mean().sqrt()
        return {"model/val_nll": nll.item(), "model/val_rmse": rmse.item()}

    def _fit_termination(self, training: Transitions, generator: torch.Generator) -> None:
        model = self.model
        assert model.termination is not None
        assert self.termination_optimizer is not None
        device = model.elite_indices.device
        model.termination.fit(
            torch.as_tensor(training.obs, device=device),
            model.codec.encode(training.actions),
            torch.as_tensor(training.next_obs, device=device),
            torch.as_tensor(training.terminated, device=device),
            self.termination_optimizer,
            generator,
        )

    def _normalize(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return (
            self.model.input_normalizer.normalize(inputs),
            self.model.target_normalizer.normalize(targets),
        )

    @torch.no_grad()
    def _predict(self, x: Tensor) -> Gaussian:
        output: Gaussian = self.model.network(x.expand(self.model.network.ensemble_size, -1, -1))
        return output

    @torch.no_grad()
    def _score(self, x_held: Tensor, y_held: Tensor) -> Tensor:
        return self.model.objective.score(self._predict(x_held), y_held)


class _BestWeights:
    """The weights with which each member did best on held-out data."""

    def __init__(self, network: torch.nn.Module, scores: Tensor) -> None:
        self._parameters = list(network.parameters())
        self._best = [p.detach().clone() for p in self._parameters]
        self.scores = torch.where(scores.isnan(), torch.inf, scores)

    def update(self, scores: Tensor) -> bool:
        """Keep what improved; return whether any member made progress worth going on for."""
        improved = scores < self.scores
        for best, parameter in zip(self._best, self._parameters, strict=True):
            torch.where(improved[:, None, None], parameter.detach(), best, out=best)
        progressed = bool((scores < self.scores - PROGRESS).any())
        self.scores = torch.where(improved, scores, self.scores)
        return progressed

    @torch.no_grad()
    def restore(self) -> None:
        """Give the weights back to the network."""
        for parameter, best in zip(self._parameters, self._best, strict=True):
            parameter.copy_(best)


def _check_finite(name: str, values: Tensor) -> None:
    if not values.isfinite().all():
        raise MBRLError(
            f"the model's {name} is not finite: training diverged; lower model.lr, or look for "
            "extreme values in the environment's observations and rewards"
        )
