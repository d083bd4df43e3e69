"""What may not be kept of a request: credentials and secrets, chosen JSON paths, prompts and completions.

Pure functions of values: no clock, no disk, no network. The policy and the door for a whole trace row are in
`capture.redaction`; `policy_file` reads a policy from YAML; `audit` searches a finished trace.
"""
