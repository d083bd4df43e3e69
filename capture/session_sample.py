"""Which sessions are in a sample: a keyed hash of what names a conversation from its first turn on.

All turns of a conversation are in or out together, in every process and in every capture with the same seed.
What names it, the first of these that there is:

1. a session header (`sessions.SESSION_HEADERS`), or the body's session field;
2. `previous_response_id`: what the answer that it names was drawn by;
3. the body's `user`, so that all of a person's conversations share a lot;
4. the messages up to and with the first one of a user;
5. nothing: the request is a session of its own, drawn by its id.

Not kept whole: a conversation that is named in one turn and not in the next, whose system prompt changes
between turns, or, by 2, whose earlier answer was not seen or is too long ago. Conversations that begin with
the same messages share a lot: a client that says the same few-shot examples each time is in as a whole or
not at all, and the share that is kept strays the further from `share` the fewer the lots are.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final

from capture.sessions import Recent, first_prompt, session_in_body

_ANSWERS: Final = 50_000


class SessionSample:
    """A share of all sessions, 0 … 1, drawn by `seed`; remembers the ids of answers, within bounds."""

    def __init__(self, share: float, seed: str) -> None:
        self._below = round(share * 2**64)
        self._key = blake2b(seed.encode(), digest_size=32).digest()
        self._answers: Recent[str, str] = Recent(_ANSWERS)

    def takes(self, name: str) -> bool:
        """Whether the session of that name is in the sample."""
        lot = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8, key=self._key)
        return int.from_bytes(lot.digest()) < self._below

    def name_of(self, request: Any, request_id: str) -> str:
        """What a request without a session header is drawn by; `request` is its parsed body, or None."""
        if not isinstance(request, dict):
            return request_id
        named = session_in_body(request)
        if named is not None:
            return named
        earlier, user = request.get("previous_response_id"), request.get("user")
        if isinstance(earlier, str):
            return self._answers.get(earlier) or earlier
        if isinstance(user, str) and user:
            return f"user {user}"
        prompt = first_prompt(request)
        return request_id if prompt is None else f"prompt {prompt.hex()}"

    def answered(self, name: str, answer_id: str) -> None:
        """A request that was drawn by `name` got an answer, which a later request may refer to by its id."""
        self._answers.put(answer_id, name)
