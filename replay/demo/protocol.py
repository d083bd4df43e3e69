"""What all requests to the demo server have in common: models, refusals, and reading a JSON body.

Pure functions between bytes and values. Chats are read and answered in `generation`, embeddings and
predictions in `scoring`; when something is said is decided in `queueing`, and done in `server`.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

CHAT_MODEL: Final = "demo-chat"
FLAKY_MODEL: Final = "demo-flaky"
EMBED_MODEL: Final = "demo-embed"
PREDICT_MODEL: Final = "demo-rank"
MODELS: Final = (CHAT_MODEL, FLAKY_MODEL, EMBED_MODEL, PREDICT_MODEL)


class Refusal(Exception):  # noqa: N818 - an answer to the client, not a defect
    """A request that is answered with an error `status`; the text is the error's message."""

    def __init__(self, status: int, message: str, code: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code

    def body(self) -> bytes:
        """The JSON error object that OpenAI's clients read."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        error = {"message": str(self), "type": kind, "param": None, "code": self.code}
        return json.dumps({"error": error}).encode()


def json_object(body: bytes) -> dict[str, Any]:
    try:
        form = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"the body is not JSON ({error})", "bad_json") from error
    if not isinstance(form, dict):
        raise Refusal(400, f"a JSON {type(form).__name__} found, an object wanted", "bad_json")
    return form


def known_model(form: dict[str, Any], known: tuple[str, ...]) -> str:
    model = form.get("model")
    if not isinstance(model, str) or not model:
        raise Refusal(400, "model: missing, the name of a model wanted", "bad_value")
    if model not in known:
        raise Refusal(404, f"model {model!r} not found; there are {', '.join(known)}", "model_not_found")
    return model


def text_of(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise Refusal(400, f"{name}: a {type(value).__name__} found, a string wanted", "bad_value")
    return value


def is_faulty(digest: bytes, fault_rate: float) -> bool:
    """Whether a request's content makes it fail: the same ones on every build and in every replay."""
    return int.from_bytes(hashlib.shake_128(b"fault" + digest).digest(8)) < fault_rate * 2**64
