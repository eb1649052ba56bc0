"""The parts of a page that are plain HTML: all text that comes from records is escaped here."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any
from urllib.parse import quote

from induction_bump.locate.formats import format_median, format_variation
from induction_bump.report.contents import RunContents
from induction_bump.report.curves import Figure
from induction_bump.report.events import NAMES, Event, Headline, tokens_text
from induction_bump.report.study import differences, event_names, final_values, key_of, legend

_ABSENT = '<span class="absent">–</span>'


def headline(found: Headline) -> str:
    """The sentence at the top."""
    return f'<p class="verdict tone-{found.tone}">{escape(found.text)}</p>'


def pill(status: str) -> str:
    """A status as a small label."""
    return f'<span class="pill status-{escape(status)}">{escape(status)}</span>'


def progress(run: RunContents, written: datetime) -> str:
    """Where a run stands: step, tokens, speed, and when this was written."""
    info = run.info
    share = run.reached / info.total_steps if info.total_steps else 0.0
    tokens = run.reached * info.tokens_per_step
    parts = [
        f"step {run.reached:,} of {info.total_steps:,} ({share:.0%})",
        f"{tokens_text(tokens)} of {tokens_text(info.total_tokens)} tokens",
    ]
    if run.going and run.speed is not None:
        parts.append(f"{tokens_text(run.speed)} tokens/s")
    bar = f'<progress max="1" value="{share:.4f}" aria-label="share of training done"></progress>' if run.going else ""
    return f'<p class="state">{pill(run.status)} {", ".join(parts)}, {refreshed(written, run.going)}</p>{bar}'


def study_progress(runs: Sequence[RunContents], written: datetime) -> str:
    """How many runs of a study are in which state, and when this was written."""
    counts: dict[str, int] = {}
    for run in runs:
        counts[run.status] = counts.get(run.status, 0) + 1
    parts = " ".join(f"{count} {pill(status)}" for status, count in counts.items())
    return f'<p class="state">{parts}, {refreshed(written, any(run.going for run in runs))}</p>'


def refreshed(written: datetime, going: bool) -> str:
    """When the page was written; the script turns it into local time."""
    text = written.strftime("%Y-%m-%d %H:%M:%S UTC")
    return f'{"refreshed" if going else "written"} <time id="refreshed" datetime="{written.isoformat()}">{text}</time>'


def message(run: RunContents) -> str:
    """Why a run failed, where it says."""
    if run.status != "failed":
        return ""
    reason = run.info.message or "No reason was recorded."
    return f'<div class="message" role="alert"><strong>Why it failed</strong><pre>{escape(reason)}</pre></div>'


def tiles(run: RunContents) -> str:
    """The numbers that a reader asks for first."""
    loss, icl = final_values(run)
    copying = run.scalars.get("ordered_copy_advantage")
    best = run.best_heads("prefix_matching", 1)
    values = [
        ("Held-out loss", _number(loss), "nats per token, latest"),
        ("ICL window score", _number(icl), "nats, latest"),
        ("Ordered copy advantage", _number(copying.last if copying else None), "nats per token, latest"),
        ("Best prefix matching", f"{best[0][1]:.2f}" if best else None, f"head {best[0][0]}" if best else "no heads"),
        ("Parameters", f"{run.info.parameters:,}", f"vocabulary {run.info.vocab_size:,}"),
        ("Snapshots", f"{len(run.steps)}", f"over {tokens_text(run.reached * run.info.tokens_per_step)} tokens"),
    ]
    return "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value) if value else _ABSENT}</dd><dd>{escape(about)}</dd></div>"
        for name, value, about in values
    )


def _number(value: float | None) -> str | None:
    # A minus sign, not a hyphen.
    return None if value is None else f"{value:.2f}".replace("-", "−")


def run_events(run: RunContents, events: Sequence[Event] | None) -> str:
    """The table of a run's events."""
    if events is None:
        command = escape(f"bump locate {run.directory.path}")
        return f'<p class="empty">Not computed yet. <code>{command}</code> locates them in these records.</p>'
    rows = "".join(
        f'<tr><th scope="row">{escape(event.title)}<div class="rule">{escape(event.rule or "")}</div></th>'
        f'<td class="{event.state}">{escape(event.when)}</td><td class="change">{_change(event)}</td></tr>'
        for event in events
    )
    head = '<th scope="col">Event</th><th scope="col">Tokens</th><th scope="col">Before → latest</th>'
    return table("events", head, rows, "Events")


def table(kind: str, head: str, rows: str, label: str) -> str:
    """A table in a frame that scrolls; `kind` is its class, `label` what it is called to who cannot see it."""
    # Focusable, so that a table wider than the screen can be moved from the keyboard.
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table class="{kind}">'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _change(event: Event) -> str:
    before, after = _number(event.value_before), _number(event.value_after)
    return escape(f"{before} → {after}") if before and after else _ABSENT


