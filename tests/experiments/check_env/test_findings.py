"""Every fault is found by its own name, and nothing else is; a sound environment has none."""

import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from mbrl_bilevel.experiments.check_env import FAULTS, Report, Severity, check_env, recording
from tests.experiments.check_env import environments as envs

# The environment, the codes (Gymnasium's own apart), and what the first of them has to say.
CASES: list[tuple[type[gym.Env[Any, Any]], set[str], str]] = [
    (envs.WrongDtype, {"obs_dtype"}, "episode 0, reset: observation has dtype float64, its space"),
    (envs.NarrowerDtype, {"obs_dtype"}, "dtype float32, its space float64 (so in 204 of 204)"),
    (envs.ObsIsList, {"obs_type"}, "a list, no NumPy array"),
    (envs.ObsHasWrongShape, {"obs_shape"}, "has shape (2, 1), its space (2,)"),
    (envs.ObsBecomesNaN, {"obs_not_finite"}, "episode 0, step 3: observation, dimension 1, is nan"),
    (
        envs.ObsLeavesItsSpace,
        {"obs_outside_space"},
        "episode 0, step 4: observation, dimension 1, is 101.5, above the space's 100",
    ),
    (envs.ObsRoundedOutside, {"obs_outside_space"}, "by rounding"),
    (envs.ObsReused, {"obs_reused"}, "episode 0, step 1: step changed the array returned before"),
    (envs.RewardIsNaN, {"reward_not_finite"}, "episode 0, step 7: the reward is nan"),
    (envs.RewardIsArray, {"reward_type"}, "a ndarray, no number"),
    (envs.FlagIsInt, {"flag_type"}, "terminated is 0, a int, no bool"),
    (envs.InfoIsNone, {"info_type"}, "info is None"),
    (envs.ActionModified, {"action_modified"}, "episode 0, step 1"),
    (envs.ResetRaises, {"reset_fails"}, "raised RuntimeError: no simulator here"),
    (envs.ResetReturnsObsOnly, {"reset_fails"}, "reset returned array("),
    (envs.StepRaises, {"step_fails"}, "episode 0, step 5: step(array("),
    (envs.StepReturnsFour, {"step_fails"}, "episode 0, step 1"),
    (envs.GlobalStart, {"reset_not_deterministic"}, "it draws from a global generator"),
    (envs.SampledStart, {"reset_not_deterministic"}, "it draws samples from its spaces"),
    (envs.NoisyStep, {"step_not_deterministic"}, "step 1 returned obs, dimension 0, "),
    (envs.StepRemembers, {"step_not_deterministic"}, "neither the global generators nor"),
    (envs.OneStart, {"one_start"}, "resets is the same"),
    (envs.PaysAfterTheEnd, {"reward_after_end"}, "a step after the termination paid -0."),
    (envs.BothFlags, {"both_flags"}, "terminated and truncated are both true"),
    (envs.TerminatedByTime, {"time_as_termination"}, "terminated after exactly 40 steps"),
    (envs.Images, {"obs_space_image"}, "observation is an image, Box(0, 255, (8, 8, 3), uint8)"),
    (envs.PartIsImage, {"obs_space_image"}, "observation['camera'] is an image"),
    (envs.Table, {"obs_space_unsupported"}, "(2, 2)"),
    (envs.OfAnySize, {"obs_space_unsupported", "one_start"}, "without a fixed size: ['list']"),
    (envs.Numbered, {"obs_space_discrete"}, "Discrete(100)"),
    (envs.InParts, {"obs_space_flattened"}, "Dict of 2 numbers"),
    (envs.InTwo, {"obs_space_flattened"}, "Tuple of 2 numbers"),
    (
        envs.PartOutside,
        {"obs_outside_space", "obs_space_flattened", "obs_constant"},
        "observation['vel'], dimension 0, is 101.5",
    ),
    (envs.UnboundedActions, {"action_space_unbounded"}, "Box(-inf, inf, (1,), float32)"),
    (envs.ManyActions, {"action_space_unsupported"}, "MultiDiscrete([3 3])"),
    (envs.NoSpace, {"space_missing"}, "observation_space is None"),
    (envs.Constant, {"obs_constant"}, "dimension 2 of 3 never changed in 204 observations"),
    (envs.Redundant, {"obs_redundant"}, "always equal: dimensions 0, 2"),
    (envs.Scales, {"obs_scales"}, "(dimension 2)"),
    (envs.Imprecise, {"obs_precision"}, "dimension 2 has values up to 1e+08"),
    (envs.Angle, {"obs_jumps"}, "the range is 2 pi"),
    (envs.Frozen, {"obs_frozen", "obs_constant"}, "changed nothing at all"),
    (envs.RewardIsConstant, {"reward_constant"}, "all 200 rewards are 1"),
    (envs.PositionOnly, {"next_obs_needs_history"}, "dimension 0: "),
    (envs.RewardCounts, {"reward_needs_history"}, "with the step before"),
]


