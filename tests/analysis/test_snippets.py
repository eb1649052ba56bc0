"""Every ```python block of README.md and docs/ runs, in order, on a study called runs/quickstart."""

import re
from pathlib import Path

import pytest

from tests.records.make import make_run

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PAGES = [
    page for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if BLOCK.search(page.read_text())
]


@pytest.fixture(scope="module")
def working_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which the quickstart was run."""
    root = tmp_path_factory.mktemp("quickstart")
    made = [("one-layer", "s", False, None), ("smeared", "s", True, 0.2e6), ("two-layer", "ss", False, 0.8e6)]
    for seed, (name, sublayers, smeared, bump_at) in enumerate(made):
        options = {"sublayers": sublayers, "smeared_keys": smeared, "bump_at": bump_at, "seed": seed}
        make_run(root / "runs", study="quickstart", name=name, snapshots=16, **options)
    return root


def test_there_are_pages_with_snippets():
    assert {ROOT / "docs" / "reading-records.md", ROOT / "docs" / "analysis.md"} <= set(PAGES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_snippets_of_a_page_run_one_after_the_other(
    page: Path, working_directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(working_directory)
    monkeypatch.syspath_prepend(ROOT / "analysis")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    names: dict[str, object] = {"__name__": "snippet"}
    text = page.read_text()
    for block in BLOCK.finditer(text):
        line = text[: block.start()].count("\n") + 1
        exec(compile("\n" * line + block[1], str(page), "exec"), names)
    assert "Traceback" not in capsys.readouterr().out
