"""What a run asks an agent to show: its model's predictions, and what matters in them."""

from typing import Any

import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mbrl_agents.planning import TrajectorySampler
from mbrl_bilevel.data import ActionCodec
from mbrl_bilevel.dynamics import DynamicsModel, ModelTrainer
from mbrl_bilevel.evaluation import what_matters


class ShowsItsModel:
    """What `mbrl_bilevel.types.ModelAgent` and `ReportingAgent` ask for, to inherit."""

    codec: ActionCodec
    device: torch.device
    model: DynamicsModel
    num_fits: int
    sampler: TrajectorySampler
    seed: int
    trainer: ModelTrainer

    def sample_trajectories(self, obs: NDArray[Any], actions: NDArray[Any]) -> NDArray[Any]:
        """Return what the model expects of an action sequence: `[P, H + 1, D_obs]`.

        Open loop, one trajectory a particle, with the same noise every time.

        Args:
            obs: Where to start, `[D_obs]`.
            actions: The environment's actions, `[H, *shape]`.
        """
        start = torch.as_tensor(obs, dtype=torch.float32, device=self.device)
        plan = self.codec.encode(self.codec.flatten(actions))
        generator = torch.Generator().manual_seed(self.seed)
        return self.sampler.trajectories(start, plan, generator).cpu().numpy()

    def evaluation_metrics(self) -> dict[str, float]:
        """Return what to log with an evaluation: its episodes say it all."""
        return {}

    def figures(self) -> dict[str, Figure]:
        """Return a picture of which dimensions matter for the return, if the objective asks."""
        shares, decay = self.model.objective.relevance, self.trainer.outer.decay
        if self.num_fits == 0 or (shares is None and decay is None):
            return {}
        return {
            "what_matters": what_matters(
                None if shares is None else shares.cpu().numpy(),
                None if decay is None else decay.input_rates[: self.model.obs_size].cpu().numpy(),
                self.model.obs_size,
            )
        }

    @torch.no_grad()
    def predict_next_obs(
        self, obs: NDArray[Any], actions: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return mean and variance of the next observations by each elite, `[E, N, D_obs]` both.

        Args:
            obs: `[N, D_obs]`.
            actions: The environment's actions, `[N, *shape]`.
        """
        start = torch.as_tensor(obs, dtype=torch.float32, device=self.device)
        features = self.codec.encode(self.codec.flatten(actions))
        elites = self.model.elite_indices
        inputs = torch.cat([start, features], dim=-1).expand(len(elites), -1, -1)
        prediction = self.model.members(elites).predict(inputs)
        size = self.model.obs_size
        variance = prediction.log_var.exp().expand_as(prediction.mean)[..., :size]
        return (start + prediction.mean[..., :size]).cpu().numpy(), variance.cpu().numpy()
