"""A script of analysis/: run as a user runs it, or called in this process."""

import io
import runpy
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

ANALYSIS = Path(__file__).parents[2] / "analysis"

Ended = subprocess.CompletedProcess[str]


def run_script(name: str, study: Path, *arguments: object) -> Ended:
    """Run it with warnings as errors, and fail where it has loaded torch."""
    program = (
        f"import sys; sys.path.insert(0, {str(ANALYSIS)!r}); import {name}; {name}.main(sys.argv[1:]);"
        "sys.exit('torch was loaded' if 'torch' in sys.modules else 0)"
    )
    command = [sys.executable, "-W", "error", "-c", program, str(study), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def call_script(name: str, study: Path, *arguments: object) -> Ended:
    """The same without a process of its own, which takes seconds to load what a script needs."""
    path, out, err = str(ANALYSIS / f"{name}.py"), io.StringIO(), io.StringIO()
    argv, code = [path, str(study), *map(str, arguments)], 0
    with (
        patch.object(sys, "argv", argv),
        patch.object(sys, "path", [str(ANALYSIS), *sys.path]),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            runpy.run_path(path, run_name="__main__")
        except SystemExit as stopped:
            code = stopped.code if isinstance(stopped.code, int) else int(stopped.code is not None)
    return subprocess.CompletedProcess(argv, code, out.getvalue(), err.getvalue())
