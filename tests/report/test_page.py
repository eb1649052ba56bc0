"""The page as a file: whole, small, self-contained, and safe whatever the records say."""

import json
import re
import subprocess
import sys
import time
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import yaml

from induction_bump.records.directory import RunDirectory
from induction_bump.records.schema import RecordsError
from induction_bump.report.page import write
from tests.records.make import make_run
from tests.report.located import bump_between, silence, store

HOSTILE = "</script><img src=x onerror=alert(1)>\"'&amp;<!--"


def own_html(page: Path) -> str:
    """The page without Plotly."""
    return re.sub(r'<script type="text/plain" id="plotly">[^<]*</script>', "", page.read_text("utf-8"), count=1)


def data_of(page: Path) -> dict[str, Any]:
    found = re.search(
        r'<script type="application/json" id="page-data">(.*?)</script>', page.read_text("utf-8"), re.DOTALL
    )
    assert found
    return json.loads(found[1])


def text_of(page: Path) -> str:
    return " ".join(
        unescape(re.sub(r"<(script|style)\b.*?</\1>|<[^>]+>", " ", own_html(page), flags=re.DOTALL)).split()
    )


def test_a_run_gets_its_page_beside_its_records(tmp_path: Path):
    run = make_run(tmp_path, snapshots=4, expensive_every=2)
    assert write(run) == run / "report.html"
    assert not list(run.glob(".*.tmp"))
    ids = {figure["id"] for figure in data_of(run / "report.html")["figures"]}
    assert ids == {
        "loss",
        "predictable",
        "icl",
        "chosen",
        "positions",
        "copy",
        "copies",
        "prefix_matching",
        "previous_token",
        "grid",
        "head_table",
        "composition",
        "eigenvalues",
        "lost",
        "group",
        "paths",
    }


def test_the_page_says_what_was_found(tmp_path: Path):
    run = make_run(tmp_path, bump_at=0.5e6)
    store(run, bump_between(run, 450_000, 550_000))
    text = text_of(write(run))
    assert "Induction bump located between 450k and 550k tokens; head L1H3" in text
    assert "450k–550k" in text
    assert "rule of copy_advantage" in text
    assert data_of(run / "report.html")["events"][0] == {
        "label": "prev-token",
        "title": "Previous-token head",
        "low": 450_000,
        "high": 550_000,
    }


def test_a_study_lists_its_runs_their_events_and_their_pages(tmp_path: Path):
    first = make_run(tmp_path, name="two-layers", snapshots=4)
    second = make_run(
        tmp_path, name="control", sublayers="s", snapshots=4, bump_at=None, status="failed", message="NaN"
    )
    third = make_run(tmp_path, name="unlocated", snapshots=4, status="preempted")
    store(first.parent, [*bump_between(first, 450_000, 550_000), *silence(second)])
    write(first)
    html, text = own_html(write(first.parent)), text_of(first.parent / "report.html")
    assert "Induction bump located in 1 of 2 runs; 1 not located yet" in text
    for words in (
        "450k–550k",
        "not found",
        "not applicable",
        "not computed",
        "finished",
        "failed",
        "NaN",
        "preempted",
    ):
        assert words in text
    assert f'href="{first.name}/report.html"' in html
    assert f'href="{second.name}/report.html"' not in html
    assert third.name not in html


def test_the_runs_page_links_back_to_the_study_only_where_it_has_one(tmp_path: Path):
    run = make_run(tmp_path, snapshots=3)
    assert 'href="../report.html"' not in own_html(write(run))
    write(run.parent)
    assert 'href="../report.html"' in own_html(write(run))


def test_the_page_of_a_large_run_is_small_and_quick(tmp_path: Path):
    options = {"sublayers": "sf" * 12, "n_heads": 12, "context": 512, "total_tokens": 8.2e6}
    run = make_run(tmp_path, snapshots=900, expensive_every=30, **options)
    assert len(RunDirectory(run).snapshots()) >= 200
    begun = time.process_time()
    page = write(run)
    assert time.process_time() - begun < 4
    assert page.stat().st_size < 9e6
    figures = {figure["id"]: figure for figure in data_of(page)["figures"]}
    assert figures["grid"]["layers"] == 12
    assert len(figures["composition"]["writers"]) == 132


def test_nothing_is_loaded_from_anywhere(tmp_path: Path):
    run = make_run(tmp_path, snapshots=3)
    for page in (write(run), write(run.parent)):
        html = own_html(page)
        loaded = re.findall(
            r"<(?:script|img|link|iframe|source|object|embed)\b[^>]*?\b(?:src|href)=[\"']?([^\"'\s>]*)", html
        )
        assert all(address.startswith("data:") for address in loaded)
        assert not re.search(r"@import|url\(", html)
        assert "default-src 'none'" in html


