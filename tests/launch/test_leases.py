"""Devices are lent to one holder at a time, and come back however the holder ends."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from induction_bump.config.compose import compose
from induction_bump.config.errors import ConfigError
from induction_bump.launch import leases
from induction_bump.launch.demand import Demand, with_threads
from induction_bump.launch.leases import Machine

FOUR = ("0", "1", "2", "3")


def never() -> bool:
    return False


def always() -> bool:
    return True


def test_two_holders_never_have_the_same_device(tmp_path: Path) -> None:
    with leases.lent("core", FOUR, 3, never, tmp_path) as first, leases.lent("core", FOUR, 1, never, tmp_path) as other:
        assert first is not None
        assert other is not None
        assert sorted(first + other) == list(FOUR)


def test_gpus_and_cores_of_the_same_number_are_different_devices(tmp_path: Path) -> None:
    with leases.lent("core", FOUR, 4, never, tmp_path), leases.lent("gpu", FOUR, 4, never, tmp_path) as gpus:
        assert gpus == list(FOUR)


def test_who_waits_when_a_stop_comes_gets_nothing_and_holds_nothing(tmp_path: Path) -> None:
    with leases.lent("gpu", ["0", "1"], 1, never, tmp_path):
        with leases.lent("gpu", ["0", "1"], 2, always, tmp_path) as both:
            assert both is None
        with leases.lent("gpu", ["0", "1"], 1, never, tmp_path) as one:
            assert one == ["1"]


def test_devices_come_back_at_the_end_of_the_block_and_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), leases.lent("gpu", FOUR, 4, never, tmp_path):
        raise ZeroDivisionError
    with leases.lent("gpu", FOUR, 4, never, tmp_path) as devices:
        assert devices == list(FOUR)


HOLDER = """
import pathlib, sys, time
from induction_bump.launch import leases
with leases.lent("gpu", sys.argv[2].split(","), int(sys.argv[3]), lambda: False, pathlib.Path(sys.argv[1])) as held:
    print(",".join(held), flush=True)
    time.sleep(600)
