"""What is wrong with a command line, all of it at once."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def usage(command: str, problems: Sequence[str]) -> int:
    """Print the problems as argparse prints its own; returns the exit code."""
    more = f"{len(problems)} problems:\n  " if len(problems) > 1 else ""
    print(f"edgesdk {command}: error: {more}{chr(10).join(problems).replace(chr(10), chr(10) + '  ')}", file=sys.stderr)
    return 2
