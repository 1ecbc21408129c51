"""The command line, `mbrl-bilevel`."""

from mbrl_bilevel.cli.main import main

__all__ = ["main"]
