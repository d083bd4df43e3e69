"""Demo: an embedded inference server with a known queueing model, and the traffic that is sent to it.

It is a demonstration and a ground truth for tests, not a model server.
"""
