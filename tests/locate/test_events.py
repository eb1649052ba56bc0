"""The five events, read from a run's records."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from induction_bump.locate.events import EVENTS, Event, find_events
from induction_bump.locate.heads import best_heads, counted_heads, head_scores, previous_token_heads
from induction_bump.model.options import ModelOptions
from induction_bump.records.directory import RunDirectory
from induction_bump.records.schema import PROBES, TABLES, RecordsError
from tests.records.make import make_run

BUMP = 0.5e6


def make(tmp_path: Path, **options) -> RunDirectory:
    return RunDirectory(make_run(tmp_path, **{"snapshots": 24, "bump_at": BUMP, **options}))


def edit(run: RunDirectory, table: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> RunDirectory:
    """Rewrite a compacted table of a run."""
    file = run.path / "tables" / f"{table}.parquet"
    changed = change(pq.read_table(file).to_pandas())
    columns = [pa.array(changed[f.name].to_numpy(), f.type, from_pandas=False) for f in TABLES[table]]
    pq.write_table(pa.Table.from_arrays(columns, schema=TABLES[table]), file)
    return run


def set_config(run: RunDirectory, section: str, **values: object) -> RunDirectory:
    file = run.path / "config.yaml"
    config = yaml.safe_load(file.read_text())
    config[section] = {**config[section], **values}
    file.write_text(yaml.safe_dump(config))
    return run


def events(run: RunDirectory) -> dict[str, Event]:
    return {event.name: event for event in find_events(run)}


@pytest.fixture(scope="module")
def two_layers(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A finished two-layer run with a bump; tests leave it as it is."""
    return make(tmp_path_factory.mktemp("runs"))


def test_a_run_with_a_bump_has_all_events_around_it(two_layers: RunDirectory):
    found = events(two_layers)
    assert tuple(found) == EVENTS
    for event in found.values():
        low, high = event.interval
        assert event.verdict == "found"
        assert low.tokens < high.tokens
        assert 0.2e6 < high.tokens < 1.2e6
        assert high.tokens == high.step * two_layers.info.tokens_per_step


def test_the_interval_is_between_neighbouring_snapshots(two_layers: RunDirectory):
    steps = [s.step for s in two_layers.snapshots()]
    for event in events(two_layers).values():
        low, high = event.interval
        assert steps.index(high.step) == steps.index(low.step) + 1


def test_head_events_cross_where_the_best_head_does(two_layers: RunDirectory):
    heads = two_layers.table("heads").to_pandas()
    event = events(two_layers)["prefix_matching"]
    low, high = event.interval
    best = heads[heads.measure == "prefix_matching"].groupby("step").value.max()
    assert best[low.step] < 0.10 <= best[high.step]
    assert (best.loc[high.step :] >= 0.10).all()
    assert event.before == pytest.approx(best[low.step])
    assert event.after == pytest.approx(best.iloc[-1])


def test_the_strong_event_is_never_before_the_plain_one(two_layers: RunDirectory):
    found = events(two_layers)
    assert found["prefix_matching_strong"].interval[1].tokens >= found["prefix_matching"].interval[1].tokens
    assert "max(0.30, null99 0.030 + 0.05)" in found["prefix_matching_strong"].rule


def test_the_heads_that_carry_it_are_named_best_first_with_their_scores(two_layers: RunDirectory):
    found = events(two_layers)
    (induction,) = found["prefix_matching"].heads
    (previous,) = found["previous_token"].heads
    assert (induction.name, previous.name) == ("L1H3", "L0H0")
    assert induction.before < 0.1
    assert induction.after == found["prefix_matching"].after
    assert found["icl"].heads == ()


def probes(documents: np.ndarray) -> pa.Table:
    columns = {name: np.arange(len(documents)) for name in ("example", "position", "token")}
    return pa.table({**columns, "document": documents}).select(PROBES.names).cast(PROBES)


def test_uniform_noise_is_no_event(tmp_path: Path):
    found = events(make(tmp_path, bump_at=None, snapshots=60))
    assert {e.verdict for e in found.values()} == {"not_found"}
    assert all(e.low is None and e.high is None and e.before is None for e in found.values())
    assert found["prefix_matching"].after == pytest.approx(0.02, abs=0.01)


