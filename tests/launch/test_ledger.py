"""What the cells of a sweep have come to, as other processes read it."""

from pathlib import Path

from induction_bump.launch.ledger import Ledger
from induction_bump.launch.outcome import Outcome


def test_an_outcome_is_read_as_it_was_written(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    outcome = Outcome("abc", "runs/a/b-abc", "finished", None, recorded=True, left=("some rows", "the page"))
    assert ledger.outcome(3) is None
    ledger.end(3, outcome)
    assert ledger.outcome(3) == outcome
    ledger.forget(3)
    assert ledger.outcome(3) is None
