"""Datasets that cannot be used are refused with one message that says what is wrong, and where."""

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import minari
import numpy as np
import pytest

from mbrl_bilevel.data.datasets import load_episodes, unfinished_path
from mbrl_bilevel.errors import ConfigError, DatasetError
from tests.data.recorded import edit, npz_arrays, write_dataset


@pytest.fixture(autouse=True)
def _root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_dataset(tmp_path)


def edit_metadata(folder: Path, **values: Any) -> None:
    path = folder / "data" / "metadata.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def cut(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


class TestMissing:
    def test_an_unknown_id_names_the_nearest_and_where_it_was_looked_for(
        self, tmp_path: Path
    ) -> None:
        write_dataset(tmp_path)
        with pytest.raises(ConfigError, match="did you mean 'toys/line-v0'") as error:
            load_episodes("toys/lime-v0")
        assert f"below {tmp_path}" in str(error.value)
        assert "dataset.download=true" in str(error.value)

    def test_a_root_that_does_not_exist_is_not_made(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "nowhere"))
        with pytest.raises(ConfigError, match="there: none"):
            load_episodes("toys/line-v0")
        assert not (tmp_path / "nowhere").exists()

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ("/nowhere/at/all", "dataset folder '/nowhere/at/all' does not exist"),
            ("missing.npz", r"dataset file 'missing\.npz' does not exist"),
            ("../x-v0", "does not exist; allowed: a .npz file, the folder of a Minari"),
        ],
    )
    def test_a_missing_path_is_named(self, source: str, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            load_episodes(source)

    def test_a_folder_of_something_else(self, folder: Path) -> None:
        with pytest.raises(DatasetError, match=r"toys holds no Minari dataset: it has no data/"):
            load_episodes(folder.parent)

    def test_a_file_of_something_else(self, folder: Path) -> None:
        with pytest.raises(ConfigError, match=r"is a file; allowed: a \.npz file, the folder of"):
            load_episodes(folder / "data" / "main_data.hdf5")

    def test_a_download_that_fails_says_why(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(dataset_id: str) -> None:
            raise ConnectionError(f"no route to the host of {dataset_id}\nand more")

        monkeypatch.setattr(minari, "download_dataset", fail)
        message = r"'toys/far-v0' cannot be downloaded: no route to the host of toys/far-v0$"
        with pytest.raises(DatasetError, match=message):
            load_episodes("toys/far-v0", download=True)

    def test_a_download_is_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(minari, "download_dataset", lambda _: write_dataset(tmp_path))
        assert load_episodes("toys/line-v0", download=True).num_episodes == 4


class TestUnfinished:
    def test_an_interrupted_collection_is_not_read(self, folder: Path) -> None:
        hidden = unfinished_path(folder)
        shutil.move(folder, hidden)
        for source in (hidden, folder, "toys/line-v0"):
            with pytest.raises(DatasetError, match="unfinished: its collection was interrupted"):
                load_episodes(source)

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"total_episodes": 0}, "metadata counts 0 episodes, its file has 4"),
            ({"total_episodes": 5}, "metadata counts 5 episodes, its file has 4"),
            ({"total_steps": 13}, "metadata counts 13 steps, its file has 14"),
        ],
    )
    def test_metadata_that_disagree_with_the_file(
        self, values: dict[str, int], message: str, folder: Path
    ) -> None:
        edit_metadata(folder, **values)
        with pytest.raises(DatasetError, match=f"toys/line-v0 is unfinished: its {message}"):
            load_episodes(folder)

    def test_no_data_at_all(self, folder: Path) -> None:
        (folder / "data" / "main_data.hdf5").unlink()
        with pytest.raises(DatasetError, match=r"main_data\.hdf5 is missing"):
            load_episodes(folder)


