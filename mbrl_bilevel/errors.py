"""Failures that the user can mend: shown as one message, without a traceback."""


class MBRLError(Exception):
    """Base class; the command line prints the message and exits with `exit_status`."""

    exit_status = 1


class ConfigError(MBRLError):
    """A configuration that cannot be run; the message names key, value and what is allowed."""

    exit_status = 2


class CheckpointError(MBRLError):
    """A checkpoint that is missing, damaged or does not fit. The message names the file."""


class EnvError(MBRLError):
    """An environment that cannot be used, or that returned something no agent can learn from."""


class DatasetError(MBRLError):
    """A dataset that is damaged, unfinished, or that nothing can be learned from."""
