# SPDX-License-Identifier: Apache-2.0
"""Every long part of a run shows how far it is."""

import io
import re

import pytest

from unilogit_jax import workflows
from unilogit_jax.config import load_config
from unilogit_jax.run import Console, stage


@pytest.fixture(scope="module")
def lines(overrides, tmp_path_factory):
    """What a run and an export print to a pipe, where nothing is too short to be shown."""
    out, place = io.StringIO(), tmp_path_factory.mktemp("progress")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "_SOON", 0.0)
        patch.setattr(stage, "_PLAIN_EVERY", 0.0)
        watched = ("watch.every=4", "method.name=npo", "eval.gold=false", "eval.batch_size=8")
        experiment = load_config("toy", *overrides, *watched)
        run = workflows.unlearn(experiment, out=place / "run", console=Console(stream=out))
        workflows.export(run.path, place / "model", console=Console(stream=out))
    return out.getvalue().splitlines()


def shown(lines, pattern):
    return [line for line in lines if re.match(pattern, line)]


@pytest.mark.parametrize("name", ["evaluating before", "evaluating after", "evaluating on the way"])
def test_an_evaluation_counts_texts_and_answers_with_pace_and_time_left(lines, name):
    for what in ("texts", "answers"):
        pace = rf"{name}  (\d+)/(\d+) {what}  {what}/second [\d.]+k?  eta "
        found = [re.match(pace, line) for line in shown(lines, pace)]
        assert found, what
        assert found[-1] is not None and found[-1][1] == found[-1][2], what


def test_training_shows_its_pace_in_tokens_and_the_time_left(lines):
    for name, updates in (("target", 12), ("unlearn", 4)):
        assert shown(lines, rf"{name}  {updates}/{updates}  .*tokens/second \d.*  eta 0.0 s")
    compiling = [line for line in lines if line == "  compiling the step ..."]
    assert len(compiling) == 2


def test_asking_the_start_model_counts_rows(lines):
    counted = shown(lines, r"asking the start model  \d+/\d+ rows  rows/second ")
    assert counted and shown(lines, r"asking the start model  (\d+)/\1 rows .* done in ")


def test_an_export_counts_what_is_written(lines):
    assert shown(lines, r"exporting unlearn  \d+/\d+ MB")


def test_every_stage_says_that_it_begins_and_ends(lines):
    begun = [line.removesuffix(" ...") for line in shown(lines, r"\S.* \.\.\.$")]
    for name in begun:
        assert shown(lines, rf"{name}.*  done in "), name
