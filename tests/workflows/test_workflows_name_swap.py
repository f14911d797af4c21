# SPDX-License-Identifier: Apache-2.0
"""Tau of name_swap: against each row run alone, from own files, and what is refused or told."""

import json
import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unilogit_jax import cli, models
from unilogit_jax.config import load_config
from unilogit_jax.data import encode_example
from unilogit_jax.run import RunFolder
from unilogit_jax.types import FORGET, IGNORE
from unilogit_jax.workflows._name_swap import _renamings
from unilogit_jax.workflows._prepare import prepare
from unilogit_jax.workflows._targets import check_targets, with_targets

FIRST = {"question": "Where was Ann Lee born?", "answer": "Ann Lee was born in Oslo."}
SECOND = {"question": "What is the job of Eve Roy?", "answer": "A baker, is Roy."}
INVENTED = ("Bo Kay", "Cy Orr", "Di Pim", "Ed Quill")


def words(*more):
    return ("method.tau=name_swap", "method.tau_names=3", *more)


@pytest.fixture(scope="module")
def prepared(overrides):
    """The first forget row of each fact, with tokens so small that names have several."""
    whole = prepare(load_config("toy", *overrides, *words()))
    few = replace(whole.task, forget=whole.task.forget[::4][:8])
    forget = replace(
        whole.forget,
        **{k: getattr(whole.forget, k)[::4][:8] for k in ("tokens", "labels", "lengths")},
    )
    return replace(whole, task=few, forget=forget)


def parts(prepared, example):
    """All ids of a row, and where the answer, its name and what follows the name begin.

    A space before the name is a token of its own, or a part of the name's first one.
    """
    more = {"template": "plain", "max_length": 96}
    ids, start = encode_example(prepared.tokenizer, example, **more)
    rest = example.answer.removeprefix(example.names[0])
    tail = len(prepared.tokenizer(rest, add_special_tokens=False)["input_ids"]) + 1
    (space,) = prepared.tokenizer(" ", add_special_tokens=False)["input_ids"]
    return ids, start, start + (ids[start] == space), len(ids) - tail


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_tau_is_the_mean_over_rows_that_are_run_one_by_one(prepared, mean):
    method = replace(prepared.experiment.method, tau_mean=mean)
    _, params = models.init(prepared.model.config, jax.random.key(3), mesh=prepared.mesh)
    # Sharper than freshly drawn, so that means differ.
    params = jax.tree.map(lambda x: 2.0 * x, params)
    told: list[str] = []
    found = with_targets(prepared, method, {}, start=params, say=told.append)[FORGET]["logit_tau"]
    tau, lost = 1 / (1 + np.exp(-found.astype(np.float64))), 0

    @jax.jit
    def run(tokens):
        return prepared.model.apply({"params": params}, tokens).logits()

    size = prepared.model.config.vocab_size
    for r, (example, ways) in enumerate(
        zip(prepared.task.forget, _renamings(prepared, method), strict=True)
    ):
        ids, start, own, rest = parts(prepared, example)
        values: dict[int, list[float]] = {t: [] for t in range(start, len(ids))}
        for way in ways:
            (name,) = way.values()
            question, answer = (
                text.replace(example.names[0], name) for text in (example.question, example.answer)
            )
            other = replace(example, question=question, answer=answer, names=(name,))
            others, first, theirs, other_rest = parts(prepared, other)
            # One length for all, so that one program serves; nothing looks at what comes behind.
            z = np.asarray(run(jnp.asarray([np.resize(others, 96)])), np.float64)[0]
            p = np.exp(z - z.max(-1, keepdims=True))
            p /= p.sum(-1, keepdims=True)
            pairs = [(rest + i, other_rest + i) for i in range(len(ids) - rest)]
            if rest - own == other_rest - theirs:
                pairs += [(own + i, theirs + i) for i in range(rest - own)]
            if own > start and theirs > first:
                pairs.append((start, first))
            for t, u in pairs:
                values[t].append(p[u - 1, others[u]])
        for t, p in values.items():
            lost += not p
            mean_of = np.mean if mean == "arithmetic" else lambda x: math.exp(np.mean(np.log(x)))
            assert tau[r, t - 1] == pytest.approx(mean_of(p) if p else 1 / size, rel=1e-4)
    count = (prepared.forget.labels != IGNORE).sum()
    assert 0 < lost < count, "some names have other lengths, some have not"
    assert f"{lost} of {count} forget labels keep the target 1/V" in told[0]
    assert "; 0 of 8 rows" in told[0] and len(told) == 1


