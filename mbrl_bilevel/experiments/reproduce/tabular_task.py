"""The data of a tabular classification task, and the models trained on its folds together."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from torch.optim import AdamW

from mbrl_bilevel.config.tables import ClassificationConfig
from mbrl_bilevel.data.tabular import TabularDataset, TabularSplits, split_tabular
from mbrl_bilevel.errors import MBRLError
from mbrl_bilevel.heads import CategoricalHead
from mbrl_bilevel.runs import derive_seed

ClassLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""`(logits [B, N, C], x [N, D], y [N]) -> [B, N]`; the mean over a model's rows is minimised."""

Criterion = Callable[[Tensor, Tensor], float]
"""`(logits [M, C], y [M]) -> []`, of data that the models behind the logits were not trained on."""


@dataclass(frozen=True)
class ClassificationTask:
    """All that a method may look at.

    Attributes:
        splits: Training and held-out data; the test part is for `judge` alone.
        model: `logistic` or `mlp`.
        config: Settings of the table.
        seed: Of split, folds, weights and samples.
        cross_fitted: What `train` returned on the folds of `cross_fitting`, by the loss's name:
            methods with the same loss share it.
    """

    splits: TabularSplits
    model: str
    config: ClassificationConfig
    seed: int
    cross_fitted: "dict[str, list[Trained]]" = field(default_factory=dict)

    @property
    def head(self) -> CategoricalHead:
        """Reads logits."""
        return CategoricalHead(self.splits.num_classes)

    @property
    def rows(self) -> tuple[Tensor, Tensor]:
        """Training data, then held-out data: `(x [N, D], y [N])`."""
        (x, y), (held_out_x, held_out_y) = self.splits.training, self.splits.held_out
        return torch.cat([x, held_out_x]), torch.cat([y, held_out_y])


@dataclass(frozen=True)
class Folds:
    """Which of B models is trained on which row, and which one judges it.

    Attributes:
        training: `[B, N]`, true where the model is trained on the row. The last model predicts.
        judge: `[N]`, a model that was not trained on the row; -1: there is none.
    """

    training: Tensor
    judge: Tensor


@dataclass(frozen=True)
class Trained:
    """The predicting model, and what the models made of rows that they were not trained on.

    Attributes:
        parameters: Weights `[in, out]` and biases `[1, out]` of its layers, in turns.
        num_updates: That it has taken.
        x: Judged rows, `[M, D]`.
        y: Their classes, `[M]`.
        logits: `[M, C]`.
    """

    parameters: list[Tensor]
    num_updates: int
    x: Tensor
    y: Tensor
    logits: Tensor

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Return the logits `[N, C]` of inputs `[N, D]`."""
        return forward(self.parameters, x)


def select(checkpoints: list[Trained], criterion: Criterion) -> tuple[Trained, float]:
    """Return the models of the lowest criterion, and how low it is: early stopping."""
    values = [criterion(trained.logits, trained.y) for trained in checkpoints]
    best = min(range(len(values)), key=values.__getitem__)
    return checkpoints[best], values[best]


def make_task(
    dataset: TabularDataset, model: str, config: ClassificationConfig, seed: int
) -> ClassificationTask:
    """Draw rows, split them, and standardise them by the training part.

    Raises:
        ConfigError: The dataset is too small for the split.
    """
    if config.max_rows is not None and len(dataset) > config.max_rows:
        rng = np.random.default_rng(derive_seed(seed, "rows"))
        rows = torch.from_numpy(rng.permutation(len(dataset))[: config.max_rows])
        dataset = replace(dataset, features=dataset.features[rows], labels=dataset.labels[rows])
    splits = split_tabular(dataset, config.fractions, derive_seed(seed, "split"))
    return ClassificationTask(splits, model, config, seed)


def one_split(task: ClassificationTask) -> Folds:
    """One model, trained on the training data and judged by the held-out data."""
    num_training = len(task.splits.training[1])
    training = torch.arange(len(task.rows[1])) < num_training
    return Folds(training[None], training.long().neg())


def cross_fitting(task: ClassificationTask) -> Folds:
    """K models, each trained on all folds but one, which judges it, and one trained on all rows."""
    y, num_folds = task.rows[1], task.config.num_folds
    rng = np.random.default_rng(derive_seed(task.seed, "folds"))
    order = torch.from_numpy(rng.permutation(len(y)))
    # Dealt out class by class, so that each fold has its share of each.
    order = order[y[order].argsort(stable=True)]
    judge = torch.empty_like(y)
    judge[order] = torch.arange(len(y)) % num_folds
    training = judge != torch.arange(num_folds + 1)[:, None]
    return Folds(training, judge)


def forward(parameters: list[Tensor], x: Tensor) -> Tensor:
    """Return logits `[..., N, C]` of a ReLU network, or of B of them with `[B, ...]` parameters."""
    outputs = x
    layers = list(zip(parameters[::2], parameters[1::2], strict=True))
    for weight, bias in layers[:-1]:
        outputs = (outputs @ weight + bias).relu()
    weight, bias = layers[-1]
    return outputs @ weight + bias


def train(task: ClassificationTask, folds: Folds, loss: ClassLoss) -> list[Trained]:
    """Train models from the same weights by AdamW; return them every `check_every` updates.

    Raises:
        MBRLError: A loss is not finite.
    """
    config = task.config
    x, y = task.rows
    judged = folds.judge >= 0
    weights = folds.training / folds.training.sum(dim=1, keepdim=True)
    parameters = _initial_parameters(task, len(weights))
    peak_lr = config.lr if task.model == "mlp" else config.logistic_lr
    optimizer = AdamW(parameters, lr=peak_lr, weight_decay=config.weight_decay, fused=True)
    checkpoints = []
    for update in range(1, config.num_updates + 1):
        for group in optimizer.param_groups:
            group["lr"] = peak_lr * _lr_share(config, update - 1)
        optimizer.zero_grad()
        mean_loss = (weights * loss(forward(parameters, x), x, y)).sum()
        if not torch.isfinite(mean_loss):
            raise MBRLError(f"the training loss is {mean_loss.item()}; a lower lr may help")
        mean_loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if update % config.check_every and update < config.num_updates:
            continue
        with torch.no_grad():
            logits = forward(parameters, x)
        logits = logits[folds.judge[judged], judged.nonzero()[:, 0]]
        last = [parameter[-1].detach().clone() for parameter in parameters]
        checkpoints.append(Trained(last, update, x[judged], y[judged], logits))
    return checkpoints


def _lr_share(config: ClassificationConfig, step: int) -> float:
    """Return one, then, over the last `cooldown` of the steps, a line down to zero."""
    left = max(0, config.num_updates - step)
    length = config.cooldown * config.num_updates
    return min(1.0, left / length) if length > 0 else 1.0


def _initial_parameters(task: ClassificationTask, num_models: int) -> list[Tensor]:
    """The same for all models and methods of a seed; PyTorch's usual distribution."""
    generator = torch.Generator().manual_seed(derive_seed(task.seed, "weights"))
    hidden = task.config.hidden_sizes if task.model == "mlp" else []
    sizes = [task.rows[0].shape[1], *hidden, task.splits.num_classes]
    parameters = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        bound = 1 / math.sqrt(fan_in)
        for rows in (fan_in, 1):
            values = bound * (2 * torch.rand(rows, fan_out, generator=generator) - 1)
            parameters.append(values.repeat(num_models, 1, 1).requires_grad_())
    return parameters
