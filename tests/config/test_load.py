"""Files and overrides to plain data."""

from pathlib import Path
from typing import Any

import pytest

from mbrl_bilevel.config import find_config, list_configs, load_data, to_yaml, validate
from mbrl_bilevel.errors import ConfigError
from tests.config.cases import MINIMAL, RunConfig


def load(tmp_path: Path, text: str, *overrides: str) -> dict[str, Any]:
    path = tmp_path / "my_run.yaml"
    path.write_text(text, encoding="utf-8")
    return load_data(path, overrides)


class TestFindConfig:
    @pytest.fixture(autouse=True)
    def shipped(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        folder = tmp_path / "shipped"
        folder.mkdir()
        for name in ("pets_pendulum", "fit_toy"):
            (folder / f"{name}.yaml").write_text(MINIMAL)
        (folder / "notes.txt").write_text("not a configuration")
        monkeypatch.setattr("mbrl_bilevel.config.load.configs_dir", lambda: folder)
        monkeypatch.chdir(tmp_path)
        return folder

    def test_a_shipped_configuration_by_its_name(self, shipped: Path) -> None:
        assert list_configs() == ["fit_toy", "pets_pendulum"]
        assert find_config("pets_pendulum") == shipped / "pets_pendulum.yaml"

    @pytest.mark.parametrize("name", ["own.yaml", "own.yml"])
    def test_a_file_by_its_path(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text(MINIMAL)
        assert find_config(str(tmp_path / name)) == tmp_path / name
        assert find_config(name) == Path(name)

    def test_a_name_that_is_nearly_right(self) -> None:
        message = "no configuration 'pets_pendulm', did you mean 'pets_pendulum'.*fit_toy"
        with pytest.raises(ConfigError, match=message):
            find_config("pets_pendulm")

    def test_a_path_that_does_not_exist(self) -> None:
        with pytest.raises(ConfigError, match=r"configuration file 'gone\.yaml' does not exist"):
            find_config("gone.yaml")

    def test_a_folder_is_no_configuration(self, tmp_path: Path) -> None:
        (tmp_path / "folder.yaml").mkdir()
        with pytest.raises(ConfigError, match=r"'folder\.yaml' does not exist"):
            find_config("folder.yaml")


class TestFiles:
    def test_the_run_is_named_after_the_file_unless_it_says_otherwise(self, tmp_path: Path) -> None:
        assert load(tmp_path, MINIMAL)["name"] == "my_run"
        assert load(tmp_path, MINIMAL + "name: other")["name"] == "other"
        assert load(tmp_path, MINIMAL, "name=third")["name"] == "third"

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("a: [1", r"cannot read configuration .*my_run\.yaml: .*line 1"),
            ("a: 1\na: 2", "duplicate key a"),
            ("- 1\n- 2", r"my_run\.yaml must be a mapping"),
            ("42", r"cannot read configuration .*my_run\.yaml: .*int"),
            ("seed: ${nowhere}", "cannot read configuration .*'nowhere' not found"),
        ],
    )
    def test_a_file_that_is_no_mapping(self, tmp_path: Path, text: str, message: str) -> None:
        with pytest.raises(ConfigError, match=message) as caught:
            load(tmp_path, text)
        assert "\n" not in str(caught.value)

    def test_a_file_that_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"cannot read configuration .*gone\.yaml"):
            load_data(tmp_path / "gone.yaml")
        (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(ConfigError, match=r"cannot read configuration .*bytes\.yaml"):
            load_data(tmp_path / "bytes.yaml")

    def test_an_empty_file_leaves_every_key_to_the_overrides(self, tmp_path: Path) -> None:
        assert load(tmp_path, "", "seed=3") == {"name": "my_run", "seed": 3}


class TestOverrides:
    @pytest.mark.parametrize(
        ("override", "value"),
        [
            ("seed=3", 3),
            ("seed=1e-3", 1e-3),
            ("seed=true", True),
            ("seed=null", None),
            ("seed=word", "word"),
            ("seed='3'", "3"),
            ("seed=[1, 2]", [1, 2]),
            ("seed={a: {b: 1}}", {"a": {"b": 1}}),
            ("seed=a=b", "a=b"),
            ("seed=module:Id-v0", "module:Id-v0"),
        ],
    )
    def test_values_are_yaml(self, tmp_path: Path, override: str, value: object) -> None:
        found = load(tmp_path, MINIMAL, override)["seed"]
        assert found == value
        assert type(found) is type(value)

    def test_a_dotted_key_changes_one_setting_and_leaves_its_siblings(self, tmp_path: Path) -> None:
        text = MINIMAL + "model: {lr: 0.1, batch_size: 7}"
        data = load(tmp_path, text, "model.lr=0.2", "env.kwargs.g=1", "seed=4")
        assert data["model"] == {"lr": 0.2, "batch_size": 7}
        assert data["env"] == {"id": "Pendulum-v1", "kwargs": {"g": 1}}
        assert data["seed"] == 4

    def test_the_last_override_wins(self, tmp_path: Path) -> None:
        assert load(tmp_path, MINIMAL, "seed=1", "seed=2")["seed"] == 2

    @pytest.mark.parametrize("before", ["objective: {name: beta_nll, beta: 0.9}", ""])
    def test_a_named_section_is_replaced_as_a_whole(self, tmp_path: Path, before: str) -> None:
        data = load(tmp_path, f"{MINIMAL}{before}", "objective=nll")
        assert data["objective"] == {"name": "nll"}
        text = MINIMAL.replace("{name: toy}", "{name: toy, planner: {name: tree, depth: 2}}")
        data = load(tmp_path, text, "agent.planner=shooting", "agent.planner.horizon=7")
        assert data["agent"] == {"name": "toy", "planner": {"name": "shooting", "horizon": 7}}

    def test_settings_join_a_bare_name_in_the_file(self, tmp_path: Path) -> None:
        data = load(tmp_path, MINIMAL + "objective: beta_nll", "objective.beta=0.9")
        assert data["objective"] == {"name": "beta_nll", "beta": 0.9}

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("seed", "override 'seed' is not of the form key=value"),
            ("=3", "override '=3' is not of the form key=value"),
            ("model..lr=3", "is not of the form key=value"),
            ("seed=[1", r"override 'seed=\[1': .*flow sequence"),
            ("seed=${gone}", "override .*'gone' not found"),
            ("total_timesteps.x=3", r"unknown key 'total_timesteps.x': .* is a value \(100\)"),
        ],
    )
    def test_an_override_that_cannot_be_applied(
        self, tmp_path: Path, override: str, message: str
    ) -> None:
        with pytest.raises(ConfigError, match=message) as caught:
            load(tmp_path, MINIMAL, override)
        assert "\n" not in str(caught.value)


