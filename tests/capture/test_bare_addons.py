"""The proxy imports four of mitmproxy's addons, and nobody who wants them all is kept from them."""

from __future__ import annotations

import subprocess
import sys


def test_the_proxy_brings_no_web_framework_and_the_whole_package_is_still_to_be_had() -> None:
    program = """
import sys
import capture.proxy
from capture.bare_addons import core
assert not {"flask", "ldap3", "werkzeug", "mitmproxy.addons"} & set(sys.modules)
from mitmproxy import addons
assert len(addons.default_addons()) > 20
assert addons.core.Core is core.Core and "flask" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_package_that_is_here_already_stays_as_it_is() -> None:
    program = """
import sys
from mitmproxy import addons
import capture.proxy
assert sys.modules["mitmproxy.addons"] is addons
"""
    subprocess.run([sys.executable, "-c", program], check=True)
