"""How far tokenising is: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from typing import Any, Self

_LINE_EVERY = 15.0  # seconds


class TokenisingProgress:
    """Counts bytes of text and tokens; shows tokens/s and, where the size of the corpus is known, the time left."""

    def __init__(self, name: str, total_bytes: int | None, *, shown: bool) -> None:
        from tqdm import tqdm

        self._name, self._total, self._shown = name, total_bytes, shown
        self._terminal = sys.stderr.isatty()
        self._start = self._last = time.monotonic()
        self._bytes = self._tokens = 0
        self._bar: Any = tqdm(
            total=total_bytes,
            desc=f"tokenising {name}",
            unit="B",
            unit_scale=True,
            disable=not (shown and self._terminal),
        )

    def add(self, text_bytes: int, tokens: int) -> None:
        """So much more is done."""
        self._bytes += text_bytes
        self._tokens += tokens
        self._bar.set_postfix_str(f"{self._rate():,.0f} tokens/s", refresh=False)
        self._bar.update(text_bytes)
        if time.monotonic() - self._last > _LINE_EVERY:
            self._last = time.monotonic()
            share = f" ({min(1.0, self._bytes / self._total):.0%})" if self._total else ""
            self._line(f"{self._tokens:,} tokens{share}, {self._rate():,.0f} tokens/s")

    def say(self, text: str) -> None:
        """One line about what is going on."""
        if self._shown and self._terminal:
            self._bar.write(f"{self._name}: {text}", file=sys.stderr)
        else:
            self._line(text)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        if self._tokens:
            self._line(f"{self._tokens:,} tokens in {time.monotonic() - self._start:.0f} s")

    def _rate(self) -> float:
        return self._tokens / max(time.monotonic() - self._start, 1e-9)

    def _line(self, text: str) -> None:
        if self._shown and not self._terminal:
            print(f"{self._name}: {text}", file=sys.stderr, flush=True)