class TestDamaged:
    @pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
    def test_a_truncated_file(self, share: float, folder: Path) -> None:
        cut(folder / "data" / "main_data.hdf5", share)
        with pytest.raises(DatasetError, match=r"main_data\.hdf5 is damaged or no HDF5 file"):
            load_episodes(folder)

    @pytest.mark.parametrize("start", range(0, 40_000, 1500))
    def test_overwritten_parts_are_noticed_or_harmless(self, start: int, folder: Path) -> None:
        path = folder / "data" / "main_data.hdf5"
        content = bytearray(path.read_bytes())
        content[start : start + 700] = b"\xff" * len(content[start : start + 700])
        path.write_bytes(content)
        # Anything but a DatasetError fails the test.
        with contextlib.suppress(DatasetError):
            load_episodes(folder)

    def test_a_missing_episode_is_named(self, folder: Path) -> None:
        edit(folder, "episode_2", None)
        with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
            file.create_group("episode_7")
        with pytest.raises(DatasetError, match="toys/line-v0, episode 2 cannot be read"):
            load_episodes(folder)

    def test_damaged_metadata(self, folder: Path) -> None:
        (folder / "data" / "metadata.json").write_text('{"total_episodes": ')
        with pytest.raises(DatasetError, match=r"metadata\.json cannot be read"):
            load_episodes(folder)
        (folder / "data" / "metadata.json").write_text("[]")
        with pytest.raises(DatasetError, match=r"metadata\.json does not hold a JSON object"):
            load_episodes(folder)
        (folder / "data" / "metadata.json").write_text('{"total_episodes": 4, "action_space": 3}')
        with pytest.raises(DatasetError, match="action_space cannot be read"):
            load_episodes(folder)

    @pytest.mark.parametrize(
        ("key", "values", "message"),
        [
            ("rewards", np.zeros(4), "6 observations, 5 actions, 4 rewards"),
            ("observations", np.zeros((5, 2)), "5 observations, 5 actions, 5 rewards"),
            ("actions", np.zeros((6, 1)), "6 observations, 6 actions, 5 rewards"),
            ("terminations", np.zeros(6, bool), "5 rewards, 6 terminations, 5 truncations"),
        ],
    )
    def test_lengths_that_disagree(self, key: str, values: Any, message: str, folder: Path) -> None:
        edit(folder, f"episode_1/{key}", values)
        with pytest.raises(DatasetError, match=f"episode 1: lengths disagree: .*{message}"):
            load_episodes(folder)

    @pytest.mark.parametrize(
        ("key", "index", "value", "message"),
        [
            ("observations", (2, 1), np.nan, "episode 1, step 2: observation entry 1 is nan"),
            ("observations", (5, 0), -np.inf, "episode 1, step 5: observation entry 0 is -inf"),
            ("actions", (4, 0), np.nan, "episode 1, step 4: action entry 0 is nan"),
            ("rewards", (3,), np.inf, "episode 1, step 3: reward is inf"),
            ("rewards", (3,), 1e300, "episode 1, step 3: reward is inf"),
        ],
    )
    def test_what_is_not_finite_is_named(
        self, key: str, index: tuple[int, ...], value: float, message: str, folder: Path
    ) -> None:
        with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
            file[f"episode_1/{key}"][index] = value
        with pytest.raises(DatasetError, match=f"dataset toys/line-v0, {message}"):
            load_episodes(folder)


