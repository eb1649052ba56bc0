"""What measures of weights do not give: to variants that cannot have them, to silent heads, to degenerate weights."""

import numpy as np
import pytest
import torch

from induction_bump.measures.circuits import copying_eigenvalue, qk_terms, smear
from induction_bump.measures.composition import composition
from induction_bump.measures.folding import DegenerateError, fold
from induction_bump.measures.paths import path_order
from induction_bump.measures.refusals import SINGLE_PATHS, noted, refusals
from induction_bump.measures.registry import measure_of
from induction_bump.measures.statistics import NotFiniteError
from induction_bump.model.options import Clamp
from induction_bump.model.transformer import Transformer
from tests.measures.naive_circuits import naive_composition, naive_copying_eigenvalue, naive_qk_terms
from tests.measures.random_models import T, V, assert_same, of_model, pairs, random_model
from tests.model.variants import options


class TestRefusals:
    """What a variant cannot have is named with its reason, and has no values."""

    def test_a_model_without_attention_has_none(self) -> None:
        reasons = refusals(options(sublayers="f"))
        assert reasons.pop(SINGLE_PATHS)
        assert set(reasons.values()) == {"the model has no attention"}
        pairs = ("composition_q", "composition_k", "composition_v", "qk_trace", "qk_eigenvalue", "qk_trace_shifted_key")
        assert reasons.keys() >= {"copying_eigenvalue", "copying_logit", "smear", *pairs}
        assert of_model(random_model(options(sublayers="f"))) == {}

    def test_one_layer_has_no_earlier_head(self) -> None:
        reasons = refusals(options(sublayers="sf", smeared_keys=True))
        assert reasons.pop(SINGLE_PATHS)
        assert set(reasons) == {"composition_q", "composition_k", "composition_v", "qk_trace", "qk_eigenvalue"}
        assert set(reasons.values()) == {"one attention layer: there is no earlier head"}
        labels = {key[0] for key in of_model(random_model(options(sublayers="sf")))}
        assert labels == {"copying_eigenvalue", "copying_eigenvalue_raw"}

    def test_two_layers_have_everything_but_what_smeared_keys_have(self) -> None:
        assert refusals(options(sublayers="ss")) == dict.fromkeys(
            ("smear", "qk_trace_shifted_key"), "keys are not smeared"
        )
        assert refusals(options(sublayers="ss", smeared_keys=True)) == {}
        assert smear(random_model(options(sublayers="sfs"))) == {}

    @pytest.mark.parametrize("sublayers", ["sfs", "sf", "ff", "ss", ""])
    def test_single_paths_are_those_of_models_without_feed_forward_sublayers(self, sublayers: str) -> None:
        model = random_model(options(sublayers=sublayers))
        found = path_order(model, np.arange(4 * (T + 1)).reshape(4, -1) % V, np.arange(4))
        assert (SINGLE_PATHS in refusals(model.options)) == ({path.name for path in found} == {"all"})

    @pytest.mark.parametrize("kinds", [("previous",), ("zero", "first")])
    def test_a_model_whose_heads_are_all_clamped_has_no_null(self, kinds: tuple[str, ...]) -> None:
        every = [(layer, head) for layer in range(2) for head in range(3)]
        clamps = tuple(
            Clamp(layer=layer, head=head, kind=kinds[n % len(kinds)]) for n, (layer, head) in enumerate(every)
        )
        assert refusals(options(sublayers="ss", clamps=clamps))["null99"] == "every head is clamped"
        assert "null99" not in refusals(options(sublayers="ss", clamps=clamps[1:]))
        assert "null99" not in refusals(options(sublayers="ss"))

    def test_layers_whose_heads_are_all_held_at_zero_do_not_count(self) -> None:
        clamps = tuple(Clamp(layer=0, head=h, kind="zero") for h in range(3))
        assert refusals(options(sublayers="ss", clamps=clamps))["qk_trace"].endswith("there is no earlier head")
        assert refusals(options(sublayers="s", clamps=clamps))["copying_logit"] == "every head is held at zero"


class TestHeldAtZero:
    """Heads that a clamp silences have no circuit."""

    def test_they_are_left_out_as_earlier_heads_and_as_heads(self) -> None:
        clamps = (Clamp(layer=0, head=1, kind="zero"), Clamp(layer=1, head=2, kind="zero"))
        clamped = random_model(options(sublayers="ss", clamps=clamps))
        free = random_model(options(sublayers="ss"))
        weights = np.array([[0.2, 0.1, 0.9], [0.5, 0.5, 0.5]])
        found, whole = of_model(clamped, weights), of_model(free, weights)
        silent = {(0, 1), (1, 2)}
        named = {key: {key[1:3], key[3:5]} for key in whole}
        assert set(found) == {key for key, heads in named.items() if not heads & silent}
        weights[0, 1] = 0
        expected = of_model(free, weights)
        assert_same(found, {key: expected[key] for key in found})

    def test_a_model_without_a_head_that_acts_has_no_values(self) -> None:
        clamps = tuple(Clamp(layer=0, head=h, kind="zero") for h in range(3))
        assert of_model(random_model(options(sublayers="s", clamps=clamps))) == {}


