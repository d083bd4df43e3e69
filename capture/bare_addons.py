"""mitmproxy's master, and those addons that a capture proxy has, imported without the other thirty.

`mitmproxy.addons` imports all of them by name, a web framework and an LDAP client among them: a third of the
proxy's start, in which no client is served, and 13 MB in each of its processes. Nothing is changed here: who
imports `mitmproxy.addons` afterwards gets it whole.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Iterator

import mitmproxy

_PACKAGE = "mitmproxy.addons"


@contextlib.contextmanager
def _modules_of_the_package_alone() -> Iterator[None]:
    """Within it, an import of one of the package's modules doesn't run the package's own."""
    spec = None if _PACKAGE in sys.modules else importlib.util.find_spec(_PACKAGE)
    if spec is None:  # here already, whole
        yield
        return
    sys.modules[_PACKAGE] = importlib.util.module_from_spec(spec)
    try:
        yield
    finally:
        del sys.modules[_PACKAGE]
        vars(mitmproxy).pop("addons", None)


with _modules_of_the_package_alone():
    from mitmproxy.addons import core, next_layer, proxyserver, tlsconfig
    from mitmproxy.master import Master

__all__ = ["Master", "core", "next_layer", "proxyserver", "tlsconfig"]
