"""Canaries: made-up secrets of every kind that a capture must not keep, each of them unlike any other."""

from __future__ import annotations

import dataclasses
import random
import string

ALNUM = string.ascii_letters + string.digits
UPPER = string.ascii_uppercase + string.digits
HEX = "0123456789abcdef"


@dataclasses.dataclass(frozen=True)
class Canary:
    """A secret as it is planted, and the part of it that must be found nowhere."""

    kind: str
    text: str
    secret: str


def canary(kind: str, chance: random.Random) -> Canary:
    """A new canary of one of `KINDS`."""

    def some(count: int, alphabet: str = ALNUM) -> str:
        return "7" + "".join(chance.choice(alphabet) for _ in range(count - 2)) + "q"

    def upper(count: int) -> str:
        return "".join(chance.choice(UPPER) for _ in range(count))

    texts = {
        "openai_key": f"sk-proj-{some(30)}",
        "anthropic_key": f"sk-ant-api03-{some(40)}",
        "stripe_key": f"sk_live_{some(24)}",
        "github_token": f"ghp_{some(36)}",
        "gitlab_token": f"glpat-{some(20)}",
        "slack_token": f"xoxb-{some(12, string.digits)}-{some(24)}",
        "google_key": f"AIza{some(35)}",
        "aws_access_key": f"AKIA{upper(16)}",
        "huggingface_token": f"hf_{some(34)}",
        "vendor_key": f"nvapi-{some(40)}",
        "jwt": f"eyJ{some(20)}.eyJ{some(30)}.{some(43)}",
        "payment_card": card_number(chance),
    }
    if kind in texts:
        return Canary(kind, texts[kind], texts[kind])
    secret = some(40)
    around = {
        "bearer_token": f"Bearer {secret}",
        "assigned_secret": f"AWS_SECRET_ACCESS_KEY={secret}",
        "password_in_url": f"postgres://admin:{secret}@db.internal/prod",
        "private_key": f"-----BEGIN EC PRIVATE KEY-----\n{secret}\n{some(64)}\n-----END EC PRIVATE KEY-----",
    }
    return Canary(kind, around[kind], secret)


KINDS = (
    *("openai_key", "anthropic_key", "stripe_key", "github_token", "gitlab_token", "slack_token"),
    *("google_key", "aws_access_key", "huggingface_token", "vendor_key", "jwt", "payment_card"),
    *("bearer_token", "assigned_secret", "password_in_url", "private_key"),
)


def card_number(chance: random.Random) -> str:
    """Sixteen digits of a Visa card whose check digit is right."""
    digits = [4, *(chance.randrange(10) for _ in range(14))]
    total = sum(sum(divmod(2 * d, 10)) if i % 2 == 0 else d for i, d in enumerate(digits))
    return "".join(map(str, (*digits, -total % 10)))