"""


def holder(where: Path, devices: Sequence[str], count: int) -> subprocess.Popen[str]:
    call = [sys.executable, "-c", HOLDER, str(where), ",".join(devices), str(count)]
    return subprocess.Popen(call, stdout=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def test_devices_of_a_killed_process_go_to_the_next(tmp_path: Path) -> None:
    first = holder(tmp_path, ["a", "b"], 2)
    assert said(first) == "a,b"
    second = holder(tmp_path, ["a", "b"], 1)
    try:
        time.sleep(0.5)
        assert second.poll() is None
        first.send_signal(signal.SIGKILL)
        assert said(second) == "a"
    finally:
        for process in (first, second):
            process.kill()
            process.communicate()


def test_what_a_holder_starts_does_not_keep_its_devices(tmp_path: Path) -> None:
    with ExitStack() as held:
        held.enter_context(leases.lent("gpu", ["0"], 1, never, tmp_path))
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    deadline = time.monotonic() + 5
    try:
        with leases.lent("gpu", ["0"], 1, lambda: time.monotonic() > deadline, tmp_path) as again:
            assert again == ["0"]
    finally:
        child.kill()
        child.wait()


def _take(where: Path, count: int, together: Barrier, served: "multiprocessing.Queue[int]") -> None:
    together.wait(60)  # to start takes a busy machine many seconds
    until = time.monotonic() + 6
    while time.monotonic() < until:
        with leases.lent("gpu", FOUR, count, lambda: time.monotonic() > until, where) as devices:
            if devices is None:
                return
            served.put(count)
            time.sleep(0.05)


def test_who_wants_all_devices_is_served_among_those_who_take_single_ones(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    served, together = context.Queue(), context.Barrier(4)
    processes = [context.Process(target=_take, args=(tmp_path, count, together, served)) for count in (1, 1, 1, 4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    counts = [served.get() for _ in range(served.qsize())]
    assert counts.count(4) >= 2
    assert counts.count(1) >= 2


def test_another_directory_can_be_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(leases.DIRECTORY, str(tmp_path / "leases"))
    assert leases.directory() == tmp_path / "leases"
    assert (tmp_path / "leases").stat().st_mode & 0o777 == 0o700


def test_the_directory_of_the_locks_is_the_users_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # no /dev/shm
    monkeypatch.setattr(leases.tempfile, "gettempdir", lambda: str(tmp_path))
    made = leases.directory()
    assert made.stat().st_mode & 0o777 == 0o700
    made.rmdir()
    made.symlink_to(tmp_path)
    with pytest.raises(PermissionError):
        leases.directory()


class TestMachine:
    """GPUs as CUDA_VISIBLE_DEVICES and the driver tell them."""

    @pytest.fixture
    def driver(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
        """Puts a driver's tool first on the path, that says what is given."""

        def install(text: str) -> None:
            tool = tmp_path / "nvidia-smi"
            tool.write_text(f"#!/bin/sh\nprintf '{text}'\n", encoding="utf-8")
            tool.chmod(0o755)
            monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

        return install

    def test_without_a_driver_and_a_variable_there_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "/nowhere")
        assert Machine.this({}).gpus == ()

    def test_all_of_the_drivers_by_uuid(self, driver: Callable[[str], None]) -> None:
        driver("0, GPU-aa\\n1, GPU-bb\\n")
        assert Machine.this({}).gpus == ("GPU-aa", "GPU-bb")

    @pytest.mark.parametrize(
        ("visible", "found"),
        [
            ("", ()),
            ("-1", ()),
            ("1", ("GPU-bb",)),
            ("1, 0", ("GPU-bb", "GPU-aa")),
            ("GPU-aa", ("GPU-aa",)),
            ("0,7,1", ("GPU-aa",)),  # CUDA ignores what follows a wrong one
            ("0,-1,1", ("GPU-aa",)),
            ("MIG-cc", ("MIG-cc",)),
        ],
    )
    def test_only_what_is_visible(self, visible: str, found: tuple[str, ...], driver: Callable[[str], None]) -> None:
        driver("0, GPU-aa\\n1, GPU-bb\\n")
        assert Machine.this({"CUDA_VISIBLE_DEVICES": visible}).gpus == found

    def test_without_a_driver_the_variable_is_taken_as_it_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "/nowhere")
        assert Machine.this({"CUDA_VISIBLE_DEVICES": "0,3"}).gpus == ("0", "3")

    def test_cores_are_those_that_this_process_may_use(self) -> None:
        assert set(Machine.this({}).cores) <= set(map(str, os.sched_getaffinity(0)))


class TestDemand:
    """What a cell needs, and how the rest of the machine is shared."""

    machine = Machine(("GPU-a", "GPU-b"), tuple(map(str, range(8))))

    @pytest.mark.parametrize(
        ("overrides", "asked", "kind", "count"),
        [
            (["devices=cpu"], None, "core", 1),
            (["devices=cpu", "devices.threads=3"], None, "core", 3),
            (["devices=two_cpu", "devices.threads=3"], None, "core", 6),
            (["devices=two_cpu"], None, "core", 2),
            (["devices=cpu"], 2, "core", 4),
            (["devices=two_cpu"], 2, "core", 4),
            (["devices=cpu"], 16, "core", 1),
            (["devices=cpu", "devices.threads=99"], None, "core", 8),
            (["devices=auto"], None, "gpu", 1),
            (["devices=gpu", "devices.count=2"], None, "gpu", 2),
        ],
    )
    def test_devices_of_one_cell(self, overrides: list[str], asked: int | None, kind: str, count: int) -> None:
        config = compose([*overrides, "training.batch_sequences=48"])
        assert Demand.of(config, self.machine, asked) == Demand(kind, count)  # type: ignore[arg-type]

    def test_auto_means_cores_where_there_is_no_gpu(self) -> None:
        assert Demand.of(compose(), Machine((), self.machine.cores)).kind == "core"

    def test_more_gpus_than_there_are_is_refused(self) -> None:
        config = compose(["devices=gpu", "devices.count=4"])
        with pytest.raises(ConfigError, match=r"devices\.count=4: this machine has 2 CUDA devices"):
            Demand.of(config, self.machine)

    def test_cells_on_gpus_share_the_cores(self) -> None:
        assert with_threads(compose(["devices=gpu"]), self.machine, at_once=2).devices.threads == 4
        assert with_threads(compose(["devices=gpu", "devices.threads=3"]), self.machine, 2).devices.threads == 3
