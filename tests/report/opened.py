"""A page in a browser."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SORTED = "[...document.querySelectorAll('#plot-head_table [aria-sort]')].map(cell => [cell.dataset.key, cell.ariaSort])"
"""By what the table of heads is sorted, and which way."""


@dataclass
class Opened:
    """A page in the browser with what it complained about and asked the network for."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def visit(self, path: Path, hash: str = "", *, drawn: bool = True) -> None:
        self.page.goto(path.as_uri() + hash)
        if drawn:
            self.wait()

    def wait(self) -> None:
        self.page.wait_for_selector("html[data-drawn=true]", timeout=90_000, state="attached")

    def evaluate(self, code: str, *arguments: Any) -> Any:
        return self.page.evaluate(code, *arguments)
