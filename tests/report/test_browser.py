"""The page in a real browser, from file://."""

import json
from pathlib import Path
from typing import Any

import pytest

from induction_bump.records.directory import RunDirectory
from induction_bump.report.page import write
from tests.records.make import make_run
from tests.report.located import bump_between, silence, store
from tests.report.opened import SORTED

pytestmark = pytest.mark.browser

TRACES = "figure => document.getElementById(`plot-${figure}`).data.map(trace => trace.visible)"
AXES = "[...document.querySelectorAll('.kind-time .plot, .kind-field .plot')].map(plot => plot._fullLayout.xaxis.type)"


@pytest.fixture(scope="module")
def study_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs")
    two = make_run(directory, name="two-layers", snapshots=12)
    one = make_run(directory, name="one-layer", sublayers="s", snapshots=12, bump_at=None)
    store(two.parent, [*bump_between(two, 450_000, 550_000), *silence(one)])
    return write(two.parent)


@pytest.mark.parametrize("kind", ["run", "study"])
def test_the_page_opens_silently_from_a_file_and_draws_all_figures(
    tab: Any, run_page: Path, study_page: Path, kind: str
):
    opened = tab({"run": run_page, "study": study_page}[kind])
    plots = opened.evaluate(
        "[...document.querySelectorAll('.plot')].map(plot => "
        "[plot.id, plot.data?.length || 0, plot.querySelectorAll('.main-svg').length > 0])"
    )
    assert len(plots) == {"run": 15, "study": 6}[kind]
    assert all(traces > 0 and drawn for _, traces, drawn in plots)
    assert opened.complaints == []
    assert {address.split(":")[0] for address in opened.requests} <= {"file", "data", "blob"}
    assert len([address for address in opened.requests if address.startswith("file:")]) == 1


SEEN = """[...document.querySelectorAll('.plot')].map(plot => [plot.id, (plot._fullData || []).map(trace => {
  const points = trace.type === 'scatter' ? [...trace.y].filter(Number.isFinite).length
    : trace.type === 'heatmap' ? trace.z.flat().filter(Number.isFinite).length
    : (trace.orientation === 'h' ? trace.x : trace.y).length;
  return { type: trace.type, mode: trace.mode, fill: trace.fill, points };
})])"""


@pytest.mark.parametrize(
    ("snapshots", "every"), [(1, 1), (2, 1), (12, 100), (12, 11), (12, 1)], ids=["1", "2", "12, 1", "12, 2", "12, 12"]
)
def test_no_figure_is_empty_however_few_snapshots_there_are(tab: Any, tmp_path: Path, snapshots: int, every: int):
    run = make_run(tmp_path, snapshots=snapshots, expensive_every=every)
    for page in (write(run), write(run.parent)):
        opened = tab(page)
        for name, traces in opened.evaluate(SEEN):
            assert any(trace["points"] for trace in traces), name
            for trace in traces:
                if trace["type"] != "scatter" or trace["fill"] == "toself" or not trace["points"]:
                    continue
                assert "markers" in trace["mode"] or trace["points"] > 8, (name, trace)
                assert "lines" not in trace["mode"] or trace["points"] > 2, (name, trace)
        assert opened.complaints == []


@pytest.mark.parametrize("hash", ["#1", "#%", "#%E2%86%92", "#'\"<>", "#figure-icl", "#.plot, *", "#"])
def test_any_hash_is_harmless(tab: Any, run_page: Path, hash: str):
    opened = tab(run_page, hash=hash)
    assert opened.evaluate("document.querySelectorAll('.plot .main-svg').length") > 14
    assert (opened.evaluate("scrollY") > 200) == (hash == "#figure-icl")
    assert opened.complaints == []