class TestDegenerateInput:
    """0 divided by 0 is an error that names the head."""

    def test_eigenvalues_that_are_all_nothing(self) -> None:
        model = random_model(options(sublayers="ss"))
        with torch.no_grad():
            model.sublayers[0].W_O[2] = 0
        with pytest.raises(DegenerateError, match="copying_eigenvalue of L0H2"):
            copying_eigenvalue(fold(model))
        with pytest.raises(DegenerateError, match="qk_eigenvalue of L1H0 through L0H2"):
            qk_terms(fold(model), np.array([[0, 0, 1], [0, 0, 0]]))

    @pytest.mark.parametrize("layer", [0, 1, 2])
    @pytest.mark.parametrize("weight", ["W_Q", "W_K", "W_V", "W_O"])
    def test_only_the_values_that_are_0_divided_by_0_are_left_out(self, layer: int, weight: str) -> None:
        """The others are those of whole matrices, to which the head without weights is a head like any other."""
        model = random_model(options(sublayers="sss"))
        with torch.no_grad():
            parameter = getattr(model.sublayers[layer], weight)
            (parameter if weight == "W_O" else parameter.transpose(0, 1))[1] = 0
        weights = np.array([[0.2, 0.6, 0.1], [0.3, 0.9, 0.5], [0.5, 0.5, 0.5]])  # H1 is the best of each layer
        with np.errstate(invalid="ignore"):
            values = naive_copying_eigenvalue(model) | naive_qk_terms(model, weights)
            ratios = naive_composition(model)
        expected = {label: {head: v for head, v in by.items() if v == v} for label, by in values.items()}
        told: list[DegenerateError] = []
        folded = fold(model)
        found = copying_eigenvalue(folded, told.append) | qk_terms(folded, weights, told.append)
        assert found.keys() == {label for label, by in expected.items() if by}
        for label, by_head in found.items():
            assert by_head == pytest.approx(expected[label], rel=1e-6, abs=1e-6), label
        defined = {key: ratio for key, ratio in ratios.items() if ratio == ratio}
        assert pairs(folded, undefined=told.append) == pytest.approx(defined, abs=1e-7)
        undefined = {measure_of("heads", label) for label, by in values.items() if any(v != v for v in by.values())}
        undefined |= {f"composition_{kind}" for (kind, *_), ratio in ratios.items() if ratio != ratio}
        assert {error.measure for error in told} == undefined

    def test_heads_of_a_layer_that_all_say_nothing_compose_with_none(self) -> None:
        model = random_model(options(sublayers="ss"))
        with torch.no_grad():
            model.sublayers[0].W_O.zero_()
        told: list[DegenerateError] = []
        assert len(composition(fold(model), undefined=told.append).value) == 0
        assert [str(error) for error in told[:3]] == [f"composition: W_OV of L0H{h} is 0" for h in range(3)]

    def test_logits_that_are_all_equal(self) -> None:
        model = random_model(options(sublayers="s"))
        with torch.no_grad():
            model.W_U.copy_(model.W_U[:, :1].clone().expand(-1, V))
        with pytest.raises(DegenerateError, match="copying_eigenvalue of L0H0"):
            copying_eigenvalue(fold(model))

    def test_weights_that_are_no_numbers(self) -> None:
        model = random_model(options(sublayers="s"))
        with torch.no_grad():
            model.W_E[0, 0] = torch.nan
        with pytest.raises(NotFiniteError, match="W_E are not finite"):
            fold(model)

    def test_previous_token_scores_of_another_model(self) -> None:
        folded = fold(random_model(options(sublayers="ss")))
        for wrong in (np.zeros((2, 4)), np.full((2, 3), np.nan)):
            with pytest.raises(ValueError, match="previous_token must be 2 × 3 finite numbers"):
                qk_terms(folded, wrong)

    def test_a_context_without_distances(self) -> None:
        with pytest.raises(DegenerateError, match="context of 1"):
            fold(Transformer(options(sublayers="s", positions="rotary"), V, 1))


def test_reasons_are_noted_once() -> None:
    known = {"smear": "keys are not smeared", "copying_eigenvalue": "L0H1 is 0"}
    further = {"copying_eigenvalue": "L0H1 is 0; L1H0 is 0", "qk_eigenvalue": "L1H0 is 0"}
    both = known | {"copying_eigenvalue": "L0H1 is 0; L1H0 is 0", "qk_eigenvalue": "L1H0 is 0"}
    assert noted(known, further) == noted(both, known) == noted(both, {}) == both