def test_heads_without_structure_are_no_event(tmp_path: Path):
    """Patterns drawn at random: each query spreads its attention uniformly over the simplex of earlier tokens."""
    rng = np.random.default_rng(0)

    def random_patterns(heads: pd.DataFrame) -> pd.DataFrame:
        return heads.assign(value=rng.dirichlet(np.ones(50), len(heads))[:, 0] / 2 + 0.01)

    found = events(edit(make(tmp_path, bump_at=None, snapshots=60), "heads", random_patterns))
    assert {found[name].verdict for name in EVENTS[:3]} == {"not_found"}


def test_null99_raises_the_threshold_and_the_rule_says_so(tmp_path: Path):
    run = make(tmp_path)
    before = events(run)["prefix_matching"]

    def raised(scalars: pd.DataFrame) -> pd.DataFrame:
        return scalars.assign(value=scalars.value.where(scalars.name != "null99/prefix_matching", 0.4))

    after = events(edit(run, "scalars", raised))["prefix_matching"]
    assert "max over all heads of prefix_matching ≥ 0.100 = max(0.10, null99 0.030 + 0.05)" in before.rule
    assert "max over all heads of prefix_matching ≥ 0.450 = max(0.10, null99 0.400 + 0.05)" in after.rule
    assert "held on 2 further snapshots" in after.rule
    assert after.interval[1].tokens > before.interval[1].tokens


def test_without_a_null_head_events_say_why_they_cannot_be_read(tmp_path: Path):
    run = edit(make(tmp_path), "scalars", lambda s: s[~s.name.str.startswith("null99/")])
    found = events(run)
    assert found["prefix_matching"].verdict == "not_applicable"
    assert found["prefix_matching"].rule == "the records hold no null99/prefix_matching"
    assert found["copy_advantage"].verdict == "found"


@pytest.mark.parametrize(("pool", "threshold"), [(200, 2.0), (20, 0.5 * math.log(20))])
def test_copying_must_reach_two_nats_or_half_of_what_the_probe_allows(tmp_path: Path, pool: int, threshold: float):
    run = make(tmp_path)
    run.update(probes={**run.info.probes, "repeats": {**run.info.probes["repeats"], "pool": pool}})
    event = events(run)["copy_advantage"]
    values = run.table("scalars").to_pandas().query("name == 'ordered_copy_advantage'").set_index("step").value
    low, high = event.interval
    assert values[low.step] < threshold <= values[high.step]
    assert f"≥ {threshold:.2f} nats" in event.rule


def test_copy_advantage_reads_the_ordered_one(tmp_path: Path):
    """Raising every token of the context gains copy_advantage and is no copying."""

    def unordered(scalars: pd.DataFrame) -> pd.DataFrame:
        return scalars.assign(value=scalars.value.where(scalars.name != "ordered_copy_advantage", 0.0))

    assert events(edit(make(tmp_path), "scalars", unordered))["copy_advantage"].verdict == "not_found"


def test_one_layer_has_no_previous_token_event_unless_its_keys_are_smeared(tmp_path: Path):
    plain = events(make(tmp_path, sublayers="s", name="plain"))
    smeared = events(make(tmp_path, sublayers="s", smeared_keys=True, name="smeared"))
    assert plain["previous_token"].verdict == "not_applicable"
    assert "no later one" in plain["previous_token"].rule
    assert plain["prefix_matching"].verdict == "found"
    assert smeared["previous_token"].verdict == "found"
    assert "max over all heads" in smeared["previous_token"].rule


@pytest.mark.parametrize("sublayers", ["", "f", "ff"])
def test_without_attention_head_events_do_not_apply_and_the_others_do(tmp_path: Path, sublayers: str):
    found = events(make(tmp_path, sublayers=sublayers, bump_at=None))
    assert {found[name].verdict for name in EVENTS[:3]} == {"not_applicable"}
    assert {found[name].rule for name in EVENTS[:3]} == {"no attention layer"}
    assert {found[name].verdict for name in EVENTS[3:]} == {"not_found"}


def model(sublayers: str, n_heads: int = 2, smeared_keys: bool = False) -> ModelOptions:
    return ModelOptions(sublayers=sublayers, n_heads=n_heads, d_head=16, smeared_keys=smeared_keys)