def test_text_tables_and_choices_stand_before_the_figures_and_without_them(tab: Any, run_page: Path, tmp_path: Path):
    """In a browser that cannot unpack the library of figures."""
    old = tmp_path / "old.html"
    whole = run_page.read_text("utf-8")
    old.write_text(whole.replace("<main>", "<main><script>delete window.DecompressionStream</script>", 1), "utf-8")
    opened = tab(old, drawn=False)
    opened.page.wait_for_selector("#too-old:not([hidden])")
    assert "newer" in opened.page.locator("#too-old").text_content()
    assert opened.page.locator("#plot-head_table tbody tr").count() == 18
    opened.page.get_by_text("log", exact=True).click()
    opened.page.locator("#grid-snapshot").press("Home")
    assert opened.page.locator("#grid-when").text_content() == "step 0, 0 tokens"
    assert opened.complaints == []


def test_the_axis_switch_applies_to_every_token_axis_and_keeps_step_0(tab: Any, run_page: Path):
    opened = tab(run_page)
    assert set(opened.evaluate(AXES)) == {"linear"}
    opened.page.get_by_text("log", exact=True).click()
    assert set(opened.evaluate(AXES)) == {"log"}
    first = opened.evaluate("document.getElementById('plot-icl')._fullData.at(-1).x[0]")
    ticks = opened.evaluate(
        "[...document.querySelectorAll('#plot-icl .xaxislayer-above .xtick text')].map(tick => tick.textContent)"
    )
    assert first > 0
    assert ticks[0] == "0"
    assert "1M" in ticks
    assert opened.complaints == []


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_located_events_are_drawn_through_all_time_axes(tab: Any, run_page: Path, scale: str):
    opened = tab(run_page)
    opened.page.get_by_text(scale, exact=True).click()
    columns = opened.evaluate(
        "[...document.querySelectorAll('.kind-time .plot, .kind-field .plot')].map(plot => "
        "plot.layout.shapes.filter(shape => shape.type === 'rect').map(shape => [shape.x0, shape.x1]))"
    )
    assert columns == [[[450_000, 550_000]]] * 11
    label = opened.page.locator("#plot-icl .annotation-text").first.text_content()
    assert "copying" in label
    assert "ICL" in label


def test_the_slider_and_the_measure_choose_what_the_head_grid_shows(tab: Any, run_page: Path):
    opened = tab(run_page)
    grid = "document.getElementById('plot-grid').data[0].z"
    assert opened.evaluate(grid)[2][5] > 0.5
    slider = opened.page.locator("#grid-snapshot")
    slider.focus()
    slider.press("Home")
    assert opened.evaluate(grid)[2][5] < 0.1
    assert opened.page.locator("#grid-when").text_content() == "step 0, 0 tokens"
    slider.press("End")
    opened.page.select_option("#grid-measure", "previous_token")
    assert opened.evaluate(grid)[0][0] > 0.5
    assert opened.evaluate(grid)[2][5] < 0.1


def test_a_legend_entry_hides_its_curve_and_shows_it_again(tab: Any, run_page: Path):
    opened = tab(run_page)
    button = opened.page.locator('#figure-copy .legend button[data-key="copy_advantage"]')
    visible = "document.getElementById('plot-copy').data.filter(t => t.legendgroup === 'copy_advantage')[0].visible"
    button.focus()
    button.press("Enter")
    assert opened.evaluate(visible) is False
    assert button.get_attribute("aria-pressed") == "false"
    button.click()
    assert opened.evaluate(visible) is True


def test_a_click_in_one_legend_of_a_study_hides_the_run_in_every_figure(tab: Any, study_page: Path):
    opened = tab(study_page)
    hidden = (
        "[...document.querySelectorAll('.plot')].map(plot => plot.data.filter(trace => "
        "trace.name === 'two-layers').map(trace => trace.visible))"
    )
    shaded = "[...document.querySelectorAll('.plot')].map(plot => plot.layout.shapes.length)"
    assert opened.evaluate(hidden) == [[True]] * 6
    assert opened.evaluate(shaded) == [1] * 6
    opened.page.locator("#figure-prefix_matching .legend button", has_text="two-layers").click()
    assert opened.evaluate(hidden) == [[False]] * 6
    assert opened.evaluate(shaded) == [0] * 6
    pressed = opened.evaluate(
        "[...document.querySelectorAll('.legend button')].map(b => [b.textContent, b.ariaPressed])"
    )
    assert sorted(map(tuple, pressed)) == [("one-layer", "true")] * 6 + [("two-layers", "false")] * 6


