"""Tables 1 and 2: their data, methods, learned rewards, and what the commands leave behind."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mbrl_bilevel.bilevel import hypergradient, make_solver
from mbrl_bilevel.bilevel.fit_state import OuterUpdate
from mbrl_bilevel.config.tables import Table1Config
from mbrl_bilevel.data.tabular import load_tabular
from mbrl_bilevel.experiments.reproduce import tabular_reward
from mbrl_bilevel.experiments.reproduce.tabular_methods import METHODS, beta_star, fit_bilevel
from mbrl_bilevel.experiments.reproduce.tabular_metrics import (
    classification_metrics,
    expected_calibration_error,
)
from mbrl_bilevel.experiments.reproduce.tabular_reward import (
    best_scale,
    inner_solution,
    learn,
    reward_problem,
    shares_under,
)
from mbrl_bilevel.experiments.reproduce.tabular_task import (
    ClassificationTask,
    Trained,
    cross_fitting,
    make_task,
    one_split,
)
from mbrl_bilevel.rewards import OneHotReward, StateDependentOneHotReward
from tests.cli.small import cli, snapshot

CONFIG = Table1Config(num_updates=4, check_every=2, outer_steps=3, num_folds=2, hidden_sizes=[4])
SMALL = (
    *("datasets=[iris]", "num_updates=2", "outer_steps=2", "num_folds=2", "hidden_sizes=[4]"),
    *("models=[logistic]", "seeds=2"),
)
C, D, M = 3, 2, 6


def task_of(model: str = "logistic", seed: int = 0) -> ClassificationTask:
    return make_task(load_tabular("iris"), model, CONFIG, seed)


def normal(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("shares", [[0.5, 0.3, 0.2], [0.7, 0.2, 0.1], [0.4, 0.35, 0.25]])
def test_a_diagonal_u_of_x_has_any_shares_for_its_inner_solution(shares: list[float]) -> None:
    """The closed form of `StateDependentOneHotReward`; a constant beta distorts them."""
    q = torch.tensor(shares, dtype=torch.float64)
    q = (q + torch.tensor([1e-3, 0, -1e-3], dtype=torch.float64)) / 1.0
    log_q = q.log()
    below = log_q[q < 0.5].max()
    k = 0.5 * (below + log_q[q > 0.5].min()) if (q > 0.5).any() else below + 1
    u = (k - log_q) / (1 - 2 * q)
    assert (u > 0).all()
    table = OneHotReward(C, "diagonal", u.diag()).table().detach()
    found = inner_solution(table, q, 1.0).softmax(dim=-1)
    torch.testing.assert_close(found, q)
    constant = OneHotReward(C, "scalar", 1.0).double().table().detach()
    distorted = inner_solution(constant, q, 1.0).softmax(dim=-1)
    torch.testing.assert_close(distorted, (2 * q).softmax(dim=-1))
    assert (distorted - q).abs().max() > 0.01


def test_the_reward_of_x_is_the_table_of_its_u() -> None:
    reward = StateDependentOneHotReward(C, D, (4,), initial=0.5).double()
    x, y = normal(0, M, D), torch.arange(M) % C
    torch.testing.assert_close(
        reward.table(x), OneHotReward(C, "scalar", 0.5).double().table().expand(M, C, C)
    )
    with torch.no_grad():
        for index, parameter in enumerate(reward.parameters()):
            parameter.copy_(normal(index, *parameter.shape))
    tables = reward.table(x)
    for y_hat in range(C):
        found = reward(torch.full((4, M), y_hat), y, x)
        expected = torch.stack([tables[i, y_hat, y[i]] for i in range(M)])
        torch.testing.assert_close(found, expected.expand(4, M))
    with pytest.raises(ValueError, match="needs the inputs x"):
        reward.table()


def test_shares_are_read_off_the_solution_that_they_lead_to() -> None:
    q = normal(0, M, C).softmax(dim=-1)
    table = OneHotReward(C, "scalar", 0.7).double().table().detach()
    torch.testing.assert_close(shares_under(0.7, inner_solution(table, q, 0.4), 0.4), q)


@pytest.mark.parametrize("family", ["scalar", "diagonal", "full", "state_dependent"])
@pytest.mark.parametrize("solver", ["functional", "closed_form", "cg", "dense"])
def test_hypergradients_are_those_of_central_differences(family: str, solver: str) -> None:
    reward = (
        StateDependentOneHotReward(C, D) if family == "state_dependent" else OneHotReward(C, family)  # type: ignore[arg-type]
    ).double()
    x, y, q = normal(0, M, D), torch.arange(M) % C, normal(1, M, C).softmax(dim=-1)
    problem = reward_problem(reward, x, y, q, CONFIG, ridge=0.5)
    assert problem.inner_solution is not None
    outer_params = {n: p + 0.1 * normal(9, *p.shape) for n, p in reward.outer_params().items()}
    solution = problem.inner_solution(outer_params)
    result = hypergradient(problem, solution, outer_params, make_solver(solver))
    if solver != "functional":
        assert result.stationarity < 1e-12

    def outer_loss(params: dict[str, Tensor]) -> float:
        assert problem.inner_solution is not None
        return problem.evaluate_outer(problem.inner_solution(params), params).item()

    for name, value in outer_params.items():
        for index in range(value.numel()):
            step = torch.zeros_like(value)
            step.view(-1)[index] = 1e-5
            up = outer_loss({**outer_params, name: value + step})
            down = outer_loss({**outer_params, name: value - step})
            found = result.grad[name].reshape(-1)[index].item()
            assert found == pytest.approx((up - down) / 2e-5, abs=1e-6), name


def test_the_learned_scalar_is_the_best_factor_of_the_logits() -> None:
    config = CONFIG.model_copy(update={"outer_steps": 150, "temperature": 0.5})
    x = normal(0, 200, D).float()
    logits = normal(1, 200, C).float()
    y = torch.distributions.Categorical(logits=3 * logits).probs.argmax(dim=-1)
    y[::4] = (y[::4] + 1) % C
    read_off = learn(Trained([], 0, x, y, logits), 2.0, "scalar", "functional", config)
    scale, loss = best_scale(logits, y, config.scale_ridge)
    learned = read_off.reward.outer_params()["metric.log_u"].exp().item()
    assert learned == pytest.approx(2.0 * scale, rel=1e-2)
    for other in (0.9 * scale, 1.1 * scale):
        penalty = 0.5 * config.scale_ridge * math.log(other) ** 2 / len(y)
        assert loss < torch.nn.functional.cross_entropy(other * logits.double(), y) + penalty


@pytest.mark.filterwarnings("ignore:solver 'functional' met non-positive curvature")
def test_of_a_reward_that_runs_away_the_best_one_on_the_way_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken: list[list[Tensor]] = []

    class RunsAway(OuterUpdate):
        def step(self, gradients: Any) -> Any:
            result = super().step(gradients)
            taken.append([p.detach().clone() for p in reward.parameters()])
            if len(taken) == 6:
                for parameter in reward.parameters():
                    parameter.data.fill_(torch.nan)
            return result

    reward = OneHotReward(C, "diagonal", 1.0).double()
    monkeypatch.setattr(tabular_reward, "OuterUpdate", RunsAway)
    x, logits = normal(3, 60, D).float(), normal(4, 60, C).float()
    trained = Trained([logits], 0, x, logits.argmax(dim=-1), logits)
    config = CONFIG.model_copy(update={"outer_steps": 10})
    tabular_reward._learn(trained, 1.0, reward, "functional", config, 1.0, 0.1)
    assert len(taken) == 6
    kept = [p.detach() for p in reward.parameters()]
    # The loss falls with each step here, so that the best is the last but the one that ran away.
    assert all(torch.equal(one, other) for one, other in zip(kept, taken[4], strict=True))


def test_beta_star_is_the_papers() -> None:
    assert beta_star(task_of()) == pytest.approx(3 / (2 * (1 - 1 / 3)))


def test_no_model_is_judged_by_rows_it_was_trained_on() -> None:
    task = task_of()
    num_training, num_held_out = (
        len(part[1]) for part in (task.splits.training, task.splits.held_out)
    )
    single, folds = one_split(task), cross_fitting(task)
    assert single.training.sum() == num_training
    assert (single.judge >= 0).sum() == num_held_out
    assert (folds.judge >= 0).all()
    assert folds.training[-1].all()
    for split in (single, folds):
        for row, judge in enumerate(split.judge.tolist()):
            assert judge < 0 or not split.training[judge, row]


def test_calibration_error_and_metrics_by_hand() -> None:
    probs = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.2, 0.8]])
    y = torch.tensor([0, 1, 1, 1])
    assert expected_calibration_error(probs, y) == pytest.approx((0.8 + 0.4 + 0.2) / 4)
    metrics = classification_metrics(probs.log(), y)
    assert metrics["accuracy"] == 0.75
    assert metrics["balanced_accuracy"] == pytest.approx((1 + 2 / 3) / 2)
    assert metrics["nll"] == pytest.approx(-math.log(0.9 * 0.1 * 0.6 * 0.8) / 4)
    assert metrics["roc_auc"] == pytest.approx(2.5 / 3)


@pytest.mark.parametrize("table", ["table1", "table2"])
def test_a_table_leaves_rows_a_report_and_a_picture(table: str, tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        words = (*SMALL, "--run-dir", tmp_path / name)
        assert cli("reproduce", table, *words) == 0
        content: dict[str, Any] = json.loads((tmp_path / name / "results.json").read_text())
        for row in content["results"]:
            row.pop("wall_time_s", None)
        found.append(content["results"])
    rows = found[0]
    assert found[1] == rows
    assert len(rows) == 2 * (len(METHODS) + 1 if table == "table1" else 8)
    for row in rows:
        assert (row["dataset"], row["model"]) == ("iris", "logistic")
        assert 0 <= row["accuracy"] <= 1
        assert 0 <= row["ece"] <= 1
        assert row["nll"] > 0
        assert row["roc_auc"] is None
    assert {row["seed"] for row in rows} == {0, 1}
    assert rows[0]["nll"] != rows[-1]["nll"]
    assert "Seeds 0 to 1" in (tmp_path / "a/report.md").read_text()
    assert (tmp_path / f"a/plots/{table}.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["models=[forest]"], "'models.0': 'forest'"),
        (["datasets=[iris,iris]"], "name each once"),
        (["held_out=0.6", "test=0.5"], "nothing is left to train on"),
        (["num_folds=1"], "'num_folds': 1"),
        (["datasets=[no/such.csv]"], "dataset file 'no/such.csv' does not exist"),
        (["solver=dense"], "'solver': 'dense'"),
    ],
)
def test_what_cannot_be_run_is_refused_and_leaves_nothing(
    words: list[str], part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli("reproduce", "table1", *words) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert part in err
    assert snapshot(tmp_path) == {}


def test_without_a_network_a_remote_dataset_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(**_: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("sklearn.datasets.fetch_openml", unreachable)
    assert cli("reproduce", "table1", "datasets=[iris,spambase]") == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "'spambase'" in err
    assert "no route to host" in err
    assert snapshot(tmp_path) == {}


@pytest.mark.learning
def test_the_learned_reward_mends_the_likelihood_of_a_fixed_one() -> None:
    config = Table1Config(num_updates=60, initial_betas=[1.0])
    task = make_task(load_tabular("wine"), "logistic", config, 0)
    x, y = task.splits.test
    ours, fixed = (
        classification_metrics(fit(task).logits_fn(x), y)
        for fit in (lambda t: fit_bilevel("scalar", "functional", t), METHODS["pg_beta_1"].fit)
    )
    assert ours["accuracy"] >= 0.9
    assert ours["nll"] < fixed["nll"] - 0.1
