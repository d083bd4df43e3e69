"""How many file descriptors a process may have: each connection takes one."""

from __future__ import annotations

import contextlib


def allow_many_files() -> None:
    """Raise the limit of descriptors as far as it goes without asking anybody; often it is 1,024."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
