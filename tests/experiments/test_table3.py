"""Table 3: its data, its methods, and what the command leaves behind."""

import json
import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from mbrl_bilevel.config.table3 import Table3Config
from mbrl_bilevel.data.datasets import EpisodeDataset, load_episodes
from mbrl_bilevel.errors import DatasetError, MBRLError
from mbrl_bilevel.experiments.reproduce import table3
from mbrl_bilevel.experiments.reproduce.rows import Rows
from mbrl_bilevel.experiments.reproduce.table3_methods import METHODS, Method
from mbrl_bilevel.experiments.reproduce.table3_task import (
    Data,
    Descent,
    Fitted,
    Task,
    make_model,
)
from mbrl_bilevel.heads import DiagonalGaussianHead, FullGaussianHead
from tests.cli.small import cli, snapshot

PAPERS = ["mse", "nll", "pg_identity", "pg_implicit", "pg_trace", "pg_covariance"]
"""The paper's methods; others may follow."""

NUM_EPISODES, LENGTH = 12, 20
NOISE_STD = np.array([0.5, 2.0])
SMALL = ("num_updates=4", "inner_steps=3", "hidden_sizes=[8]")


def write_dataset(path: Path, *, constant: bool = False, discrete: bool = False) -> Path:
    """Write `next_obs = [50, 0] + [3, -2] * action + noise`."""
    rng = np.random.default_rng(0)
    num = NUM_EPISODES * LENGTH
    action = rng.uniform(-4, 4, (num, 1))
    noise = NOISE_STD * rng.standard_normal((num, 2))
    next_obs = np.array([50.0, 0.0]) + np.array([3.0, -2.0]) * action + noise
    if constant:
        next_obs[:, 1] = 7.0
    obs = np.roll(next_obs, 1, axis=0)
    ends = np.arange(1, num + 1) % LENGTH == 0
    np.savez(
        path,
        obs=obs.astype(np.float32),
        action=(action[:, 0] > 0).astype(np.int64) if discrete else action.astype(np.float32),
        reward=np.zeros(num, np.float32),
        next_obs=next_obs.astype(np.float32),
        terminated=ends,
        truncated=np.zeros(num, np.bool_),
    )
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "steps.npz")


@pytest.fixture
def dataset(path: Path) -> EpisodeDataset:
    return load_episodes(path)


def config(path: Path | str = "steps.npz", **settings: Any) -> Table3Config:
    return Table3Config.model_validate({"dataset": {"path": str(path)}, **settings})


def make_task(**settings: Any) -> Task:
    """`y = [3, -2] x + noise` with standard deviations `NOISE_STD`, no file involved."""
    rng = torch.Generator().manual_seed(0)

    def draw(num: int) -> Data:
        x = 2 * torch.randn(num, 1, generator=rng)
        noise = torch.randn(num, 2, generator=rng) * torch.tensor(NOISE_STD, dtype=torch.float32)
        return x, torch.tensor([3.0, -2.0]) * x + noise

    generator = torch.Generator().manual_seed(1)
    return Task(draw(600), draw(600), config(hidden_sizes=[16], **settings), generator)


def rows_in(folder: Path) -> Rows:
    return Rows(folder / "results.json", lambda: None)


def given_to_methods(
    settings: Table3Config, dataset: EpisodeDataset
) -> tuple[list[Task], list[Data]]:
    """The tasks, and the test data, of every method in turn; nothing is trained."""
    tasks: list[Task] = []
    tests: list[Data] = []

    def remember(task: Task) -> Fitted:
        tasks.append(task)
        return Fitted(lambda x: x.new_zeros(len(x), task.head.num_outputs), task.head, 0)

    def judge(_: Fitted, data: Data) -> tuple[float, float]:
        tests.append(data)
        return 1.0, 1.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Fitted, "judge", judge)
        for name in METHODS:
            patch.setitem(METHODS, name, Method(name, remember))
        with TemporaryDirectory() as folder:
            table3.compute(settings, dataset, rows_in(Path(folder)))
    return tasks, tests


def reproduce(path: Path, *words: object) -> int:
    return cli("reproduce", "table3", f"dataset.path={path}", *SMALL, *words)