def test_a_double_click_in_a_legend_leaves_one_run_alone(tab: Any, study_page: Path):
    opened = tab(study_page)
    opened.page.locator("#figure-loss .legend button", has_text="one-layer").dblclick()
    names = "document.getElementById('plot-icl_score').data.filter(t => t.visible && t.name).map(t => t.name)"
    assert "one-layer" in opened.evaluate(names)
    assert "two-layers" not in opened.evaluate(names)


def test_the_live_page_refreshes_itself_and_keeps_what_its_reader_chose(tab: Any, tmp_path: Path):
    run = make_run(tmp_path, snapshots=12, status="running", expensive_every=3)
    page = write(run, live=True)
    # So long that it cannot come between the choices below; the clock is then moved.
    page.write_text(page.read_text("utf-8").replace('"refresh":10', '"refresh":3600'), "utf-8")
    opened = tab(page)
    opened.page.get_by_text("log", exact=True).click()
    opened.page.locator('#figure-copy .legend button[data-key="copy_advantage"]').click()
    opened.page.select_option("#grid-measure", "first_token")
    opened.page.locator("#grid-snapshot").press("Home")
    opened.page.locator('#plot-head_table th[data-key="first_token"] button').click()
    opened.page.locator("#head_table-more").check()
    opened.evaluate("document.getElementById('plot-head_table').scrollTo(200, 0)")
    opened.evaluate("Plotly.relayout('plot-icl', {'xaxis.range[0]': 5, 'xaxis.range[1]': 6})")
    opened.evaluate("scrollTo(0, 1234)")
    opened.page.wait_for_timeout(200)
    before = opened.evaluate("performance.timeOrigin")
    opened.evaluate("() => { const now = Date.now; Date.now = () => now() + 7.2e6; }")
    opened.page.wait_for_function("before => performance.timeOrigin !== before", arg=before, timeout=60_000)
    opened.wait()
    assert set(opened.evaluate(AXES)) == {"log"}
    assert opened.evaluate(TRACES, "copy").count(False) > 0
    assert opened.page.locator("#grid-measure").input_value() == "first_token"
    assert opened.page.locator("#grid-when").text_content() == "step 0, 0 tokens"
    assert opened.evaluate("document.getElementById('plot-icl')._fullLayout.xaxis.range") == pytest.approx([5, 6])
    assert opened.evaluate("scrollY") == 1234
    assert opened.evaluate(SORTED) == [["first_token", "descending"]]
    assert opened.page.locator("#head_table-more").is_checked()
    assert opened.evaluate("document.getElementById('plot-head_table').scrollLeft") == 200
    assert opened.complaints == []


def test_the_slider_of_a_live_page_follows_the_run_unless_it_was_moved(tab: Any, tmp_path: Path):
    run = make_run(tmp_path, snapshots=6, status="running")
    snapshots = RunDirectory(run).snapshots()
    aside = run / "aside"
    snapshots[-1].path.rename(aside)
    opened = tab(write(run, live=True))
    assert f"step {snapshots[-2].step}," in opened.page.locator("#grid-when").text_content().replace("\u202f", "")
    aside.rename(snapshots[-1].path)
    write(run, live=True)
    opened.page.reload()
    opened.wait()
    assert f"step {snapshots[-1].step}," in opened.page.locator("#grid-when").text_content()


def test_zooming_offers_to_reset_and_survives_the_axis_switch(tab: Any, run_page: Path):
    opened = tab(run_page)
    ranges = "document.getElementById('plot-loss')._fullLayout.xaxis.range"
    whole = opened.evaluate(ranges)
    opened.evaluate("Plotly.relayout('plot-loss', {'xaxis.range[0]': 100000, 'xaxis.range[1]': 1000000})")
    opened.page.get_by_text("log", exact=True).click()
    assert opened.evaluate(ranges) == pytest.approx([5, 6])
    opened.page.get_by_text("linear", exact=True).click()
    assert opened.evaluate(ranges) == pytest.approx([1e5, 1e6])
    opened.page.locator("#figure-loss .reset").click()
    assert opened.evaluate(ranges) == pytest.approx(whole)
    assert not opened.page.locator("#figure-loss .reset").is_visible()


