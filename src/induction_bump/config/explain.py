"""Hydra's and OmegaConf's own errors in one line."""

import re
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from induction_bump.config.overrides import as_typed

_LONGEST = 300


def explain(error: HydraException | OmegaConfBaseException | yaml.YAMLError) -> str:
    """What is wrong, with the key and what is allowed where the error tells them."""
    if isinstance(error, yaml.YAMLError):
        return _yaml(error)
    if isinstance(error, OverrideParseException):
        return _unreadable(as_typed(error.override), error.message)
    if isinstance(error, MissingConfigException):
        return _missing(error)
    text = str(error) or str(error.__cause__ or type(error).__name__)
    if present := re.search(r"An item is already at '(.+?)'", text):
        return f"{present[1]}: is in the config already; leave out the +"
    if chosen := re.search(r"To override a value use 'override (.+?): (.*?)'", text):
        return f"{chosen[1]}={chosen[2]}: {chosen[1]} is chosen already; leave out the +"
    if several := re.search(r"Ambiguous value for argument '(?:\+\+)?(.+?)'", text):
        return f"{several[1]}: several values; add -m to sweep over them, or write [a,b] for a list"
    if error.__cause__ and str(error):
        text = f"{text} ({str(error.__cause__).splitlines()[0]})"
    return as_typed(_one_line(text))


def _unreadable(override: str, message: str) -> str:
    """An override that Hydra's grammar does not know, with the quotes that would help where some would."""
    culprit = _culprit(message)
    if culprit and (quoted := _quoted(override)):
        return f"{override}: {culprit} cannot stand outside quotes; write '{quoted}'"
    reason = f"at {culprit}" if culprit else "its brackets or quotes do not match, or something is missing at its end"
    return f"{override}: cannot be read as key=value ({reason})"


def _culprit(message: str) -> str | None:
    """What the grammar stumbled over; None at the end of the override."""
    if named := re.search(r"mismatched input '(.+?)' expecting", message):
        return None if named[1] == "<EOF>" else named[1].strip() or "a blank"
    lines = message.splitlines()
    for line, below in pairwise(lines):  # the second points at a character of the first
        if below.strip() == "^" and len(line) >= len(below):
            return line[len(below) - 1].strip() or "a blank"
    return None


def _quoted(override: str) -> str | None:
    """The override with quotes around its value, or around each text of a list; None where none are enough."""
    key, _, value = override.partition("=")
    if "'" in value or '"' in value:
        return None
    each = re.sub(r"[^\[\]{},:\s][^\[\]{},:]*", lambda text: f'"{text[0].rstrip()}"', value)
    for candidate in (f"{key}={each}", f'{key}="{value}"') if re.search(r"[\[{,]", value) else (f'{key}="{value}"',):
        with suppress(HydraException):
            OverridesParser.create().parse_override(candidate)
            return candidate
    return None


def _missing(error: MissingConfigException) -> str:
    group, _, option = (error.missing_cfg_file or "").removesuffix(".yaml").rpartition("/")
    options = sorted(set(error.options or []))
    if group and options:
        return f"{group}={option}: must be one of {', '.join(options)}"
    if group:
        return f"{group}={option}: no such file on the config path"
    return _one_line(re.split("(?:Config )?[Ss]earch path:", str(error))[0])


def _yaml(error: yaml.YAMLError) -> str:
    """File, line and problem."""
    mark = error.problem_mark or error.context_mark if isinstance(error, yaml.MarkedYAMLError) else None
    if isinstance(error, yaml.MarkedYAMLError) and mark:
        problem = ", ".join(filter(None, (error.context, error.problem)))
        return _one_line(f"{_relative(mark.name)}, line {mark.line + 1}: {problem}")
    if isinstance(error, yaml.reader.ReaderError):
        return _one_line(f"{_relative(str(error.name))}: {error.reason} (character {error.position + 1})")
    return _one_line(str(error))


def _relative(name: str) -> str:
    """As the user would write it: relative to the working directory where it lies below."""
    path = Path(name)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else name


def _one_line(text: str) -> str:
    line = re.sub(r"\s+", " ", text).strip()
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"