def own(report: Report) -> set[str]:
    """The codes found by this project's checks."""
    return {code for code in report.codes if not code.startswith("gymnasium")}


@pytest.mark.parametrize(("cls", "codes", "text"), CASES, ids=[c[0].__name__ for c in CASES])
def test_a_fault_is_named(cls: type[gym.Env[Any, Any]], codes: set[str], text: str) -> None:
    needs_many = any(code.endswith("needs_history") for code in codes)
    report = check_env(envs.limited(cls), num_episodes=10 if needs_many else 4)
    assert own(report) == codes
    assert any(text in finding.what for finding in report.findings), report.to_text()


@pytest.mark.parametrize("cls", [envs.Sound, envs.Ends, envs.Blinks])
def test_a_sound_environment_has_no_fault(cls: type[gym.Env[Any, Any]]) -> None:
    report = check_env(envs.limited(cls), num_episodes=10)
    assert report.findings == ()
    assert report.to_text().endswith("\n\nnothing found")


@pytest.mark.parametrize("cls", [envs.NarrowerDtype, envs.ObsRoundedOutside])
def test_what_does_no_harm_is_no_error(cls: type[gym.Env[Any, Any]]) -> None:
    report = check_env(envs.limited(cls), num_episodes=1)
    (finding,) = [f for f in report.findings if not f.code.startswith("gymnasium")]
    assert (FAULTS[finding.code].severity, finding.severity) == (Severity.ERROR, Severity.NOTE)


def test_an_episode_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    assert recording.MAX_EPISODE_STEPS == 10_000
    monkeypatch.setattr(recording, "MAX_EPISODE_STEPS", 300)
    report = check_env(envs.Sound())
    assert "never_ends" in report.codes
    (finding,) = (f for f in report.findings if f.code == "never_ends")
    assert "neither terminated nor truncated in 300 steps" in finding.what
    assert report.facts["recorded"].startswith("1 episodes of 300 to 300 steps")
    assert report.num_errors > 0


def test_ends_without_a_time_limit() -> None:
    report = check_env(envs.Ends())
    assert own(report) == {"no_time_limit"}
    assert report.num_errors == 0


def test_what_gymnasium_s_checker_says() -> None:
    report = check_env(envs.limited(envs.SeedIsOptional))
    assert set(report.codes) == {"gymnasium_warning"}
    assert "The default seed argument in reset should be `None`" in report.findings[0].what
    report = check_env(envs.limited(envs.InfoIsNone))
    assert "gymnasium_check" in report.codes


def test_an_environment_that_was_handed_in_stays_open() -> None:
    env = envs.limited(envs.Sound)
    check_env(env, num_episodes=1)
    env.reset(seed=0)
    assert env.step(env.action_space.sample())[0].shape == (2,)


def test_the_same_seed_gives_the_same_report() -> None:
    first, second = (check_env(envs.limited(envs.PositionOnly), seed=3) for _ in range(2))
    assert first == second
    assert check_env(envs.limited(envs.PositionOnly), seed=4) != first


ELSEWHERE = {
    "never_ends",
    "no_time_limit",
    "gymnasium_check",
    "gymnasium_warning",
    "instances_differ",
    "task_fails",
    "task_reward_wrong",
    "task_shape",
    "task_termination_wrong",
}
"""Tested above, and in test_tasks.py."""


def test_every_fault_has_a_case() -> None:
    assert {code for _, codes, _ in CASES for code in codes} | ELSEWHERE == set(FAULTS)


@pytest.mark.parametrize("code", FAULTS)
def test_every_fault_says_what_it_means_and_what_to_do(code: str) -> None:
    assert FAULTS[code].meaning
    assert FAULTS[code].advice


@pytest.mark.parametrize("severity", Severity)
def test_the_documentation_lists_every_code_under_its_severity(severity: Severity) -> None:
    text = (Path(__file__).parents[3] / "docs" / "custom_environments.md").read_text()
    table = text.partition("| about | errors | warnings | notes |")[2].partition("\n\n")[0]
    rows = [line.split("|")[2:5] for line in table.splitlines()[2:]]
    column = list(Severity).index(severity)
    codes = [code for row in rows for code in re.findall(r"`(\w+)`", row[column])]
    assert sorted(codes) == sorted(c for c, fault in FAULTS.items() if fault.severity is severity)