@pytest.mark.parametrize("kind", ["run", "study"])
def test_a_phone_shows_the_page_without_scrolling_sideways(tab: Any, run_page: Path, study_page: Path, kind: str):
    page = {"run": run_page, "study": study_page}[kind]
    opened = tab(page, width=390, height=844, is_mobile=True, has_touch=True)
    assert opened.evaluate("document.documentElement.scrollWidth") == 390
    widths = opened.evaluate("[...document.querySelectorAll('.plot .main-svg')].map(svg => svg.clientWidth)")
    assert 0 < max(widths) <= 390


def test_the_dark_scheme_reaches_the_page_and_its_figures_also_when_it_changes(tab: Any, run_page: Path):
    opened = tab(run_page, color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    text = "document.getElementById('plot-loss')._fullLayout.font.color"
    curve = "document.getElementById('plot-loss')._fullData.at(-1).line.color"
    dark = [opened.evaluate(code) for code in (background, text, curve)]
    opened.page.emulate_media(color_scheme="light")
    light = [opened.evaluate(code) for code in (background, text, curve)]
    assert dark[0] == "rgb(20, 23, 26)"
    assert all(a != b for a, b in zip(dark, light, strict=True))


@pytest.mark.parametrize("shared", [1, 3, 5])
@pytest.mark.parametrize("scale", ["linear", "log"])
def test_labels_of_events_lie_inside_the_figure_and_not_on_each_other(
    tab: Any, tmp_path: Path, scale: str, shared: int
):
    run = make_run(tmp_path, snapshots=12)
    rows = bump_between(run, 0, 0)
    for place, row in enumerate(rows):
        row |= {"tokens_low": 900_000 + 30_000 * (place // shared), "tokens_high": 930_000 + 30_000 * (place // shared)}
    store(run, rows)
    opened = tab(write(run), width=390, height=844)
    opened.page.get_by_text(scale, exact=True).click()
    box = "(e => { const b = e.getBoundingClientRect(); return [b.left, b.right, b.top, b.bottom]; })"
    plot = opened.evaluate(f"{box}(document.getElementById('plot-icl'))")
    labels = opened.evaluate(f"[...document.querySelectorAll('#plot-icl .annotation-text')].map({box})")
    assert len(labels) == -(-5 // shared)
    for i, (left, right, top, bottom) in enumerate(labels):
        assert plot[0] <= left
        assert right <= plot[1]
        assert plot[2] <= top
        for other in labels[:i]:
            assert other[1] <= left or right <= other[0] or other[3] <= top + 2 or bottom <= other[2] + 2


def test_hostile_names_are_shown_as_text(tab: Any, tmp_path: Path):
    name = "</script><img src=x onerror=alert(1)> %{x} \"'"
    run = make_run(tmp_path, snapshots=4, study="s")
    values = (run / "run.json").read_text().replace('"name": "run"', '"name": ' + json.dumps(name))
    (run / "run.json").write_text(values)
    opened = tab(write(run.parent))
    assert opened.page.locator("#figure-loss .legend button span").first.text_content() == name
    assert opened.page.locator("img").count() == 0
    assert opened.complaints == []


@pytest.mark.parametrize(("sublayers", "snapshots"), [("", 4), ("ss", 1)])
def test_pages_with_little_to_show_are_drawn_too(tab: Any, tmp_path: Path, sublayers: str, snapshots: int):
    run = make_run(tmp_path, sublayers=sublayers, snapshots=snapshots, status="running")
    opened = tab(write(run, live=True))
    opened.page.get_by_text("log", exact=True).click()
    assert opened.page.locator(".plot .main-svg").count() > 0
    assert opened.complaints == []