class TestSpaces:
    @pytest.mark.parametrize(
        ("space", "message"),
        [
            (gym.spaces.Box(0, 255, (8, 8, 3), np.uint8), "images are not supported"),
            (gym.spaces.Dict(a=gym.spaces.Box(0, 1, (2,))), "observation space Dict"),
            (gym.spaces.Discrete(4), "allowed: one-dimensional Box"),
        ],
    )
    def test_observations_must_be_vectors(
        self, space: gym.Space[Any], message: str, folder: Path
    ) -> None:
        from minari.serialization import serialize_space

        edit_metadata(folder, observation_space=serialize_space(space))
        with pytest.raises(DatasetError, match=f"dataset toys/line-v0: .*{message}"):
            load_episodes(folder)

    def test_actions_must_be_box_or_discrete(self, folder: Path) -> None:
        from minari.serialization import serialize_space

        edit_metadata(folder, action_space=serialize_space(gym.spaces.MultiDiscrete([2, 2])))
        with pytest.raises(DatasetError, match=r"action space MultiDiscrete.* allowed: Box, Disc"):
            load_episodes(folder)

    def test_observations_must_be_of_the_space(self, folder: Path) -> None:
        edit(folder, "episode_1/observations", np.zeros((6, 3)))
        with pytest.raises(DatasetError, match=r"episode 1: observations have the shape \(3,\)"):
            load_episodes(folder)

    def test_observations_in_groups(self, folder: Path) -> None:
        edit(folder, "episode_0/observations", None)
        with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
            file["episode_0/observations/camera"] = np.zeros((4, 2))
        with pytest.raises(DatasetError, match="episode 0: observations are a dictionary"):
            load_episodes(folder)

    def test_another_format(self, folder: Path) -> None:
        edit_metadata(folder, data_format="arrow")
        with pytest.raises(DatasetError, match="has the format 'arrow'; allowed: 'hdf5'"):
            load_episodes(folder)


class TestNpz:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"reward": None, "next_obs": None}, "lacks 'reward', 'next_obs'; it has 'obs', 'act"),
            ({"reward": np.zeros(13)}, r"lengths disagree: 'reward' has the shape \(13,\)"),
            ({"next_obs": np.zeros((14, 3))}, r"lengths disagree: 'next_obs' has .*\(14, 3\)"),
            ({"obs": np.zeros((14, 8, 8, 3))}, "images are not supported"),
            ({"terminated": np.full(14, 2)}, "'terminated' must hold true and false only"),
            ({"reward": np.full(14, "a")}, "'reward' holds <U1; allowed: numbers"),
            ({"action_low": np.zeros(2)}, "'action_low' and 'action_high' do not fit actions of 1"),
            ({"terminated": np.zeros(14, bool)}, "episode 1: next_obs of step 4 is not obs of"),
        ],
    )
    def test_what_does_not_fit_together(
        self, changes: dict[str, Any], message: str, tmp_path: Path
    ) -> None:
        arrays = {k: v for k, v in {**npz_arrays(), **changes}.items() if v is not None}
        np.savez(tmp_path / "line.npz", **arrays)
        with pytest.raises(DatasetError, match=message):
            load_episodes(tmp_path / "line.npz")

    def test_nan_is_named(self, tmp_path: Path) -> None:
        arrays = npz_arrays()
        arrays["obs"][4, 1] = np.nan
        np.savez(tmp_path / "line.npz", **arrays)
        with pytest.raises(DatasetError, match="episode 1, step 1: observation entry 1 is nan"):
            load_episodes(tmp_path / "line.npz")

    def test_an_empty_one(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "line.npz", **{k: v[:0] for k, v in npz_arrays().items()})
        with pytest.raises(DatasetError, match=r"line\.npz is empty"):
            load_episodes(tmp_path / "line.npz")

    @pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
    def test_a_truncated_one(self, share: float, tmp_path: Path) -> None:
        np.savez(tmp_path / "line.npz", **npz_arrays())
        cut(tmp_path / "line.npz", share)
        with pytest.raises(DatasetError, match=r"line\.npz is damaged or no NPZ file"):
            load_episodes(tmp_path / "line.npz")

    def test_objects_run_no_code(self, tmp_path: Path) -> None:
        arrays = {**npz_arrays(), "reward": np.array([object()] * 14)}
        np.savez(tmp_path / "line.npz", **arrays)
        with pytest.raises(DatasetError, match="damaged or no NPZ file: Object arrays cannot"):
            load_episodes(tmp_path / "line.npz")