def config_list(run: RunContents) -> str:
    """The essentials of what was run."""
    info = run.info

    def chosen(*keys: str) -> str:
        value = run.option(*keys)
        return "–" if value is None else {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)

    heads = f"{chosen('model', 'n_heads')} per attention layer" if run.n_attention else "none"
    pairs = [
        ("Sublayers", chosen("model", "sublayers") or "none (bigram model)"),
        ("Width", f"d_model {chosen('model', 'd_model')}"),
        ("Heads", heads),
        ("Positions, norm", f"{chosen('model', 'positions')}, {chosen('model', 'norm')}"),
        ("Smeared keys", chosen("model", "smeared_keys")),
        ("Corpus", chosen("data", "corpus", "name")),
        ("Context", f"{chosen('data', 'context')} tokens"),
        ("Batch", f"{chosen('training', 'batch_sequences')} sequences ({info.tokens_per_step:,} tokens)"),
        ("Learning rate", chosen("training", "learning_rate")),
        ("Length", chosen("training", "length")),
        ("Seeds", f"init {chosen('seed', 'init')}, data {chosen('seed', 'data')}"),
        ("Started", info.started_at.replace("T", " ")[:16] + " UTC"),
        ("Code", (info.git_revision or "–")[:12]),
        ("Run id", info.run_id),
    ]
    if tags := run.option("tracking", "tags"):
        pairs.append(("Tags", ", ".join(map(str, tags))))
    return "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in pairs)


def study_table(
    runs: Sequence[RunContents], located: Sequence[Sequence[Event] | None], links: Mapping[str, str]
) -> str:
    """Runs × events; `links` maps a run's key to its own page, relative to the study's."""
    names, differing = event_names(located), differences(runs)
    titles = {event.name: event.title for events in located for event in events or ()}
    heads = [
        "Run",
        "Status",
        *(titles[name] for name in names),
        "Held-out loss",
        "ICL window score",
        *differing,
    ]
    rows = []
    for place, (run, events, entry) in enumerate(zip(runs, located, legend(runs), strict=True)):
        name = escape(entry["label"])
        if link := links.get(key_of(run)):
            name = f'<a href="{escape(quote(link))}">{name}</a>'
        dash = {"solid": "solid", "dot": "dotted"}.get(entry["dash"], "dashed")
        swatch = f'<span class="swatch" style="--color:var({entry["color"]});--dash:{dash}"></span>'
        why = (
            f'<div class="why">{escape(run.info.message)}</div>' if run.status == "failed" and run.info.message else ""
        )
        cells = [
            f"<td>{pill(run.status)}{why}</td>",
            *(_cell(events, event) for event in names),
            *(f"<td>{_number(value) or _ABSENT}</td>" for value in final_values(run)),
            *(f"<td>{escape(column[place])}</td>" for column in differing.values()),
        ]
        # On a phone, where a row is a list, each cell says what it is.
        labelled = (
            cell.replace("<td", f'<td data-label="{escape(head)}"', 1)
            for head, cell in zip(heads[1:], cells, strict=True)
        )
        rows.append(f'<tr><th scope="row">{swatch}{name}</th>{"".join(labelled)}</tr>')
    head = "".join(f'<th scope="col">{_breakable(text)}</th>' for text in heads)
    return table("study", head, "".join(rows), "Runs and events")


def cells(rows: Sequence[Mapping[str, Any]]) -> str:
    """When the runs of each cell change, with the interval over seeds; nothing where that was not computed."""
    if not rows:
        return ""
    body = "".join(_over_seeds(row) for row in rows)
    titles = ("Cell", "Event", "Runs", "Median over seeds (90 % interval)", "CV")
    head = "".join(f'<th scope="col">{title}</th>' for title in titles)
    html = table("study", head, body, "Time over seeds")
    return f'<section class="card table"><h2>Time over seeds</h2>{html}</section>'


def _over_seeds(row: Mapping[str, Any]) -> str:
    runs = f"{row['found']} of {row['runs']}"
    if row["undetermined"]:
        runs += f", {row['undetermined']} undetermined"
    median = format_median(row["median"], row["median_low"], row["median_high"])
    return (
        f'<tr><th scope="row">{escape(row["cell"])}</th><td>{escape(NAMES.get(row["event"], (row["event"],))[0])}</td>'
        f'<td>{runs}</td><td title="{escape(row["rule"])}">{median}</td>'
        f"<td>{format_variation(row['cv'], row['cv_low'], row['cv_high'])}</td></tr>"
    )


def _breakable(text: str) -> str:
    """A heading that may be broken after the dots of a config key."""
    return escape(text).replace(".", ".<wbr>")


