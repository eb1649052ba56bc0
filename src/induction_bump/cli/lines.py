"""What the commands print about mistakes and failures."""

import sys


def complain(message: str) -> None:
    """Print what is wrong to stderr, in two lines at most."""
    first, *rest = message.splitlines() or [""]
    print(f"bump: {first}", *(f"      {line}" for line in rest[:1]), sep="\n", file=sys.stderr)
