"""All measures of a snapshot, taken together."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from induction_bump.measures import reading
from induction_bump.measures.null import null99
from induction_bump.measures.options import HeldOutOptions, IclOptions, MeasureOptions, NullOptions, RepeatsProbeOptions
from induction_bump.measures.probes import Probes
from induction_bump.measures.reading import read
from induction_bump.measures.registry import CHEAP, VERSIONS, measure_of
from induction_bump.measures.take import take
from induction_bump.model.options import ModelOptions
from induction_bump.model.transformer import Tap, Transformer, next_token_losses
from tests.damage import DAMAGE
from tests.measures.corpus import SmallCorpus
from tests.measures.naive_circuits import naive_qk_terms
from tests.measures.wired import induction_model

OPTIONS = MeasureOptions(
    icl=IclOptions(early=3, late=40, window=8),
    held_out=HeldOutOptions(examples=20),
    repeats=RepeatsProbeOptions(sequences=8, quantiles=(0.0, 1.0)),
)


@pytest.fixture
def probes() -> Probes:
    return Probes.draw(SmallCorpus(context=40), 40, OPTIONS)


def small(sublayers: str = "ss") -> Transformer:
    return Transformer(ModelOptions(sublayers=sublayers, d_model=16, n_heads=2), 32, 40)


def test_the_hand_wired_model_has_the_ordered_advantage_of_knowing_what_comes(probes: Probes) -> None:
    measured = take(induction_model(32, 40), probes, OPTIONS)
    assert measured.scalars["second_copy_loss"][0] < 0.01
    # on a permuted copy the same head is surely wrong: e^20 to one against the right token
    assert measured.scalars["ordered_copy_advantage"][0] > 10
    # in the first copy it attends where it will and is wrong with certainty: no better than a guess
    assert measured.scalars["first_copy_loss"][0] > math.log(31)


def test_an_untrained_model_has_no_advantage_and_no_icl(probes: Probes) -> None:
    measured = take(small(), probes, OPTIONS)
    for name in ("icl_score", "icl_window_score", "copy_advantage", "ordered_copy_advantage"):
        value, stderr = measured.scalars[name]
        assert stderr is not None
        assert abs(value) < max(4 * stderr, 0.05)


def test_losses_are_those_of_one_plain_forward_pass_however_it_is_cut(
    probes: Probes, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokens = small("sfs"), probes.held_out.tokens
    with torch.no_grad():
        windows = torch.from_numpy(tokens)
        plain = next_token_losses(model(windows[:, :-1]), windows[:, 1:]).numpy()
    whole = read(model, tokens, probes.held_out.lookup)
    monkeypatch.setattr(reading, "TOKENS_AT_ONCE", 90)
    monkeypatch.setattr(reading, "LOGITS_AT_ONCE", 100)
    pieces = read(model, tokens, probes.held_out.lookup)
    np.testing.assert_allclose(whole.losses, plain, atol=1e-5)
    np.testing.assert_allclose(pieces.losses, plain, atol=1e-5)
    for name, values in whole.scores.items():
        np.testing.assert_allclose(pieces.scores[name], values, atol=1e-6)


def test_tables_have_the_shapes_of_the_probe(probes: Probes) -> None:
    measured = take(small(), probes, OPTIONS)
    assert measured.loss_by_position is not None
    assert measured.loss_by_position.value.shape == (40,)
    assert measured.token_losses is not None
    assert measured.token_losses.shape == (20,)
    assert {name: values.shape for name, values in measured.examples.items()} == {
        "icl_score": (20,),
        "icl_window_score": (20,),
    }
    every = {(layer, head) for layer in range(2) for head in range(2)}
    assert all(
        set(measured.heads[name]) == every for name in ("prefix_matching", "previous_token", "copying_eigenvalue")
    )
    assert set(measured.heads["qk_trace"]) == {(1, 0), (1, 1)}  # no head comes before those of layer 0
    assert {measure_of("heads", label) for label in measured.heads} <= set(VERSIONS)


def test_the_scalars_are_means_of_what_is_kept_per_example(probes: Probes) -> None:
    measured = take(small(), probes, OPTIONS)
    for name, values in measured.examples.items():
        assert measured.scalars[name][0] == pytest.approx(values.mean(), abs=1e-5)
    assert measured.loss_by_position is not None
    assert measured.scalars["loss"][0] == pytest.approx(measured.loss_by_position.value.mean())


@pytest.mark.parametrize("sublayers", ["", "ff"])
def test_a_model_without_attention_has_no_head_scores(probes: Probes, sublayers: str) -> None:
    measured = take(small(sublayers), probes, OPTIONS)
    assert measured.heads == {}
    assert "loss" in measured.scalars


def test_measuring_leaves_the_model_in_the_mode_it_was_in(probes: Probes) -> None:
    model = small().train()
    take(model, probes, OPTIONS)
    assert model.training
    assert all(p.grad is None for p in model.parameters())


def test_no_pattern_of_a_probe_is_ever_formed(probes: Probes, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: set[str] = set()
    original = Tap.__call__

    def spy(self: Tap, site, tensor):
        asked.update(self.names)
        return original(self, site, tensor)

    monkeypatch.setattr(Tap, "__call__", spy)
    take(small(), probes, OPTIONS, CHEAP - {"copying_logit"})  # which reads 26 tokens, a layer at a time
    assert asked == {"q", "k"}


def test_a_broken_model_is_an_error(probes: Probes) -> None:
    model = small()
    with torch.no_grad():
        model.W_U.fill_(torch.nan)
    with pytest.raises(ValueError, match="losses are not finite"):
        take(model, probes, OPTIONS)


class TestNull:
    """The best of untrained heads."""

    few = NullOptions(initialisations=12, examples=4)

    def test_it_is_near_what_uniform_attention_scores(self, probes: Probes, tmp_path: Path) -> None:
        values = null99(small().options, 32, 40, probes, self.few, tmp_path)
        uniform = np.mean([1 / (i + 1) for i in range(2, 40)])
        assert uniform < values["previous_token"] < 3 * uniform
        assert 0 < values["prefix_matching"] < 0.2

    def test_it_is_computed_once(self, probes: Probes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        first = null99(small().options, 32, 40, probes, self.few, tmp_path)
        monkeypatch.setattr("induction_bump.measures.null._maxima", None)
        assert null99(small().options, 32, 40, probes, self.few, tmp_path) == first

    @pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
    def test_a_damaged_entry_of_the_cache_is_made_again_and_heals(
        self, probes: Probes, tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
    ) -> None:
        first = null99(small().options, 32, 40, probes, self.few, tmp_path)
        (path,) = (tmp_path / "nulls").iterdir()
        path.write_bytes(damage)
        assert null99(small().options, 32, 40, probes, self.few, tmp_path) == first
        assert f"{path} in a cache is damaged" in caplog.text
        caplog.clear()
        assert null99(small().options, 32, 40, probes, self.few, tmp_path) == first
        assert not caplog.records

    def test_a_cache_that_cannot_be_written_costs_time_and_not_the_run(self, probes: Probes, tmp_path: Path) -> None:
        (tmp_path / "nulls").touch()
        assert null99(small().options, 32, 40, probes, self.few, tmp_path)["previous_token"] > 0

    def test_another_architecture_has_another_null(self, probes: Probes, tmp_path: Path) -> None:
        null99(small().options, 32, 40, probes, self.few, tmp_path)
        null99(small("s").options, 32, 40, probes, self.few, tmp_path)
        assert len(list((tmp_path / "nulls").glob("*.json"))) == 2

    def test_a_model_without_heads_has_none(self, probes: Probes, tmp_path: Path) -> None:
        assert null99(small("ff").options, 32, 40, probes, self.few, tmp_path) == {}


def test_a_head_without_weights_is_left_out_by_name_and_the_others_are_measured(probes: Probes) -> None:
    model = small()
    with torch.no_grad():
        next(model.attention_sublayers()).W_O[1] = 0
    measured = take(model, probes, OPTIONS, set(VERSIONS) - {"null99", "group_ablation"})
    assert set(measured.heads["copying_eigenvalue"]) == {(0, 0), (1, 0), (1, 1)}
    nothing = [f"copying_eigenvalue{form} of L0H1: all eigenvalues are 0" for form in ("", "_raw")]
    assert measured.left_out["copying_eigenvalue"] == "; ".join(nothing)
    assert set(measured.heads["qk_trace"]) == {(1, 0), (1, 1)}
    assert "qk_trace" not in measured.left_out
    assert measured.left_out["composition_k"] == "composition: W_OV of L0H1 is 0"
    assert measured.head_pairs is not None
    assert set(measured.head_pairs.head_in.tolist()) == {0}
    assert set(measured.heads["prefix_matching"]) == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_a_head_without_queries_still_counts_as_an_earlier_head(probes: Probes) -> None:
    model = small("sss")
    with torch.no_grad():
        list(model.attention_sublayers())[1].W_Q[:, 1] = 0
    measured = take(model, probes, OPTIONS)
    previous = np.array([[measured.heads["previous_token"][layer, head][0] for head in (0, 1)] for layer in range(3)])
    with np.errstate(invalid="ignore"):
        expected = naive_qk_terms(model, previous)
    for label in ("qk_trace", "qk_eigenvalue"):
        found = {head: value for head, (value, _) in measured.heads[label].items()}
        defined = {head: value for head, value in expected[label].items() if value == value}
        assert found == pytest.approx(defined, rel=1e-6, abs=1e-9)
    assert (1, 1) in measured.heads["qk_trace"]
    assert (1, 1) not in measured.heads["qk_eigenvalue"]
