"""What a run says when it starts."""

from pathlib import Path
from typing import Any

import pytest

from induction_bump.config.resolve import dump
from induction_bump.launch import cell, facts
from induction_bump.launch.announcement import announcement
from induction_bump.linking.expected import expected_tokens
from induction_bump.records.directory import RunDirectory
from induction_bump.training.options import RunConfig
from induction_bump.training.schedule import Duration
from tests.launch.conftest import changed


@pytest.fixture
def text(config: RunConfig, tmp_path: Path) -> RunConfig:
    """A run on text that ends long before a bump."""
    (tmp_path / "a.txt").write_text("some words", encoding="utf-8")
    corpus = {"name": "files", "paths": [str(tmp_path / "a.txt")]}
    return changed(config, data={"corpus": corpus}, training={"batch_sequences": 16})


def said(config: RunConfig, **how: Any) -> list[str]:
    return list(announcement(config, cell.plan(config), **how))


def begin(config: RunConfig) -> RunDirectory:
    job = cell.plan(config)
    run = RunDirectory(job.path)
    run.begin(dump(config), facts.first_info(job, 1))
    return run


class TestExpectation:
    def test_a_training_on_text_that_ends_before_the_bump_is_told_how_long_it_would_have_to_be(
        self, text: RunConfig
    ) -> None:
        _, advice = said(text)
        law = f"10^5.7 · √(16 × {text.data.context}), Aoyama et al. 2025, on natural text"
        assert f": expect the bump at about 23M tokens ({law}); this training ends at 41.0k: " in advice
        assert advice.endswith("training.length=35Mtok would reach it")

    def test_one_that_goes_past_it_is_told_when_and_no_more(self, text: RunConfig) -> None:
        _, advice = said(changed(text, training={"length": "35Mtok"}))
        assert "expect the bump at about 23M tokens (" in advice
        assert advice.endswith("on natural text)")

    @pytest.mark.parametrize(
        ("sequences", "length", "expected", "ends", "enough"),
        [(512, "120Mtok", "128M", "120M", "200Mtok"), (131072, "1200Mtok", "2.1B", "1.21B", "3100Mtok")],
    )
    def test_large_numbers_read_as_small_ones_do_and_the_length_can_be_given_as_it_is(
        self, text: RunConfig, sequences: int, length: str, expected: str, ends: str, enough: str
    ) -> None:
        large = changed(text, training={"batch_sequences": sequences, "length": length})
        _, advice = said(large)
        assert f"expect the bump at about {expected} tokens (" in advice
        assert advice.endswith(f"; this training ends at {ends}: training.length={enough} would reach it")
        assert Duration.parse(enough).value > expected_tokens(sequences, text.data.context)
        _, advice = said(changed(large, training={"length": enough}))
        assert advice.endswith("on natural text)")

    def test_a_run_of_a_sweep_says_it_in_its_one_line(self, text: RunConfig) -> None:
        [short] = said(text, in_sweep=True)
        assert ", before a bump on text is to be expected" in short
        [long] = said(changed(text, training={"length": "35Mtok"}), in_sweep=True)
        assert "bump on text" not in long

    def test_nothing_is_expected_of_synthetic_corpora_and_of_one_layer(
        self, text: RunConfig, config: RunConfig
    ) -> None:
        assert len(said(config)) == 1
        assert len(said(changed(text, model={"sublayers": "s"}))) == 1
        assert len(said(changed(text, model={"sublayers": "s", "smeared_keys": True}))) == 2


class TestAnotherRunOfTheName:
    def test_another_corpus_is_named_as_what_differs(self, text: RunConfig, tmp_path: Path) -> None:
        other = begin(text)
        (tmp_path / "a.txt").write_text("other words", encoding="utf-8")
        line = said(text)[-1]
        assert line.endswith(f": another run of this name is there: {other.path}; it differs in data.corpus (content)")

    def test_the_one_that_differs_least_is_named_with_what_differs(self, config: RunConfig) -> None:
        begin(changed(config, training={"learning_rate": 0.5, "clip": 2.0}))
        near = begin(changed(config, training={"learning_rate": 0.5}))
        assert said(config)[-1].endswith(f"is there: {near.path}; it differs in training.learning_rate")

    def test_nothing_is_said_of_other_names_of_damaged_ones_in_a_sweep_and_of_a_run_that_goes_on(
        self, config: RunConfig
    ) -> None:
        begin(changed(config, seed={"init": 9}))
        assert len(said(config)) == 1
        other = begin(changed(config, training={"learning_rate": 0.5}))
        assert len(said(config)) == 2
        assert len(said(config, in_sweep=True)) == 1
        (other.path / "config.yaml").write_text("model: 3", encoding="utf-8")
        assert len(said(config)) == 1
        begin(config)
        (other.path / "config.yaml").write_text("", encoding="utf-8")
        assert len(said(config)) == 1