def _cell(events: Sequence[Event] | None, name: str) -> str:
    if events is None:
        return '<td class="absent">not computed</td>'
    event = next((event for event in events if event.name == name), None)
    if event is None:
        return f"<td>{_ABSENT}</td>"
    return f'<td class="{event.state}" title="{escape(event.rule or "")}">{escape(event.when)}</td>'


def sections(figures: Sequence[Figure]) -> str:
    """Figures under the headings of their sections, as shells that the script fills."""
    parts: dict[str, list[Figure]] = {}
    for figure in figures:
        parts.setdefault(figure["section"], []).append(figure)
    return "".join(
        f'<section id="{anchor(title)}"><h2>{escape(title)}</h2><div class="figures">'
        f"{''.join(map(_shell, inside))}</div></section>"
        for title, inside in parts.items()
    )


def navigation(figures: Sequence[Figure], further: Sequence[str] = ()) -> str:
    """Links to the sections of the figures, and to `further` ones by their titles."""
    titles = dict.fromkeys([*(figure["section"] for figure in figures), *further])
    return "".join(f'<a href="#{anchor(title)}">{escape(title)}</a>' for title in titles)


def anchor(title: str) -> str:
    """A section's id."""
    return "section-" + title.lower().replace(" ", "-")


def _shell(figure: Figure) -> str:
    name, title = escape(figure["id"]), escape(figure["title"])
    caption = escape(figure["caption"])
    if "empty" in figure:
        body = _said("empty", figure["empty"], figure.get("command"))
    elif figure["kind"] == "table":
        body = _controls(figure) + _empty_table(figure)
    else:
        body = (
            f'{_controls(figure)}<div class="plot" id="plot-{name}" role="img" aria-label="{title}. {caption}"></div>'
        )
    zooms = figure["kind"] in ("time", "field")
    reset = '<button type="button" class="reset" hidden>Reset zoom</button>' if zooms else ""
    # What the script says of the snapshot that is shown.
    reading = f' <span id="{name}-reading"></span>' if "empty" not in figure and not zooms else ""
    notes = "".join(_said("note", note["text"], note.get("command")) for note in figure.get("notes", ()))
    return (
        f'<figure class="card kind-{figure["kind"]}" id="figure-{name}">'
        f'<div class="card-head"><h3>{title}</h3>{reset}</div>{body}'
        f"<figcaption>{caption}{reading}{notes}</figcaption></figure>"
    )


def _said(kind: str, text: str, command: str | None) -> str:
    """A remark, with the command that would change it."""
    how = f" <code>{escape(command)}</code>" if command else ""
    return f'<p class="{kind}">{escape(text)}{how}</p>'


def _empty_table(figure: Figure) -> str:
    """What the script fills with a row a head."""
    name, title = escape(figure["id"]), escape(figure["title"])
    return (
        f'<div class="scroll tall" tabindex="0" role="region" aria-label="{title}" id="plot-{name}">'
        '<table class="heads"><thead></thead><tbody></tbody></table></div>'
    )


def _controls(figure: Figure) -> str:
    if figure["kind"] == "time":
        return '<div class="legend" role="group" aria-label="Curves shown"></div>'
    if figure["kind"] == "field":
        if figure["relative_range"] is None:
            return ""
        return (
            '<div class="controls"><label>Show <select id="field-mode"><option value="loss">loss</option>'
            f'<option value="relative">{escape(figure["reference_label"])}</option></select></label></div>'
        )
    return f'<div class="controls">{_choices(figure)}{_slider(figure)}</div>'


def _choices(figure: Figure) -> str:
    name = escape(figure["id"])
    if figure["kind"] == "grid":
        options = "".join(
            f'<option value="{escape(measure["name"])}">{escape(measure["label"])}</option>'
            for measure in figure["measures"]
        )
        return f'<label>Measure <select id="{name}-measure">{options}</select></label>'
    if figure["kind"] == "table" and any(column["optional"] for column in figure["columns"]):
        return f'<label><input type="checkbox" id="{name}-more"> more columns</label>'
    return ""


def _slider(figure: Figure) -> str:
    """Chooses a snapshot; marks under it are those where everything was measured."""
    name, last = escape(figure["id"]), len(figure["steps"]) - 1
    marks = "".join(f'<option value="{place}"></option>' for place in figure.get("whole", ()))
    listed = f'<datalist id="{name}-whole">{marks}</datalist>' if marks else ""
    attribute = f' list="{name}-whole"' if marks else ""
    return (
        f'<label class="slide"><span>Snapshot <output id="{name}-when" for="{name}-snapshot"></output></span>'
        f'<input type="range" id="{name}-snapshot" min="0" max="{last}" value="{last}" step="1"'
        f"{attribute}></label>{listed}"
    )
