"""Every figure of every script, of studies with one, two and many measurements: no panel is empty."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from induction_bump.locate.run import locate
from tests.analysis.script import ANALYSIS, Ended, call_script
from tests.analysis.test_measures import add_what_is_not_made_up
from tests.records.make import make_run

CALLED = {path.stem for path in ANALYSIS.glob("*.py") if "command.run(main)" in path.read_text("utf-8")}
SCRIPTS = sorted(CALLED - {"compact_records"})
"""All that read a study to tell of it."""
FIGURES = 18
"""Fewest over all scripts; some draw nothing where few changes are located, and say so."""
MEASURED = {
    "the first": {"snapshots": 1, "expensive_every": 1},
    "the first two": {"snapshots": 2, "expensive_every": 1},
    "one": {"snapshots": 14, "expensive_every": 100},
    "two": {"snapshots": 14, "expensive_every": 8},
    "many": {"snapshots": 14, "expensive_every": 1},
}
"""How many snapshots there are, and at every how-maniest, counted from the last, the expensive measures are."""


@pytest.fixture(scope="module", params=MEASURED)
def study(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    made = [("one", "s", False, None), ("smeared", "s", True, 0.2e6), ("two", "ss", False, 0.3e6)]
    for seed, (name, sublayers, smeared, at) in enumerate(made):
        for twin in range(1 if name == "one" else 2):
            options = {"sublayers": sublayers, "smeared_keys": smeared, "bump_at": at and at * (1 + 0.2 * twin)}
            run_id = f"{seed}{twin}"
            path = make_run(
                root, name=f"{name}{twin}", run_id=run_id, seed=10 * seed + twin, study=request.param,
                **MEASURED[request.param], **options,
            )  # fmt: skip
            if name != "one":
                add_what_is_not_made_up(path)
    locate(root / request.param, changes=request.param == "many")
    return root / request.param


@dataclass
class Drawn:
    """What was saved: by the name of its file, the panels of a figure that show nothing, and lines of the first."""

    empty: dict[str, list[str]] = field(default_factory=dict)
    lines: dict[str, set[tuple[int, str, str]]] = field(default_factory=dict)
    """Points, line and marker of each."""

    def look_at(self, figure: Figure, path: Path | str, **_: object) -> None:
        name, panels = Path(path).stem, [axes for axes in figure.axes if axes.axison]
        self.empty[name] = [axes.get_title(loc="left") for axes in panels if not shows_something(axes)]
        lines = [line for line in panels[0].lines if line.get_transform() == panels[0].transData]
        self.lines[name] = {(len(line.get_xdata()), line.get_linestyle(), str(line.get_marker())) for line in lines}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """Figures are looked at in place of being saved."""
    seen = Drawn()
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **how: seen.look_at(figure, path, **how))
    return seen


def call(script: str, study: Path) -> Ended:
    """Where what it needs is not there, it says so in words and draws nothing."""
    ended = call_script(script, study, "--out", study / "figures")
    assert script != "measures" or ended.returncode == 0, ended.stderr
    return ended


def test_no_panel_of_any_script_is_empty(study: Path, drawn: Drawn):
    for script in SCRIPTS:
        call(script, study)
    assert len(drawn.empty) >= FIGURES, sorted(drawn.empty)
    assert {name: panels for name, panels in drawn.empty.items() if panels} == {}


def shows_something(axes: Axes) -> bool:
    words = any(text.get_text() for text in axes.texts)
    bars = any(patch.get_visible() and np.prod(patch.get_extents().size) > 0 for patch in axes.patches)
    lines = [line for line in axes.lines if line.get_transform() == axes.transData]
    return bool(words or bars or axes.images or any(map(is_seen, lines)) or any(map(is_seen, axes.collections)))


def is_seen(artist: object) -> bool:
    if isinstance(artist, Line2D):
        points = np.isfinite(artist.get_xydata()).all(axis=1).sum()
        marked = artist.get_marker() not in ("", " ", "None", None)
        assert points != 1 or marked, f"a line through one point: {artist.get_label()}"
        return points >= (1 if marked else 2)
    if isinstance(artist, PathCollection):
        return bool(np.isfinite(artist.get_offsets()).all(axis=1).any())
    return any(np.isfinite(path.vertices).all(axis=1).sum() > 1 for path in artist.get_paths())


@pytest.mark.parametrize("study", ["two"], indirect=True)
def test_two_measurements_are_not_joined(study: Path, drawn: Drawn):
    call("measures", study)
    for name in ("group", "paths", "ablations"):
        assert drawn.lines[name] == {(2, "None", "o")}


@pytest.mark.parametrize("study", ["the first"], indirect=True)
def test_a_damaged_run_keeps_no_script_from_the_others(study: Path, tmp_path: Path, drawn: Drawn):
    study = shutil.copytree(study, tmp_path / "damaged")
    (damaged,) = study.glob("two1-*")
    file = damaged / "tables/scalars.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    for script in SCRIPTS:
        said = call(script, study).stderr
        assert f"{script}.py: {file}: cut short, or no Parquet file; the run is left out\n" in said
    assert len(drawn.empty) >= FIGURES
