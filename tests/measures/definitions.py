"""What defines each measure: a digest of all source code that decides it, which comments, docstrings, annotations,
layout and the version of Python do not change.

    python -m tests.measures.definitions                       # note measures that are new or have a new version
    python -m tests.measures.definitions --same-meaning NAME…  # their code was rewritten, and gives the same numbers

`--same-meaning all` is for code that many go through. A digest is noted beside the version, and those of all parts, so
that a test can say what has changed.
"""

import argparse
import ast
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

import induction_bump
from induction_bump.measures.registry import MEASURES
from tests.measures.watched import ANNOTATIONS, Sources

RECORDED = Path(__file__).with_name("definitions.json")
PACKAGE = Path(induction_bump.__file__).parent
_IGNORED = {*ANNOTATIONS, "kind", "ctx"}


class Noted(TypedDict):
    """Of a measure."""

    version: int
    digest: str


class Recorded(TypedDict):
    """The file."""

    measures: dict[str, Noted]
    parts: dict[str, str]
    """Digest of each definition that some measure is decided by."""


def parts_of(measure: str, sources: Sources | None = None) -> dict[str, str]:
    """Digest of each definition that decides a measure, by its name below the package."""
    found = (sources or Sources(PACKAGE)).watched(f"measures.{name}" for name in MEASURES[measure].defined_by)
    return {name: _digest("\n".join(map(canonical, statements))) for name, statements in found.items()}


def digest_of(parts: dict[str, str]) -> str:
    """Of all of them."""
    return _digest("\n".join(f"{name} {digest}" for name, digest in sorted(parts.items())))


def changed_in(parts: dict[str, str]) -> list[str]:
    """Those that are not what was noted."""
    before = recorded()["parts"]
    return [name for name, digest in parts.items() if before.get(name) != digest]


def canonical(node: Any) -> str:
    """A syntax tree as text. Fields that are empty are left out: which of those there are depends on the Python."""
    if isinstance(node, ast.AnnAssign) and node.value is None:
        return f"declared {canonical(node.target)}"
    if isinstance(node, ast.AST):
        return f"{type(node).__name__}({', '.join(_fields(node))})"
    if isinstance(node, list):
        return f"[{', '.join(map(canonical, node))}]"
    return ascii(node)  # what `repr` escapes depends on the Python's version of Unicode


def _fields(node: ast.AST) -> Iterator[str]:
    for name, value in ast.iter_fields(node):
        if name == "body" and isinstance(value, list):
            value = [statement for statement in value if not _is_text(statement)]
        if name not in _IGNORED and value is not None and value != []:
            yield f"{name}={canonical(value)}"


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def recorded() -> Recorded:
    """What was noted."""
    return json.loads(RECORDED.read_text(encoding="utf-8"))


def main(arguments: list[str] | None = None) -> None:
    """Note what is new."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    choices = [*sorted(MEASURES), "all"]
    parser.add_argument("--same-meaning", nargs="+", default=[], choices=choices, metavar="NAME")
    rewritten = parser.parse_args(arguments).same_meaning
    before, sources = recorded(), Sources(PACKAGE)
    noted: dict[str, Noted] = {}
    parts: dict[str, str] = {}
    left: set[str] = set()
    for name, measure in MEASURES.items():
        current = parts_of(name, sources)
        parts |= current
        known = before["measures"].get(name)
        if known and known["version"] == measure.version and not {name, "all"} & set(rewritten):
            noted[name] = known
            if known["digest"] != digest_of(current):
                left |= current.keys()
        else:
            noted[name] = {"version": measure.version, "digest": digest_of(current)}
    # a measure that is not noted anew is still told what of it has changed
    parts = {name: before["parts"].get(name, "") if name in left else digest for name, digest in parts.items()}
    found: Recorded = {"measures": noted, "parts": parts}
    RECORDED.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
