"""Standard streams that write ASCII in place of what their encoding lacks, instead of raising an error."""

import codecs
import io
import sys

_HANDLER = "induction_bump.ascii"
_INSTEAD = {
    "→": "->",
    "←": "<-",
    "×": "x",
    "·": "*",
    "−": "-",
    "–": "-",
    "—": "-",
    "…": "...",
    "±": "+-",
    "≤": "<=",
    "≥": ">=",
    "≠": "!=",
    "≈": "~",
    "∝": "~",
    "∞": "inf",
    "√": "sqrt",
    "½": "1/2",
    "²": "^2",
    "³": "^3",
    "‘": "'",
    "’": "'",
    "“": '"',
    "”": '"',
    "\N{NO-BREAK SPACE}": " ",
    "\N{NARROW NO-BREAK SPACE}": " ",
}


def show_what_can_be_shown() -> None:
    """Let this process's stdout and stderr replace what their encoding lacks; for the start of every process."""
    codecs.register_error(_HANDLER, _replaced)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None without a terminal, and anything in a notebook
            stream.reconfigure(errors=_HANDLER)


def _replaced(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError), error
    missing = error.object[error.start : error.end]
    return "".join(_INSTEAD.get(character, "?") for character in missing), error.end
