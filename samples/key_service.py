"""A key service for `--key kms:…`: the transit engine of Vault and OpenBao, which never gives a key out.

    export VAULT_ADDR=https://vault.internal:8200 VAULT_TOKEN=…
    PYTHONPATH=samples peaktape capture --upstream … -o prod.parquet --key kms:key_service:Vault:peaktape

MODULE:CLASS names this class, MASTER the key in Vault (`vault write -f transit/keys/peaktape`). For another
service, write the same two methods: wrap 16 or 32 bytes into text, and back. The class is called with a
`pyarrow.parquet.encryption.KmsConnectionConfig`, as pyarrow's own clients are, and may raise whatever says
best why there is no key: the command ends with that as one line.
"""

from __future__ import annotations

import base64
import json
import os
import urllib.request
from typing import Any

TIMEOUT_S = 10.0


class Vault:
    """Wraps data keys by https://developer.hashicorp.com/vault/api-docs/secret/transit."""

    def __init__(self, _config: Any) -> None:
        self._address = os.environ["VAULT_ADDR"].rstrip("/")
        self._token = os.environ["VAULT_TOKEN"]

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> str:
        """`key_bytes` under the service's key of that name, as text."""
        sent = {"plaintext": base64.b64encode(key_bytes).decode()}
        return str(self._ask("encrypt", master_key_identifier, sent)["ciphertext"])

    def unwrap_key(self, wrapped_key: str, master_key_identifier: str) -> bytes:
        """What `wrap_key` was given."""
        answer = self._ask("decrypt", master_key_identifier, {"ciphertext": wrapped_key})
        return base64.b64decode(answer["plaintext"])

    def _ask(self, what: str, name: str, sent: dict[str, str]) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310 - the address is the operator's own
            f"{self._address}/v1/transit/{what}/{name}",
            json.dumps(sent).encode(),
            {"X-Vault-Token": self._token, "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
            found: dict[str, Any] = json.load(answer)["data"]
            return found
