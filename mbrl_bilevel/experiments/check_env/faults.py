"""What `check-env` can find: the codes, how bad each is, what it means here, and what to do."""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """An error keeps agents from learning, a warning misleads them, a note is good to know."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Fault:
    """One kind of finding.

    Attributes:
        severity: How bad it is.
        meaning: Its consequence for model-based training.
        advice: What to do about it.
    """

    severity: Severity
    meaning: str
    advice: str


def _error(meaning: str, advice: str) -> Fault:
    return Fault(Severity.ERROR, meaning, advice)


def _warning(meaning: str, advice: str) -> Fault:
    return Fault(Severity.WARNING, meaning, advice)


def _note(meaning: str, advice: str) -> Fault:
    return Fault(Severity.NOTE, meaning, advice)


FAULTS: dict[str, Fault] = {
    # The interface
    "gymnasium_check": _error(
        "the environment breaks Gymnasium's interface, which agents rely on",
        "mend what the message names; the checker stops at the first failure, so check again",
    ),
    "gymnasium_warning": _warning(
        "Gymnasium's checker finds it unusual; other libraries may stumble over it",
        "mend it if it was not meant",
    ),
    "reset_fails": _error("no episode can begin", "return `(obs, info)` from reset(seed=, ...)"),
    "step_fails": _error(
        "training stops there",
        "return `(obs, reward, terminated, truncated, info)` for every action of the space",
    ),
    "info_type": _error("the rest of the step cannot be trusted either", "return a dict, maybe {}"),
    "flag_type": _warning(
        "it is taken for true or false as Python does, which may not be what was meant",
        "return bool(...)",
    ),
    "action_modified": _warning(
        "the action that is recorded is not the one that was chosen: the model learns from it",
        "copy the action before changing it (action = np.clip(action, ...) makes a copy)",
    ),
    "obs_reused": _warning(
        "whoever keeps an observation finds it changed: obs and next_obs become equal (this "
        "project's agents copy it)",
        "return a copy",
    ),
    # Spaces
    "space_missing": _error(
        "nothing can be built for it", "set self.observation_space and self.action_space"
    ),
    "obs_space_image": _error(
        "images are not supported: the models predict state vectors, and training refuses it",
        "observe a state vector, or the features of an encoder, in a one-dimensional Box",
    ),
    "obs_space_unsupported": _error(
        "the models predict vectors, and training refuses this space",
        "wrap the environment in gymnasium.wrappers.FlattenObservation, or observe a "
        "one-dimensional Box",
    ),
    "obs_space_discrete": _note(
        "a state without a vector is for tabular agents; the others refuse it",
        "for those, gymnasium.wrappers.FlattenObservation makes it one-hot",
    ),
    "obs_space_flattened": _note(
        "training flattens it to one vector (FlattenObservation); reward_fn and termination_fn "
        "get that vector",
        "nothing; gymnasium.spaces.flatten_space tells the order",
    ),
    "action_space_unsupported": _error(
        "agents choose from a bounded Box or a Discrete space, and refuse this one",
        "use one of these; a MultiDiscrete space can be numbered through as a Discrete one",
    ),
    "action_space_unbounded": _error(
        "planners draw actions between the bounds, and there are none",
        "give the Box finite bounds, or wrap it in gymnasium.wrappers.ClipAction",
    ),
    # What is returned
    "obs_type": _error("it cannot be recorded as a vector", "return a NumPy array"),
    "obs_shape": _error("it does not fit the model's inputs", "make space and array agree"),
    "obs_dtype": _error(
        "what is recorded, copied and compared is not what the space promises: buffers of other "
        "libraries convert it silently, and rounding moves it out of bounds",
        "convert it (obs.astype(np.float32)), or give the space the dtype that is returned",
    ),
    "obs_not_finite": _error(
        "one such number makes the normaliser's mean, and then the whole model, nan; training "
        "stops with an error",
        "find what divides by zero or diverges; end the episode before it happens",
    ),
    "obs_outside_space": _error(
        "bounds that do not hold mislead whatever scales or clips by them",
        "widen the space to what occurs, or clip the observation (then the clipped state is "
        "what is seen, and the model has to predict the clipping)",
    ),
    "reward_type": _error("returns cannot be summed", "return float(reward)"),
    "reward_not_finite": _error(
        "a learned reward becomes nan with it, and planners would compare nothing; training "
        "stops with an error",
        "find what divides by zero; bound the reward",
    ),
    # Determinism
    "reset_not_deterministic": _error(
        "no run can be repeated, resumed exactly, or compared over seeds",
        "call super().reset(seed=seed) and draw from self.np_random only",
    ),
    "step_not_deterministic": _error(
        "no run can be repeated, and an interrupted episode cannot be brought back by --resume",
        "draw from self.np_random only; reset everything that an episode changes",
    ),
    "instances_differ": _warning(
        "training and evaluation make environments of their own: they differ in something that "
        "no seed controls",
        "draw in reset, from self.np_random, and not in __init__; keep nothing between instances",
    ),
    "one_start": _note(
        "all data begins in one state; the model knows only what is reached from there",
        "nothing if it is meant; else draw the start from self.np_random",
    ),
    # Ends of episodes
    "never_ends": _error(
        "done is never true: an episode of training or evaluation would go on forever",
        "register it with max_episode_steps=... (env.kwargs.max_episode_steps=... for a run), or "
        "end it by terminated or truncated",
    ),
    "no_time_limit": _note(
        "a policy that never reaches the end makes an evaluation last forever",
        "register it with max_episode_steps=... (env.kwargs.max_episode_steps=... for a run)",
    ),
    "both_flags": _warning(
        "the end of the task and a cut are told apart nowhere: the termination that the model "
        "learns includes the cuts, and values are not continued behind them",
        "terminated for an end that belongs to the task, truncated for anything outside it",
    ),
    "time_as_termination": _warning(
        "a time limit that is reported as terminated cannot be predicted from observation and "
        "action: the model learns ends that are not there",
        "report it as truncated (max_episode_steps=... does), or observe the time",
    ),
    "reward_after_end": _note(
        "imagined rollouts stop paying at the end, as they should; code that forgets the reset "
        "counts more",
        "nothing",
    ),
    # A registered task
    "task_fails": _error(
        "planning would stop there",
        "write it for tensors of any leading shape: obs[..., 0], never obs[0]",
    ),
    "task_shape": _error(
        "planners evaluate thousands of states at once, and would mix them up",
        "write it for tensors of any leading shape: obs[..., 0], never obs[0]",
    ),
    "task_reward_wrong": _error(
        "plans maximise something else than the environment pays",
        "mend reward_fn, or leave it out: the reward is learned then",
    ),
    "task_termination_wrong": _error(
        "plans go on behind the end, or stop before it",
        "mend termination_fn, or leave it out: the termination is learned then",
    ),
    # What a model has to learn
    "obs_constant": _note(
        "there is nothing to predict in it; it costs capacity only (or random actions never get "
        "to where it changes)",
        "leave it out if it never changes",
    ),
    "obs_redundant": _note(
        "a model can predict that they differ, a state that does not exist",
        "leave all but one out",
    ),
    "obs_scales": _note(
        "models normalise each dimension, so this is no harm in training; errors in the "
        "environment's units are of the largest",
        "nothing, or scale the observation",
    ),
    "obs_precision": _warning(
        "data is recorded in float32: what changes in a step is lost in rounding",
        "observe it relative to something (a goal, the start), or in another unit",
    ),
    "obs_jumps": _warning(
        "a smooth model puts its prediction between the two ends, where no state is, and its "
        "errors there dominate the likelihood",
        "observe cosine and sine of an angle instead; if it is an impact, nothing",
    ),
    "obs_frozen": _warning(
        "the change that the model learns is zero mostly",
        "repeat actions until something happens; look for one array that is returned and changed",
    ),
    "reward_constant": _note(
        "nothing is learned of the reward until other rewards are seen; random plans look alike",
        "register the exact reward with register_task, or shape the reward",
    ),
    "next_obs_needs_history": _note(
        "a hint, not a proof: something that matters is not observed, a velocity say, and the "
        "model takes it for noise",
        "add it to the observation, or stack observations "
        "(gymnasium.wrappers.FrameStackObservation, then FlattenObservation)",
    ),
    "reward_needs_history": _note(
        "a hint, not a proof: the reward depends on something that is not observed, and a learned "
        "reward takes it for noise",
        "add it to the observation (a counter, a goal, what was there before)",
    ),
}
"""By code. Codes are stable: scripts may rely on them."""
