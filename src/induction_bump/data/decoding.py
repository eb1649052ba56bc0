"""Bytes to documents: what is no UTF-8 is refused, left out or mended, and said in one line."""

import logging
from collections.abc import Callable, Iterable, Iterator

from induction_bump.data.errors import CorpusError
from induction_bump.data.options import UndecodablePolicy

log = logging.getLogger(__name__)

_NAMED = 3
_DONE = {"skip": "left out", "replace": "such bytes became �"}

Piece = tuple[str, bytes]
"""What a user would look for, and its bytes."""

Decode = Callable[[bytes, str], str]
"""Text of bytes, under a policy as in `errors` of `bytes.decode`. Raises ValueError where they cannot be decoded."""


def utf8(data: bytes, errors: str) -> str:
    """UTF-8 and nothing else."""
    return data.decode("utf-8", errors)


class Decoder:
    """Turns what a source reads into texts, by the corpus's `undecodable`, and tells of what could not be decoded once.

    Args: kind, what the source reads ("files", "rows"); decode, bytes to text.
    """

    def __init__(self, policy: UndecodablePolicy, kind: str, decode: Decode = utf8) -> None:
        self.policy, self._kind, self._decode = policy, kind, decode
        self._told = False

    def texts(self, pieces: Iterable[Piece], most: int | None = None) -> Iterator[str]:
        """The texts of named pieces in their order, `most` at most; blank ones are left out.

        Raises CorpusError for one that cannot be decoded where that is refused, and where none could be.
        """
        read = undecodable = texts = 0
        named: list[str] = []
        for name, data in pieces:
            read += 1
            try:
                text = self._decode(data, "strict")
            except (ValueError, LookupError, SyntaxError) as error:
                if self.policy == "refuse":
                    raise CorpusError(
                        f"data.corpus.undecodable=refuse: {name} cannot be decoded: {error}; skip leaves it out,"
                        " replace puts � for what is no character"
                    ) from error
                undecodable += 1
                if len(named) < _NAMED:
                    named.append(name)
                text = self._decode(data, "replace") if self.policy == "replace" else ""
            if text.strip():
                texts += 1
                yield text
                if texts == most:
                    break
        if not undecodable:
            return
        more = f" and {undecodable - _NAMED} more" if undecodable > _NAMED else ""
        found = f"{undecodable} of {read} {self._kind} cannot be decoded ({', '.join(named)}{more})"
        if not texts:
            raise CorpusError(
                f"data.corpus.undecodable={self.policy}: {found}, and the others hold no text; give text as UTF-8"
            )
        if not self._told:
            self._told = True
            log.warning("data.corpus.undecodable=%s: %s; %s", self.policy, found, _DONE[self.policy])
