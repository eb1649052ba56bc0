"""The last lines of `bump locate`: verdict, interval and causal share of each run."""

from pathlib import Path

import pytest

from induction_bump.linking.causal_share import at_the_end, causal_shares
from induction_bump.linking.overview import overview
from induction_bump.locate.formats import format_interval
from induction_bump.locate.located import Located
from induction_bump.locate.run import find
from induction_bump.records.load import load
from tests.linking.studies import row_of
from tests.records.make import make_run


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs")
    make_run(directory, name="two", expensive_every=1)
    make_run(directory, name="one", sublayers="s", bump_at=None, seed=1)
    return directory / "study"


@pytest.fixture(scope="module")
def located(study: Path) -> Located:
    return find(study, changes=True)


@pytest.fixture(scope="module")
def lines(located: Located) -> dict[str, str]:
    head, titles, *lines = overview(located).splitlines()
    assert head == "In-context learning"
    assert titles.split()[:3] == ["run", "verdict", "onset–end"]
    return {line.split("-")[0].strip(): line for line in lines}


def test_a_run_with_a_bump_has_verdict_interval_and_share(study: Path, located: Located, lines: dict[str, str]):
    [change] = [c for run in located.runs for c in run.changes if c.event == "icl_change" and c.found]
    assert change.change
    assert change.change.place
    middle = change.change.place.midpoint
    shares = at_the_end(causal_shares(load(study)))
    row = row_of(shares, quantity="icl_window_score")
    assert f" {change.verdict} " in lines["two"]
    assert f" {format_interval(middle.low, middle.high)} " in lines["two"]
    assert f"{row['lost']:.2f} of {-row['intact']:.2f} nats ({row['share']:.0%} ± " in lines["two"]
    assert lines["two"].endswith(f"{row['matched']:.2f} nats")


def test_a_run_without_one_claims_nothing(lines: dict[str, str]):
    verdict, *rest = lines["one"].split()[1:]
    assert verdict in ("none", "undetermined")
    assert rest == ["–"] * 5


def test_where_no_change_was_looked_for_and_nothing_ablated_there_are_dashes(tmp_path: Path):
    run = make_run(tmp_path, snapshots=12)
    assert overview(find(run)).splitlines()[-1].split()[1:] == ["–"] * 6
