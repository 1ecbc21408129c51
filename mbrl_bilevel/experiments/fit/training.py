"""Trains one model: equal for every objective but for the objective."""

from dataclasses import dataclass
from time import perf_counter

import torch

from mbrl_bilevel.bilevel import make_objective
from mbrl_bilevel.config import ObjectiveConfig
from mbrl_bilevel.config.fit import FitModelConfig
from mbrl_bilevel.data import ActionCodec
from mbrl_bilevel.dynamics import DynamicsModel, ModelTrainer
from mbrl_bilevel.experiments.fit.full_head import FullHead, fit_full_head
from mbrl_bilevel.experiments.fit.parts import Parts
from mbrl_bilevel.experiments.fit.recording import OnEvaluation, RecordingObjective
from mbrl_bilevel.runs import derive_seed


@dataclass(frozen=True)
class Trained:
    """A trained model.

    Attributes:
        model: With the weights that `model.keep` asks for.
        num_updates: That were made.
        wall_time_s: That the training took.
        head: Its full covariances, where the settings ask for them.
        outer_metrics: What was logged about the outer problem in the end.
    """

    model: DynamicsModel
    num_updates: int
    wall_time_s: float
    head: FullHead | None
    outer_metrics: dict[str, float]


def train_model(
    objective_config: ObjectiveConfig,
    config: FitModelConfig,
    codec: ActionCodec,
    parts: Parts,
    seed: int,
    on_evaluation: OnEvaluation,
) -> Trained:
    """Train a fresh model. Initial weights, batches and updates depend on the seed alone.

    Raises:
        MBRLError: Training diverges.
    """
    obs_size = parts.training.obs.shape[1]
    model_config = config.to_model_config(objective_config)
    target_size = DynamicsModel.target_size(obs_size, learns_reward=False)
    objective = make_objective(objective_config, config.ensemble_size, target_size)
    model = DynamicsModel(
        obs_size,
        codec,
        model_config,
        RecordingObjective(objective, on_evaluation),
        learns_reward=False,
        learns_termination=False,
        generator=_generator(seed, "weights"),
    ).to(codec.device)
    trainer = ModelTrainer(model, model_config, derive_seed(seed, "bootstrap"))
    start = perf_counter()
    metrics = trainer.fit(parts.training, parts.held_out, _generator(seed, "batches"))
    model.objective = objective
    head = fit_full_head(model, parts.held_out) if config.head == "full" else None
    wall_time_s = perf_counter() - start
    outer = {tag: value for tag, value in metrics.items() if tag.startswith("bilevel/")}
    return Trained(model, int(metrics["model/num_updates"]), wall_time_s, head, outer)


def _generator(seed: int, stream: str) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(seed, stream))
