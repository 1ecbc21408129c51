"""Datasets recorded from the shell."""

import importlib
import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import minari
import numpy as np
import pytest

from mbrl_bilevel.config import CollectConfig, describe_fields, find_config, load_data, validate
from mbrl_bilevel.data.datasets import EpisodeDataset, load_episodes
from mbrl_bilevel.errors import DatasetError
from tests.cli.conftest import OwnModule
from tests.cli.small import cli, snapshot

DATASET = "mbrl/pendulum/random-v0"
UNFINISHED = "mbrl/pendulum/.random-v0.unfinished"
SHORT = "env.kwargs.max_episode_steps=10"
SB3 = (
    "policy=sb3",
    "policy.train_steps=40",
    "policy.settings={learning_starts: 30, policy_kwargs: {net_arch: [8]}}",
)


def collect(root: Path, *words: object, config: str = "collect_pendulum") -> int:
    """Record a few episodes of 10 steps below a folder of its own."""
    return cli("collect", config, SHORT, "episodes=4", f"dataset.root={root}", *words)


def recorded(root: Path, dataset_id: str = DATASET) -> EpisodeDataset:
    return load_episodes(root / dataset_id)


def assert_same(one: EpisodeDataset, other: EpisodeDataset) -> None:
    for name in ("obs", "actions", "rewards", "next_obs", "terminated", "truncated", "starts"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.fixture
def whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> EpisodeDataset:
    """What an uninterrupted collection records."""
    assert collect(tmp_path / "whole") == 0
    capsys.readouterr()
    return recorded(tmp_path / "whole")


def interrupt_at(
    call: int, name: str, monkeypatch: pytest.MonkeyPatch, module: str = "run"
) -> None:
    """Press Ctrl-C just before a function of the collection is called for the n-th time."""
    namespace = importlib.import_module(f"mbrl_bilevel.experiments.collect.{module}")
    function: Callable[..., Any] = getattr(namespace, name)
    calls = 0

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            monkeypatch.undo()
            raise KeyboardInterrupt
        return function(*args, **kwargs)

    monkeypatch.setattr(namespace, name, interrupted)


class TestDataset:
    def test_it_is_one_of_minaris(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
        words = [SHORT, "episodes=3", "seed=5"]
        assert cli("collect", "collect_pendulum", *words) == 0
        out, err = capsys.readouterr()
        assert f"dataset:    {DATASET}\n" in out
        assert "3 episodes, 30 steps, return -" in out
        assert "recorded 3/3 episodes" in err

        dataset = minari.load_dataset(DATASET)
        assert (dataset.total_episodes, dataset.total_steps) == (3, 30)
        assert dataset.recover_environment().spec.id == "Pendulum-v1"
        assert minari.list_local_datasets().keys() == {DATASET}
        for episode in dataset:
            assert episode.observations.shape == (11, 3)
            assert episode.truncations.tolist() == [False] * 9 + [True]
            assert not episode.terminations.any()
            assert dataset.action_space.contains(episode.actions[0])
        metadata = load_episodes(DATASET).metadata
        assert (metadata["algorithm_name"], metadata["seed"]) == ("random", 5)
        assert metadata["policy"] == {"name": "random"}
        assert metadata["versions"].keys() >= {"gymnasium", "minari", "mbrl-bilevel", "numpy"}
        assert not (tmp_path / "minari" / UNFINISHED).exists()

    def test_its_episodes_are_those_that_their_seeds_give(self, tmp_path: Path) -> None:
        assert collect(tmp_path / "whole") == 0
        dataset = minari.MinariDataset(tmp_path / "whole" / DATASET / "data")
        env = dataset.recover_environment()
        seeds = [m["seed"] for m in dataset.storage.get_episode_metadata(range(4))]
        assert len(set(seeds)) == 4
        for episode, seed in zip(dataset, seeds, strict=True):
            obs, _ = env.reset(seed=seed)
            np.testing.assert_array_equal(obs, episode.observations[0])
            for step, action in enumerate(episode.actions):
                obs, reward, *_ = env.step(action)
                np.testing.assert_array_equal(obs, episode.observations[step + 1])
                assert reward == episode.rewards[step]

    def test_the_same_seed_gives_the_same_and_another_another(
        self, whole: EpisodeDataset, tmp_path: Path
    ) -> None:
        assert collect(tmp_path / "again") == 0
        assert_same(recorded(tmp_path / "again"), whole)
        assert collect(tmp_path / "other", "seed=1") == 0
        other = recorded(tmp_path / "other")
        assert not np.isin(other.actions, whole.actions).any()
        assert not np.isin(other.obs, whole.obs).any()

    def test_episodes_do_not_depend_on_how_many_there_are(
        self, whole: EpisodeDataset, tmp_path: Path
    ) -> None:
        assert collect(tmp_path / "two", "episodes=2") == 0
        np.testing.assert_array_equal(recorded(tmp_path / "two").obs, whole.obs[:20])

    def test_discrete_actions_and_ends(self, tmp_path: Path) -> None:
        words = ("env.id=CartPole-v1", "env.kwargs={}", "dataset.id=poles-v3", "episodes=6")
        assert collect(tmp_path, *words) == 0
        dataset = recorded(tmp_path, "poles-v3")
        assert set(dataset.actions.tolist()) == {0, 1}
        assert dataset.terminated.sum() == 6
        assert not dataset.truncated.any()
        assert dataset.env_id == "CartPole-v1"


class TestResume:
    def test_after_ctrl_c_it_goes_on_with_the_next_episode(
        self,
        whole: EpisodeDataset,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        root = tmp_path / "stopped"
        interrupt_at(3, "record_episode", monkeypatch)
        assert collect(root) == 130
        out, err = capsys.readouterr()
        assert "stopped after 2 of 4 episodes; go on with:\n  mbrl-bilevel collect collect" in out
        assert "Traceback" not in err
        with pytest.raises(DatasetError, match="unfinished: its collection was interrupted"):
            recorded(root)

        # What a process leaves that was killed while it wrote:
        episodes = root / UNFINISHED / "episodes"
        (episodes / ".000002.4711.tmp.npz").write_bytes(b"PK")
        assert collect(root) == 0
        assert "recorded 2/4" not in capsys.readouterr().err
        assert_same(recorded(root), whole)
        assert not (root / UNFINISHED).exists()

    @pytest.mark.parametrize("name", ["write_minari", "_metadata"])
    def test_after_ctrl_c_while_the_dataset_is_written(
        self, name: str, whole: EpisodeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root = tmp_path / "stopped"
        interrupt_at(1, name, monkeypatch)
        assert collect(root) == 130
        assert not (root / DATASET).exists()
        # Half a dataset, as one that was killed there would leave.
        shutil.copytree(
            tmp_path / "whole" / DATASET, root / UNFINISHED / "dataset", dirs_exist_ok=True
        )
        assert collect(root) == 0
        assert_same(recorded(root), whole)

    def test_a_signal_in_the_middle_of_an_episode(
        self, own_module: OwnModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        own_module("interrupting", INTERRUPTING)
        words = ("env={id: 'interrupting:Interrupting-v0'}", "env.kwargs={max_episode_steps: 10}")
        previous = signal.signal(signal.SIGINT, signal.default_int_handler)
        monkeypatch.setenv("INTERRUPT_AT", "25")
        try:
            assert collect(tmp_path, *words) == 130
        finally:
            signal.signal(signal.SIGINT, previous)
        assert len(list((tmp_path / UNFINISHED / "episodes").iterdir())) == 2
        monkeypatch.setenv("INTERRUPT_AT", "0")
        assert collect(tmp_path, *words) == 0
        dataset = recorded(tmp_path)
        assert dataset.lengths.tolist() == [10] * 4
        # An environment that was registered by its class can be made again, too.
        assert dataset.env_id == "interrupting:Interrupting-v0"
        spec = json.loads(dataset.metadata["env_spec"])
        assert spec["entry_point"] == "interrupting:Interrupting"

    def test_more_episodes_may_be_asked_for(
        self, whole: EpisodeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        interrupt_at(2, "record_episode", monkeypatch)
        assert collect(tmp_path, "episodes=9") == 130
        assert collect(tmp_path, "episodes=4") == 0
        assert_same(recorded(tmp_path), whole)

    def test_other_settings_are_refused(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        interrupt_at(2, "record_episode", monkeypatch)
        assert collect(tmp_path) == 130
        before = snapshot(tmp_path)
        capsys.readouterr()
        assert collect(tmp_path, "seed=1", "env.kwargs.g=5.0") == 2
        err = capsys.readouterr().err
        assert "an unfinished collection with other settings" in err
        assert "env.kwargs.g was None, is 5.0; seed was 0, is 1" in err
        assert snapshot(tmp_path) == before

    def test_a_damaged_episode_is_named(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        interrupt_at(3, "record_episode", monkeypatch)
        assert collect(tmp_path) == 130
        damaged = tmp_path / UNFINISHED / "episodes" / "000001.npz"
        damaged.write_bytes(damaged.read_bytes()[:100])
        assert collect(tmp_path) == 1
        err = capsys.readouterr().err
        assert "000001.npz is damaged" in err
        assert "Traceback" not in err
        damaged.unlink()
        assert collect(tmp_path) == 0

    def test_a_complete_dataset_is_left_alone(
        self, whole: EpisodeDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = snapshot(tmp_path)
        assert collect(tmp_path / "whole") == 2
        assert "exists already; name another id" in capsys.readouterr().err
        assert snapshot(tmp_path) == before
        assert whole.num_episodes == 4


class TestPolicies:
    def test_one_of_sb3_is_trained_once_and_kept(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        interrupt_at(2, "record_episode", monkeypatch)
        stopped = tmp_path / "stopped"
        assert collect(stopped, *SB3) == 130
        assert "step 40/40 (100%)" in capsys.readouterr().err
        assert collect(stopped, *SB3) == 0
        assert "step 40/40" not in capsys.readouterr().err
        assert recorded(stopped).metadata["algorithm_name"] == "SB3 SAC after 40 steps, stochastic"

        # The policy that the dataset keeps, and the same training, act the same.
        saved = stopped / DATASET / "policy.zip"
        assert collect(tmp_path / "loaded", "policy=sb3", f"policy.path={saved}") == 0
        assert_same(recorded(tmp_path / "loaded"), recorded(stopped))
        assert recorded(tmp_path / "loaded").metadata["policy"]["sha256"]
        assert collect(tmp_path / "trained", *SB3) == 0
        assert_same(recorded(tmp_path / "trained"), recorded(stopped))

        assert collect(tmp_path / "best", *SB3, "policy.deterministic=true") == 0
        best = recorded(tmp_path / "best")
        assert not np.array_equal(best.actions, recorded(stopped).actions)
        np.testing.assert_array_equal(best.obs[::10], recorded(stopped).obs[::10])

    def test_a_training_that_is_interrupted_begins_anew(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        interrupt_at(1, "train_sb3", monkeypatch, module="sb3")
        assert collect(tmp_path, *SB3) == 130
        assert "stopped after 0 of 4 episodes" in capsys.readouterr().out
        assert collect(tmp_path, *SB3) == 0

    def test_an_agent_of_a_run_acts_as_its_checkpoint_has_it(
        self, finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        words = ("policy=agent", f"policy.run={finished_run}", "episodes=2")
        before = snapshot(finished_run)
        assert collect(tmp_path / "whole", *words) == 0
        dataset = recorded(tmp_path / "whole")
        assert dataset.metadata["algorithm_name"] == "pets at step_00000060, stochastic"
        assert dataset.metadata["policy"]["checkpoint"] == "step_00000060"
        interrupt_at(2, "record_episode", monkeypatch)
        assert collect(tmp_path / "stopped", *words) == 130
        assert collect(tmp_path / "stopped", *words) == 0
        assert_same(recorded(tmp_path / "stopped"), dataset)
        assert snapshot(finished_run) == before

    def test_an_agent_of_another_environment_is_refused(
        self, finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = ("policy=agent", f"policy.run={finished_run}", "env.id=CartPole-v1")
        assert collect(tmp_path / "data", *words) == 2
        assert "was trained in 'Pendulum-v1' with the observation" in capsys.readouterr().err
        assert not (tmp_path / "data").exists()


INTERRUPTING = """
import os
import signal

import gymnasium as gym
import numpy as np


class Interrupting(gym.Env):
    "Presses Ctrl-C at one of its steps."

    observation_space = gym.spaces.Box(-10, 10, (2,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    num_steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.num_steps += 1
        if self.num_steps == int(os.environ["INTERRUPT_AT"]):
            os.kill(os.getpid(), signal.SIGINT)
        return np.ones(2, np.float32), 0.0, False, False, {}


class Images(Interrupting):
    observation_space = gym.spaces.Box(0, 255, (8, 8, 3), np.uint8)


class Broken(Interrupting):
    def step(self, action):
        return np.full(2, np.nan, np.float32), 0.0, False, False, {}


for env in (Interrupting, Images, Broken):
    gym.register(f"{env.__name__}-v0", env, disable_env_checker=True)
"""

# Status, words, and what the message must say.
REFUSED: list[tuple[int, list[str], list[str]]] = [
    (2, ["episode=3"], ["unknown key 'episode' (value 3), did you mean 'episodes'?", "seed"]),
    (2, ["policy.train_steps=3"], ["'policy.train_steps'", "a setting of sb3 only"]),
    (2, ["policy=rndom"], ["'policy.name': 'rndom', did you mean 'random'?", "sb3, agent"]),
    (2, ["policy=sb3"], ["'policy'", "either a path, or train_steps of at least 1"]),
    (2, ["policy=sb3", "policy.train_steps=9", "policy.path=x.zip"], ["either a path, or"]),
    (2, ["policy=sb3", "policy.algorithm=sax"], ["'policy.algorithm': 'sax'", "'sac'"]),
    (2, ["policy=sb3", "policy.path=no.zip"], ["policy.path='no.zip'", "No such file"]),
    (2, ["policy=sb3", "policy.path=file"], ["policy.path='file' cannot be loaded as SAC"]),
    (
        2,
        ["policy=sb3", "policy.train_steps=9", "policy.settings.lr=1"],
        ["policy.settings={'lr': 1}", "unexpected keyword argument 'lr'"],
    ),
    (
        2,
        ["policy=sb3", "policy.train_steps=9", "policy.algorithm=dqn"],
        ["policy.algorithm='dqn'", "action space"],
    ),
    (2, ["policy=agent"], ["missing key 'policy.run'"]),
    (1, ["policy=agent", "policy.run=nowhere"], ["nowhere is not a run folder"]),
    (2, ["episodes=0"], ["invalid value for 'episodes': 0", "greater than or equal to 1"]),
    (2, ["dataset.id=random"], ["'dataset.id': 'random'", "ends in its version"]),
    (2, ["dataset.id=a/b-v0"], ["'dataset.id': 'a/b-v0'", "of at least two"]),
    (2, ["dataset.id=../up-v0"], ["'dataset.id': '../up-v0'"]),
    (2, ["env.id=Pendulm-v1"], ["env.id='Pendulm-v1'", "Did you mean: `Pendulum`"]),
    (1, ["env.id=interrupting:Images-v0"], ["allowed: one-dimensional Box (images are not"]),
    (1, ["env.id=FrozenLake-v1", "env.kwargs={}"], ["observation space Discrete(16)"]),
    (1, ["dataset.root=file"], ["cannot make the folder file/mbrl", "Not a directory"]),
]


@pytest.mark.parametrize(
    ("status", "words", "parts"), REFUSED, ids=[" ".join(words) for _, words, _ in REFUSED]
)
def test_what_cannot_be_recorded_is_refused_and_leaves_nothing(
    status: int,
    words: list[str],
    parts: list[str],
    own_module: OwnModule,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    own_module("interrupting", INTERRUPTING)
    (tmp_path / "file").write_text("mine")
    before = snapshot(tmp_path)
    assert collect(Path("data"), *words) == status
    out, err = capsys.readouterr()
    assert err.startswith("mbrl-bilevel: error: ")
    assert (out, err.count("\n")) == ("", 1)
    for part in parts:
        assert part in err
    assert snapshot(tmp_path) == before


def test_an_observation_that_is_not_finite_is_named(
    own_module: OwnModule, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own_module("interrupting", INTERRUPTING)
    assert collect(tmp_path, "env.id=interrupting:Broken-v0") == 1
    err = capsys.readouterr().err
    assert "Broken-v0, step 1 of an episode: the observation is [nan nan]" in err


def test_an_episode_without_an_end_is_noticed(
    own_module: OwnModule,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    own_module("interrupting", INTERRUPTING)
    monkeypatch.setenv("INTERRUPT_AT", "0")
    monkeypatch.setattr("mbrl_bilevel.experiments.collect.record.LONGEST_EPISODE", 20)
    assert collect(tmp_path, "env.id=interrupting:Interrupting-v0", "env.kwargs={}") == 1
    assert "has not ended after 20 steps; env.kwargs.max_episode" in capsys.readouterr().err


def test_help_names_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("collect", "--help") == 0
    out = capsys.readouterr().out
    assert "collect_pendulum" in out
    for field in describe_fields(CollectConfig):
        assert f"    {field.key} " in out
        assert field.meaning
        assert field.meaning in out


@pytest.mark.parametrize("name", ["collect_pendulum", "collect_hopper"])
def test_shipped_configurations_are_valid(name: str) -> None:
    config = validate(CollectConfig, load_data(find_config(name)))
    assert config.name == name


def test_a_lone_message_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt_at(1, "record_episode", monkeypatch)
    assert cli("collect", SHORT, "episodes=4", f"dataset.root={tmp_path / 'a b'}") == 130
    command = capsys.readouterr().out.splitlines()[-1].strip()
    assert command.startswith("mbrl-bilevel collect env.kwargs.max_episode_steps=10 episodes=4 ")
    assert command.endswith(f"'dataset.root={tmp_path / 'a b'}'")
    record = json.loads((tmp_path / "a b" / UNFINISHED / "collection.json").read_text())
    assert record["policy"] == {"name": "random"}
