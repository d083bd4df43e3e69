"""Importers: other tools' records → traces. One file per source.

`azure_llm`, `burst_gpt`, `mooncake`, and mostly `otlp`, know only lengths, so their prompts are made by
`synthetic_prompt`; `gor`, `har`, `mitm_flows`, `vegeta` and, without bodies, `access_log` hold requests, that
pass the same redaction and reading as a live capture. What is out of order is sorted by `sorted_spool`; what
was stamped by a rounded clock is `clock`'s.
"""