def test_a_run_leaves_rows_a_report_a_picture_and_its_settings(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert reproduce(path, "seeds=2", "seed=3", "--run-dir", run) == 0
    results = json.loads((run / "results.json").read_text())
    rows = results["results"]
    assert [(row["seed"], row["method"]) for row in rows] == [
        (s, m) for s in (3, 4) for m in METHODS
    ]
    for row in rows:
        assert row.keys() == {"method", "seed", "rmse", "nll", "num_updates", "wall_time_s"}
        assert row["num_updates"] == 4
        assert row["rmse"] > 0
        assert row["wall_time_s"] > 0
    assert results["config"]["dataset"]["path"] == str(path)
    assert (run / "config.yaml").exists()
    assert (run / "plots/table3.png").stat().st_size > 10_000
    report = (run / "report.md").read_text()
    assert report in capsys.readouterr().out
    lines = [line for line in report.splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0][2:] for line in lines[2:]] == [m.label for m in METHODS.values()]
    assert "| 1.878 | - |" in lines[2]
    assert "| 4.594 | 0.733 |" in lines[3]
    mean = sum(row["rmse"] for row in rows if row["method"] == "nll") / 2
    assert f"| {mean:.3f} +- " in lines[3]
    assert "Seeds 3 to 4" in report
    assert "other data" in report


def test_seeds_deal_out_episodes_and_weights_anew(dataset: EpisodeDataset) -> None:
    tasks, tests = given_to_methods(config(seeds=2), dataset)
    first, second = tasks[0], tasks[len(METHODS)]
    assert first.training[0].shape == (8 * LENGTH, 3)
    assert first.held_out[1].shape == (2 * LENGTH, 2)
    assert tests[0][1].shape == (2 * LENGTH, 2)
    assert first.training[0][:, 0].mean() == pytest.approx(50, abs=2)  # raw
    assert first.training[0][:, 2].abs().max() > 3
    parts = [first.training, first.held_out, tests[0]]
    targets = np.concatenate([y.numpy() for _, y in parts])
    assert len(np.unique(targets, axis=0)) == NUM_EPISODES * LENGTH
    assert not torch.equal(first.training[1], second.training[1])
    weights = [next(make_model(task).parameters()) for task in (first, tasks[1], second)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_training_steps_can_be_limited_and_discrete_actions_are_one_hot(tmp_path: Path) -> None:
    dataset = load_episodes(write_dataset(tmp_path / "discrete.npz", discrete=True))
    limits: dict[str, Any] = {"max_training_steps": 30, "split": {"max_judged_steps": 10}}
    tasks, tests = given_to_methods(config(seeds=1, **limits), dataset)
    x, y = tasks[0].training
    assert (x.shape, y.shape) == ((30, 4), (30, 2))
    assert torch.equal(x[:, 2:].sum(dim=1), torch.ones(30))
    assert len(tasks[0].held_out[0]) == len(tests[0][0]) == 10


@pytest.mark.parametrize("full", [False, True])
def test_quality_is_that_of_torch(full: bool) -> None:
    """The error of all dimensions together; the likelihood a dimension, of either head."""
    y = torch.tensor([[1.0, 2.0], [0.0, -1.0]])
    mean, variance = torch.tensor([[0.0, 2.0], [0.5, 0.0]]), torch.tensor([0.25, 4.0])
    head = FullGaussianHead(2) if full else DiagonalGaussianHead(2)
    outputs = head.outputs(mean, torch.diag(variance))
    rmse, nll = Fitted(lambda _: outputs, head, 0).judge((torch.zeros(2, 1), y))
    assert rmse == pytest.approx(math.sqrt((1 + 0 + 0.25 + 1) / 4))
    log_prob = Normal(mean, variance.sqrt()).log_prob(y)  # type: ignore[no-untyped-call]
    assert nll == pytest.approx(-log_prob.mean().item(), rel=1e-5)


def test_methods_learn_the_variances_that_theory_says() -> None:
    """Fixed U: `(lambda/2) diag(U)^-1`. Learned u: the mean of the residuals' variances."""
    settings = {"num_updates": 600, "lr": 2e-2, "temperature": 2.0}
    covariance = make_task().target_covariance
    marginal = covariance.diagonal().float()
    residual = torch.tensor(NOISE_STD, dtype=torch.float32).square()
    expected: dict[str, tuple[Tensor, float]] = {
        "mse": (residual, 0.15),
        "nll": (residual, 0.25),
        "pg_identity": (torch.ones(2), 0.05),
        "pg_implicit": (residual.mean().expand(2), 0.15),
        "pg_trace": (marginal.mean().expand(2), 0.05),
        "pg_covariance": ((1 / covariance.inverse().diagonal()).float(), 0.05),
    }
    assert list(expected) == list(METHODS)[: len(PAPERS)] == PAPERS
    for name, (variance, tolerance) in expected.items():
        task = make_task(**settings)
        fitted = METHODS[name].fit(task)
        x, y = task.held_out
        with torch.no_grad():
            outputs = fitted.outputs_fn(x)
        assert isinstance(fitted.head, DiagonalGaussianHead)
        squared_error = (fitted.head.mean(outputs) - y).square().mean(dim=0)
        assert squared_error.numpy() == pytest.approx(NOISE_STD**2, rel=0.25), name
        log_var = fitted.head.log_var(outputs).mean(dim=0)
        assert log_var.numpy() == pytest.approx(variance.log().numpy(), abs=tolerance), name


@pytest.mark.parametrize(("num_updates", "blocks"), [(7, [3, 3, 1]), (6, [3, 3])])
def test_the_learned_rewards_updates_add_up(num_updates: int, blocks: list[int]) -> None:
    taken: list[int] = []

    def count(_self: Descent, _loss: object, _data: Data, num_steps: int) -> None:
        taken.append(num_steps)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Descent, "run", count)
        METHODS["pg_implicit"].fit(make_task(num_updates=num_updates, inner_steps=3))
    assert taken == blocks


