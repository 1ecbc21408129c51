"""Every reward, head and estimator that go together, as small bilevel problems in float64.

Inside an entropy-regularised policy gradient, outside the held-out NLL. The models are linear in
the features of `policy_gradient_data`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mbrl_bilevel.bilevel import FunctionalProblem, PolicyGradientLoss
from mbrl_bilevel.estimators import Analytic, Dice, Estimator, Reparameterised
from mbrl_bilevel.heads import (
    CategoricalHead,
    DiagonalGaussianHead,
    FullGaussianHead,
    GaussianHead,
    Head,
)
from mbrl_bilevel.rewards import (
    EmbeddingReward,
    MahalanobisReward,
    NeuralReward,
    OneHotReward,
    Reward,
    StateDependentReward,
)
from tests.gradients.cases import Case, Params, inner_derivatives, ravel, unravel
from tests.gradients.policy_gradient_data import D_X, FEATURES, C, D, make_data

TEMPERATURE = 0.8
PROXIMITY = 2.0

HEADS: dict[str, Callable[[], Head]] = {
    "diagonal": lambda: DiagonalGaussianHead(D),
    "full": lambda: FullGaussianHead(D),
    "categorical": lambda: CategoricalHead(C),
}
REWARDS: dict[str, Callable[[], Reward]] = {
    "mahalanobis_scalar": lambda: MahalanobisReward(D, "scalar"),
    "mahalanobis_diagonal": lambda: MahalanobisReward(D, "diagonal"),
    "mahalanobis_full": lambda: MahalanobisReward(D, "full"),
    "state_diagonal": lambda: StateDependentReward(D, D_X, "diagonal", (3,)),
    "state_full": lambda: StateDependentReward(D, D_X, "full", (3,)),
    "neural": lambda: NeuralReward(D, D_X, (3,)),
    "embedding": lambda: EmbeddingReward(D, "full", (3,)),
    "one_hot_scalar": lambda: OneHotReward(C, "scalar", 0.4),
    "one_hot_diagonal": lambda: OneHotReward(C, "diagonal", 0.4),
    "one_hot_full": lambda: OneHotReward(C, "full", 0.4),
}
ESTIMATORS: dict[str, Callable[[], Estimator]] = {
    "analytic": Analytic,
    "reparameterised": lambda: Reparameterised(num_samples=8),
    "dice": lambda: Dice(num_samples=48),
}


@dataclass(frozen=True)
class Combination:
    """What a case is made of, by name."""

    model: str
    reward: str
    head: str
    estimator: str

    def __str__(self) -> str:
        return "-".join((self.reward, self.head, self.estimator))

    @property
    def is_possible(self) -> bool:
        of_classes = self.reward.startswith("one_hot")
        if of_classes != (self.head == "categorical"):
            return False
        if of_classes:
            return self.estimator != "reparameterised"
        return self.estimator != "analytic" or self.reward not in ("neural", "embedding")

    @property
    def has_closed_form(self) -> bool:
        """A rigid model's is known only if all samples have one U."""
        if self.estimator != "analytic":
            return False
        return self.model == "tabular" or self.reward.startswith("mahalanobis")


def combinations(model: str, estimators: tuple[str, ...]) -> list[Combination]:
    """All that go together."""
    every = [Combination(model, r, h, e) for r in REWARDS for h in HEADS for e in estimators]
    return [combination for combination in every if combination.is_possible]


@dataclass(frozen=True)
class PolicyGradientCase(Case):
    """A case that starts at its solution, with the inner Hessian there `[P, P]`."""

    problem: FunctionalProblem
    hessian: Tensor

    def solve(self, outer_params: Params) -> Params:
        """The solution for outer parameters near the case's own: Newton steps with one Hessian."""
        flat = ravel(self.inner_start)
        like = self.inner_start

        def loss(theta: Tensor) -> Tensor:
            return self.problem.inner_objective(unravel(theta, like), outer_params)

        for _ in range(20):
            grad = torch.func.grad(loss)(flat)
            if grad.norm() <= 1e-13:
                return unravel(flat, like)
            flat = flat - torch.linalg.solve(self.hessian, grad)
        raise AssertionError(f"case {self.name}: no inner solution, gradient {grad.norm():.1e}")


