"""`bump train` composes, checks and names runs; what is wrong is told in two lines and leaves nothing behind."""

import errno
import json
import os
import shlex
import signal
from pathlib import Path

import pytest
import yaml

from induction_bump.cli.main import main
from induction_bump.config.compose import compose
from induction_bump.config.resolve import dump
from induction_bump.launch import stop
from induction_bump.launch.outcome import Outcome
from induction_bump.records.schema import RecordsError
from induction_bump.training.options import RunConfig
from tests.cli.conftest import StandInCells
from tests.tracking.wandb_double import isolate


def everything_in(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def train(arguments: str) -> int:
    return main(["train", *shlex.split(arguments)])


MISTAKES = [
    ("model.foo=1", "model.foo: no such key; model has sublayers,"),
    ("+model.foo=1", "model.foo: no such key; model has sublayers,"),
    ("++model.foo=1", "model.foo: no such key; model has sublayers,"),
    ("modle.d_model=64", "modle: no such key; did you mean model?"),
    ("stdy=x", "stdy: no such key; did you mean study?"),
    ("model.n_head=2", "model.n_head: no such key; did you mean model.n_heads?"),
    ("model.d_model=wide", 'model.d_model="wide": must be a valid integer'),
    ("model.d_model=64.5", "model.d_model=64.5: must be a valid integer"),
    ("model.n_heads=5", "model.n_heads=5 does not divide d_model=64; choose one that does, or set d_head"),
    ("model.sublayers=sx", 'model.sublayers="sx": must be made of s (self-attention) and f'),
    ("model=tow_layers", "model=tow_layers: must be one of olsson_small, one_layer,"),
    ("experiment=nothing", "experiment=nothing: must be one of debug, python_source, quickstart"),
    ("experiment=3", "experiment=3: must be one of debug, python_source, quickstart"),
    ("experiment=null", "experiment=null: must be one of debug, python_source, quickstart"),
    ("hydra/launcher=3", "hydra/launcher=3: must be one of basic,"),
    ("+tracking=offline", "tracking=offline: tracking is chosen already; leave out the +"),
    ("+sweeps=nothing", "sweeps=nothing: must be one of batch_context, clamps, depth,"),
    ("training.length=2000", "training.length: 2000 has no unit; write 2000step or 2000tok"),
    ("training.learning_rate=0", "training.learning_rate=0: must be greater than 0"),
    ("training.learning_rate=nan", "training.learning_rate=NaN: must be a finite number"),
    ("measures.icl.late=129", "measures.icl.late=129 lies past data.context=128"),
    ("data.context=100", "measures.icl.late=128 lies past data.context=100"),
    ("measures.icl.late=60", "measures.icl: early window 8…39 and late window 29…60 overlap"),
    ("measures=default", "measures.icl.late=500 lies past data.context=128"),
    ("training.length=100step snapshots.measures.at=[101step]", "snapshots.measures.at[0]=101step lies past"),
    (
        "training.length=100step training.warmup=101step",
        "training.warmup=101step is longer than",
    ),
    ("devices.count=3", "training.batch_sequences=64 cannot be split evenly over 3 devices"),
    ("devices.nodes=2", "devices.nodes=2: start one `bump train` a device with srun or torchrun"),
    ("data=files", "data.corpus.paths: must be set; it has no default"),
    ("data=files data.corpus.paths=[nowhere]", "data.corpus.paths: 'nowhere' names no readable files"),
    ("data.corpus.name=repets", "data.corpus.name=repets: must be one of 'repeats', 'triggers'"),
    ("data.corpus.segment=[8,x]", 'data.corpus.segment[1]="x": must be a valid integer'),
    ("'model.d_model=${nothing}'", "model.d_model: Interpolation key 'nothing' not found"),
    ("seed.init=0,1", "seed.init=0,1: several values; add -m to sweep over them"),
    ("seed.init=-1", "seed.init=-1: must be greater than or equal to 0"),
    ("+model.d_model=32", "model.d_model: is in the config already; leave out the +"),
    ("~model.nothing", "Could not delete from config. 'model.nothing' does not exist."),
    ("model.d_model=[1", "model.d_model=[1: cannot be read as key=value"),
    ("study=café", "study=café: é cannot stand outside quotes; write 'study=\"café\"'"),
    ("'study=a b=c'", "study=a b=c: = cannot stand outside quotes; write 'study=\"a b=c\"'"),
    (
        "'paths.runs=/my runs (2)'",
        "paths.runs=/my runs (2): ( cannot stand outside quotes; write 'paths.runs=\"/my runs",
    ),
    (
        "data.corpus.paths=[ä.txt,b]",
        "data.corpus.paths=[ä.txt,b]: ä cannot stand outside quotes; write 'data.corpus.pa",
    ),
    ("modèle=1", "modèle=1: cannot be read as key=value (at è)"),
    ("'study =x'", "study =x: cannot be read as key=value (at a blank)"),
    (
        "model.sublayers=s f",
        "f: is not an override; write key=value, such as experiment=quickstart, with quotes around both",
    ),
    ("study=2024", "study=2024: must be text, and is read as a number; put what you mean in quotes: 'study=\"…\"'"),
    ("study=nan", "study=NaN: must be text, and is read as a number; put what you mean in quotes: 'study=\"…\"'"),
    ("name=1e3", "name=1000.0: must be text, and is read as a number; put what you mean in quotes: 'name=\"…\"'"),
    (
        "study=true",
        "study=true: must be text, and is read as a truth value; put what you mean in quotes: 'study=\"…\"'",
    ),
    ("-m study=1,2", "study=1: must be text, and is read as a number; put what you mean in quotes"),
    ("paths.runs=", 'paths.runs="": must not be empty'),
    ("paths.cache=", 'paths.cache="": must not be empty'),
    ("data=files \"data.corpus.paths=['']\"", 'data.corpus.paths[0]="": must not be empty'),
    ("data=hub data.corpus.dataset=a/b data.corpus.revision=", 'data.corpus.revision="": must not be empty'),
    ("quickstart", "quickstart: is not an override; write key=value"),
    ("--nonsense", "train: unrecognized arguments: --nonsense; see bump train --help"),
    ("--config-path nowhere", "Primary config directory not found."),
    ("--config-name nowhere", "Cannot find primary config 'nowhere'."),
    ("--config-dir nowhere", "Additional config directory"),
    ("study=a/b", 'study="a/b": must begin with a letter or digit'),
    ("tracking.mode=maybe", "tracking.mode=\"maybe\": must be 'auto', 'offline', 'online' or 'none'"),
    ("--cfg job model.foo=1", "model.foo: no such key; model has sublayers,"),
    ("--cfg all model.n_heads=5", "model.n_heads=5 does not divide d_model=64"),
    ("--cfg job --package model model.d_model=wide", 'model.d_model="wide": must be a valid integer'),
    ("--cfg job +sweeps=quickstart", "Only one of --run, --multirun, --cfg"),
    ("--cfg job -m seed.init=0,1", "Only one of --run, --multirun, --cfg"),
    ("--cfg job hydra.mode=MULTIRUN model.foo=1", "model.foo: no such key"),
    ("--cfg job experiment=nothing", "experiment=nothing: must be one of debug, python_source, quickstart"),
    ("-m 'seed.init=range(0)'", "seed.init=range(0): gives no values to sweep over"),
    ("hydra/launcher=slurm", "hydra/launcher=slurm: starts the runs of a sweep, and this is one run; add -m"),
    ("tracking.project=", 'tracking.project="": must not be empty'),
    (
        "data.tokenizer.name=pretrained",
        "data.tokenizer.source: must be set where name=pretrained; its name on the hub",
    ),
    ("data.tokenizer.source=gpt2", "data.tokenizer.source=gpt2 is for name=pretrained, and this is name=bpe"),
    ("-m model.n_heads=4,5", "model.n_heads=5 does not divide d_model=64"),
    ("-m model=one_layer,tow_layers", "model=tow_layers: must be one of olsson_small,"),
    ("-m +sweeps=quickstart training.length=2", "training.length: 2 has no unit"),
    ("-m seed.init=0,1 study=a,b", "study: the runs of a sweep belong to one study"),
    ("-m data=files 'data.corpus.paths=[nowhere],[.]'", "data.corpus.paths: 'nowhere' names no readable files"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[arguments for arguments, _ in MISTAKES])
def test_a_mistake_is_told_in_two_lines_with_exit_code_2_and_leaves_nothing(
    arguments: str, message: str, cells: StandInCells, directory: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert train(arguments) == 2
    said = capfd.readouterr()
    assert said.err.startswith(f"bump: {message}")
    assert len(said.err.splitlines()) <= 2
    assert "Traceback" not in said.err
    assert said.out == ""
    assert everything_in(directory) == []
    assert cells.configs == []


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("study: x\nmodel: {d_model: 64\n", 3, "while parsing a flow mapping, expected ',' or '}'"),
        ("# a tab\nmodel:\n\td_model: 64\n", 3, "while scanning for the next token, found character '\\t'"),
        ("study: x\nstudy: y\n", 2, "found duplicate key study"),
    ],
)
@pytest.mark.parametrize("how", ["experiment=bad", "-m seed.init=0,1 experiment=bad"])
def test_a_yaml_file_that_cannot_be_read_is_told_with_its_line(
    how: str,
    text: str,
    line: int,
    problem: str,
    cells: StandInCells,
    directory: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (directory / "own/experiment").mkdir(parents=True)
    (directory / "own/experiment/bad.yaml").write_text(text, encoding="utf-8")
    before = everything_in(directory)
    assert train(f"--config-dir own {how}") == 2
    [said] = capfd.readouterr().err.splitlines()
    assert said.startswith(f"bump: own/experiment/bad.yaml, line {line}: ")
    assert problem in said
    assert everything_in(directory) == before
    assert cells.configs == []


@pytest.mark.parametrize("how", ["experiment=debug", "-m experiment=debug seed.init=0,1"])
def test_online_tracking_without_a_login_is_refused_and_leaves_nothing(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    isolate(tmp_path, monkeypatch)
    assert train(f"{how} tracking=online paths.cache=cache") == 2
    [said] = capfd.readouterr().err.splitlines()
    assert said.startswith("bump: tracking.mode=online needs a login for")
    assert everything_in(Path.cwd()) == []


TEXT = "data=files data.corpus.paths=[texts] data.tokenizer.vocab_size=300"


@pytest.mark.parametrize("wrong", ["paths.runs=file", f"{TEXT} paths.cache=file"])
def test_a_file_in_place_of_a_directory_is_a_failure_told_with_its_name(
    wrong: str, directory: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (directory / "file").touch()
    (directory / "texts").mkdir()
    for number in range(20):
        words = " ".join(f"word{i * number}" for i in range(500))
        (directory / f"texts/{number}.txt").write_text(words, encoding="utf-8")
    assert train(f"experiment=debug tracking=none report=off {wrong}") == 1
    said = capfd.readouterr()
    lines = [line for line in said.err.splitlines() if not line.startswith("files: ")]  # progress
    assert len(lines) <= 2
    assert lines[0].startswith("bump: 2L-attn-rotary-d64-h4-s0")
    assert "file" in lines[0]
    assert "experiment@" not in said.err + said.out


def test_a_full_error_can_be_asked_for(cells: StandInCells, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(ValueError, match="no such key"):
        train("model.foo=1")
    with pytest.raises(Exception, match="Could not find 'model/nothing'"):
        train("model=nothing")


def test_hydra_is_asked_for_full_errors_only_while_it_runs(cells: StandInCells) -> None:
    assert train("experiment=debug") == 0
    assert "HYDRA_FULL_ERROR" not in os.environ


def test_a_run_leaves_nothing_of_hydras_in_the_working_directory(
    cells: StandInCells, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("experiment=debug seed.init=3") == 0
    assert everything_in(directory) == []
    assert [dump(config) for config in cells.configs] == [dump(compose(["experiment=debug", "seed.init=3"]))]
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"study {directory}/runs/debug"
    assert second.startswith("  finished  2L-attn-rotary-d64-h4-s3-")


def test_a_sweep_runs_every_cell_and_notes_what_it_was_to_run(
    cells: StandInCells, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("-m +sweeps=quickstart debug=fast") == 0
    assert [config.model.sublayers for config in cells.configs] == ["s", "ss", "s"]
    assert [config.model.smeared_keys for config in cells.configs] == [False, False, True]
    assert {(config.study, config.total_steps) for config in cells.configs} == {("quickstart", 20)}
    [metadata] = (directory / "runs/quickstart/.sweep").glob("*.json")
    content = json.loads(metadata.read_text(encoding="utf-8"))
    assert content["command"] == "bump train -m +sweeps=quickstart debug=fast"
    assert [cell["overrides"] for cell in content["cells"]] == [
        [f"model={model}", "+sweeps=quickstart", "+debug=fast"]
        for model in ("one_layer", "two_layers", "one_layer_smeared")
    ]
    [remembered] = (metadata.parent / "remembered").iterdir()
    parts = ("", "/quickstart", "/quickstart/.sweep", "/quickstart/.sweep/remembered")
    made = [*(f"runs{part}" for part in parts), *(str(p.relative_to(directory)) for p in (metadata, remembered))]
    assert everything_in(directory) == sorted(made)
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_naming_a_sweep_is_enough_to_start_it_as_one(cells: StandInCells) -> None:
    assert train("sweeps=quickstart debug=fast") == 0
    assert len(cells.configs) == 3


def test_a_value_on_the_command_line_wins_over_the_sweep(cells: StandInCells) -> None:
    assert train("-m +sweeps=quickstart model=two_layers seed.init=1,2") == 0
    assert [(c.model.sublayers, c.seed.init) for c in cells.configs] == [("ss", 1), ("ss", 2)]


def test_values_that_only_the_typed_config_knows_can_be_swept(cells: StandInCells) -> None:
    assert train("-m experiment=debug snapshots.weights.every=5step,10step") == 0
    assert [str(c.snapshots.weights and c.snapshots.weights.every) for c in cells.configs] == ["5step", "10step"]


def test_cells_that_are_the_same_run_are_started_once(cells: StandInCells) -> None:
    assert train("-m experiment=debug model.d_head=null,16") == 0
    assert len(cells.configs) == 1


def test_one_failed_cell_does_not_stop_the_others_and_is_named_at_the_end(
    cells: StandInCells, directory: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cells.endings["1L-attn-rotary"] = Outcome("", "", "failed", "loss is not finite at step 7")
    assert train("-m +sweeps=quickstart debug=fast") == 1
    assert len(cells.configs) == 3
    said = capfd.readouterr()
    assert [line.split()[0] for line in said.out.splitlines()][-3:] == ["failed", "finished", "finished"]
    assert said.err.startswith("bump: 1L-attn-rotary-d64-h4-s0-")
    assert "loss is not finite at step 7" in said.err


def test_what_is_not_mirrored_is_said_last_with_the_command_that_makes_it_good(
    cells: StandInCells, capfd: pytest.CaptureFixture[str]
) -> None:
    left = "W&B did not finish within 60 s; `bump track runs/a/1L` mirrors the rest"
    cells.endings["1L-attn-rotary"] = Outcome("", "", "finished", left=(left,))
    assert train("-m +sweeps=quickstart debug=fast") == 0
    said = capfd.readouterr()
    assert {line.split()[0] for line in said.out.splitlines()[-3:]} == {"finished"}
    [line] = said.err.splitlines()
    assert line.startswith("bump: 1L-attn-rotary-d64-h4-s0-")
    assert line.endswith(left)


def test_a_cell_that_the_machine_refuses_does_not_stop_the_others(
    cells: StandInCells, directory: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(config: RunConfig) -> None:
        if config.seed.init == 0:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/somewhere/lock")
        if config.seed.init == 1:
            raise RecordsError("/somewhere/run.json: not JSON")

    cells.does = refuse
    assert train("-m experiment=debug seed.init=0,1,2") == 1
    assert [config.seed.init for config in cells.configs] == [0, 1, 2]
    said = capfd.readouterr()
    assert said.out.splitlines()[-4] == f"study {directory}/runs/debug"
    assert [line.split()[0] for line in said.out.splitlines()[-3:]] == ["failed", "failed", "finished"]
    assert said.err.splitlines() == [
        "bump: 2L-attn-rotary-d64-h4-s0: /somewhere/lock: Permission denied",
        "bump: 2L-attn-rotary-d64-h4-s1: /somewhere/run.json: not JSON",
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_between_two_cells_ends_a_sweep_as_one_to_be_continued(
    number: signal.Signals, cells: StandInCells
) -> None:
    before = [signal.getsignal(each) for each in stop.SIGNALS]
    cells.does = lambda config: signal.raise_signal(number)
    assert train("-m experiment=debug seed.init=0,1") == 75
    assert len(cells.configs) == 1
    assert [signal.getsignal(each) for each in stop.SIGNALS] == before


@pytest.mark.parametrize(("status", "code"), [("failed", 1), ("preempted", 75), ("waiting", 75), ("skipped", 0)])
def test_the_exit_code_says_how_the_run_ended(status: str, code: int, cells: StandInCells) -> None:
    cells.endings["2L"] = Outcome("", "", status, "why")  # type: ignore[arg-type]
    assert train("experiment=debug") == code


def test_a_sweep_inside_a_rank_is_refused(
    cells: StandInCells, directory: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for key, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost"}.items():
        monkeypatch.setenv(key, value)
    assert train("-m seed.init=0,1 devices.count=2") == 2
    assert capfd.readouterr().err.startswith("bump: -m: a sweep cannot be started inside a process of torchrun")
    assert everything_in(directory) == []


def test_a_run_is_repeated_from_its_own_config(cells: StandInCells, directory: Path) -> None:
    config = compose(["experiment=debug", "model=one_layer", "data.corpus.zipf=0.5"])
    (directory / "before").mkdir()
    text = yaml.safe_dump(dump(config), sort_keys=False)
    (directory / "before/config.yaml").write_text(text, encoding="utf-8")
    assert train("--config-path before --config-name config study=other") == 0
    assert dump(cells.configs[0]) == dump(config) | {"study": "other"}


def test_a_repeated_run_can_take_other_groups(cells: StandInCells, directory: Path) -> None:
    (directory / "config.yaml").write_text(yaml.safe_dump(dump(compose())), encoding="utf-8")
    assert train("--config-path . --config-name config +model=one_layer debug=fast") == 0
    assert (cells.configs[0].model.sublayers, cells.configs[0].total_steps) == ("s", 20)


def test_users_add_yaml_files_of_their_own(cells: StandInCells, directory: Path) -> None:
    for group, text in {
        "experiment/mine.yaml": "defaults: [override /model: one_layer]\nstudy: mine\n",
        "sweeps/two_seeds.yaml": "study: two_seeds\nhydra: {sweeper: {params: {seed.init: '1,2'}}}\n",
    }.items():
        path = directory / "own" / group
        path.parent.mkdir(parents=True)
        path.write_text(text, encoding="utf-8")
    assert train("--config-dir own experiment=mine") == 0
    assert train("--config-dir own -m experiment=mine +sweeps=two_seeds") == 0
    assert [(c.study, c.model.sublayers, c.seed.init) for c in cells.configs] == [
        ("mine", "s", 0),
        ("two_seeds", "s", 1),
        ("two_seeds", "s", 2),
    ]


def test_a_study_that_nothing_names_is_called_after_the_sweep_or_the_experiment(
    cells: StandInCells, directory: Path
) -> None:
    for file, text in {
        "experiment/mine.yaml": "model: {d_model: 32}\n",
        "experiment/deep/er.yaml": "model: {d_model: 32}\n",
        "sweeps/two_seeds.yaml": "hydra: {sweeper: {params: {seed.init: '1,2'}}}\n",
        "sweeps/of_mine.yaml": "defaults: [override /experiment@_global_: mine]\n",
    }.items():
        path = directory / "own" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for arguments in (
        "experiment=mine",
        "experiment=deep/er",
        "-m experiment=mine seed.init=0,1",
        "+sweeps=two_seeds",
        "+sweeps=two_seeds experiment=mine",
        "+sweeps=of_mine",
        "experiment=mine study=other",
        "+sweeps=two_seeds study=other",
        "+sweeps=two_seeds experiment=debug",
        "debug=fast",
    ):
        cells.configs.append(compose())
        assert train(f"--config-dir own {arguments}") == 0
    studies = [config.study for config in cells.configs]
    assert studies == [
        *("default", "mine"),
        *("default", "er"),
        *("default", "mine", "mine"),
        *("default", "two_seeds", "two_seeds"),
        *("default", "two_seeds", "two_seeds"),
        *("default", "of_mine"),
        *("default", "other"),
        *("default", "other", "other"),
        *("default", "debug", "debug"),
        *("default", "default"),
    ]
    assert sorted(path.name for path in (directory / "runs").iterdir()) == [
        "debug",
        "mine",
        "of_mine",
        "other",
        "two_seeds",
    ]


def test_a_repeated_run_keeps_its_study(cells: StandInCells, directory: Path) -> None:
    text = yaml.safe_dump(dump(compose(["experiment=debug", "study=first"])))
    (directory / "config.yaml").write_text(text, encoding="utf-8")
    assert train("--config-path . --config-name config") == 0
    assert [config.study for config in cells.configs] == ["first"]


def test_a_users_experiment_may_be_a_copy_of_ours(cells: StandInCells, directory: Path) -> None:
    from induction_bump.config.locations import CONF

    text = (CONF / "experiment/quickstart.yaml").read_text(encoding="utf-8")
    (directory / "own/experiment").mkdir(parents=True)
    (directory / "own/experiment/copy.yaml").write_text(text, encoding="utf-8")
    assert train("--config-dir own experiment=copy") == 0
    assert cells.configs == [compose(["experiment=quickstart"])]


def test_the_composed_config_is_shown_without_running_it(
    cells: StandInCells, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--cfg job experiment=quickstart") == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown == dump(compose(["experiment=quickstart"]))
    assert cells.configs == []
    assert everything_in(directory) == []
