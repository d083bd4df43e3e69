"""Capture: the Trace format, and everything that makes traces (proxy, addon, recorder, importers).

This package never imports `replay`: the producer owns the format, readers depend on it.
Nothing here is named like a standard-library module, because `mitmdump -s capture/addon.py` puts this
folder first on `sys.path`.
"""