def make_case(combination: Combination) -> PolicyGradientCase:
    """The problem, solved for a reward with weights away from their start."""
    head = HEADS[combination.head]()
    reward = perturbed(REWARDS[combination.reward]())
    inner, outer = make_data(combination.model, head)
    features = FEATURES[combination.model]

    def model_fn(theta: Params, x: Tensor) -> Tensor:
        outputs = [features(x) @ weight for weight in theta.values()]
        if isinstance(head, CategoricalHead):
            # One logit less: adding to all of them changes nothing.
            outputs.append(torch.zeros_like(outputs[0][:, :1]))
        return torch.cat(outputs, dim=-1)

    def outer_loss(outputs: Tensor, _phi: Params, _x: Tensor, y: Tensor) -> Tensor:
        return -head.log_prob(outputs, y)

    def problem_of(estimator: Estimator, behaviour: Tensor | None = None) -> FunctionalProblem:
        loss = PolicyGradientLoss(head, reward, estimator, TEMPERATURE)

        def inner_loss(outputs: Tensor, phi: Params, x: Tensor, y: Tensor) -> Tensor:
            losses = loss(outputs, phi, x, y, behaviour)
            if behaviour is None:
                return losses
            return losses + 0.5 * PROXIMITY * (outputs - behaviour).square().sum(dim=-1)

        solution = None
        if combination.has_closed_form:
            solution = closed_form(features(inner[0]), inner, head, reward)
        return FunctionalProblem(
            model_fn, inner_loss, outer_loss, loss.conditional, inner, outer, solution
        )

    phi = reward.outer_params()
    estimator = ESTIMATORS[combination.estimator]()
    is_dice = isinstance(estimator, Dice)
    if is_dice and isinstance(reward, NeuralReward | EmbeddingReward):
        rough: Estimator = ESTIMATORS["reparameterised"]()
    else:
        rough = Analytic() if is_dice else estimator
    problem = problem_of(rough)
    start = rough_start(features(inner[0]), inner[1], head)
    solution = Case(str(combination), problem, start, phi).solve(phi)
    if is_dice:
        # The behaviour is frozen near the solution, where importance weights are near one. The
        # penalty on the distance to it makes up for the few samples' curvature.
        problem = problem_of(estimator, behaviour=model_fn(solution, inner[0]))
        solution = newton(problem, solution, phi)
    _, hessian = inner_derivatives(problem, ravel(solution), solution, phi)
    return PolicyGradientCase(str(combination), problem, solution, phi, hessian)


def newton(problem: FunctionalProblem, start: Params, phi: Params) -> Params:
    """Five full Newton steps."""
    flat = ravel(start)
    for _ in range(5):
        grad, hessian = inner_derivatives(problem, flat, start, phi)
        flat = flat - torch.linalg.solve(hessian, grad)
    return unravel(flat, start)


def directional_differences(
    case: PolicyGradientCase, directions: Tensor, step: float = 1e-4
) -> Tensor:
    """Slopes of the outer loss along `directions [M, Q]`, with the inner problem re-solved."""
    phi = ravel(case.outer_params)

    def value(shifted: Tensor) -> float:
        outer = unravel(shifted, case.outer_params)
        return case.problem.outer_objective(case.solve(outer), outer).item()

    slopes = [value(phi + step * d) - value(phi - step * d) for d in directions]
    return torch.tensor(slopes, dtype=phi.dtype) / (2 * step)


def perturbed(reward: Reward) -> Reward:
    """In float64, every parameter moved away from its start."""
    generator = torch.Generator().manual_seed(1)
    reward = reward.double()
    with torch.no_grad():
        for parameter in reward.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.4 * noise)
    return reward


def rough_start(features: Tensor, y: Tensor, head: Head) -> Params:
    """The best mean with a unit covariance, or even odds."""
    size = features.shape[-1]
    if isinstance(head, CategoricalHead):
        return {"logits": features.new_zeros(size, C - 1)}
    rest = features.new_zeros(size, head.num_outputs - D)
    return {"mean": torch.linalg.pinv(features) @ y, "rest": rest}


def closed_form(
    features: Tensor, data: tuple[Tensor, Tensor], head: Head, reward: Reward
) -> Callable[[Params], Params]:
    """The exact inner solution (theory, sections 2 and 3) in the weights of the features."""
    x, y = data
    average = torch.linalg.pinv(features)

    def solution(phi: Params) -> Params:
        if isinstance(reward, OneHotReward):
            shares = average @ torch.nn.functional.one_hot(y, C).double()
            table = reward.using(phi, lambda r: r.table())
            logits = shares @ table.mT / TEMPERATURE
            return {"logits": logits[:, :-1] - logits[:, -1:]}
        assert isinstance(head, GaussianHead)
        mean = average @ y
        covariance = reward.using(phi, lambda r: r.precision(x).covariance(TEMPERATURE))
        outputs = head.outputs(y, covariance.expand(len(x), D, D))
        return {"mean": mean, "rest": average @ outputs[:, D:]}

    return solution