def test_a_loss_that_is_not_finite_names_method_and_seed(
    dataset: EpisodeDataset, tmp_path: Path
) -> None:
    settings = config(seeds=1, seed=5, num_updates=50, lr=1e30)
    with pytest.raises(MBRLError, match=r"method mse, seed 5: the training loss is (nan|inf)"):
        table3.compute(settings, dataset, rows_in(tmp_path))


def test_a_prediction_that_is_not_finite_names_method_and_seed(
    dataset: EpisodeDataset, tmp_path: Path
) -> None:
    def diverge(task: Task) -> Fitted:
        return Fitted(lambda x: torch.full((len(x), 4), math.nan), task.head, 0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, "mse", Method("MSE", diverge))
        with pytest.raises(MBRLError, match="method mse, seed 0: test RMSE nan"):
            table3.compute(config(), dataset, rows_in(tmp_path))


def test_targets_that_never_change_are_refused(tmp_path: Path) -> None:
    dataset = load_episodes(write_dataset(tmp_path / "constant.npz", constant=True))
    with pytest.raises(DatasetError, match=r"constant\.npz: .* of seed 0 have a singular"):
        table3.compute(config(), dataset, rows_in(tmp_path))


@pytest.mark.parametrize(
    ("words", "status", "part"),
    [
        ([], 2, "missing key 'dataset.path'"),
        (["dataset.path=missing.npz"], 2, "missing.npz"),
        (["dataset.path=steps.npz", "lr=0"], 2, "'lr': 0"),
        (["dataset.path=steps.npz", "split.test=0.5"], 2, "add up to 1.35"),
        (["dataset.path=steps.npz", "max_training_steps=0"], 2, "'max_training_steps': 0"),
        (["dataset.path=steps.npz", "temperatures=[1]"], 2, "did you mean 'temperature'?"),
        (["dataset.path=broken.npz"], 1, "broken.npz"),
        (["dataset.path=short.npz"], 1, "has 2 episodes and cannot be split"),
    ],
)
def test_what_cannot_be_run_is_refused_and_leaves_nothing(
    words: list[str],
    status: int,
    part: str,
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.npz").write_bytes(b"no archive")
    with np.load(path) as file:
        np.savez(tmp_path / "short.npz", **{key: file[key][: 2 * LENGTH] for key in file})
    before = snapshot(tmp_path).keys()
    assert cli("reproduce", "table3", *words) == status
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert part in err
    assert snapshot(tmp_path).keys() == before


def test_every_step_is_on_all_data_and_the_weights_are_the_generators() -> None:
    task = make_task(num_updates=1)
    sizes: list[int] = []

    def loss(outputs: Tensor, x: Tensor, y: Tensor) -> Tensor:
        sizes.append(len(x))
        return (outputs[:, :2] - y).square().sum(dim=-1)

    state = torch.get_rng_state()
    model = make_model(task)
    assert torch.equal(state, torch.get_rng_state())  # the global generator is left alone
    Descent(model, task.config).run(loss, task.training, 2)
    assert sizes == [600, 600]


def test_the_learning_rate_falls_to_zero_in_the_end() -> None:
    """Adam moves a parameter of constant gradient by the learning rate: 1, 1, 1, 1/2, 0."""
    model = torch.nn.Linear(1, 1, bias=False)
    descent = Descent(model, config(num_updates=4, lr=1.0, cooldown=0.5))
    positions = [model.weight.item()]
    for _ in range(5):
        descent.run(lambda outputs, _x, _y: outputs, (torch.ones(2, 1), torch.ones(2, 1)), 1)
        positions.append(model.weight.item())
    assert -np.diff(positions) == pytest.approx([1, 1, 1, 0.5, 0], abs=1e-5)
