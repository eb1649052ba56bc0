"""Every command that pages, docstrings and comments show could be given: it is checked as it would be, and not run."""

import argparse
import importlib
import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import hydra
import pytest
import yaml
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser

from induction_bump.cli import main as cli
from induction_bump.config import search_path
from induction_bump.config.locations import CONF, CONFIGS
from induction_bump.config.overrides import as_typed, rewrite
from induction_bump.config.resolve import resolve
from tests.docs.cited import ROOT, Cited, commands, words

PLACEHOLDERS = {"N": "0", "offline|online": "offline", "analysis/NAME.py": "analysis/measures.py"}
"""What stands for something that a reader fills in, and would not be taken as it is."""


OURS = {
    "experiment": {file.stem for file in (CONF / "experiment").glob("*.yaml")},
    "+sweeps": {file.stem for file in (CONFIGS / "sweeps").glob("*.yaml")},
}
"""Experiments and sweeps by the override that takes one."""


class WrongCommandError(Exception):
    """It could not be given; the message is the reason."""


@contextmanager
def told() -> Iterator[None]:
    """Let an argument parser say what is wrong in place of exiting."""

    def refuse(parser: argparse.ArgumentParser, message: str) -> None:
        raise WrongCommandError(message)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "error", refuse)
        yield


def check(given: list[str]) -> None:
    """Raise WrongCommandError for a command that cannot be given."""
    match [PLACEHOLDERS.get(word, word) for word in given]:
        case ["bump", "train", *rest]:
            check_train(rest)
        case ["bump", *rest] if rest and rest != ["--help"]:
            check_bump(rest)
        case ["make", *rest]:
            check_make(rest)
        case ["pip", "install", *rest]:
            check_extras(rest)
        case ["torchrun", *rest] | ["python", "-m", "torch.distributed.run", *rest]:
            check_ranks(rest)
        case ["python", "-m", module, *rest]:
            check_script(module, rest)
        case ["python", file, *rest]:
            if not (ROOT / file).is_file():
                raise WrongCommandError(f"there is no {file}")
            check_script(file.removesuffix(".py").replace("/", "."), rest)


def check_bump(arguments: list[str]) -> None:
    """A command of `bump`, with its arguments where any are shown."""
    if len(arguments) == 1:
        if arguments[0] not in cli.COMMANDS:
            raise WrongCommandError(f"bump has no command {arguments[0]}")
        return
    with told():
        cli._parser().parse_args(arguments)


def check_train(arguments: list[str]) -> None:
    """Flags are Hydra's, and what the overrides make is a config; of a sweep, its first cell."""
    parser = get_args_parser()
    with told():
        given = parser.parse_args(arguments)
    if given.help or given.config_path or given.config_dir:  # configs that are not ours
        return
    if [*given.overrides] in ([f"{key}={name}"] for key, names in OURS.items() for name in names):
        return  # tests/config composes them, a sweep with all its cells
    try:
        compose(tuple(given.overrides))
    except Exception as error:
        raise WrongCommandError(str(error).splitlines()[0]) from None


@cache
def compose(overrides: tuple[str, ...]) -> None:
    """Compose and check the first cell."""
    search_path.register()
    parsed = OverridesParser.create().parse_overrides(rewrite(list(overrides)))
    swept = {override.key_or_group: override.input_line for override in parsed if override.is_sweep_override()}
    given = [override.input_line for override in parsed if not override.is_sweep_override()]
    for name in (override.value() for override in parsed if override.key_or_group == "sweeps"):
        file = CONFIGS / "sweeps" / f"{name}.yaml"
        params = yaml.safe_load(file.read_text())["hydra"]["sweeper"]["params"] if file.is_file() else {}
        swept = {key: f"{key}={value}" for key, value in params.items()} | swept
    lines = OverridesParser.create().parse_overrides(rewrite(list(swept.values())))
    first = BasicSweeper.split_arguments(lines, None)[0][0] if lines else []
    with hydra.initialize_config_dir(str(CONF), version_base="1.3", job_name="train"):
        resolve(hydra.compose("train", [*map(as_typed, first), *given], return_hydra_config=True))


