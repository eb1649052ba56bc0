"""What defines each measure: a digest of source code that comments, docstrings, annotations, layout and the version
of Python do not change.

    python -m tests.measures.definitions                       # note measures that are new or have a new version
    python -m tests.measures.definitions --same-meaning NAME…  # their code was rewritten, and gives the same numbers
"""

import argparse
import ast
import hashlib
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import induction_bump.measures
from induction_bump.measures.registry import MEASURES

RECORDED = Path(__file__).with_name("definitions.json")
_SOURCES = Path(induction_bump.measures.__file__).parent
_IGNORED = {"annotation", "returns", "type_comment", "type_params", "kind", "ctx"}


def digest_of(measure: str) -> str:
    """Of everything that `defined_by` names."""
    text = "\n".join(f"{name} {canonical(definition(name))}" for name in sorted(set(MEASURES[measure].defined_by)))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def definition(name: str) -> ast.AST:
    """The function or class `module.name`. Raises KeyError where there is none."""
    module, _, member = name.rpartition(".")
    return _members(module)[member]


@cache
def _members(module: str) -> dict[str, ast.AST]:
    tree = ast.parse((_SOURCES / f"{module}.py").read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def canonical(node: Any) -> str:
    """A syntax tree as text. Fields that are empty are left out: which of those there are depends on the Python."""
    if isinstance(node, ast.AnnAssign) and node.value is None:
        return f"declared {canonical(node.target)}"
    if isinstance(node, ast.AST):
        return f"{type(node).__name__}({', '.join(_fields(node))})"
    if isinstance(node, list):
        return f"[{', '.join(map(canonical, node))}]"
    return repr(node)


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


def recorded() -> dict[str, dict[str, Any]]:
    """Measure → version and digest, as they were noted."""
    return json.loads(RECORDED.read_text(encoding="utf-8")) if RECORDED.is_file() else {}


def main() -> None:
    """Note what is new."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--same-meaning", nargs="+", default=[], choices=sorted(MEASURES), metavar="NAME")
    rewritten = parser.parse_args().same_meaning
    before = recorded()
    noted = {}
    for name, measure in MEASURES.items():
        known = before.get(name)
        if known and known["version"] == measure.version and name not in rewritten:
            noted[name] = known
        else:
            noted[name] = {"version": measure.version, "digest": digest_of(name)}
    RECORDED.write_text(json.dumps(noted, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
