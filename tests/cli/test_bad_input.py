"""What cannot be run is refused with one message, and leaves nothing behind."""

import shutil
from pathlib import Path

import pytest

from mbrl_bilevel.config import list_configs
from tests.cli.conftest import OwnModule
from tests.cli.small import cli, resume, snapshot, train

SPACES = """
import gymnasium as gym
import numpy as np


class Env(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)


class Images(Env):
    observation_space = gym.spaces.Box(0, 255, (8, 8, 3), np.uint8)


class Unbounded(Env):
    action_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)


class Breaks(Env):
    def __init__(self):
        raise RuntimeError("no simulator here")


for env in (Images, Unbounded, Breaks):
    gym.register(f"{env.__name__}-v0", env)
"""

PLANNER = "horizon, initial_std, kept_elites, momentum, name, noise_beta, num_elites"
AGENTS = "dyna, dyna_q, maac, mbpo, oracle, pets, psrl, q_learning, rmax, tabular_vi"
CONFIGS = ", ".join(list_configs())

# Status, words, and all that the message must say: key, value, what is allowed, the nearest name.
REFUSED: list[tuple[int, list[str], list[str]]] = [
    # Unknown keys
    (
        2,
        ["agent.planner.horizn=3"],
        [
            "unknown key 'agent.planner.horizn' (value 3), did you mean 'agent.planner.horizon'?",
            f"allowed in 'agent.planner': {PLANNER}",
        ],
    ),
    (2, ["sed=3"], ["unknown key 'sed' (value 3), did you mean 'seed'?", "total_timesteps"]),
    (
        2,
        ["objective=beta_nll", "objective.reward=scalar"],
        ["unknown key 'objective.reward' (value 'scalar'), a setting of bilevel only", "beta"],
    ),
    (2, ["env.render=true"], ["unknown key 'env.render' (value True)", "allowed in 'env': id"]),
    # Wrong types
    (
        2,
        ["agent.planner.horizon=long"],
        ["invalid value for 'agent.planner.horizon': 'long'", "a valid integer"],
    ),
    (2, ["agent.planner.horizon=2.5"], ["'agent.planner.horizon': 2.5", "a valid integer"]),
    (2, ["eval.video=maybe"], ["invalid value for 'eval.video': 'maybe'", "a valid boolean"]),
    (2, ["env=Pendulum-v1"], ["invalid value for 'env': 'Pendulum-v1'", "a valid dictionary"]),
    (2, ["total_timesteps="], ["invalid value for 'total_timesteps': None", "a valid integer"]),
    (2, ["env.id=3"], ["invalid value for 'env.id': 3", "a valid string"]),
    # Impossible values
    (
        2,
        ["agent.planner.horizon=0"],
        ["invalid value for 'agent.planner.horizon': 0", "greater than or equal to 1"],
    ),
    (2, ["total_timesteps=0"], ["'total_timesteps': 0", "greater than or equal to 1"]),
    (2, ["seed=-1"], ["invalid value for 'seed': -1", "greater than or equal to 0"]),
    (2, ["--seed", "-1"], ["invalid value for 'seed': -1", "greater than or equal to 0"]),
    (2, ["seed=4294967296"], ["invalid value for 'seed': 4294967296", "less than 4294967296"]),
    (2, ["model.hidden_sizes=[]"], ["'model.hidden_sizes': []", "at least 1 item"]),
    (2, ["model.num_elite_members=9"], ["'model.num_elite_members': 9", "ensemble_size=5"]),
    (
        2,
        ["agent.planner.num_elites=65"],
        ["invalid value for 'agent.planner':", "num_elites=65 exceeds population_size=64"],
    ),
    (2, ["name=a/b"], ["invalid value for 'name': 'a/b'"]),
    (2, ["device=gpu"], ["invalid value for 'device': 'gpu'", "'auto', 'cpu' or 'cuda'"]),
    # Unknown names
    (
        2,
        ["objective=nl"],
        ["'objective.name': 'nl', did you mean 'nll'?", "mse, nll, beta_nll, pg, bilevel"],
    ),
    (
        2,
        ["agent.name=pet"],
        ["'agent.name': 'pet', did you mean 'pets'?", f"allowed: {AGENTS}"],
    ),
    (
        2,
        ["agent.planner=icm"],
        ["'agent.planner.name': 'icm', did you mean 'icem'?", "icem, cem, mppi, random_shooting"],
    ),
    (2, ["env.id=Pendulm-v1"], ["env.id='Pendulm-v1'", "Did you mean: `Pendulum`"]),
    (2, ["env.id=Pendulum-v9"], ["env.id='Pendulum-v9'", "versioned environments: [ `v1` ]"]),
    (2, ["env.id=nowhere:Env-v0"], ["env.id='nowhere:Env-v0'", "no module 'nowhere'"]),
    (2, ["env.id=spaces:Other-v0"], ["env.id='spaces:Other-v0'", "`Other` doesn't exist"]),
    (2, ["env.kwargs.colour=red"], ["env.kwargs={'colour': 'red'}", "'Pendulum-v1'", "'colour'"]),
    # Environments that cannot be used
    (
        1,
        ["env.id=spaces:Images-v0"],
        ["observation space Box(0, 255, (8, 8, 3), uint8)", "allowed: one-dimensional Box"],
    ),
    (
        1,
        ["env.id=spaces:Unbounded-v0"],
        ["action space Box(-inf, inf, (1,), float32)", "allowed: Discrete, or Box with finite"],
    ),
    (1, ["env.id=FrozenLake-v1"], ["observation space Discrete(16)", "one-dimensional Box"]),
    (1, ["env.id=spaces:Breaks-v0"], ["'spaces:Breaks-v0' failed", "no simulator here"]),
    # Overrides that are none
    (2, ["=3"], ["override '=3' is not of the form key=value"]),
    (2, ["agent..name=pets"], ["override 'agent..name=pets' is not of the form key=value"]),
    (2, ["model.hidden_sizes=[8"], ["override 'model.hidden_sizes=[8'"]),
    (2, ["seed.x=3"], ["unknown key 'seed.x': 'seed' is a value (0), not a section"]),
]

