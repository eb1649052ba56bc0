"""What pyproject.toml declares is what the package imports: no less, so that it runs as installed, and no more."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import files, packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = {
    "induction_bump/launch/pool.py": "joblib",
    "induction_bump/launch/cluster.py": "submitit",
    "induction_bump/launch/submitted.py": "submitit",
}
"""The modules that need an extra, and its name; only the last imports it on being imported."""


def distribution(requirement: str) -> str:
    """`hydra-core` of `hydra-core>=1.3.8,<1.4`, spelt as installers compare it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement)[0]).lower()


def declared(extra: str | None = None) -> set[str]:
    return {
        distribution(each) for each in (PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"])
    }


def modules_used(source: Path) -> Iterator[str]:
    """What a module imports when it runs, and the packages of which it reads files."""
    waiting: list[ast.AST] = [ast.parse(source.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                waiting += node.orelse
                continue
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom(level=0, module=str(name)):
                yield name
            case ast.Call(func=ast.Name(id="files"), args=[ast.Constant(value=str(name))]):
                yield name
            case _:
                pass
        waiting += ast.iter_child_nodes(node)


@cache
def _distributions() -> Mapping[str, list[str]]:
    return packages_distributions()


@cache
def providers(module: str) -> set[str]:
    """The installed distributions that hold a module; several share `hydra_plugins`."""
    found = list(_distributions().get(module.split(".")[0], ()))
    assert found, f"{module} belongs to nothing that is installed"
    if len(found) > 1:
        where = module.replace(".", "/")
        found = [
            each
            for each in found
            if any(f"{file}".startswith((f"{where}/", f"{where}.py")) for file in files(each) or ())
        ]
    return {distribution(each) for each in found}


@cache
def used() -> dict[str, set[str]]:
    """The distributions that each module needs, by its path below src."""
    own = {"induction_bump", *sys.stdlib_module_names}
    return {
        str(source.relative_to(SRC)): {
            each for module in modules_used(source) if module.split(".")[0] not in own for each in providers(module)
        }
        for source in sorted(SRC.rglob("*.py"))
    }


def test_every_module_imports_what_is_declared_for_it() -> None:
    undeclared = {
        f"{module} imports {each}"
        for module, needed in used().items()
        for each in needed - declared() - (declared(EXTRAS[module]) if module in EXTRAS else set())
    }
    assert not undeclared


def test_everything_declared_is_imported() -> None:
    needed = used()
    assert declared() - set().union(*needed.values()) == set()
    for extra in set(EXTRAS.values()):
        assert declared(extra) - set().union(*(needed[module] for module in EXTRAS if EXTRAS[module] == extra)) == set()


@pytest.mark.slow
def test_without_extras_every_module_can_be_imported_that_needs_none(tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    python = str(environment / "bin" / "python")
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    subprocess.run([python, "-m", "pip", "install", "-q", "-c", str(ROOT / "constraints.txt"), str(ROOT)], check=True)
    names = [
        ".".join(source.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")
        for source in sorted(SRC.rglob("*.py"))
    ]
    code = (
        "import importlib\n"
        f"for name in {names!r}:\n"
        "    try: importlib.import_module(name)\n"
        "    except ModuleNotFoundError as error: print(f'{name} {error.name}')\n"
    )
    done = subprocess.run([python, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["induction_bump.launch.submitted hydra_plugins.hydra_submitit_launcher"]
