"""The figures of measures, and the page that explains them."""

import re
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from induction_bump.measures.registry import MEASURES
from induction_bump.records.directory import RunDirectory
from induction_bump.records.frames import rows
from tests.analysis.script import call_script, run_script
from tests.records.make import make_run

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "measures" / "definitions.md"
FAMILIES = {
    "ngrams", "rule", "icl", "token_losses", "copies", "attention", "copying", "corner", "qk_trace", "smear",
    "composition", "ablations", "group", "paths",
}  # fmt: skip
SCALARS = ("unigram_gap", "bigram_gap", "bigram_kl", "predictable_gain", "unpredictable_gain")
SCORES = ("qk_trace_offset0", "smear", "qk_trace_shifted_key")


draw = partial(call_script, "measures")


def names_in(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def add_what_is_not_made_up(path: Path) -> None:
    """Rows of `scalars` and `heads` at every snapshot that `make_run` does not write."""
    run = RunDirectory(path)
    layers = run.config["model"]["sublayers"].count("s")
    places = [(layer, head) for layer in range(layers) for head in range(4)]
    added: dict[str, list[pa.Table]] = {"scalars": [], "heads": []}
    for snapshot in run.snapshots():
        at = (run.info.run_id, snapshot.step, snapshot.tokens)
        values = {"name": SCALARS, "value": np.linspace(0, 1, len(SCALARS)), "stderr": [0.01] * len(SCALARS)}
        added["scalars"].append(rows("scalars", *at, values))
        every = [(*place, measure, 0.1 + 0.2 * place[1], None) for measure in SCORES for place in places]
        columns = dict(zip(("layer", "head", "measure", "value", "stderr"), zip(*every, strict=True), strict=True))
        added["heads"].append(rows("heads", *at, columns))
    for table, parts in added.items():
        run.append_rows(table, "added", pa.concat_tables(parts))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study in which everything is measured."""
    root = tmp_path_factory.mktemp("measured")
    made = [("one-layer", "s", False, None), ("smeared", "s", True, 0.3e6), ("two-layer", "ss", False, 0.5e6)]
    for seed, (name, sublayers, smeared_keys, bump_at) in enumerate(made):
        options = {"sublayers": sublayers, "smeared_keys": smeared_keys, "bump_at": bump_at, "seed": seed}
        path = make_run(root, name=name, run_id=name[:3], snapshots=10, expensive_every=3, **options)
        if name != "one-layer":
            add_what_is_not_made_up(path)
    return root / "study"


@pytest.fixture(scope="module")
def drawn(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its figures."""
    out = tmp_path_factory.mktemp("figures")
    ended = run_script("measures", study, "--out", out, "--scale", "log")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == f"wrote {len(FAMILIES)} figures and their tables to {out}\n"
    return out


def test_every_family_has_a_png_and_a_csv_beside_it(drawn: Path) -> None:
    assert names_in(drawn) == {f"{name}.{suffix}" for name in FAMILIES for suffix in ("png", "csv")}
    for name in FAMILIES:
        assert (drawn / f"{name}.png").read_bytes().startswith(b"\x89PNG"), name


def test_figures_are_of_the_run_with_two_layers_and_smear_of_the_one_that_has_it(drawn: Path) -> None:
    for name in FAMILIES:
        assert set(pd.read_csv(drawn / f"{name}.csv").run_id) == {"sme" if name == "smear" else "two"}, name


def test_tables_hold_what_the_records_say(study: Path, drawn: Path) -> None:
    recorded = RunDirectory(study / "two-layer-two")
    gap = recorded.table("scalars").to_pandas().query("name == 'bigram_gap'")
    found = pd.read_csv(drawn / "ngrams.csv").query("name == 'bigram_gap'")
    np.testing.assert_allclose(found["value"], gap.sort_values("step")["value"], rtol=1e-5)
    corner = pd.read_csv(drawn / "corner.csv")
    steps = sorted(snapshot.step for snapshot in recorded.snapshots())
    assert corner.step.min() == steps[0]
    assert corner.step.max() == steps[-1]
    assert corner.step.nunique() == 3  # between them the last snapshot before the bump
    induction = corner[(corner.step == steps[-1]) & (corner["at"] == "L1H3")].iloc[0]
    assert min(induction.copying_eigenvalue, induction.qk_eigenvalue, induction.prefix_matching) > 0.5
    assert corner[corner["at"].str.startswith("L0")].qk_eigenvalue.isna().all()


def test_what_is_missing_is_said_on_a_line_each_and_left_out(tmp_path: Path) -> None:
    path = make_run(tmp_path, snapshots=8, run_id="aaaa")
    reason = "all heads of the other attention layers are held at zero: there is no earlier head"
    RunDirectory(path).update(not_applicable={"composition_q": reason})
    ended = draw(path.parent)
    assert ended.returncode == 0, ended.stderr
    out = path.parent / "analysis" / "measures"
    there = {"icl", "token_losses", "copies", "attention"}
    assert names_in(out) == {f"{name}.{suffix}" for name in there for suffix in ("png", "csv")}
    *lines, last = ended.stdout.splitlines()
    assert last == f"wrote {len(there)} figures and their tables to {out}"
    told = {line.removeprefix("without ").split(".png: ")[0]: line for line in lines}
    assert set(told) == FAMILIES - there
    assert len(lines) == len(told)
    assert told["smear"] == f"without smear.png: no run of {path.parent} has smeared keys"
    assert told["composition"].endswith(f"the table head_pairs has no q, k, v ({reason})")
    assert told["paths"].endswith(f"the table paths is empty; bump measure {path.parent} --measures path_order")


def test_a_study_of_one_layer_has_nothing_to_draw(tmp_path: Path) -> None:
    path = make_run(tmp_path, sublayers="s", bump_at=None, snapshots=4)
    ended = draw(path.parent, "--out", tmp_path / "figures")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("has two or more attention layers") == len(FAMILIES) - 1
    assert names_in(tmp_path / "figures") == set()


class TestPage:
    """docs/measures."""

    text = PAGE.read_text(encoding="utf-8")

    def test_every_measure_has_a_section(self) -> None:
        headings = re.findall(r"^### (.*)$", self.text, re.MULTILINE)
        named = [name for heading in headings for name in re.findall(r"`(\w+)`", heading)]
        assert sorted(named) == sorted(MEASURES)

    def test_every_section_names_the_table_of_its_measures(self) -> None:
        tables = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^.*\b[Tt]ables? .*$", self.text, re.MULTILINE))))
        assert {measure.table for measure in MEASURES.values()} <= tables

    def test_it_shows_every_figure_that_the_script_draws(self) -> None:
        shown = re.findall(r"^!\[[^\]]+\]\((\w+)\.png\)$", self.text, re.MULTILINE)
        assert sorted(shown) == sorted(FAMILIES)
        for name in shown:
            assert (PAGE.parent / f"{name}.png").is_file(), name
            assert (PAGE.parent / f"{name}.csv").is_file(), name

    def test_its_links_lead_somewhere(self) -> None:
        headings = re.findall(r"^#+ (.*)$", self.text, re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
        for target in re.findall(r"\]\(([^)]+)\)", self.text):
            if target.startswith("#"):
                assert target[1:] in anchors, target
            elif not target.startswith("https://"):
                assert (PAGE.parent / target.split("#")[0]).is_file(), target