def test_previous_token_counts_the_heads_that_a_later_attention_layer_reads():
    assert previous_token_heads(model("ss")) == {(0, 0), (0, 1)}
    assert previous_token_heads(model("sfsfs")) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert previous_token_heads(model("sff")) == frozenset()
    assert previous_token_heads(model("s", smeared_keys=True)) == {(0, 0), (0, 1)}
    assert previous_token_heads(model("ss", smeared_keys=True)) == counted_heads(model("ss"))
    assert counted_heads(model("fsf", 3)) == {(0, 0), (0, 1), (0, 2)}


def test_a_last_layer_that_looks_back_one_token_is_no_previous_token_event(tmp_path: Path):
    def only_last_layer(heads: pd.DataFrame) -> pd.DataFrame:
        return heads.assign(value=np.where(heads.measure == "previous_token", 0.9 * (heads.layer == 1), heads.value))

    assert events(edit(make(tmp_path), "heads", only_last_layer))["previous_token"].verdict == "not_found"


def test_already_there_at_step_0_is_left_censored(tmp_path: Path):
    run = edit(make(tmp_path), "heads", lambda heads: heads.assign(value=0.5))
    event = events(run)["prefix_matching"]
    assert event.verdict == "left_censored"
    assert event.found
    assert [moment.tokens for moment in event.interval] == [0, 0]


def test_a_run_that_is_going_is_right_censored_where_nothing_happened_yet(tmp_path: Path):
    run = make(tmp_path, status="running", bump_at=None)
    last = run.snapshots()[-1]
    for event in events(run).values():
        assert event.verdict == "right_censored"
        assert (event.low.step, event.high) == (last.step, None)


def test_a_run_that_is_going_has_what_is_already_sustained(tmp_path: Path):
    ended, going = (events(make(tmp_path, name=s, status=s)) for s in ("finished", "running"))
    assert {e.verdict for e in going.values()} == {"found"}
    assert going == ended or all(going[n].verdict == ended[n].verdict for n in EVENTS)


def test_a_bump_at_the_very_end_is_right_censored(tmp_path: Path):
    found = events(make(tmp_path, bump_at=1.6e6))
    assert found["prefix_matching_strong"].verdict == "right_censored"
    assert found["prefix_matching_strong"].high is None
    assert not found["prefix_matching_strong"].heads


def test_a_run_without_a_snapshot_says_so(tmp_path: Path):
    run = make(tmp_path, status="running")
    run.clear()
    assert {(e.verdict, e.rule) for e in find_events(run)} == {("not_applicable", "no snapshot yet")}


def test_icl_names_its_plateau_and_counts_from_it(two_layers: RunDirectory):
    event = events(two_layers)["icl"]
    assert event.before == pytest.approx(-0.04, abs=0.03)
    assert event.after == pytest.approx(-1.25, abs=0.1)
    assert "at least 0.10 nat and 4 paired standard errors below its plateau" in event.rule
    assert "plateau at " in event.rule


