"""One self-contained HTML page of a run or of a study of runs.

`write` reads the records and nothing else; the page needs no network, no server and no other file.
"""

import gzip
import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from induction_bump.records.directory import RunDirectory, find_runs
from induction_bump.records.files import made, replace_atomically
from induction_bump.records.load import Records
from induction_bump.records.schema import RecordsError
from induction_bump.report import events as located
from induction_bump.report import markup
from induction_bump.report.contents import RunContents, read
from induction_bump.report.figures import run_axes, run_figures
from induction_bump.report.numbers import inline_json
from induction_bump.report.study import key_of, study_axes, study_figures

FILE_NAME = "report.html"
_REFRESH_SECONDS = 10
# Each may use what the ones before it define.
_SCRIPTS = (
    "library.js",
    "view.js",
    "axes.js",
    "moments.js",
    "pictures.js",
    "composition.js",
    "table.js",
    "plots.js",
    "page.js",
)


Unreadable = Callable[[RunDirectory, RecordsError], object]


def write(path: Path, target: Path | None = None, *, live: bool = False, unreadable: Unreadable | None = None) -> Path:
    """Write the page of a run or a study at `path`, whole or not at all, and return where it is.

    Args: target, where to, by default `<path>/report.html`; live, let the page load itself again every ten seconds
    while what it shows is still running; unreadable, called for each run of a study whose records cannot be read: the
    page is that of the others.
    Raises RecordsError where `path` is neither, where a file there does not have its layout (in a study, without
    `unreadable` or where none can be read); OSError where `target` cannot be written.
    """
    path = Path(path)
    runs = find_runs(path)
    is_run = RunDirectory(path).exists
    target = path / FILE_NAME if target is None else target
    parts = _run_page(runs[0], target) if is_run else _study_page(path, target, runs, unreadable)
    text = _fill(parts, live=live)
    made(target.parent)
    replace_atomically(target, lambda aside: aside.write_text(text, encoding="utf-8"))
    return target


def _run_page(directory: RunDirectory, target: Path) -> dict[str, Any]:
    run = read(directory)
    found = located.read(directory.path, [directory]).get(run.info.run_id)
    figures = run_figures(run)
    study = escape(run.info.study)
    beside = target.absolute().parent
    if beside.name == directory.path.absolute().name and (beside.parent / FILE_NAME).is_file():
        study = f'<a href="../{FILE_NAME}">{study}</a>'
    marks = [
        {"label": event.label, "title": event.title, "low": event.tokens_low or 0, "high": event.tokens_high}
        for event in found or ()
        if event.state == "found" and event.name not in located.UNMARKED
    ]
    facts = (
        f'<dl class="tiles">{markup.tiles(run)}</dl>'
        f'<div class="facts"><section class="card"><h2>Events</h2>{markup.run_events(run, found)}</section>'
        f'<section class="card"><h2>Run</h2><dl class="config">{markup.config_list(run)}</dl></section></div>'
    )
    now = _now()
    return {
        "title": f"{run.info.name} · {run.info.study}",
        "kicker": f"Run of study {study}",
        "heading": f"{escape(run.info.name)} <small>{escape(run.info.run_id)}</small>",
        "headline": markup.headline(located.headline(run, found)),
        "state": markup.progress(run, now) + markup.message(run),
        "facts": facts,
        "figures": figures,
        "going": run.going,
        "data": {
            "id": run.info.run_id,
            "axes": run_axes(run),
            "events": marks,
            "planned": run.info.total_tokens,
        },
    }


def _study_page(
    path: Path, target: Path, directories: list[RunDirectory], unreadable: Unreadable | None
) -> dict[str, Any]:
    runs, errors = list[RunContents](), list[RecordsError]()
    for directory in directories:
        try:
            runs.append(read(directory, everything=False))
        except RecordsError as error:
            if unreadable is None:
                raise
            unreadable(directory, error)
            errors.append(error)
    if not runs:
        raise errors[0]
    records = Records(path, [run.directory for run in runs])
    by_run = located.read(path, records.directories)
    found = [by_run.get(run.info.run_id) for run in runs]
    pages = {key_of(run): f"{run.directory.name}/{FILE_NAME}" for run in runs}
    links = {key: page for key, page in pages.items() if (target.parent / page).is_file()}
    name = path.resolve().name
    table = markup.study_table(runs, found, links)
    return {
        "title": f"{name} · study",
        "kicker": f"Study of {len(runs)} {'run' if len(runs) == 1 else 'runs'}",
        "heading": escape(name),
        "headline": markup.headline(located.study_headline(found)),
        "state": markup.study_progress(runs, _now()),
        "facts": f'<section class="card table"><h2>Runs and events</h2>{table}</section>'
        + markup.cells(records.cell_rows().to_pylist()),
        "figures": study_figures(runs, found),
        "further": _linking(records),
        "going": any(run.going for run in runs),
        "data": {
            "id": f"study {name}",
            "axes": study_axes(runs),
            "events": [],
            "planned": max(run.info.total_tokens for run in runs),
        },
    }


def _linking(records: Records) -> list[tuple[str, str]]:
    from induction_bump.report.linking import study_sections  # statistics are slow to load, and pages of runs need none

    return study_sections(records)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _fill(parts: Mapping[str, Any], *, live: bool) -> str:
    figures = parts["figures"]
    drawn = [_without_text(figure) for figure in figures if "empty" not in figure]
    refresh = _REFRESH_SECONDS if live and parts["going"] else None
    own = files("induction_bump.report")
    pieces = {
        "title": escape(parts["title"]),
        "style": own.joinpath("style.css").read_text(encoding="utf-8"),
        "plotly": _plotly(),
        "data": inline_json({**parts["data"], "figures": drawn, "refresh": refresh}),
        "scripts": "".join(
            f"<script>{_inline_script(own.joinpath(name).read_text(encoding='utf-8'))}</script>" for name in _SCRIPTS
        ),
        "navigation": markup.navigation(figures, [title for title, _ in parts.get("further", ())]),
        "sections": markup.sections(figures) + "".join(html for _, html in parts.get("further", ())),
        **{key: parts[key] for key in ("kicker", "heading", "headline", "state", "facts")},
    }
    return Template(own.joinpath("template.html").read_text(encoding="utf-8")).substitute(pieces)


@cache
def _plotly() -> str:
    """Plotly's code, compressed, as text; library.js unpacks it. Packed once a process: it takes half a second."""
    code = files("plotly").joinpath("package_data/plotly.min.js").read_bytes()
    return b64encode(gzip.compress(code, mtime=0)).decode("ascii")


def _without_text(figure: Mapping[str, Any]) -> dict[str, Any]:
    """What the script needs of a figure; its words stand in the HTML."""
    return {key: value for key, value in figure.items() if key not in ("section", "caption", "notes", "whole")}


def _inline_script(code: str) -> str:
    """JavaScript that may stand inside a `<script>`: no string of it can end the element."""
    return re.sub(r"</(script)", r"<\\/\1", code, flags=re.IGNORECASE).replace("<!--", "<\\!--")
