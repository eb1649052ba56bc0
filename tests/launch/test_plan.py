"""What was composed is found again as long as nothing it depends on has changed, and not a moment longer."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from induction_bump.config.compose import compose
from induction_bump.config.locations import CONF
from induction_bump.launch import cell, plan
from induction_bump.launch.finished import Finished
from induction_bump.launch.ledger import Ledger
from induction_bump.launch.outcome import Outcome
from induction_bump.launch.plan import Cell
from tests.damage import DAMAGE

SEEDS = [["seed.init=0"], ["seed.init=1"]]


def key(directory: Path, combinations: Sequence[Sequence[str]] = SEEDS, *more: str) -> str | None:
    return plan.key(combinations, ["pkg://hydra.conf", f"file://{CONF}", str(directory), *more], directory / "runs")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


class TestKey:
    """Equal keys for equal inputs, another for each change."""

    def test_is_the_same_when_nothing_changed(self, tmp_path: Path) -> None:
        write(tmp_path / "own/experiment/a.yaml", "study: a\n")
        assert key(tmp_path) == key(tmp_path) is not None

    def test_depends_on_the_overrides_and_their_order(self, tmp_path: Path) -> None:
        assert len({key(tmp_path), key(tmp_path, SEEDS[:1]), key(tmp_path, SEEDS[::-1])}) == 3

    @pytest.mark.parametrize(("name", "text"), [("a.yaml", "study: b\n"), ("b.yaml", ""), ("deep/c.yml", "")])
    def test_depends_on_every_yaml_file(self, name: str, text: str, tmp_path: Path) -> None:
        write(tmp_path / "a.yaml", "study: a\n")
        before = key(tmp_path)
        write(tmp_path / name, text)
        assert key(tmp_path) != before

    def test_does_not_depend_on_runs_and_hidden_directories(self, tmp_path: Path) -> None:
        before = key(tmp_path)
        write(tmp_path / "runs/study/run/config.yaml", "study: a\n")
        write(tmp_path / ".venv/some/file.yaml", "a: b\n")
        write(tmp_path / "notes.txt", "no config\n")
        assert key(tmp_path) == before

    def test_follows_links_and_their_circles(self, tmp_path: Path) -> None:
        write(tmp_path / "elsewhere/a.yaml", "study: a\n")
        (tmp_path / "own").mkdir()
        (tmp_path / "own/link").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "own/back").symlink_to(tmp_path / "own")
        before = key(tmp_path / "own")
        write(tmp_path / "elsewhere/a.yaml", "study: b\n")
        assert key(tmp_path / "own") != before

    def test_depends_on_the_variables_that_a_file_reads(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write(tmp_path / "a.yaml", "name: ${oc.env:BUMP_TEST_NAME,none}\n")
        before = key(tmp_path)
        monkeypatch.setenv("BUMP_TEST_OTHER", "x")
        assert key(tmp_path) == before
        monkeypatch.setenv("BUMP_TEST_NAME", "x")
        assert key(tmp_path) != before

    @pytest.mark.parametrize("value", ["${now:%H}", "${oc.env:${which}}", "${mine:3}"])
    def test_there_is_none_where_composing_may_differ_each_time(self, value: str, tmp_path: Path) -> None:
        write(tmp_path / "a.yaml", f"name: {value}\n")
        assert key(tmp_path) is None
        assert key(tmp_path / "empty", [[f"name={value}"]]) is None

    def test_there_is_none_for_config_that_is_no_file(self, tmp_path: Path) -> None:
        assert key(tmp_path, SEEDS, "pkg://somebody.conf") is None


class TestRememberedCells:
    """Plans are files of the study."""

    @pytest.fixture
    def cells(self, tmp_path: Path) -> list[Cell]:
        found = []
        (tmp_path / "texts").mkdir()
        write(tmp_path / "texts/a.txt", "some text\n" * 100)
        for seed in range(2):
            config = compose(
                [
                    "data=files",
                    f"data.corpus.paths=[{tmp_path}/texts]",
                    f"seed.init={seed}",
                    f"paths.runs={tmp_path}/runs",
                    f"paths.cache={tmp_path}/cache",
                ]
            )
            found.append(Cell.of([f"seed.init={seed}"], config, cell.plan(config)))
        return found

    def test_come_back_as_they_were(self, cells: list[Cell], tmp_path: Path) -> None:
        plan.remember(tmp_path, "k", cells)
        assert plan.read(tmp_path, "k") == cells
        assert plan.read(tmp_path, "other") is None

    def test_are_forgotten_when_the_corpus_has_changed(self, cells: list[Cell], tmp_path: Path) -> None:
        plan.remember(tmp_path, "k", cells)
        write(tmp_path / "texts/a.txt", "other text\n" * 100)
        assert plan.read(tmp_path, "k") is None

    def test_are_forgotten_when_the_corpus_has_gone(self, cells: list[Cell], tmp_path: Path) -> None:
        plan.remember(tmp_path, "k", cells)
        (tmp_path / "texts/a.txt").unlink()
        assert plan.read(tmp_path, "k") is None

    @pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
    def test_a_damaged_plan_is_none(
        self, damage: bytes, cells: list[Cell], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        plan.remember(tmp_path, "k", cells)
        [file] = (tmp_path / plan.REMEMBERED).iterdir()
        file.write_bytes(damage)
        assert plan.read(tmp_path, "k") is None
        assert f"{file} in a cache is damaged" in caplog.text

    def test_only_the_last_few_plans_are_kept(self, cells: list[Cell], tmp_path: Path) -> None:
        for number in range(15):
            plan.remember(tmp_path, str(number), cells[:1])
            os.utime(tmp_path / plan.REMEMBERED / f"plan-{number}.json", (number, number))
        assert plan.read(tmp_path, "14")
        assert len(list((tmp_path / plan.REMEMBERED).iterdir())) == 10


class TestFinishedRuns:
    """Known by the stamps of the files that said so."""

    @pytest.fixture
    def run(self, tmp_path: Path) -> Path:
        write(tmp_path / "a-1/run.json", "{}")
        write(tmp_path / "a-1/config.yaml", "{}")
        return tmp_path / "a-1"

    def test_are_known_to_the_next_call(self, run: Path, tmp_path: Path) -> None:
        known = Finished(tmp_path)
        assert not known.holds("1", run)
        known.add([("1", run)])
        known.write()
        assert Finished(tmp_path).holds("1", run)
        assert not Finished(tmp_path).holds("2", run)

    @pytest.mark.parametrize("name", ["run.json", "config.yaml"])
    def test_a_file_that_changed_or_went_is_read_again(self, name: str, run: Path, tmp_path: Path) -> None:
        known = Finished(tmp_path)
        known.add([("1", run)])
        known.write()
        before = (run / name).stat()
        write(run / name, "[]")
        os.utime(run / name, ns=(before.st_atime_ns, before.st_mtime_ns))  # as a copying tool would
        assert not Finished(tmp_path).holds("1", run)
        (run / name).unlink()
        assert not Finished(tmp_path).holds("1", run)

    @pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
    def test_are_looked_at_again_where_the_file_is_damaged(
        self, damage: bytes, run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        for _ in range(2):
            known = Finished(tmp_path)
            assert not known.holds("1", run)
            known.add([("1", run)])
            known.write()
            assert Finished(tmp_path).holds("1", run)
            [file] = (tmp_path / plan.REMEMBERED).iterdir()
            file.write_bytes(damage)
        Finished(tmp_path)
        assert f"{file} in a cache is damaged" in caplog.text

    def test_a_renamed_run_is_looked_at_again(self, run: Path, tmp_path: Path) -> None:
        known = Finished(tmp_path)
        known.add([("1", run)])
        known.write()
        assert not Finished(tmp_path).holds("1", run.rename(tmp_path / "b-1"))

    def test_two_launchers_keep_what_both_found(self, run: Path, tmp_path: Path) -> None:
        first, second = Finished(tmp_path), Finished(tmp_path)
        for known, run_id in ((first, "1"), (second, "2")):
            known.add([(run_id, run)])
            known.write()
        assert Finished(tmp_path).holds("1", run)
        assert Finished(tmp_path).holds("2", run)


def test_a_ledger_tells_what_has_begun_and_how_it_ended(tmp_path: Path) -> None:
    ledger, outcome = Ledger(tmp_path), Outcome("id", "/runs/a", "failed", "why", recorded=True)
    assert not ledger.begun(3)
    ledger.begin(3)
    assert (ledger.begun(3), ledger.outcome(3)) == (True, None)
    ledger.end(3, outcome)
    assert Ledger(tmp_path).outcome(3) == outcome
    ledger.forget(3)
    assert (ledger.begun(3), ledger.outcome(3)) == (False, None)
