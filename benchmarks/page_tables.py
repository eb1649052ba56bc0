"""Tables of the documentation, from the data that lie beside it.

    python -m benchmarks.page_tables            # prints them
    python -m benchmarks.page_tables --write    # puts them into the pages

A page holds a table between `<!-- table: NAME -->` and `<!-- end of table -->`. A test compares.
"""

import argparse
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks import locating_tables, result_tables

Tables = Mapping[str, str]
"""Markdown by the table's name."""

DOCS = Path(__file__).parents[1] / "docs"
PAGES: Mapping[str, Callable[[Path], Tables]] = {
    "locating.md": locating_tables.tables,
    "results/README.md": result_tables.of_quickstart,
    "results/studies.md": result_tables.of_studies,
}
"""By page below docs/: what makes its tables from that directory."""

_END = "<!-- end of table -->"
_BLOCK = re.compile(r"^<!-- table: ([^\n]+) -->\n(.*?)^(<!-- [^\n]+ -->)$", re.MULTILINE | re.DOTALL)


def filled(page: str, tables: Tables) -> str:
    """A page with every table as given. Raises ValueError where a table is not in it once, or is not given."""

    def fill(block: re.Match[str]) -> str:
        name, _, end = block.groups()
        if end != _END:
            raise ValueError(f"table {name}: {end} where {_END} is due")
        if name not in tables:
            raise ValueError(f"table {name}: not one of {', '.join(tables)}")
        return f"<!-- table: {name} -->\n{tables[name]}\n{end}"

    for name in tables:
        if page.count(f"<!-- table: {name} -->\n") != 1:
            raise ValueError(f"table {name}: must be in the page once")
    return _BLOCK.sub(fill, page)


def main() -> None:
    """Print all tables, or write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="into the pages, in place of printing")
    write = parser.parse_args().write
    for name, tables in PAGES.items():
        page = DOCS / name
        if write:
            page.write_text(filled(page.read_text(), tables(DOCS)))
            continue
        for title, table in tables(DOCS).items():
            print(f"{name}: {title}\n\n{table}\n")


if __name__ == "__main__":
    main()
