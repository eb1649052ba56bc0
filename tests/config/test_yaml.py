"""Every YAML file is composed, complete, and says what it is for."""

from functools import cache
from pathlib import Path

import hydra
import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from induction_bump.config import search_path
from induction_bump.config.compose import compose
from induction_bump.config.identity import run_id
from induction_bump.config.locations import CONF, CONFIGS
from induction_bump.config.overrides import as_typed, rewrite
from induction_bump.config.resolve import dump
from induction_bump.data.fingerprint import fingerprint
from induction_bump.training.options import RunConfig

OPTIONS = sorted(CONF.glob("*/*.yaml"))
EXPERIMENTS = sorted((CONF / "experiment").glob("*.yaml"))
SWEEPS = sorted((CONFIGS / "sweeps").glob("*.yaml"))
NEEDED = {
    "data=files": ["data.corpus.paths=[texts]"],
    "data=hub": ["data.corpus.dataset=owner/name", "data.corpus.revision=v1"],
    "measures=default": ["data=python_source", "data.context=512"],
    "devices=two_cpu": ["training.batch_sequences=64"],
}


def name(path: Path) -> str:
    return f"{path.parent.name}={path.stem}"


def keys(values: object, prefix: str = "") -> set[str]:
    if not isinstance(values, dict):
        return {prefix}
    return {key for name, value in values.items() for key in keys(value, f"{prefix}.{name}".strip("."))}


@pytest.mark.parametrize("path", OPTIONS, ids=name)
def test_every_option_of_every_group_composes(path: Path) -> None:
    config = compose([name(path), *NEEDED.get(name(path), [])])
    assert config.total_steps > 0


def test_the_yaml_files_are_found_where_the_package_lies() -> None:
    assert len(OPTIONS) > 20
    assert (CONF / "train.yaml").is_file()
    assert {path.name for path in CONFIGS.iterdir()} == {"conf", "sweeps"}


def test_the_default_mentions_every_key() -> None:
    # so that `bump train --cfg job` shows all there is
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        composed = OmegaConf.to_container(hydra.compose("train"))
    assert keys(composed) == keys(dump(compose()))


@pytest.mark.parametrize("path", [*OPTIONS, *CONF.glob("*/*/*.yaml"), *SWEEPS], ids=name)
def test_each_file_is_short_and_begins_with_a_comment(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    assert len(lines) <= 25


@pytest.mark.parametrize("path", EXPERIMENTS, ids=name)
def test_an_experiment_begins_with_the_command_that_runs_it_and_names_its_study(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first == f"# bump train experiment={path.stem}"
    assert compose([f"experiment={path.stem}"]).study == path.stem


@pytest.mark.parametrize("path", SWEEPS, ids=name)
def test_a_sweep_begins_with_its_command_and_its_question(path: Path) -> None:
    first, second, *_ = path.read_text(encoding="utf-8").splitlines()
    assert f"{first} ".startswith(f"# bump train -m +sweeps={path.stem} ")
    assert second.endswith("?")


def combinations(sweep: str, *overrides: str) -> list[list[str]]:
    """The overrides of each cell when the sweep is called with some."""
    chosen = [f"+sweeps={sweep}", *overrides]
    search_path.register()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3", job_name="train"):
        composed = hydra.compose("train", rewrite(chosen), return_hydra_config=True)
    params = [f"{key}={value}" for key, value in composed.hydra.sweeper.params.items()]
    parsed = OverridesParser.create().parse_overrides(rewrite([*params, *overrides]))
    [each] = BasicSweeper.split_arguments(parsed, None)
    return [list(cell) for cell in each]


@cache
def cells(sweep: str, *overrides: str) -> list[RunConfig]:
    """Every cell as it is when the sweep is called with overrides."""
    each = combinations(sweep, *overrides)
    return [compose([*map(as_typed, cell), f"+sweeps={sweep}"]) for cell in each]


NEEDED_BY_SWEEPS = {"olsson_small": ["data.corpus.dataset=owner/name", "data.corpus.revision=v1"]}


@pytest.mark.parametrize("sweep", [path.stem for path in SWEEPS])
def test_every_cell_of_every_sweep_composes_into_another_run_of_one_study(sweep: str) -> None:
    # one seed: the others differ by it alone
    configs = cells(sweep, "seed.init=0", *NEEDED_BY_SWEEPS.get(sweep, []))
    assert {config.study for config in configs} == {sweep}
    content = (fingerprint(config.data) if not config.data.is_text else "0" * 64 for config in configs)
    assert len(set(map(run_id, configs, content))) == len(configs)


ON_TEXT = sorted({path.stem for path in SWEEPS} - {"repeat_share", "olsson_small"})
"""The repeats are those of one corpus, and the paper's family is trained on text as it is."""


@pytest.mark.parametrize("sweep", ON_TEXT)
def test_every_sweep_goes_over_to_real_text_with_all_its_cells(sweep: str) -> None:
    base = compose(["experiment=real_text"])
    synthetic = cells(sweep, "seed.init=0")
    for config, other in zip(cells(sweep, "experiment=real_text", "seed.init=0"), synthetic, strict=True):
        assert config.data.corpus == base.data.corpus
        assert config.model.d_model == base.model.d_model
        assert config.training.length == base.training.length
        assert (config.model.sublayers, config.model.clamps) == (other.model.sublayers, other.model.clamps)


def test_a_sweep_with_seeds_has_them_all() -> None:
    assert combinations("seeds") == [[f"++seed.init={seed}"] for seed in range(30)]


def test_the_zero_layer_model_of_the_depths_has_no_layer() -> None:
    depths = [config.model.sublayers for config in cells("depth", "seed.init=0")]
    assert depths == ["", "f", "s", "sf", "ss", "sfsf", "sss", "sfsfsf"]


@pytest.mark.parametrize("experiment", ["quickstart", "python_source"])
def test_debug_shrinks_any_experiment_in_whatever_order_it_is_given(experiment: str) -> None:
    config = compose(["+debug=fast", f"experiment={experiment}"])
    assert config.total_steps == 20
    assert config.study == experiment
    assert config == compose([f"experiment={experiment}", "debug=fast"])


def test_the_measures_of_short_windows_start_before_the_first_copy() -> None:
    config = compose(["experiment=quickstart"])
    icl, corpus = config.measures.icl, config.data.corpus
    assert corpus.name == "repeats"
    assert icl.early + icl.window - 1 <= corpus.first_copy
