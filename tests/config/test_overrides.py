"""What users type reaches Hydra so that the typed config is the one that judges it."""

import pytest

from induction_bump.config.compose import compose
from induction_bump.config.errors import ConfigError
from induction_bump.config.overrides import as_typed, rewrite, selects_sweep


@pytest.mark.parametrize(
    ("typed", "passed"),
    [
        ("model.d_model=3", "++model.d_model=3"),
        ("study=x", "++study=x"),
        ("model=one_layer", "model=one_layer"),
        ("experiment=quickstart", "experiment@_global_=quickstart"),
        ("+experiment=quickstart", "experiment@_global_=quickstart"),
        ("debug=fast", "+debug@_global_=fast"),
        ("+sweeps=quickstart", "+sweeps@_global_=quickstart"),
        ("+model.foo=1", "+model.foo=1"),
        ("~model.foo", "~model.foo"),
        ("hydra.verbose=true", "hydra.verbose=true"),
        ("hydra/launcher=basic", "hydra/launcher=basic"),
        ("model@other=one_layer", "model@other=one_layer"),
    ],
)
def test_values_are_forced_and_groups_are_left(typed: str, passed: str) -> None:
    assert rewrite([typed]) == [passed]


def test_with_a_runs_own_config_an_experiment_is_added() -> None:
    assert rewrite(["experiment=quickstart"], own_config=False) == ["+experiment@_global_=quickstart"]


@pytest.mark.parametrize("typed", ["quickstart", "=3", "++", "+=3", ""])
def test_what_is_no_override_is_refused(typed: str) -> None:
    with pytest.raises(ConfigError, match="is not an override; write key=value"):
        rewrite([typed])


def test_a_rewritten_override_is_shown_as_it_was_typed() -> None:
    for typed in ("model.d_model=3", "experiment=quickstart", "model=one_layer"):
        assert as_typed(rewrite([typed])[0]) == typed


def test_a_sweep_is_recognised_with_and_without_its_plus() -> None:
    assert selects_sweep(["seed.init=1", "+sweeps=quickstart"])
    assert selects_sweep(["sweeps=quickstart"])
    assert not selects_sweep(["study=sweeps"])


def test_options_that_the_chosen_yaml_files_do_not_mention_can_be_set() -> None:
    config = compose(["snapshots.weights.every=100step"])
    assert config.snapshots.weights is not None
    assert str(config.snapshots.weights.every) == "100step"
