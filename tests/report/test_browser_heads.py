"""The table of heads and the figures of one snapshot in a real browser, from file://."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from induction_bump.report.page import write
from tests.records.make import make_run
from tests.report.opened import SORTED, Opened

pytestmark = pytest.mark.browser

ROWS = "[...document.querySelectorAll('#plot-head_table tbody th')].map(cell => cell.textContent)"


def column(opened: Opened, key: str) -> list[str]:
    """Texts of a column of the table of heads, from the top."""
    return opened.evaluate(
        "key => { const keys = [...document.querySelectorAll('#plot-head_table thead th')].map(c => c.dataset.key);"
        "return [...document.querySelectorAll('#plot-head_table tbody tr')]"
        ".map(row => row.children[keys.indexOf(key)].textContent); }",
        key,
    )


def numbers(texts: list[str]) -> list[float]:
    return [float(text.replace("−", "-")) for text in texts if text != "–"]


def test_the_table_of_heads_sorts_by_click_and_by_key(tab: Any, run_page: Path):
    opened = tab(run_page)
    assert opened.evaluate(SORTED) == [["prefix_matching", "descending"]]
    assert opened.evaluate(ROWS)[0] == "L2H5"
    heading = "ordered_copy_advantage.zero"
    button = opened.page.locator(f'#plot-head_table th[data-key="{heading}"] button')
    button.click()
    assert opened.evaluate(SORTED) == [[heading, "descending"]]
    shown = numbers(column(opened, heading))
    assert len(shown) == 18
    assert shown == sorted(shown, reverse=True)
    button.press("Enter")
    assert opened.evaluate(SORTED) == [[heading, "ascending"]]
    assert numbers(column(opened, heading)) == sorted(shown)
    assert opened.evaluate(ROWS)[:2] == ["L2H5", "L0H0"]
    opened.page.locator('#plot-head_table th[data-key="head"] button').press("Space")
    assert opened.evaluate(ROWS) == sorted(opened.evaluate(ROWS))
    assert opened.complaints == []


def test_heads_without_a_value_stay_at_the_foot_whichever_way_the_table_is_sorted(tab: Any, run_page: Path):
    opened = tab(run_page)
    button = opened.page.locator('#plot-head_table th[data-key="qk_eigenvalue"] button')
    for _ in range(2):
        button.click()
        assert column(opened, "qk_eigenvalue")[-6:] == ["–"] * 6
        assert {name[:2] for name in opened.evaluate(ROWS)[-6:]} == {"L0"}


def test_the_table_shows_values_with_their_errors_and_further_columns_when_asked(tab: Any, run_page: Path):
    opened = tab(run_page)
    cell = opened.page.locator("#plot-head_table tbody tr").first.locator("td").first
    assert cell.text_content().startswith("0.8")
    assert "± 0.0040 (standard error)" in cell.get_attribute("title")
    assert opened.evaluate("getComputedStyle(document.querySelector('#plot-head_table td')).textAlign") == "right"
    headings = opened.page.locator("#plot-head_table thead th")
    few = headings.count()
    opened.page.locator("#head_table-more").check()
    assert headings.count() > few + 5
    assert opened.page.locator('#plot-head_table th[data-key="copying_eigenvalue_raw"]').count() == 1


def test_one_slider_moves_all_figures_of_one_snapshot(tab: Any, run_page: Path):
    opened = tab(run_page)
    strongest = "Math.max(...document.getElementById('plot-composition').data[1].z.flat())"
    assert opened.evaluate(strongest) > 0.3
    assert "L0H0 → L2H5 by K" in opened.page.locator("#composition-reading").text_content()
    slider = opened.page.locator("#composition-snapshot")
    slider.focus()
    slider.press("Home")
    assert opened.evaluate(strongest) < 0.1
    assert "L0H0 → L2H5 by K" not in opened.page.locator("#composition-reading").text_content()
    step = opened.page.locator("#composition-when").text_content()
    opened.page.wait_for_function("() => Math.max(...document.getElementById('plot-eigenvalues').data[0].x) < 0.6")
    for figure in ("grid", "head_table", "eigenvalues", "paths"):
        assert opened.page.locator(f"#{figure}-when").text_content() == step
    assert max(numbers(column(opened, "prefix_matching"))) < 0.1
    slider.press("End")
    opened.page.wait_for_function("() => Math.max(...document.getElementById('plot-eigenvalues').data[0].x) > 0.6")
    bars = opened.evaluate("document.getElementById('plot-paths').data.map(trace => [trace.name, trace.y[0]])")
    assert bars[1:] == [["lost without it", "L2H5"], ["saved by it alone", "L2H5"]]
    assert opened.complaints == []


def test_the_table_says_what_a_snapshot_lacks(tab: Any, run_page: Path):
    opened = tab(run_page)
    reading = opened.page.locator("#head_table-reading")
    assert reading.text_content() == ""
    opened.page.locator("#head_table-snapshot").press("ArrowLeft")
    assert "Δ loss, zero" in reading.text_content()
    assert set(column(opened, "loss.zero")) == {"–"}
    assert opened.page.locator("#head_table-whole option").count() == 3


def test_the_name_of_a_head_stays_in_sight_on_a_phone(tab: Any, run_page: Path):
    opened = tab(run_page, width=390, height=844, is_mobile=True, has_touch=True)
    box = "document.getElementById('plot-head_table')"
    assert opened.evaluate(f"{box}.scrollWidth > {box}.clientWidth + 300")
    opened.evaluate(f"{box}.scrollTo(300, 40)")
    edges = opened.evaluate(
        f"[{box}, {box}.querySelector('tbody tr:nth-child(5) th'), {box}.querySelector('thead th:nth-child(6)')]"
        ".map(e => e.getBoundingClientRect()).map(b => [b.left, b.top])"
    )
    assert edges[1][0] == pytest.approx(edges[0][0], abs=2)
    assert edges[2][1] == pytest.approx(edges[0][1], abs=2)


def test_hostile_measures_and_paths_are_shown_as_text(tab: Any, tmp_path: Path):
    name = "<img src=x onerror=alert(1)>\"'&amp;%{x}"
    run = make_run(tmp_path, snapshots=3, expensive_every=1)
    for table, label, old in (("heads", "measure", "first_token"), ("paths", "path", "L1H3")):
        file = run / "tables" / f"{table}.parquet"
        rows = pq.read_table(file)
        texts = [name if text == old else text for text in rows.column(label).to_pylist()]
        pq.write_table(rows.set_column(rows.schema.get_field_index(label), label, pa.array(texts)), file)
    opened = tab(write(run))
    opened.page.locator("#head_table-more").check()
    assert name.replace("_", " ") in opened.page.locator("#plot-head_table thead").text_content()
    opened.page.select_option("#grid-measure", name)
    ticks = opened.evaluate("[...document.querySelectorAll('#plot-paths .y2tick text')].map(t => t.textContent)")
    assert name in ticks
    assert opened.page.locator("img").count() == 0
    assert opened.complaints == []