def check_make(arguments: list[str]) -> None:
    """Targets and variables are in the Makefile."""
    makefile = (ROOT / "Makefile").read_text()
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        found = re.search(rf"^{re.escape(name)} *{r'[?:]?=' if equals else ':'}", makefile, re.MULTILINE)
        if not found:
            raise WrongCommandError(f"the Makefile has no {name}")


def check_extras(arguments: list[str]) -> None:
    """Extras of this package are declared, and a file of constraints is there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for argument in arguments:
        for extra in re.findall(r"\w[\w-]*", argument.partition("[")[2]):
            if extra not in project["optional-dependencies"]:
                raise WrongCommandError(f"there is no extra {extra}")
        if argument.endswith(".txt") and not (ROOT / argument).is_file():
            raise WrongCommandError(f"there is no {argument}")


def check_ranks(arguments: list[str]) -> None:
    """Flags are torchrun's, and what it starts could be given without it."""
    from torch.distributed.run import get_args_parser as torchrun_parser

    with told():
        given = torchrun_parser().parse_args(arguments)
    check([*([] if given.no_python else ["python"]), given.training_script, *given.training_script_args])


class _ParsedError(Exception):
    pass


def check_script(module: str, arguments: list[str]) -> None:
    """A module with a `main` that takes these arguments; it is stopped once it has read them."""
    read: Callable[..., argparse.Namespace] = argparse.ArgumentParser.parse_args

    def stop(parser: argparse.ArgumentParser, *rest: object) -> None:
        read(parser, *rest)
        raise _ParsedError

    try:
        script = importlib.import_module(module)
    except ModuleNotFoundError:
        raise WrongCommandError(f"there is no {module}") from None
    with told(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [module, *arguments])
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        with pytest.raises(_ParsedError):
            script.main()


def told_of(command: list[str]) -> str | None:
    try:
        check(command)
    except WrongCommandError as error:
        return str(error)
    return None


SHOWN: dict[tuple[str, ...], list[Cited]] = {}
for _each in commands():
    SHOWN.setdefault(tuple(words(_each.text)), []).append(_each)


@pytest.fixture(autouse=True)
def scripts_of_analysis_are_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(ROOT / "analysis")
    monkeypatch.setenv("MPLBACKEND", "Agg")


@pytest.mark.parametrize("command", SHOWN, ids=" ".join)
def test_a_command_that_is_shown_could_be_given(command: tuple[str, ...]):
    wrong = told_of(list(command))
    assert wrong is None, "\n".join([wrong or "", *map(str, SHOWN[command])])


def test_commands_are_found_wherever_they_are_shown():
    where = {each.path.suffix for cited in SHOWN.values() for each in cited}
    assert where == {".md", ".py", ".yaml"}
    assert len(SHOWN) > 100


@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        ("bump located PATH", "located"),
        ("bump loacte", "loacte"),
        ("bump measure PATH --step 3,4 --all", "--all"),
        ("bump train experiment=quickest", "quickest"),
        ("bump train experiment=quickstart traning.length=5Mtok", "traning"),
        ("bump train -m +sweeps=depths", "depths"),
        ("bump train -m +sweeps=depth experiment=quickstart model.d_model=3", "d_model"),
        ("bump train -m +sweeps=depth hydra/launcher=pool hydra.launcher.jobs=4", "jobs"),
        ("bump train --configdir x", "--configdir"),
        ("torchrun --nproc-per-node 2 --no-python bump train experiment=quickest", "quickest"),
        ("make bumps", "bumps"),
        ("make TORHC=system bump", "TORHC"),
        ("pip install -e '.[pool]'", "pool"),
        ("python analysis/head_tables.py runs/x", "head_tables"),
        ("python analysis/head_table.py runs/x --to DIR", "--to"),
        ("python -m benchmarks.calibrations", "calibrations"),
        ("python benchmarks/startup.py --round x", "round"),
    ],
)
def test_what_could_not_be_given_is_told(command: str, wrong: str):
    told = told_of(words(command))
    assert told, command
    assert wrong in told


def test_only_the_command_itself_is_read():
    assert words("bump measure PATH [--steps N]  # later") == ["bump", "measure", "PATH", "--steps", "N"]
    assert words("bump train x=1 || { echo no; }") == ["bump", "train", "x=1"]
    assert words("bump train 'a.b=[c, {d: 1}]' ...") == ["bump", "train", "a.b=[c, {d: 1}]"]
