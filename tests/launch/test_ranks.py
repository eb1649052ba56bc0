"""A process knows whether somebody else started it as one of several."""

from collections.abc import Mapping

import pytest

from induction_bump.launch.ranks import Rank, from_environment

TORCHRUN = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}


@pytest.mark.parametrize(
    ("environment", "rank"),
    [
        ({}, None),
        (TORCHRUN, None),  # such names alone may be anybody's
        (TORCHRUN | {"MASTER_ADDR": "localhost"}, Rank(1, 4, "torchrun")),
        (TORCHRUN | {"TORCHELASTIC_RUN_ID": "none"}, Rank(1, 4, "torchrun")),
        ({"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4"}, Rank(3, 4, "slurm")),
        # one task alone, and the batch script of a job of several, start runs like any shell
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, None),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, None),
    ],
)
def test_ranks_of_torchrun_and_of_slurm_steps_are_recognised(environment: Mapping[str, str], rank: Rank | None) -> None:
    assert from_environment(environment) == rank


def test_the_first_rank_writes() -> None:
    assert Rank(0, 2, "slurm").first
    assert not Rank(1, 2, "slurm").first
