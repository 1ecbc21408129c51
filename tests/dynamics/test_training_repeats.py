"""A fit repeats bit by bit, and goes on from saved weights as if nothing had been."""

import copy

import pytest
import torch

from mbrl_bilevel.dynamics import ModelTrainer, onednn
from tests.dynamics.cases import generator, make_model, settings
from tests.dynamics.fitting import EACH_OBJECTIVE, HELD_OUT, TRAINING, equal, fit, state


class TestReproducibility:
    @pytest.fixture(autouse=True)
    def short_termination_fits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("mbrl_bilevel.dynamics.termination.NUM_UPDATES", 10)

    @EACH_OBJECTIVE
    def test_the_same_seed_gives_the_same_bits(self, objective: str) -> None:
        runs = []
        for _ in range(2):
            model = make_model(objective, learns_reward=True, learns_termination=True)
            metrics = fit(model)
            runs.append((state(model), metrics))
        assert equal(runs[0][0], runs[1][0])
        assert runs[0][1] == runs[1][1]

    def test_bfloat16_products_train_as_well_and_repeat(self) -> None:
        runs = []
        for precision in ("bfloat16", "bfloat16", "float32"):
            model = make_model()
            metrics = fit(model, settings(num_updates=300, lr=5e-3, precision=precision))
            assert metrics["model/val_rmse"] < 0.3
            runs.append(state(model))
        assert equal(runs[0], runs[1])
        assert not equal(runs[0], runs[2])

    def test_small_batches_are_trained_on_in_float32_where_amx_would_slow_them(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(onednn, "multiplies_bfloat16", lambda: True)
        monkeypatch.setattr(onednn, "_capabilities", lambda: {"amx_bf16": True})
        states = []
        for precision in ("auto", "float32", "bfloat16"):
            model = make_model()
            fit(model, settings(batch_size=onednn.AMX_ROWS - 1, precision=precision))
            states.append(state(model))
        assert equal(states[0], states[1])
        assert not equal(states[0], states[2])

    def test_another_seed_does_not(self) -> None:
        states = []
        for seed in (0, 1):
            model = make_model()
            fit(model, seed=seed)
            states.append(state(model))
        assert not torch.equal(states[0]["network.weights.0"], states[1]["network.weights.0"])

    def test_the_global_generator_is_neither_used_nor_moved(self) -> None:
        states = []
        for seed in (0, 1):
            torch.manual_seed(seed)
            before = torch.get_rng_state()
            model = make_model("bilevel", learns_reward=True, learns_termination=True)
            fit(model)
            assert torch.equal(before, torch.get_rng_state())
            states.append(state(model))
        assert equal(*states)

    @EACH_OBJECTIVE
    def test_a_restored_trainer_goes_on_as_if_it_had_never_stopped(self, objective: str) -> None:
        config = settings(num_elite_members=2)

        def trainer(seed: int) -> ModelTrainer:
            model = make_model(
                objective, config, seed=seed, learns_reward=True, learns_termination=True
            )
            return ModelTrainer(model, config, seed=5)

        first = trainer(seed=0)
        first.fit(TRAINING[:100], HELD_OUT[:20], generator(1))
        saved = copy.deepcopy((first.model.state_dict(), first.state_dict()))
        uninterrupted = first.fit(TRAINING, HELD_OUT, generator(2))
        restored = trainer(seed=3)
        restored.model.load_state_dict(saved[0])
        restored.load_state_dict(saved[1])
        resumed = restored.fit(TRAINING, HELD_OUT, generator(2))
        assert equal(state(first.model), state(restored.model))
        assert uninterrupted == resumed

    def test_without_the_optimisers_state_it_would_not(self) -> None:
        first = ModelTrainer(make_model(), settings(), seed=5)
        first.fit(TRAINING, HELD_OUT, generator(1))
        forgetful = ModelTrainer(make_model(seed=3), settings(), seed=5)
        forgetful.model.load_state_dict(copy.deepcopy(first.model.state_dict()))
        for trainer in (first, forgetful):
            trainer.fit(TRAINING, HELD_OUT, generator(2))
        assert not equal(state(first.model), state(forgetful.model))
