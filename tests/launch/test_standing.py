"""What a run's directory cannot be."""

from pathlib import Path
from typing import Any

import pytest

from induction_bump.config.errors import ConfigError
from induction_bump.config.resolve import dump, load
from induction_bump.launch import cell
from induction_bump.training.options import RunConfig


def named(config: RunConfig, **values: Any) -> RunConfig:
    return load(dump(config) | values)


def test_a_name_is_refused_that_with_the_id_is_longer_than_a_file_s_may_be(config: RunConfig, tmp_path: Path) -> None:
    path = Path(cell.plan(named(config, name="n" * 244)).path)
    path.mkdir(parents=True)  # the longest that there is
    with pytest.raises(ConfigError, match=r"name=n{40}…: takes 256 bytes with the run's id, and .* here 255 at most"):
        cell.plan(named(config, name="n" * 245))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"study": "s" * 300}, r"study=s{40}…: takes 300 bytes, and a file's name here 255 at most"),
        ({"model": {"sublayers": "sf" * 150 + "s"}}, r"name=(sf){20}…: takes 3\d\d bytes with the run's id"),
        ({"paths": {"runs": f"/tmp/{'é' * 200}/runs"}}, "paths.runs=é{40}…: takes 400 bytes"),
        ({"paths": {"cache": "c" * 256}}, r"paths.cache=c{40}…: takes 256 bytes"),
    ],
)
def test_other_names_on_the_way_are_refused_before_anything_is_there(
    config: RunConfig, tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError, match=message):
        cell.run(named(config, **values))
    assert sorted(tmp_path.rglob("*")) == before