IDS = [" ".join(words) for _, words, _ in REFUSED]

# The same for what names the configuration, which a run that is resumed has already.
CONFIG_REFUSED: list[tuple[list[str], list[str]]] = [
    (["pets_pendulum", "pets_walker"], ["one CONFIG at most", "'pets_pendulum' and 'pets_walker'"]),
    (["pets_pendulm"], ["'pets_pendulm', did you mean 'pets_pendulum'?", CONFIGS]),
    (["missing.yaml"], ["configuration file 'missing.yaml' does not exist"]),
    (["broken.yaml"], ["cannot read configuration broken.yaml", "line 2"]),
    (["list.yaml"], ["configuration list.yaml must be a mapping"]),
    (["empty.yaml"], [f"missing key 'agent.name'; allowed: {AGENTS}"]),
    (["no_steps.yaml"], ["missing key 'total_timesteps': it has no default"]),
]


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, own_module: OwnModule) -> None:
    own_module("spaces", SPACES)
    (tmp_path / "broken.yaml").write_text("env:\n  id: [Pendulum-v1\nseed: 0\n")
    (tmp_path / "list.yaml").write_text("- 1\n")
    (tmp_path / "empty.yaml").write_text("")
    (tmp_path / "no_steps.yaml").write_text("env: {id: Pendulum-v1}\nagent: {name: pets}\n")
    (tmp_path / "file").write_text("mine")


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A completed run, to do with as one likes."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


def assert_one_message(
    status: int, expected_status: int, parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The command failed as expected and said so in one line."""
    out, err = capsys.readouterr()
    assert status == expected_status, err
    assert err.startswith("mbrl-bilevel: error: ")
    assert (out, err.count("\n")) == ("", 1)
    for part in parts:
        assert part in err


@pytest.mark.parametrize(("status", "words", "parts"), REFUSED, ids=IDS)
def test_a_new_run_is_refused_and_leaves_nothing(
    status: int,
    words: list[str],
    parts: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = snapshot(tmp_path)
    # Short, should it be accepted; unfilmed, as what cannot be filmed would be warned of, too.
    found = cli("train", "total_timesteps=20", "eval.episodes=1", "eval.video=false", *words)
    assert_one_message(found, status, parts, capsys)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(("status", "words"), [case[:2] for case in REFUSED], ids=IDS)
def test_a_resumed_run_is_refused_and_stays_as_it_was(
    status: int, words: list[str], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(run)
    assert_one_message(resume(run, "eval.video=false", *words), status, [], capsys)
    assert snapshot(run) == before


@pytest.mark.parametrize(("words", "parts"), CONFIG_REFUSED)
def test_a_configuration_is_refused_and_leaves_nothing(
    words: list[str], parts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(tmp_path)
    assert_one_message(cli("train", *words), 2, parts, capsys)
    assert snapshot(tmp_path) == before


def test_several_faults_are_named_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("train", "seed=-1", "modle.lr=1", "total_timesteps=many") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    for part in ("'seed': -1", "'modle' (value", "'total_timesteps': 'many'"):
        assert any(part in line for line in lines), part


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--seed", "one"], "argument --seed: invalid int value: 'one'"),
        (["train", "--sed=1"], "unrecognized arguments: --sed=1"),
        (["trian"], "invalid choice: 'trian'"),
        ([], "the following arguments are required: COMMAND"),
    ],
)
def test_what_is_no_command_is_refused(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(tmp_path)
    assert cli(*words) == 2
    out, err = capsys.readouterr()
    assert (out, "Traceback" in err) == ("", False)
    assert message in err
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("folder", ["file", "file/run"])
def test_a_folder_that_cannot_be_made_is_named(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(tmp_path)
    parts = [f"cannot make the run folder {folder}: Not a directory"]
    assert_one_message(train(Path(folder)), 1, parts, capsys)
    assert snapshot(tmp_path) == before


def test_a_folder_with_a_run_is_not_written_to(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(run)
    parts = [f"{run} already holds a run; continue it with --resume, or name another folder"]
    assert_one_message(train(run, "seed=1"), 1, parts, capsys)
    assert snapshot(run) == before
