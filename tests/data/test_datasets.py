"""Episodes read from disk, and what can be taken from them."""

import copy
import json
from pathlib import Path

import gymnasium as gym
import minari
import numpy as np
import pytest

from mbrl_bilevel.data import ActionCodec, Transitions
from mbrl_bilevel.data.datasets import EpisodeDataset, load_episodes, local_dataset_ids
from mbrl_bilevel.errors import DatasetError
from tests.data.recorded import edit, episode, npz_arrays, write_dataset

LENGTHS = (3, 5, 2, 4)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


@pytest.fixture
def dataset(root: Path) -> EpisodeDataset:
    return load_episodes(write_dataset(root))


def assert_has_the_episodes(dataset: EpisodeDataset) -> None:
    """It holds the episodes of `recorded`, in order, in the agreed types."""
    assert dataset.starts.tolist() == [0, 3, 8, 10]
    assert dataset.lengths.tolist() == list(LENGTHS)
    assert (dataset.num_episodes, dataset.num_steps, len(dataset.steps)) == (4, 14, 14)
    expected = [episode(number, length) for number, length in enumerate(LENGTHS)]
    for array, parts in (
        (dataset.obs, [e.obs[:-1] for e in expected]),
        (dataset.next_obs, [e.obs[1:] for e in expected]),
        (dataset.actions, [e.actions for e in expected]),
        (dataset.rewards, [e.rewards for e in expected]),
    ):
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, np.concatenate(parts).astype(np.float32))
    assert np.flatnonzero(dataset.terminated).tolist() == [7, 13]
    assert np.flatnonzero(dataset.truncated).tolist() == [2, 9]
    assert dataset.returns.tolist() == [3.0, 15.0, 5.0, 18.0]


def test_a_minari_dataset_is_read_by_folder_and_by_id(root: Path) -> None:
    folder = write_dataset(root)
    for source in (folder, str(folder), folder / "data", "toys/line-v0"):
        dataset = load_episodes(source)
        assert_has_the_episodes(dataset)
        assert dataset.name == "toys/line-v0"
        assert dataset.metadata["algorithm_name"] == "ruler"
    assert local_dataset_ids() == ["toys/line-v0"]


def test_minari_reads_what_was_written(root: Path) -> None:
    write_dataset(root, env_spec=gym.spec("Pendulum-v1"))
    dataset = minari.load_dataset("toys/line-v0")
    assert (dataset.total_episodes, dataset.total_steps) == (4, 14)
    assert dataset.spec.env_spec is not None
    for number, found in enumerate(dataset):
        expected = episode(number, LENGTHS[number])
        np.testing.assert_array_equal(found.observations, expected.obs)
        np.testing.assert_array_equal(found.actions, expected.actions)
        np.testing.assert_array_equal(found.terminations, expected.terminated)
        np.testing.assert_array_equal(found.truncations, expected.truncated)
    seeds = [m["seed"] for m in dataset.storage.get_episode_metadata(range(4))]
    assert seeds == [100, 101, 102, 103]


def test_the_environment_is_named_but_not_made(root: Path) -> None:
    spec = copy.deepcopy(gym.spec("Pendulum-v1"))
    spec.entry_point = "nowhere:Missing"
    spec.id = "Missing-v3"
    assert load_episodes(write_dataset(root, env_spec=spec)).env_id == "Missing-v3"


def test_spaces_that_the_metadata_lack_are_those_of_the_data(root: Path) -> None:
    folder = write_dataset(root)
    path = folder / "data" / "metadata.json"
    metadata = json.loads(path.read_text())
    del metadata["observation_space"], metadata["action_space"]
    path.write_text(json.dumps(metadata))
    dataset = load_episodes(folder)
    assert_has_the_episodes(dataset)
    assert dataset.observation_space.shape == (2,)
    assert isinstance(dataset.action_space, gym.spaces.Box)
    np.testing.assert_allclose([dataset.action_space.low, dataset.action_space.high], [[0], [0.4]])


def test_an_npz_file_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "line.npz", **npz_arrays())
    dataset = load_episodes(tmp_path / "line.npz")
    assert_has_the_episodes(dataset)
    assert dataset.env_id is None
    bounds = {"action_low": np.array([-2.0]), "action_high": np.array([2.0])}
    np.savez(tmp_path / "bounded.npz", **npz_arrays(), **bounds)
    assert load_episodes(tmp_path / "bounded.npz").action_space == gym.spaces.Box(-2.0, 2.0, (1,))


def test_the_last_episode_of_an_npz_file_may_be_cut_off(tmp_path: Path) -> None:
    arrays = npz_arrays()
    arrays["terminated"][-1] = False
    np.savez(tmp_path / "line.npz", **arrays)
    assert load_episodes(tmp_path / "line.npz").lengths.tolist() == list(LENGTHS)


