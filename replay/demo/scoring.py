"""Embeddings as OpenAI's API has them and tabular predictions as KServe V2 has them: read, and answered.

Pure functions between bytes and values; the answers follow from the request's content alone.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from replay.demo.protocol import EMBED_MODEL, PREDICT_MODEL, Refusal, json_object, known_model, text_of

EMBED_DIMENSIONS: Final = 64


@dataclasses.dataclass(frozen=True)
class Embedding:
    """An embedding request: its texts, and how their vectors are wanted."""

    texts: tuple[str, ...]
    dimensions: int
    as_base64: bool
    input_tokens: int
    digest: bytes


def parse_embedding(body: bytes) -> Embedding:
    """Read an OpenAI embeddings request; raises `Refusal` 400 or 404."""
    form = json_object(body)
    known_model(form, (EMBED_MODEL,))
    given = form.get("input")
    several = given if isinstance(given, list) and given else [given]
    texts = tuple(text_of(text, "input") for text in several)
    dimensions = form.get("dimensions", EMBED_DIMENSIONS)
    if not isinstance(dimensions, int) or not 1 <= dimensions <= EMBED_DIMENSIONS:
        raise Refusal(400, f"dimensions: {dimensions!r} found, 1 to {EMBED_DIMENSIONS} wanted", "bad_value")
    return Embedding(
        texts=texts,
        dimensions=dimensions,
        as_base64=form.get("encoding_format") == "base64",
        input_tokens=sum(len(text.split()) for text in texts),
        digest=hashlib.shake_128("\0".join(texts).encode()).digest(8),
    )


def embedding_body(asked: Embedding) -> bytes:
    """The vectors, of length 1 and drawn from each text's hash, as OpenAI's list of embeddings."""
    data = []
    for index, text in enumerate(asked.texts):
        raw = hashlib.shake_128(text.encode()).digest(asked.dimensions)
        vector = np.frombuffer(raw, dtype=np.uint8).astype(np.float32) - np.float32(127.5)
        vector /= np.linalg.norm(vector)
        value: Any = vector.tolist()
        if asked.as_base64:
            value = base64.b64encode(vector.astype("<f4").tobytes()).decode()
        data.append({"object": "embedding", "index": index, "embedding": value})
    usage = {"prompt_tokens": asked.input_tokens, "total_tokens": asked.input_tokens}
    return json.dumps({"object": "list", "data": data, "model": EMBED_MODEL, "usage": usage}).encode()


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A V2 predict request: an id that is given back, and a score per row."""

    request_id: str | None
    scores: tuple[float, ...]
    digest: bytes


def parse_prediction(body: bytes) -> Prediction:
    """Read a KServe V2 infer request (JSON, first input of shape [rows, columns]); raises `Refusal`.

    A row's score is the logistic function of its mean.
    """
    form = json_object(body)
    inputs = form.get("inputs")
    given = inputs[0] if isinstance(inputs, list) and inputs else None
    if not isinstance(given, dict):
        raise Refusal(400, "inputs: a list of one or more tensors wanted", "bad_value")
    table = _tensor(given)
    request_id = form.get("id")
    return Prediction(
        request_id=request_id if isinstance(request_id, str) else None,
        scores=tuple(1 / (1 + math.exp(-max(-500.0, min(500.0, mean)))) for mean in table.mean(axis=1)),
        digest=hashlib.shake_128(table.tobytes()).digest(8),
    )


def _tensor(given: dict[str, Any]) -> npt.NDArray[np.float64]:
    wanted = "finite numbers of shape [rows, columns] wanted, 1 or more each"
    try:
        rows, columns = given["shape"]
        table = np.asarray(given["data"], dtype=np.float64).reshape(int(rows), int(columns))
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        raise Refusal(400, f"inputs: {wanted} ({error})", "bad_value") from error
    if table.size == 0 or not np.isfinite(table).all():
        raise Refusal(400, f"inputs: {wanted}", "bad_value")
    return table


def prediction_body(asked: Prediction) -> bytes:
    """The scores as a V2 infer response."""
    rows = len(asked.scores)
    output = {"name": "score", "datatype": "FP64", "shape": [rows, 1], "data": list(asked.scores)}
    form: dict[str, Any] = {"model_name": PREDICT_MODEL, "model_version": "1", "outputs": [output]}
    if asked.request_id is not None:
        form["id"] = asked.request_id
    return json.dumps(form).encode()
