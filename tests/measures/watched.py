"""Which definitions of the package decide a measure: those that are named, and all that these go on to.

A definition is a function, a class or a constant of a module, named below the package: `measures.reading.read`. It goes
on to what its code names, annotations left out: other functions, classes as a whole, constants, whatever the way they
are imported. What is reached through an object is not seen (`model.run`: the model is what is measured, and
`ngrams.losses`: whoever makes the object, or `defined_by`, names its class).
"""

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

FOLLOWED = ("measures", "model")
"""Packages. Corpora are data: their fingerprints and the hashes of probes are recorded with the numbers."""
NAMED_ONLY = ("measures.take", "measures.ranks", "measures.refusals", "measures.registry")
"""Modules whose definitions are watched where `defined_by` names them, and do not lead on: in `take` all measures meet,
the number of ranks changes no number, and the others only say which measures there are."""
ANNOTATIONS = ("annotation", "returns", "type_comment", "type_params")
"""Fields of syntax trees that say what something is, not what it does."""

_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
_Bindings = Mapping[str, str]
"""Name → what it stands for, named below the package: a module or a definition."""


@dataclass
class _Module:
    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, str] = field(default_factory=dict)


class Sources:
    """The modules of a package, read from its files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._modules: dict[str, _Module] = {}

    def watched(self, names: Iterable[str]) -> dict[str, list[ast.stmt]]:
        """The definitions named and all that they lead to, by name, each with its statements.

        Raises KeyError where a definition that is named does not exist.
        """
        found: dict[str, list[ast.stmt]] = {}
        waiting = list(names)
        while waiting:
            name = self._origin(waiting.pop())
            if name in found:
                continue
            found[name] = self.definition(name)
            if _module_of(name) not in NAMED_ONLY:
                waiting += [to for to in self.leads_to(name) if _module_of(to) not in NAMED_ONLY]
        return dict(sorted(found.items()))

    def definition(self, name: str) -> list[ast.stmt]:
        """Its statements. Raises KeyError where there is none."""
        module, _, member = name.rpartition(".")
        return self._module(module).definitions[member]

    def names(self, module: str) -> list[str]:
        """All definitions of a module."""
        return [f"{module}.{member}" for member in self._module(module).definitions]

    def leads_to(self, name: str) -> set[str]:
        """The definitions in followed packages that the code of one names.

        Raises ValueError where it takes a module for something else than to name what is in it.
        """
        module = self._module(_module_of(name))
        own = {member: f"{_module_of(name)}.{member}" for member in module.definitions}
        bindings = {**module.imports, **own}
        found: set[str] = set()
        for statement in self.definition(name):
            local = _imports([node for node in ast.walk(statement) if isinstance(node, ast.ImportFrom)], self.root.name)
            for target, attribute in _named(statement, {**bindings, **local}, frozenset()):
                if target.partition(".")[0] not in FOLLOWED:
                    continue
                if self._is_module(target):
                    if attribute is None:
                        raise ValueError(f"{name} does not say what of {target} it goes on to")
                    target = f"{target}.{attribute}"
                found.add(self._origin(target))
        return found - {name}

    def _origin(self, name: str) -> str:
        """Where what a module only imports is defined."""
        module = self._module(_module_of(name))
        member = name.rpartition(".")[2]
        if member not in module.definitions and member in module.imports:
            return self._origin(module.imports[member])
        return name

    def _is_module(self, name: str) -> bool:
        return self.root.joinpath(*name.split(".")).with_suffix(".py").is_file()

    def _module(self, name: str) -> _Module:
        if name not in self._modules:
            path = self.root.joinpath(*name.split(".")).with_suffix(".py")
            module = _Module()
            for statement in _statements(ast.parse(path.read_text(encoding="utf-8")).body):
                if isinstance(statement, ast.ImportFrom):
                    module.imports |= _imports([statement], self.root.name)
                for member in _bound_by(statement):
                    module.definitions.setdefault(member, []).append(statement)
            self._modules[name] = module
        return self._modules[name]


def code(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of a syntax tree that are run."""
    for name, value in ast.iter_fields(node):
        if name not in ANNOTATIONS:
            yield from (part for part in (value if isinstance(value, list) else [value]) if isinstance(part, ast.AST))


def _module_of(name: str) -> str:
    return name.rpartition(".")[0]


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Those of a module, inside `if` and `try` too."""
    for statement in body:
        if isinstance(statement, ast.If | ast.Try | ast.With):
            for name in ("body", "orelse", "finalbody"):
                yield from _statements(getattr(statement, name, []))
            for handler in getattr(statement, "handlers", []):
                yield from _statements(handler.body)
        else:
            yield statement


def _imports(statements: Iterable[ast.ImportFrom], package: str) -> dict[str, str]:
    """What `from PACKAGE.a.b import c as d` binds: d → a.b.c."""
    found: dict[str, str] = {}
    for statement in statements:
        top, _, below = (statement.module or "").partition(".")
        if top == package and not statement.level:
            prefix = f"{below}." if below else ""
            found |= {alias.asname or alias.name: f"{prefix}{alias.name}" for alias in statement.names}
    return found


def _bound_by(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        for target in targets:
            yield from (node.id for node in ast.walk(target) if isinstance(node, ast.Name))


def _named(node: ast.AST, bindings: _Bindings, hidden: frozenset[str]) -> Iterator[tuple[str, str | None]]:
    """What the code of a tree names, with the attribute that is read of it.

    Names that a function gives to something of its own are hidden inside it.
    """
    if isinstance(node, ast.Name):
        if node.id in bindings and node.id not in hidden:
            yield bindings[node.id], None
    elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        for target, _ in _named(node.value, bindings, hidden):
            yield target, node.attr
    elif isinstance(node, _Function):
        inside = hidden | _own_names(node)
        body = node.body if isinstance(node.body, list) else [node.body]
        for part in code(node):
            yield from _named(part, bindings, inside if part in body else hidden)
    elif isinstance(node, _Comprehension):
        inside = hidden | {name for g in node.generators for name in _stored(g.target)}
        yield from _named(node.generators[0].iter, bindings, hidden)  # outside its own names
        for part in code(node):
            yield from _named(part, bindings, inside)
    else:
        for part in code(node):
            yield from _named(part, bindings, hidden)


def _own_names(function: _Function) -> set[str]:
    """Parameters and what is assigned in its body, inner functions and comprehensions apart."""
    a = function.args
    found = {p.arg for p in (*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg) if p}
    body = function.body if isinstance(function.body, list) else [function.body]
    waiting: list[ast.AST] = list(body)
    elsewhere: set[str] = set()
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Global | ast.Nonlocal):
            elsewhere.update(node.names)
        elif not isinstance(node, ast.Lambda | _Comprehension):
            found.update(_stored(node) if isinstance(node, ast.Name) else ())
            waiting += ast.iter_child_nodes(node)
    return found - elsewhere


def _stored(node: ast.AST) -> Iterator[str]:
    return (n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))
