"""Importers: other tools' records → traces. One file per source.

`azure_llm` and `mooncake` know only lengths, so their prompts are made by `synthetic_prompt`; `har` and
`mitm_flows` hold whole requests, which pass the same redaction and reading as a live capture.
"""
