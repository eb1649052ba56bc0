"""What pages, docstrings and comments cite: places in pages, and commands."""

import ast
import inspect
import io
import re
import shlex
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
CODE = sorted(
    path for directory in ("src", "analysis", "benchmarks", "tests") for path in (ROOT / directory).rglob("*.py")
)
CONFIGS = sorted(path for directory in ("conf", "sweeps") for path in (ROOT / directory).rglob("*.yaml"))

_STARTS = r"bump|make|pip install|python -m benchmarks|python -m torch|python \S+/|torchrun"
_COMMAND = re.compile(rf"^(?:\$ |time |[A-Z_]+=\S+ |srun (?:--\S+ )*)*(?=(?:{_STARTS})(?: |$))")
_INLINE = re.compile(r"(?<!`)(`{1,2})(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Cited:
    """Something that is cited, and where."""

    text: str
    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}: {self.text}"


@dataclass(frozen=True)
class Passage:
    """Text for people: a page, a docstring, or a comment."""

    text: str
    path: Path
    line: int

    def cited(self, text: str, at: int) -> Cited:
        """`text`, which begins at character `at`."""
        return Cited(text, self.path, self.line + self.text[:at].count("\n"))


@cache
def passages() -> tuple[Passage, ...]:
    """All of them."""
    return tuple(_passages())


def _passages() -> Iterator[Passage]:
    yield from (Passage(page.read_text(), page, 1) for page in PAGES)
    for path in CONFIGS:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if line.startswith("#"):
                yield Passage(line.removeprefix("#").strip(), path, number)
    for path in CODE:
        yield from _of_code(path)


def _of_code(path: Path) -> Iterator[Passage]:
    """Docstrings, those of fields among them, and comments."""
    source = path.read_text()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(ast.Constant(str(value))):
                yield Passage(inspect.cleandoc(value), path, node.lineno)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield Passage(token.string.removeprefix("#").strip(), path, token.start[0])


def commands() -> Iterator[Cited]:
    """Every command that is shown: lines of fenced and indented blocks, and code within a line."""
    for passage in passages():
        blocks = [(b.start(2), b[2]) for b in _FENCE.finditer(passage.text) if b[1] in ("", "sh", "bash", "console")]
        text = _FENCE.sub(lambda block: re.sub(r"[^\n]", " ", block[0]), passage.text)
        lines = [(m.start(1), m[1]) for m in re.finditer(r"^ {4,}(\S(?:.*\\\n)*.*)$", text, re.MULTILINE)]
        for start, block in blocks:
            lines += [(start + m.start(1), m[1]) for m in re.finditer(r"^ *(\S(?:.*\\\n)*.*)$", block, re.MULTILINE)]
        if passage.path.suffix == ".yaml":
            lines += [(0, passage.text.split(": ", 1)[-1])]
        lines += [(m.start(2), m[2]) for m in _INLINE.finditer(text)]
        for at, line in lines:
            joined = re.sub(r"\\?\n\s*", " ", line)
            if start := _COMMAND.match(joined):
                yield passage.cited(joined[start.end() :], at)


def words(command: str) -> list[str]:
    """A command as the shell would pass it on, up to what only stands for more, a comment, or the next command.

    Of usage like `bump measure PATH [--steps N]` the optional part is taken; `[overrides]` stands for any.
    """
    command = re.sub(r"\[(-[^\]]*)\]", r"\1", command)
    command = re.sub(r" \[(?:\w+|key=value \.\.\.|\+group=name \.\.\.)\]", "", command)
    split = shlex.split(command, comments=True)
    ends = (i for i, word in enumerate(split) if word in ("&&", "||", "|", ">"))
    return [word for word in split[: next(ends, None)] if word not in ("...", "…")]
