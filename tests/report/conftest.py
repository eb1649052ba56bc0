"""Chromium for the tests that open a page, and a page that has everything."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from induction_bump.report.page import write
from tests.records.make import make_run
from tests.report.located import bump_between, store
from tests.report.opened import Opened


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    needed = os.environ.get("INDUCTION_BUMP_REQUIRE_BROWSER") == "1"
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium, sync_playwright = None, None
    if chromium is None or sync_playwright is None:
        reason = "needs Chromium and playwright (pip install 'induction-bump[browser]')"
        if needed:
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        started = playwright.chromium.launch(executable_path=chromium, args=flags)
        yield started
        started.close()


@pytest.fixture
def tab(browser: Any) -> Iterator[Any]:
    contexts = []

    def open_tab(
        path: Path, width: int = 1440, height: int = 900, hash: str = "", drawn: bool = True, **options: Any
    ) -> Opened:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        opened = Opened(context.new_page())
        opened.page.on("console", lambda m: m.type in ("error", "warning") and opened.complaints.append(m.text))
        opened.page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        opened.page.on("request", lambda request: opened.requests.append(request.url))
        opened.page.on("dialog", lambda dialog: (opened.complaints.append(dialog.message), dialog.dismiss()))
        opened.visit(path, hash, drawn=drawn)
        return opened

    yield open_tab
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def run_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("runs"), sublayers="sss", n_heads=6, snapshots=12, expensive_every=4)
    store(run, bump_between(run, 450_000, 550_000))
    return write(run)
