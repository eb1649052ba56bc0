"""A script of analysis/, run as a user runs it."""

import subprocess
import sys
from pathlib import Path

ANALYSIS = Path(__file__).parents[2] / "analysis"


def run_script(name: str, study: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run it with warnings as errors, and fail where it has loaded torch."""
    program = (
        f"import sys; sys.path.insert(0, {str(ANALYSIS)!r}); import {name}; {name}.main(sys.argv[1:]);"
        "sys.exit('torch was loaded' if 'torch' in sys.modules else 0)"
    )
    command = [sys.executable, "-W", "error", "-c", program, str(study), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)
