"""`python -m replay.cli`: the command `peaktape` without its console script."""

from replay.cli import main

main()
