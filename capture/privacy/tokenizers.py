"""A model's own tokenizer (`tokenizer.json`, as Hugging Face's are): pseudo-text of exactly as many tokens.

Needs the package `tokenizers`, which is no dependency: whoever names a file has it, or is told how to get it.
"""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path


class TokenizerCut:
    """Cuts texts into the tokens of the tokenizer in a file; joined they are the text.

    Can be sent to another process, which loads the file itself. `digest` is the file's sha256.
    """

    def __init__(self, path: Path) -> None:
        """Raises ValueError when the package is missing or the file can't be read."""
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise ValueError(
                "the package tokenizers is not installed; pip install tokenizers, or leave it out"
            ) from error
        self.path = path
        try:
            self.digest = hashlib.sha256(path.read_bytes()).hexdigest()
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises Exception itself
            raise ValueError(f"{path}: can't be read ({error}); a tokenizer.json wanted") from error

    def __call__(self, text: str) -> list[str]:
        """The tokens of `text` as its pieces. Tokens that share one character (bytes of it) are told apart by
        empty pieces, so that their number is the tokenizer's."""
        offsets = self._tokenizer.encode(text, add_special_tokens=False).offsets
        if not offsets:
            return [text] if text else []
        borders = [0]
        for _, end in offsets[:-1]:
            borders.append(max(borders[-1], end))
        borders.append(len(text))
        return [text[a:b] for a, b in itertools.pairwise(borders)]

    def __reduce__(self) -> tuple[type[TokenizerCut], tuple[Path]]:
        return TokenizerCut, (self.path,)
