"""Replay: transform traces into schedules, fire them open loop, analyse and compare runs, report.

Importing this package imports neither mitmproxy nor aiohttp: start-up time is the user's time.
"""