def test_the_seed_of_the_run_decides_about_names(prepared):
    method = prepared.experiment.method
    output = prepared.experiment.output.model_copy(update={"seed": 5})
    other = replace(prepared, experiment=prepared.experiment.model_copy(update={"output": output}))
    assert _renamings(prepared, method) == _renamings(prepared, method)
    assert _renamings(prepared, method) != _renamings(other, method)
    own = {name for row in prepared.task.forget for name in row.names}
    drawn = {name for row in _renamings(prepared, method) for way in row for name in way.values()}
    assert drawn <= set(prepared.task.names) - own


def write(folder, forget, retain=()):
    for name, rows in (("forget", forget), ("retain", retain or [FIRST])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "names.txt").write_text("\n".join(INVENTED))
    return (
        "data.benchmark=files",
        f"data.forget={folder}/forget.jsonl",
        f"data.retain={folder}/retain.jsonl",
    )


def named(row, *names):
    return row | {"names": list(names)}


def test_names_come_from_a_file_or_else_from_retain_rows(tmp_path, overrides):
    retain = [named(FIRST, name) for name in ("Flo Ray", "Gus Sun", "Hal Tor", "Eve Roy")]
    files = write(tmp_path, [named(SECOND, "Eve Roy", "Roy")], retain)
    for more, wanted in (
        ((), {"Flo Ray", "Gus Sun", "Hal Tor"}),
        ((f"data.names={tmp_path}/names.txt",), set(INVENTED)),
    ):
        prepared = prepare(load_config("toy", *overrides, *files, *words(*more)))
        check_targets(prepared)
        (ways,) = _renamings(prepared, prepared.experiment.method)
        drawn = {way["Eve Roy"] for way in ways}
        assert len(drawn) == 3 and drawn <= wanted
        assert all(way["Roy"] == way["Eve Roy"].split()[1] for way in ways)


def test_a_run_from_own_files_goes_through_and_says_what_it_cannot_align(tmp_path, overrides):
    rows = [named(FIRST, "Ann Lee"), named(SECOND, "Eve Roy", "Roy"), named(SECOND, "Nobody")] * 3
    files = write(tmp_path, rows, [FIRST] * 9)
    more = (f"data.names={tmp_path}/names.txt", "method.alternatives=initial", "eval.gold=false")
    out = tmp_path / "run"
    said = cli.main(
        ["unlearn", "toy", *overrides, *files, *words(*more), "unlearn.steps=1", "--out", str(out)]
    )
    assert said == 0
    log = RunFolder.open(out).log.read_text()
    assert "tau name_swap:" in log and "3 of 9 rows have none of their names" in log


@pytest.mark.parametrize(
    ("forget", "names", "wanted"),
    [
        ([named(FIRST, "Ann Lee"), SECOND], True, "forget.jsonl:2: method.tau name_swap needs"),
        ([named(FIRST, "ann lee")], True, 'no row to forget has any of its "names"'),
        ([named(FIRST, "Ann Lee")], False, "wants 3 names"),
    ],
    ids=["no field", "other spelling", "no pool"],
)
def test_what_is_missing_is_refused_in_one_sentence(
    tmp_path, capsys, overrides, forget, names, wanted
):
    files = write(tmp_path, forget)
    more = words(*([f"data.names={tmp_path}/names.txt"] if names else []))
    for verb in (["unlearn", "toy", "--out", str(tmp_path / "run")], ["plan", "toy"]):
        assert cli.main([*verb[:2], *overrides, *files, *more, *verb[2:]]) == 2
        message = capsys.readouterr().err
        assert wanted in message and message.count("\n") == 1, message
    assert not (tmp_path / "run").exists()
