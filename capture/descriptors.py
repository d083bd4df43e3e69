"""How many file descriptors a process may have: each connection takes one."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from typing import Final

_FEW: Final = 0.9
"""Of the limit in use."""

logger = logging.getLogger(__name__)


def allow_many_files() -> None:
    """Raise the limit of descriptors as far as it goes without asking anybody; often it is 1,024."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class DescriptorWatch:
    """Says once when few descriptors are left, and again after there were enough: clients are refused then,
    and nobody else says why."""

    def __init__(self, limit: int | None = None) -> None:
        self._limit = _limit() if limit is None else limit
        self._said = False

    def look(self) -> None:
        """Warn if nearly all are in use."""
        used = _in_use(self._limit)
        few = used >= _FEW * self._limit
        if few and not self._said:
            logger.warning(
                "peaktape: %s of %s file descriptors are in use, without one clients are refused; "
                "raise the limit (ulimit -n, LimitNOFILE, --ulimit nofile)",
                f"{used:,}",
                f"{self._limit:,}",
            )
        self._said = few


def _in_use(limit: int) -> int:
    """About how many are in use: the kernel gives the lowest number that is free."""
    try:
        descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        return limit if error.errno == errno.EMFILE else 0
    os.close(descriptor)
    return descriptor


def _limit() -> int:
    try:
        import resource
    except ImportError:
        return 1 << 30
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 1 << 30
