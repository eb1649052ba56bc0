"""Whatever ends a process, and whenever: the run becomes the uninterrupted one, bit for bit, each step once."""

import random
import re
import time
from pathlib import Path

import numpy as np
import pytest

from induction_bump.data import fingerprint
from induction_bump.training.options import RunConfig
from tests.faults.attempts import Suite, can_mount
from tests.faults.inject import Fault
from tests.training.runs import config_of

pytestmark = pytest.mark.processes

TRAINING_ROWS = re.compile("write_table .*/training/")
CHECKPOINT = re.compile("rename .*/checkpoints/")
CACHES = re.compile(r"corpora|file_hashes|ngrams|nulls")
WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "one", "dog", "run", "up", "to", "it"]


def config(directory: Path, devices: int) -> RunConfig:
    """Eight steps, four snapshots, seven checkpoints, a text with windows for less than three steps."""
    return config_of(
        directory / "cache",
        data={
            "context": 32,
            "corpus": {"name": "files", "paths": [str(directory / "texts")]},
            "tokenizer": {"vocab_size": 270},
            "held_out_share": 0.3,
        },
        training={"length": "8step", "batch_sequences": 72, "learning_rate": 0.01},
        snapshots={"measures": {"at": ["3step", "5step"]}, "expensive": {"at": ["5step"]}},
        measures={"held_out": {"examples": 9}, "causal": {"examples": 4, "path_examples": 2}},
        checkpoints={"every": "2step"},
        devices={"accelerator": "cpu", "count": devices, "threads": 1},
        tracking={"mode": "none"},
        report={"live": False},
    )


def write_texts(directory: Path) -> None:
    directory.mkdir()
    words = np.random.default_rng(0)
    for number in range(40):
        (directory / f"{number}.txt").write_text(" ".join(words.choice(WORDS, size=80)), encoding="utf-8")


@pytest.fixture(scope="module")
def suite(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Suite:
    """Its runs."""
    directory = tmp_path_factory.mktemp("faults")
    write_texts(directory / "texts")
    # hashes of new files are not remembered: some later attempt would write them
    time.sleep(fingerprint.SETTLED_NS / 1e9)
    return Suite(directory, config(directory, request.param))


def spread(points: list[str], number: int) -> list[int]:
    """Numbers of so many calls, from the first to the last."""
    return sorted({round(place) for place in np.linspace(0, len(points) - 1, number)})


def kills(numbers: list[int]) -> list[Fault]:
    """Before every other call, and after the ones between."""
    return [Fault("kill-before" if place % 2 else "kill-after", number) for place, number in enumerate(numbers)]


def report(suite: Suite, title: str, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\n{title}: {suite}")
    assert suite.lost == []


ALONE, TOGETHER = (pytest.param(n, id=name) for n, name in ((1, "one-process"), (2, "two-processes")))
FEW = 10
SOME, ALL = pytest.param(6, id="some"), pytest.param(10_000, id="all", marks=pytest.mark.slow)
both = pytest.mark.parametrize("suite", [ALONE, TOGETHER], indirect=True)
alone = pytest.mark.parametrize("suite", [ALONE], indirect=True)


@both
@pytest.mark.parametrize("most", [SOME, ALL])
def test_kills_around_writes(suite: Suite, most: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(suite.warm) > 200
    for fault in kills(spread(suite.warm, min(most, len(suite.warm)))):
        suite.trial({"fault": fault})
    report(suite, "killed before or after a call that writes the run", capsys)


@alone
@pytest.mark.parametrize("most", [SOME, ALL])
def test_kills_while_corpus_and_caches_are_made(suite: Suite, most: int, capsys: pytest.CaptureFixture[str]) -> None:
    of_caches = [number for number, name in enumerate(suite.cold) if CACHES.search(name)]
    assert len(of_caches) > 20
    for place in spread(suite.cold[: len(of_caches)], min(most // 2, len(of_caches))):
        for kind in ("kill-before", "kill-after"):
            suite.trial({"fault": Fault(kind, of_caches[place])}, cold=True)
    report(suite, "killed before or after a call that writes a cache", capsys)


@both
@pytest.mark.parametrize("most", [pytest.param(2, id="some"), pytest.param(40, id="all", marks=pytest.mark.slow)])
def test_kills_one_after_the_other_at_any_time(suite: Suite, most: int, capsys: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(most)
    devices = suite.base["devices"]["count"]
    for _ in range(most):
        times = [chance.uniform(0, suite.seconds) for _ in range(3)]
        suite.trial(*({"after": seconds, "rank": chance.randrange(devices)} for seconds in times))
    report(suite, "killed at any time", capsys)


@alone
@pytest.mark.parametrize("most", [SOME, ALL])
def test_kills_of_what_goes_on_after_a_kill(suite: Suite, most: int, capsys: pytest.CaptureFixture[str]) -> None:
    """The calls that bring records back to a checkpoint are those before the next training rows are written."""
    few = most < FEW
    begun = next(n for n, name in enumerate(suite.warm) if CHECKPOINT.match(name))
    for place in spread(suite.warm[begun:], 3 if few else 14)[1:-1]:
        first = Fault("kill-before", begun + place)
        later = suite.points_after(first)
        back = [place for place, name in enumerate(later) if TRAINING_ROWS.match(name)][:1] or [len(later)]
        for second in kills(spread(later[: back[0]], 2 if few else 12)):
            suite.trial({"fault": first}, {"fault": second})
    report(suite, "killed again while records were brought back", capsys)


@alone
@pytest.mark.parametrize("most", [SOME, ALL])
def test_a_full_disk(suite: Suite, most: int, capsys: pytest.CaptureFixture[str]) -> None:
    """At each call that takes room: one line says so, and the next attempt goes on."""
    takes_room = [number for number, name in enumerate(suite.warm) if not name.startswith(("unlink", "rmtree"))]
    for place in spread(suite.warm[: len(takes_room)], min(most, len(takes_room))):
        suite.trial({"fault": Fault("disk-full", takes_room[place])}, allowed="disk full: cannot write ")
    report(suite, "a disk that is full at one call", capsys)


@alone
@pytest.mark.skipif(not can_mount(), reason="mounting a small file system needs root")
@pytest.mark.parametrize("most", [pytest.param(2, id="some"), pytest.param(60, id="all", marks=pytest.mark.slow)])
def test_a_disk_that_is_too_small(suite: Suite, most: int, capsys: pytest.CaptureFixture[str]) -> None:
    """A real one, which fills in the middle of a file: the same line, and on a larger one the next attempt goes on."""
    needed = sum(file.stat().st_size for file in suite.expected.path.rglob("*") if file.is_file())
    for size in np.linspace(0.1, 0.9, most):
        suite.trial_on_a_disk_of(int(needed * size), enough=20 * needed)
    report(suite, "a file system that fills", capsys)
