"""What a launcher tells its workers: through the environment, so that no file is left behind."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from induction_bump.config.resolve import load
from induction_bump.data.cores import available_cores
from induction_bump.launch.watch import Watched
from induction_bump.training.options import RunConfig

_JOB = "BUMP_JOB"


@dataclass(frozen=True)
class Job:
    """One run, resolved."""

    config: dict[str, Any]
    run_id: str
    fingerprint: str
    """Content hash of the corpus."""
    path: str
    """The run's directory, absolute."""
    threads: int
    """CPU threads of each process."""
    launcher: str | None = None
    """Process to end with; None where the worker is nobody's child."""

    @property
    def typed(self) -> RunConfig:
        """The config, checked."""
        return load(self.config)

    @property
    def watched(self) -> Watched | None:
        """The launcher, to be watched."""
        return Watched.parse(self.launcher) if self.launcher else None

    def to_environment(self) -> dict[str, str]:
        """Variables from which a worker reads the job."""
        threads = str(self.threads)
        return {
            _JOB: json.dumps(self.__dict__),
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            # OpenMP threads that spin long while others want the core slow a step down tenfold and more.
            "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "10000"),
            # Keeps `python -m` from importing what happens to lie in the working directory.
            "PYTHONSAFEPATH": "1",
        }

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Job":
        """Read `to_environment` back."""
        return cls(**json.loads(environment[_JOB]))


def threads_per_process(config: RunConfig, cores: int | None = None) -> int:
    """`devices.threads`, or an equal share of the cores that this process may use."""
    return config.devices.threads or max(1, (cores or available_cores()) // config.devices.count)
