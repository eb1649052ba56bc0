"""Every ```python block of README.md and docs/ runs, in order, on a study called runs/quickstart.

Those of docs/export.md (```py) need a library that is not always there: test_against_transformer_lens.py runs them.
"""

import re
from pathlib import Path

import pytest

from induction_bump.locate.run import locate
from tests.records.make import make_run

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
TERMINAL = 80
"""Columns that a printed table may be wide."""
PAGES = [
    page for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if BLOCK.search(page.read_text())
]


@pytest.fixture(scope="module")
def working_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which the quickstart was run and located."""
    root = tmp_path_factory.mktemp("quickstart")
    made = [("1L-attn", "s", False, None), ("1L-attn-smeared", "s", True, 0.2e6), ("2L-attn", "ss", False, 0.8e6)]
    for seed, (model, sublayers, smeared, bump_at) in enumerate(made):
        options = {"sublayers": sublayers, "smeared_keys": smeared, "bump_at": bump_at, "seed": seed}
        make_run(root / "runs", study="quickstart", name=f"{model}-rotary-d64-h4-s0", snapshots=16, **options)
    locate(root / "runs" / "quickstart")  # as `make bump` does
    return root


def test_there_are_pages_with_snippets():
    assert {ROOT / "docs" / "reading-records.md", ROOT / "docs" / "analysis.md"} <= set(PAGES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_snippets_of_a_page_run_one_after_the_other_and_show_what_they_print(
    page: Path, working_directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(working_directory)
    monkeypatch.syspath_prepend(ROOT / "analysis")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv("COLUMNS", str(TERMINAL))
    names: dict[str, object] = {"__name__": "snippet"}
    text = page.read_text()
    cut: list[str] = []
    for block in BLOCK.finditer(text):
        line = text[: block.start()].count("\n") + 1
        exec(compile("\n" * line + block[1], str(page), "exec"), names)
        printed = capsys.readouterr().out.splitlines()
        # pandas shows `...` in place of columns, and of a text's end
        cut += [f"{page.name}:{line}: {each}" for each in printed if "..." in each]
        if "locate" not in block[1]:  # whose own text keeps to the terminal it is printed on
            cut += [f"{page.name}:{line}: {len(each)} columns: {each}" for each in printed if len(each) > TERMINAL]
    assert not cut, "\n".join(cut)
