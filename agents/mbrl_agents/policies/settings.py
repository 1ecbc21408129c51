"""Settings of Stable-Baselines3's algorithms: plain values, checked against their signatures."""

import difflib
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from mbrl_bilevel.errors import ConfigError

ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "leaky_relu": nn.LeakyReLU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}
SHORTCUTS = ("net_arch", "activation_fn")
"""Settings of the policy that may stand beside the algorithm's own."""

_OURS = {
    "self", "policy", "env", "seed", "device", "verbose", "tensorboard_log", "stats_window_size",
    "monitor_wrapper", "optimize_memory_usage", "replay_buffer_class", "replay_buffer_kwargs",
    "rollout_buffer_class", "rollout_buffer_kwargs", "_init_setup_model",
}  # fmt: skip
_OURS_OF_POLICY = {
    "self", "observation_space", "action_space", "lr_schedule", "use_sde", "normalize_images",
    "features_extractor_class", "features_extractor_kwargs", "optimizer_class",
}  # fmt: skip


def check_settings(
    name: str, algorithm_class: Any, settings: Mapping[str, Any], fixed: Iterable[str]
) -> None:
    """Refuse settings that an algorithm does not have, or of the wrong type.

    Args:
        name: Of the algorithm.
        algorithm_class: Whose constructor the settings are for.
        settings: To be checked.
        fixed: Names of arguments that are not the user's to set.

    Raises:
        ConfigError: If one is unknown, fixed, or not of its default's type.
    """
    defaults = _parameters(algorithm_class)
    allowed = sorted({*defaults, *SHORTCUTS} - _OURS - set(fixed))
    _refuse_unknown(f"{name}'s settings", settings, allowed)
    for key in settings.keys() & defaults.keys():
        _check_type(f"{name}'s setting {key!r}", settings[key], defaults[key])
    policy_kwargs = settings.get("policy_kwargs") or {}
    if not isinstance(policy_kwargs, Mapping):
        raise ConfigError(
            f"invalid value for {name}'s setting 'policy_kwargs': {policy_kwargs!r}; "
            "allowed: a mapping"
        )
    of_policy = _parameters(algorithm_class.policy_aliases["MlpPolicy"])
    _refuse_unknown(
        f"{name}'s policy_kwargs", policy_kwargs, sorted(set(of_policy) - _OURS_OF_POLICY)
    )


def policy_arguments(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return constructor arguments of checked settings: plain values replaced by what they mean.

    Raises:
        ConfigError: If an activation is unknown.
    """
    arguments = {key: value for key, value in settings.items() if key not in SHORTCUTS}
    policy_kwargs = dict(settings.get("policy_kwargs") or {})
    policy_kwargs |= {key: settings[key] for key in SHORTCUTS if key in settings}
    if "activation_fn" in policy_kwargs:
        policy_kwargs["activation_fn"] = _activation(policy_kwargs["activation_fn"])
    if isinstance(arguments.get("train_freq"), list):
        arguments["train_freq"] = tuple(arguments["train_freq"])
    return arguments | {"policy_kwargs": policy_kwargs}


def _parameters(some_class: Any) -> dict[str, Any]:
    signature = inspect.signature(some_class.__init__)
    return {name: parameter.default for name, parameter in signature.parameters.items()}


def _refuse_unknown(where: str, settings: Mapping[str, Any], allowed: list[str]) -> None:
    for key in settings:
        if key not in allowed:
            near = difflib.get_close_matches(str(key), allowed, n=1)
            hint = f", did you mean {near[0]!r}?" if near else ""
            raise ConfigError(
                f"unknown key {key!r} (value {settings[key]!r}){hint}; "
                f"allowed in {where}: {', '.join(allowed)}"
            )


def _check_type(where: str, value: Any, default: Any) -> None:
    """Compare with the default; None, names (`auto`) and lists may stand for numbers as well."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(default, bool):
        fits, allowed = isinstance(value, bool), "true or false"
    elif isinstance(default, int) and not isinstance(value, list):
        fits, allowed = is_number and float(value).is_integer(), "an integer"
    elif isinstance(default, float):
        fits, allowed = is_number, "a number"
    elif isinstance(default, str):
        fits, allowed = is_number or isinstance(value, str), f"a number, or a name like {default!r}"
    else:
        return
    if not fits:
        raise ConfigError(f"invalid value for {where}: {value!r}; allowed: {allowed}")


def _activation(name: Any) -> type[nn.Module]:
    if name not in ACTIVATIONS:
        raise ConfigError(
            f"invalid value for 'activation_fn': {name!r}; allowed: {', '.join(ACTIVATIONS)}"
        )
    return ACTIVATIONS[name]