def test_discrete_actions_stay_integers(root: Path, tmp_path: Path) -> None:
    folder = write_dataset(root, action_space=gym.spaces.Discrete(3, start=-1))
    for number, length in enumerate(LENGTHS):
        edit(folder, f"episode_{number}/actions", np.arange(length) % 3 - 1)
    arrays = npz_arrays()
    arrays["action"] = np.concatenate([np.arange(length) % 3 - 1 for length in LENGTHS])
    np.savez(tmp_path / "line.npz", **arrays)
    for source in (folder, tmp_path / "line.npz"):
        dataset = load_episodes(source)
        assert dataset.actions.dtype == np.int64
        assert dataset.actions[:5].tolist() == [-1, 0, 1, -1, 0]
        assert dataset.action_space == gym.spaces.Discrete(3, start=-1)
        assert ActionCodec(dataset.action_space).encode(dataset.actions).shape == (14, 3)


def test_what_does_not_fit_into_memory_is_mapped_and_the_same(root: Path) -> None:
    folder = write_dataset(root)
    mapped = load_episodes(folder, memory_limit=100)
    assert isinstance(mapped.obs, np.memmap)
    assert not isinstance(load_episodes(folder).obs, np.memmap)
    assert_has_the_episodes(mapped)
    assert isinstance(mapped.transitions([0, 1]).obs, np.memmap)
    assert not isinstance(mapped.transitions([2]).obs, np.memmap)
    np.testing.assert_array_equal(mapped.transitions([2]).obs, mapped.obs[8:10])


@pytest.mark.parametrize("fractions", [(0.8, 0.2), (0.5, 0.25, 0.25), (0.98, 0.01, 0.01), (1.0,)])
def test_a_split_deals_out_every_episode_once(
    fractions: tuple[float, ...], dataset: EpisodeDataset
) -> None:
    parts = dataset.split(fractions, seed=0)
    assert len(parts) == len(fractions)
    assert all(len(part) > 0 for part in parts)
    assert sorted(np.concatenate(parts).tolist()) == [0, 1, 2, 3]
    assert all((np.diff(part) > 0).all() for part in parts)


def test_a_split_depends_on_its_seed_alone(root: Path) -> None:
    dataset = load_episodes(write_dataset(root, lengths=(1,) * 20))
    splits = [[p.tolist() for p in dataset.split((0.7, 0.3), seed)] for seed in (0, 0, 1)]
    assert splits[0] == splits[1] != splits[2]
    assert [len(part) for part in splits[0]] == [14, 6]


def test_a_split_wants_fractions_of_a_whole(dataset: EpisodeDataset) -> None:
    for fractions in ((0.5, 0.6), (1.0, 0.0), (1.5, -0.5)):
        with pytest.raises(ValueError, match="fractions must be positive and add up to 1"):
            dataset.split(fractions, seed=0)


def test_fewer_episodes_than_parts_cannot_be_split(root: Path) -> None:
    dataset = load_episodes(write_dataset(root, lengths=(6,)))
    message = "toys/line-v0 has 1 episode and cannot be split by episode into 2 parts"
    with pytest.raises(DatasetError, match=message):
        dataset.split((0.8, 0.2), seed=0)


def test_transitions_of_episodes_come_in_the_order_asked_for(dataset: EpisodeDataset) -> None:
    assert dataset.rows([2, 0]).tolist() == [8, 9, 0, 1, 2]
    found, expected = dataset.transitions([2, 0]), dataset.steps[dataset.rows([2, 0])]
    for name in Transitions.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    found.obs[:] = -1
    assert dataset.obs.min() >= 0
    assert len(dataset.transitions([])) == len(dataset.rows([])) == 0


def test_windows_stay_within_their_episode(dataset: EpisodeDataset) -> None:
    windows = dataset.windows([1, 2, 3], length=3, max_windows=100)
    # Episode 1 has three starts, 2 is too short for a whole window, 3 has two.
    assert windows.obs.tolist() == [[1, 0], [1, 1], [1, 2], [2, 0], [3, 0], [3, 1]]
    assert windows.num_steps.tolist() == [3, 3, 3, 2, 3, 3]
    assert windows.future_obs[1].tolist() == [[1, 2], [1, 3], [1, 4]]
    np.testing.assert_allclose(windows.actions[2, :, 0], [0.2, 0.3, 0.4])
    assert windows.future_obs[3].tolist() == [[2, 1], [2, 2], [2, 2]]


def test_windows_are_spread_over_the_episodes(dataset: EpisodeDataset) -> None:
    windows = dataset.windows([0, 1, 2, 3], length=1, max_windows=4)
    assert windows.obs[:, 0].tolist() == [0, 1, 2, 3]
    assert windows.obs[-1].tolist() == [3, 3]
    assert len(windows) == 4