class TestRoundTrip:
    @pytest.mark.parametrize(
        "overrides",
        [
            (),
            ("objective=mse", "agent.planner=tree"),
            ("model.lr=1e-7", "model.weight_decay=0", "model.num_elite_members=2"),
            ("model.hidden_sizes=[3, 4]", "eval.video=false", "objective.temperature=1e20"),
        ],
    )
    def test_a_written_configuration_loads_as_the_same(
        self, tmp_path: Path, overrides: tuple[str, ...]
    ) -> None:
        config = validate(RunConfig, load(tmp_path, MINIMAL, *overrides))
        (tmp_path / "written.yaml").write_text(to_yaml(config), encoding="utf-8")
        assert validate(RunConfig, load_data(tmp_path / "written.yaml")) == config

    @pytest.mark.parametrize(
        "value", ["1e5", "yes", "null", "010", "0x1F", "1_000", "a: b", "#", " ", "ü\n", ""]
    )
    def test_strings_that_look_like_something_else_stay_strings(
        self, tmp_path: Path, value: str
    ) -> None:
        data = load(tmp_path, MINIMAL) | {"env": {"id": "Pendulum-v1", "kwargs": {"key": value}}}
        config = validate(RunConfig, data)
        (tmp_path / "written.yaml").write_text(to_yaml(config), encoding="utf-8")
        assert validate(RunConfig, load_data(tmp_path / "written.yaml")) == config

    @pytest.mark.parametrize("value", [float("inf"), 1e300, -0.0, True, None, [1, {"a": 2.5}]])
    def test_other_arguments_of_environments_come_back(self, tmp_path: Path, value: object) -> None:
        data = load(tmp_path, MINIMAL) | {"env": {"id": "Pendulum-v1", "kwargs": {"key": value}}}
        config = validate(RunConfig, data)
        (tmp_path / "written.yaml").write_text(to_yaml(config), encoding="utf-8")
        kwargs = validate(RunConfig, load_data(tmp_path / "written.yaml")).env.kwargs
        assert repr(kwargs["key"]) == repr(value)
