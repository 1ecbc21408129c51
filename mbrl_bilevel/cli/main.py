"""Entry point: parses, runs, and turns failures into one message and an exit status."""

import sys
import warnings
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from mbrl_bilevel.cli.parser import make_parser
from mbrl_bilevel.errors import MBRLError

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status.

    0: done. 1: it failed, and the message says at what. 2: it could not be run as asked.
    130: interrupted, the state saved.
    """
    # Environments of the user's own are imported by name: from where the command is typed, too.
    # At the end, so that a folder called like an installed package hides nothing.
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    arguments = parse(argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            status: int = arguments.run(arguments)
    except MBRLError as error:
        print(f"mbrl-bilevel: error: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("mbrl-bilevel: interrupted", file=sys.stderr)
        return INTERRUPTED
    return status


def parse(argv: Sequence[str] | None) -> Namespace:
    """Parse, with overrides allowed between and after options, too."""
    parser = make_parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and (not hasattr(arguments, "words") or any(word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        arguments.words += rest
    return arguments


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: object = None,
    line: str | None = None,
) -> None:
    """Show a warning as one line, without the source code that it comes from."""
    del category, filename, lineno, file, line
    print(f"mbrl-bilevel: warning: {message}", file=sys.stderr)