def test_icl_clusters_by_the_documents_of_the_probe(tmp_path: Path):
    run = make(tmp_path)
    assert events(run)["icl"].verdict == "found"
    run.write_probes(probes(np.zeros(16)))
    assert events(run)["icl"].verdict == "not_applicable"
    run.write_probes(probes(np.arange(16) // 4))
    assert events(run)["icl"].verdict == "found"


@pytest.mark.parametrize("damage", ["cut short", "another table", "too few examples"])
def test_damaged_probes_are_named_in_one_line(tmp_path: Path, damage: str):
    run = make(tmp_path)
    run.write_probes(probes(np.arange(15 if damage == "too few examples" else 16) // 4))
    file = run.path / "probes.parquet"
    if damage == "cut short":
        file.write_bytes(file.read_bytes()[:100])
    elif damage == "another table":
        pq.write_table(pq.read_table(file).drop_columns("document"), file)
    with pytest.raises(
        RecordsError, match="probes lack example 15" if damage == "too few examples" else file.name
    ) as e:
        find_events(run)
    assert str(run.path) in str(e.value)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("values", "key"),
    [({"n_heads": "x"}, "model.n_heads"), ({"n_heads": None}, "model.n_heads"), ({"a": 1}, "model.a")],
)
def test_a_model_that_cannot_be_is_named_in_one_line(tmp_path: Path, values: dict, key: str):
    run = set_config(make(tmp_path, snapshots=3), "model", **values)
    for read in (find_events, lambda run: best_heads(run, "prefix_matching")):
        with pytest.raises(RecordsError, match=rf"config\.yaml: {key}: ") as caught:
            read(run)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("warmup", "verdict"), [(0.4e6, "found"), (1.9e6, "not_found")])
def test_icl_has_no_plateau_before_the_learning_rate_is_at_half_its_peak(tmp_path: Path, warmup: float, verdict: str):
    def rising(training: pd.DataFrame) -> pd.DataFrame:
        return training.assign(learning_rate=np.minimum(training.tokens / warmup, 1) * 1e-3)

    assert events(edit(make(tmp_path), "training", rising))["icl"].verdict == verdict


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_not_finite_spoils_only_its_own_event(tmp_path: Path, value: float):
    def spoiled(scalars: pd.DataFrame) -> pd.DataFrame:
        bad = (scalars.name == "ordered_copy_advantage") & (scalars.step == scalars.step.max())
        return scalars.assign(value=scalars.value.where(~bad, value))

    found = events(edit(make(tmp_path), "scalars", spoiled))
    assert found["copy_advantage"].verdict == "not_applicable"
    assert "not finite" in found["copy_advantage"].rule
    assert found["prefix_matching"].verdict == "found"


def test_options_come_from_the_runs_config(tmp_path: Path):
    run = make(tmp_path)
    before = events(run)
    after = events(set_config(run, "locate", head_floor=0.6, sustain=1, icl_drop=1.0, copy_nats=1.0))
    assert "≥ 0.600" in after["prefix_matching"].rule
    assert "held on 1 further" in after["prefix_matching"].rule
    assert after["prefix_matching"].interval[1].tokens > before["prefix_matching"].interval[1].tokens
    assert after["icl"].interval[1].tokens >= before["icl"].interval[1].tokens
    assert after["copy_advantage"].interval[1].tokens <= before["copy_advantage"].interval[1].tokens


def test_a_config_without_a_locate_section_uses_the_defaults(tmp_path: Path):
    run = make(tmp_path)
    before = find_events(run)
    file = run.path / "config.yaml"
    file.write_text(yaml.safe_dump({k: v for k, v in yaml.safe_load(file.read_text()).items() if k != "locate"}))
    assert find_events(run) == before


def test_a_wrong_option_is_named_in_one_line(tmp_path: Path):
    run = set_config(make(tmp_path, snapshots=3), "locate", head_floor=3.0)
    with pytest.raises(RecordsError, match=r"config\.yaml: locate\.head_floor: ") as caught:
        find_events(run)
    assert "\n" not in str(caught.value)


def test_a_head_that_is_there_twice_is_an_error(tmp_path: Path):
    run = edit(make(tmp_path, snapshots=4), "heads", lambda heads: pd.concat([heads, heads.tail(1)]))
    with pytest.raises(RecordsError, match="twice"):
        best_heads(run, "first_token")


def test_best_heads_are_those_of_the_asked_moment(two_layers: RunDirectory):
    at_end, at_start = best_heads(two_layers, "prefix_matching"), best_heads(two_layers, "prefix_matching", tokens=0)
    assert at_end[0][0] == "L1H3"
    assert at_end[0][1] > 0.8
    assert at_start[0][1] < 0.05
    assert len(at_end) == len(at_start) == 8
    assert [value for _, value in at_end] == sorted((value for _, value in at_end), reverse=True)


def test_best_heads_of_a_model_without_attention_are_none(tmp_path: Path):
    assert best_heads(make(tmp_path, sublayers="f", snapshots=3), "prefix_matching") == []


def test_best_heads_before_the_first_snapshot_are_an_error(two_layers: RunDirectory):
    with pytest.raises(RecordsError, match="no snapshot holds prefix_matching up to -1 tokens"):
        best_heads(two_layers, "prefix_matching", tokens=-1)


@settings(max_examples=15, deadline=None)
@given(st.randoms(use_true_random=False))
def test_numbering_heads_within_a_layer_otherwise_changes_no_interval(two_layers: RunDirectory, random):
    heads = two_layers.table("heads").to_pandas()
    new = list(range(4))
    random.shuffle(new)
    renumbered = heads.assign(head=heads["head"].map(dict(enumerate(new)))).sample(frac=1, random_state=1)
    before, after = head_scores(heads, "prefix_matching"), head_scores(renumbered, "prefix_matching")
    assert np.array_equal(before.tokens, after.tokens)
    assert np.array_equal(before.values.max(1), after.values.max(1))
    assert np.array_equal(before.values[:, 4 + 3], after.values[:, 4 + new[3]])
