"""Learning a reward for any model, and the model by that reward."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from mbrl_bilevel.bilevel.fit_checks import Data, check_fit, check_solver
from mbrl_bilevel.bilevel.fit_defaults import default_estimator, default_head, has_closed_form
from mbrl_bilevel.bilevel.fit_record import BilevelFit, OuterStep
from mbrl_bilevel.bilevel.fit_state import Best, OuterUpdate, evaluating
from mbrl_bilevel.bilevel.hvp import stationarity
from mbrl_bilevel.bilevel.hypergradient import hypergradient
from mbrl_bilevel.bilevel.inner_loop import InnerLoop, OptimizerFn, ScheduleFn
from mbrl_bilevel.bilevel.outer import as_model_fn
from mbrl_bilevel.bilevel.policy_gradient import PolicyGradientLoss
from mbrl_bilevel.bilevel.problem import BilevelProblem, FunctionalProblem, ObjectiveFn, ParamDict
from mbrl_bilevel.bilevel.solvers import Solver, make_solver
from mbrl_bilevel.bilevel.solvers.unrolled import UnrolledSolver
from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.estimators import Analytic, Estimator
from mbrl_bilevel.heads import Head
from mbrl_bilevel.rewards import Reward


class BilevelTrainer:
    """Learns a reward for a model of one's own, and the model by that reward.

    Inside, the model maximises the reward plus its entropy on `inner_data`; outside, the reward's
    learned parameters follow the hypergradient of the held-out negative log-likelihood. The two
    alternate, warm-started: `inner_steps` steps of the inner optimiser, one of the outer. How the
    inner problem is solved (`estimator`, `inner_optimizer`, `natural_gradient`, `batch_size`) and
    how it is differentiated (`solver`) are two choices; the second sees all data at once.

    Only parameters that require a gradient are learned, of the model and of the reward. If the
    reward has none, `fit` trains the model alone, with early stopping all the same.

    Args:
        model: From inputs `[N, ...]` to outputs `[*S, n]`, as the head reads them. Trained in the
            mode it is in; differentiated and judged in evaluation mode.
        reward: What a prediction is worth.
        head: None: `DiagonalGaussianHead`, or for rewards of classes `CategoricalHead`.
        estimator: Of the expected reward. None: `Analytic` where it knows a closed form, else
            `Reparameterised`. Sampled ones draw new noise for each inner step, none within a
            hypergradient. With PPO's clip, samples are drawn from the model at the start of each
            block of inner steps.
        solver: A solver or its name. `functional` needs neither derivatives of the model nor of the
            estimator, and works for Mahalanobis and one-hot rewards and the held-out NLL; for
            others use `cg` or `nystrom`. `unrolled` moves the model itself.
        temperature: The entropy's weight, positive.
        natural_gradient: Exponent, 0 to 1, of the preconditioner of the inner optimisation's
            gradient; the problem that is differentiated stays as it is.
        inner_steps: In each block; 0 only if the solver is `unrolled`.
        inner_lr: Of the default inner optimiser, Adam.
        outer_lr: Of the default outer optimiser, Adam with betas (0.8, 0.9).
        batch_size: Of inner steps; None: all data in every step.
        inner_optimizer: Makes an optimiser for a list of parameters, in place of the default.
        outer_optimizer: Likewise.
        inner_schedule: Makes a learning-rate schedule, stepped after each inner step but those
            before the first and after the last outer step: `num_outer_steps * inner_steps` times.
        outer_schedule: Likewise, stepped after each update of the reward.
        outer_objective: `(inner_params, outer_params) -> []`, in place of the held-out NLL.
        patience: Stop once the outer loss has not improved for so many steps, and go back to the
            reward and the model that had the lowest; None: take all steps and keep the last.
        initial_inner_steps: Before the first block, at the first learning rate.
        final_inner_steps: At the end, for the reward that is kept, at the last learning rate.
        seed: Of the batches.

    Raises:
        ConfigError: A setting is impossible, or two do not go together.
    """

    def __init__(
        self,
        model: nn.Module,
        reward: Reward,
        *,
        head: Head | None = None,
        estimator: Estimator | None = None,
        solver: Solver | str = "functional",
        temperature: float = 1.0,
        natural_gradient: float = 0.0,
        inner_steps: int = 50,
        inner_lr: float = 1e-3,
        outer_lr: float = 3e-2,
        batch_size: int | None = None,
        inner_optimizer: OptimizerFn | None = None,
        outer_optimizer: OptimizerFn | None = None,
        inner_schedule: ScheduleFn | None = None,
        outer_schedule: ScheduleFn | None = None,
        outer_objective: ObjectiveFn | None = None,
        patience: int | None = None,
        initial_inner_steps: int = 200,
        final_inner_steps: int = 200,
        seed: int = 0,
    ) -> None:
        self.model = model
        self.reward = reward
        self.head = default_head(reward) if head is None else head
        if estimator is None:
            estimator = default_estimator(self.head, reward)
        self.loss = PolicyGradientLoss(self.head, reward, estimator, temperature)
        self.solver = make_solver(solver) if isinstance(solver, str) else solver
        unrolled = isinstance(self.solver, UnrolledSolver)
        self.inner_steps = _at_least("inner_steps", inner_steps, 0 if unrolled else 1)
        _positive("inner_lr", inner_lr)
        _positive("outer_lr", outer_lr)
        if not 0 <= natural_gradient <= 1:
            raise ConfigError(f"natural_gradient={natural_gradient!r}; it must lie in [0, 1]")
        self.head.precondition(torch.zeros(self.head.num_outputs), natural_gradient)
        self.natural_gradient = natural_gradient
        self.batch_size = None if batch_size is None else _at_least("batch_size", batch_size, 1)
        self._inner_optimizer = inner_optimizer or partial(
            torch.optim.Adam, lr=inner_lr, fused=True
        )
        # A short memory: the hypergradients of a model that has not learned anything yet are far
        # larger than all later ones, and would hold those back.
        self._outer_optimizer = outer_optimizer or partial(
            torch.optim.Adam, lr=outer_lr, betas=(0.8, 0.9), fused=True
        )
        self._inner_schedule = inner_schedule
        self._outer_schedule = outer_schedule
        self.outer_objective = outer_objective
        self.patience = None if patience is None else _at_least("patience", patience, 1)
        self.initial_inner_steps = _at_least("initial_inner_steps", initial_inner_steps, 0)
        self.final_inner_steps = _at_least("final_inner_steps", final_inner_steps, 0)
        self.seed = _at_least("seed", seed, 0)
        check_solver(self.solver, self.loss, has_outer_objective=outer_objective is not None)
        # Exact where it is known, whatever estimates the reward in inner steps.
        exact = has_closed_form(self.head, reward)
        conditional_of = Analytic() if exact else estimator
        self._conditional = PolicyGradientLoss(
            self.head, reward, conditional_of, temperature
        ).conditional

    def fit(
        self,
        inner_data: tuple[Tensor, Tensor],
        outer_data: tuple[Tensor, Tensor] | None,
        num_outer_steps: int,
        callback: Callable[[OuterStep], None] | None = None,
    ) -> BilevelFit:
        """Train reward and model in place.

        If anything interrupts it, Ctrl-C included, they are left as they were when the outer loss
        was lowest. Optimisers start anew in each call.

        Args:
            inner_data: `(x [N_in, ...], y [N_in, ...])`, what the model is trained on.
            outer_data: `(x [N_out, ...], y [N_out, ...])`, held out from it. May be None if
                there is an `outer_objective`, which knows its data itself.
            num_outer_steps: Updates of the reward, at most.
            callback: Called with every outer step.

        Raises:
            ConfigError: There is no outer data, or nothing to learn in the model.
            ValueError: Data, model and reward do not fit together, or hold nan or infinity.
            MBRLError: A loss is not finite on the way.

        Warns:
            UserWarning: `outer_data` is not held out.
        """
        _at_least("num_outer_steps", num_outer_steps, 1)
        params: ParamDict = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        problem = self._checked_problem(inner_data, outer_data, params)
        inner_loop = InnerLoop(
            self.model,
            self.loss,
            self.natural_gradient,
            inner_data,
            self.batch_size,
            self._inner_optimizer,
            self._inner_schedule,
            torch.Generator().manual_seed(self.seed),
        )
        reward_params = {name: p for name, p in self.reward.named_parameters() if p.requires_grad}
        outer_update = OuterUpdate(reward_params, self._outer_optimizer, self._outer_schedule)
        best = Best([*params.values(), *reward_params.values()])
        initial_outer_loss, _ = self._judge(problem, params)
        history: list[OuterStep] = []
        stopped_early = False
        try:
            # The first hypergradient, too, wants an inner problem that is solved.
            inner_loop.run(
                self.initial_inner_steps, self.reward.outer_params(), follow_schedule=False
            )
            for step in range(num_outer_steps):
                inner_loop.run(self.inner_steps, self.reward.outer_params())
                record = self._differentiate(problem, params, step)
                history.append(record)
                best.offer(step, record.outer_loss)
                if callback is not None:
                    callback(record)
                stopped_early = self.patience is not None and step - best.step >= self.patience
                if stopped_early:
                    break
                outer_update.step(record.grad)
            else:
                # The last update has not led to a model yet.
                inner_loop.run(self.inner_steps, self.reward.outer_params(), follow_schedule=False)
                best.offer(num_outer_steps, self._judge(problem, params)[0])
        except BaseException:
            best.restore()
            raise
        if self.patience is not None:
            best.restore()
        inner_loop.run(self.final_inner_steps, self.reward.outer_params(), follow_schedule=False)
        outer_loss, stationarity = self._judge(problem, params)
        return BilevelFit(
            history=history,
            best_step=best.step,
            stopped_early=stopped_early,
            initial_outer_loss=initial_outer_loss,
            best_outer_loss=best.loss,
            outer_loss=outer_loss,
            stationarity=stationarity,
        )

    def _checked_problem(
        self, inner_data: Data, outer_data: Data | None, params: ParamDict
    ) -> BilevelProblem:
        """The problem to differentiate, once everything about it has been checked."""
        check_fit(self.model, self.loss, params, self.solver, inner_data, outer_data)
        if outer_data is None and self.outer_objective is None:
            raise ConfigError("outer_data is None; only an outer_objective can do without")
        problem = FunctionalProblem(
            as_model_fn(self.model),
            self.loss,
            self._negative_log_likelihood,
            self._conditional,
            inner_data,
            inner_data if outer_data is None else outer_data,
        )
        if self.outer_objective is None:
            return problem
        return BilevelProblem(problem.inner_objective, self.outer_objective)

    def _negative_log_likelihood(
        self, outputs: Tensor, outer_params: ParamDict, x: Tensor, y: Tensor
    ) -> Tensor:
        del outer_params, x
        return -self.head.log_prob(outputs, y)

    def _differentiate(self, problem: BilevelProblem, params: ParamDict, step: int) -> OuterStep:
        """One hypergradient; a solver that moves the model moves it here."""
        outer_params = self.reward.outer_params()
        if not outer_params:
            outer_loss, inner_gradient_norm = self._judge(problem, params)
            return OuterStep.without_gradient(step, outer_loss, inner_gradient_norm)
        with evaluating(self.model):
            result = hypergradient(problem, params, outer_params, self.solver)
        if isinstance(self.solver, UnrolledSolver):
            with torch.no_grad():
                for name, value in result.inner_params.items():
                    params[name].copy_(value)
        return OuterStep.from_result(step, outer_params, result)

    def _judge(self, problem: BilevelProblem, params: ParamDict) -> tuple[float, float]:
        """Return the outer loss and the norm of the inner gradient, as they are now."""
        outer_params = self.reward.outer_params()
        with evaluating(self.model):
            with torch.no_grad():
                outer_loss = problem.evaluate_outer(params, outer_params).item()
            return outer_loss, stationarity(problem, params, outer_params)


def _at_least(setting: str, value: int, minimum: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ConfigError(f"{setting}={value!r}; it must be an integer of at least {minimum}")
    return value


def _positive(setting: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(f"{setting}={value!r}; it must be positive and finite")
