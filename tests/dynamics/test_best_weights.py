"""What a fit keeps by the scores of its evaluations, and when they end it."""

import dataclasses

import pytest
import torch
from torch import Tensor

from mbrl_bilevel.dynamics import DynamicsModel
from mbrl_bilevel.types import Gaussian
from tests.dynamics.cases import make_model, settings
from tests.dynamics.fitting import fit


class ScriptedScores:
    """Stands in for an objective's score: says what it is told, and copies the weights."""

    def __init__(self, model: DynamicsModel, scores: list[list[float]]) -> None:
        self.network = model.network
        self.scores = iter(scores)
        self.weights: list[list[Tensor]] = []

    def __call__(self, _prediction: Gaussian, _target: Tensor) -> Tensor:
        self.weights.append([p.detach().clone() for p in self.network.parameters()])
        return torch.tensor(next(self.scores))


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> "ScriptedFit":
    return ScriptedFit(monkeypatch)


@dataclasses.dataclass
class ScriptedFit:
    """Fits a model whose held-out scores `[evaluations][E]` are given, the initial one first."""

    monkeypatch: pytest.MonkeyPatch

    def __call__(
        self, scores: list[list[float]], **changes: int
    ) -> tuple[DynamicsModel, ScriptedScores, dict[str, float]]:
        evaluations = len(scores) - 1
        config = settings(
            ensemble_size=len(scores[0]), eval_every=2, num_updates=2 * evaluations, **changes
        )
        model = make_model(config=config)
        script = ScriptedScores(model, scores)
        self.monkeypatch.setattr(model.objective, "score", script)
        return model, script, fit(model, config)


def test_each_member_gets_the_weights_of_its_own_best_evaluation(scripted: ScriptedFit) -> None:
    model, script, _ = scripted([[5, 5, 5], [4, 4, 6], [1, 4.5, 7], [3, 2, 5.5]], patience=9)
    for member, best in enumerate([2, 3, 0]):
        for parameter, kept in zip(model.network.parameters(), script.weights[best], strict=True):
            assert torch.equal(parameter[member], kept[member])
    assert not torch.equal(script.weights[2][0][0], script.weights[3][0][0])


def test_an_evaluation_that_is_nan_is_never_the_best(scripted: ScriptedFit) -> None:
    nan = float("nan")
    model, script, _ = scripted([[nan, 5], [4, nan], [nan, nan]], patience=9)
    for member, best in enumerate([1, 0]):
        for parameter, kept in zip(model.network.parameters(), script.weights[best], strict=True):
            assert torch.equal(parameter[member], kept[member])


@pytest.mark.parametrize("elites", [1, 2, 4])
def test_elites_are_the_members_with_the_best_scores(scripted: ScriptedFit, elites: int) -> None:
    """Best over the whole fit, not at its end; in the order of the members."""
    scores = [[9.0, 9.0, 9.0, 9.0], [3.0, 1.0, 5.0, 0.0], [2.0, 7.0, 4.0, 8.0]]
    model, _, _ = scripted(scores, num_elite_members=elites)
    assert model.elite_indices.tolist() == sorted([3, 1, 0, 2][:elites])


@pytest.mark.parametrize("patience", [1, 3])
def test_a_fit_ends_after_evaluations_without_progress(
    scripted: ScriptedFit, patience: int
) -> None:
    scores = [[5.0, 5.0], [4.0, 5.0]] + [[4.0, 5.0]] * 8
    _, script, metrics = scripted(scores, patience=patience)
    assert metrics["model/num_updates"] == 2 * (1 + patience)
    assert len(script.weights) == 2 + patience


def test_one_members_progress_keeps_all_going_and_resets_the_count(scripted: ScriptedFit) -> None:
    stuck, better = [5.0, 5.0], [5.0, 4.0]
    scores = [stuck, stuck, better, better, better, better, better]
    _, _, metrics = scripted(scores, patience=2)
    assert metrics["model/num_updates"] == 2 * 4


def test_progress_too_small_to_matter_does_not_count_but_is_kept(scripted: ScriptedFit) -> None:
    scores = [[5.0], [4.999], [4.998], [4.997], [4.0]]
    model, script, metrics = scripted(scores, patience=3)
    assert metrics["model/num_updates"] == 2 * 3
    kept = zip(model.network.parameters(), script.weights[3], strict=True)
    assert all(torch.equal(parameter, weight) for parameter, weight in kept)