@pytest.mark.parametrize("of_study", [False, True])
def test_text_from_records_cannot_become_markup(tmp_path: Path, of_study: bool):
    run = make_run(tmp_path, sublayers="s", snapshots=3, status="failed", message=HOSTILE, expensive_every=1)
    values = json.loads((run / "run.json").read_text())
    texts = {"name": HOSTILE, "study": HOSTILE, "git_revision": HOSTILE}
    refused = dict.fromkeys(values["not_applicable"], HOSTILE)
    (run / "run.json").write_text(json.dumps({**values, **texts, "not_applicable": refused}))
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["tracking"]["tags"] = [HOSTILE]
    config["model"]["positions"] = HOSTILE
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    rows = bump_between(run, 1, 2)
    store(run, [{**row, "rule": HOSTILE, "event": f"{row['event']}{HOSTILE}"} for row in rows])
    page = write(run.parent if of_study else run)
    html = own_html(page)
    assert "<img" not in html
    assert "onerror=alert(1)>" not in html
    assert HOSTILE in text_of(page)
    assert data_of(page)["figures"]


@pytest.mark.parametrize(
    ("status", "live", "refresh"),
    [("running", True, 10), ("running", False, None), ("finished", True, None), ("failed", True, None)],
)
def test_only_the_live_page_of_a_run_that_goes_on_refreshes_itself(
    tmp_path: Path, status: str, live: bool, refresh: int | None
):
    run = make_run(tmp_path, snapshots=3, status=status)
    assert data_of(write(run, live=live))["refresh"] == refresh


def test_the_live_page_says_where_the_run_stands(tmp_path: Path):
    text = text_of(write(make_run(tmp_path, snapshots=3, status="running"), live=True))
    assert re.search(r"step [\d,]+ of [\d,]+ \(100%\), 2M of 2M tokens, 150k tokens/s, refreshed 20", text)


def test_what_was_not_measured_names_its_command_and_what_cannot_be_its_reason(tmp_path: Path):
    run = make_run(tmp_path, snapshots=3)
    (RunDirectory(run).snapshots()[0].path / "weights.safetensors").touch()
    html = own_html(write(run))
    assert f"<code>bump measure {run} --measures path_order</code>" in html
    assert f"<code>bump measure {run}</code>" in html
    text = text_of(write(make_run(tmp_path, name="one-layer", sublayers="s", snapshots=3, expensive_every=1)))
    assert "Not applicable to this model: one attention layer: there is no earlier head." in text


def test_a_failed_run_says_why(tmp_path: Path):
    run = make_run(tmp_path, snapshots=3, status="failed", message="the loss is NaN at step 12")
    text = text_of(write(run))
    assert "The run failed at step" in text
    assert "the loss is NaN at step 12" in text


def test_a_run_that_was_not_located_says_how_to(tmp_path: Path):
    run = make_run(tmp_path, snapshots=3)
    assert f"bump locate {run}" in text_of(write(run))


@pytest.mark.parametrize("snapshots", [1, 2])
def test_a_run_that_has_only_begun_has_a_page(tmp_path: Path, snapshots: int):
    run = make_run(tmp_path, snapshots=snapshots, status="running")
    data = data_of(write(run, live=True))
    assert len(data["axes"]["snapshots"]) == snapshots


def test_a_run_without_a_single_table_has_a_page(tmp_path: Path):
    run = make_run(tmp_path, snapshots=2, status="running")
    RunDirectory(run).clear()
    page = write(run, live=True)
    assert data_of(page)["figures"] == []
    assert "appears with the first snapshot" in text_of(page)
    assert write(run.parent).is_file()


@pytest.mark.parametrize("table", ["scalars", "positions", "heads", "head_pairs", "ablations", "paths", "training"])
def test_a_missing_table_leaves_the_other_figures(tmp_path: Path, table: str):
    run = make_run(tmp_path, snapshots=3, expensive_every=1)
    (run / "tables" / f"{table}.parquet").unlink()
    for part in [*run.glob(f"snapshots/*/{table}.parquet"), *run.glob(f"{table}/part-*.parquet")]:
        part.unlink()
    assert len(data_of(write(run))["figures"]) >= 9


def test_a_model_without_attention_has_a_page_that_says_so(tmp_path: Path):
    run = make_run(tmp_path, sublayers="", snapshots=3, bump_at=None)
    store(run, silence(run))
    text = text_of(write(run))
    assert "No induction bump found: the model has no attention layer" in text
    assert "so it has no heads" in text


def test_what_is_no_run_is_refused_and_nothing_is_written(tmp_path: Path):
    with pytest.raises(RecordsError):
        write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_cannot_be_made_leaves_the_old_one(tmp_path: Path):
    run = make_run(tmp_path, snapshots=3)
    before = write(run).read_bytes()
    (run / "tables" / "scalars.parquet").write_bytes(b"broken")
    with pytest.raises(RecordsError):
        write(run)
    assert (run / "report.html").read_bytes() == before


def test_writing_a_page_needs_no_torch(tmp_path: Path):
    run = make_run(tmp_path, snapshots=2)
    code = (
        "import sys; from pathlib import Path; from induction_bump.report.page import write;"
        f"write(Path({str(run)!r})); print([m for m in ('torch', 'lightning') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
