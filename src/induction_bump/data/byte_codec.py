"""An encoding that keeps every byte, as the character of that number, save a byte order mark of UTF-8 at the start."""

import codecs
from typing import Any

NAME = "induction_bump_bytes"
_MARK = codecs.BOM_UTF8


class _Decoder(codecs.BufferedIncrementalDecoder):
    """Waits for as many bytes as a mark has, whatever the size of the first piece that it is given."""

    _begun = False

    def _buffer_decode(self, input: Any, errors: str, final: bool) -> tuple[str, int]:
        data = bytes(input)
        if self._begun:
            return data.decode("latin-1"), len(data)
        if len(data) < len(_MARK) and _MARK.startswith(data) and not final:
            return "", 0
        self._begun = True
        return data.removeprefix(_MARK).decode("latin-1"), len(data)

    def reset(self) -> None:
        super().reset()
        self._begun = False

    def getstate(self) -> tuple[bytes, int]:
        return self.buffer, int(self._begun)

    def setstate(self, state: tuple[bytes, int]) -> None:
        super().setstate(state)
        self._begun = bool(state[1])


def _encode(text: str, errors: str = "strict", /) -> tuple[bytes, int]:
    return text.encode("latin-1", errors), len(text)


def _decode(data: Any, errors: str = "strict", /) -> tuple[str, int]:
    return _Decoder(errors).decode(data, final=True), len(data)


def _found(name: str) -> codecs.CodecInfo | None:
    return codecs.CodecInfo(_encode, _decode, incrementaldecoder=_Decoder, name=NAME) if name == NAME else None


codecs.register(_found)
