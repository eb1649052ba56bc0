"""How a run's page is kept while it trains."""

from induction_bump.options import PositiveFloat, options


@options
class ReportOptions:
    """The live page of a run; `bump report` draws the same one afterwards."""

    live: bool = True
    """Rewrite `report.html` while the run is going."""
    every_seconds: PositiveFloat = 10.0
    """Least time between two rewrites."""
