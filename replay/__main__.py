"""Where the command `peaktape` begins: Ctrl-C while it is loaded ends as it does later, in one line.

All else is `replay.cli`'s, whose loading takes a tenth of a second.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Entry of the console script, and of `python -m replay`."""
    try:
        from replay.cli import main as command
    except KeyboardInterrupt:
        print("peaktape: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    command()


if __name__ == "__main__":
    main()
