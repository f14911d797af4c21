# SPDX-License-Identifier: Apache-2.0
"""Lets a model write data: other answers to the forget questions, or texts about those to forget.

Beside the file lies another that says how it was made.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

from unilogit_jax import models
from unilogit_jax.benchmarks import people_of
from unilogit_jax.config import Experiment
from unilogit_jax.data import Tokenizer, end_ids, prompt_ids, unseen_token
from unilogit_jax.data.requests import OTHER_ANSWER, TEXTS, fill
from unilogit_jax.errors import ConfigError, DataError
from unilogit_jax.hosts import agreed, by_first
from unilogit_jax.paths import AnyPath, to_path
from unilogit_jax.run import Console, describe_environment, make_console, write_json
from unilogit_jax.run.files import write_text
from unilogit_jax.sharding import make_mesh
from unilogit_jax.train.fingerprint import marks_of
from unilogit_jax.workflows._checks import check_out
from unilogit_jax.workflows._prepare import from_weights
from unilogit_jax.workflows._rows import read_task, source_of

ROUNDS = 4
"""How often an answer that is empty or one had before is drawn anew."""
What = Literal["alternates", "texts"]


class Request(NamedTuple):
    """One row to write: its fixed fields, what the model is asked, and what it must not say."""

    row: dict[str, Any]
    asked: tuple[str, ...]
    """As many as texts are wanted."""
    known: str


def generate(
    experiment: Experiment,
    out: AnyPath | str,
    *,
    what: What | None = None,
    about: Sequence[str] = (),
    count: int | None = None,
    prompt: str | None = None,
    temperature: float = 1.0,
    top_p: float | None = 0.95,
    console: Console | None = None,
) -> AnyPath:
    """Writes rows that a model made up, JSON Lines, and OUT.json about how.

    Args:
      experiment: `model.weights` writes; the prompts follow `data.template` and `data.system`, the
        draws `output.seed`, and `eval.max_new_tokens` is the longest text.
      out: the file to make.
      what: alternates: other answers to each forget question, for `data.alternates`; texts: about
        those to forget, for `data.texts`. None: texts with benchmark rwku, else alternates.
      about: names for texts; empty: RWKU's people, as `data.forget` says.
      count: how many for each question or name; None: 5 answers or 100 texts.
      prompt: another request, with {question} and {answer}, or with {name}.
      temperature: of the draws; 0 always takes the likeliest token.
      top_p: draw from the likeliest tokens that hold this share together; None: from all.
      console: where to print; None prints to standard output.

    Returns:
      The file.

    Raises:
      UnilogitError: there are no weights, nothing to write about, or no question to answer.

    """
    console = make_console() if console is None else console
    out = to_path(out)
    check_out(out, folder=False)
    if experiment.model.weights is None:
        raise ConfigError("generate needs model.weights: a folder, a Hub id or a run that writes.")
    if what is None:
        what = "texts" if experiment.data.benchmark == "rwku" or about else "alternates"
    requests = agreed(lambda: _requests(experiment, what, about, count, prompt))
    mesh = make_mesh(**experiment.mesh.model_dump())
    with console.stage("reading weights") as stage:
        tokenizer, model, params = from_weights(experiment, mesh, stage.amount)

    def draw(texts: Sequence[str], seed: int) -> list[str]:
        prompts = [_prompt(tokenizer, text, experiment) for text in texts]
        options = {"temperature": temperature, "top_p": top_p, "seed": seed}
        tell = partial(writing.items, what)
        return _drawn(experiment, model, params, tokenizer, prompts, options | {"progress": tell})

    with console.stage(f"writing {what}") as writing:
        texts = draw_new(requests, draw, seed=experiment.output.seed)
    rows = _rows(what, requests, texts)
    page = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    card = {
        "what": what,
        "weights": experiment.model.weights,
        "revision": experiment.model.revision,
        "weights_fingerprint": _hash(json.dumps(marks_of(params))),
        "requests_sha256": _hash(json.dumps([request.asked for request in requests])),
        "sha256": _hash(page),
        "rows": len(rows),
        "seed": experiment.output.seed,
        "temperature": temperature,
        "top_p": top_p,
        "max_new_tokens": experiment.eval.max_new_tokens,
        **describe_environment(),
    }
    by_first(lambda: write_text(out, page))
    by_first(lambda: write_json(out.parent / f"{out.name}.json", card))
    wanted = sum(len(request.asked) for request in requests)
    console.line(f"{sum(map(len, texts))} of {wanted} {what}: {out}; how: {out.name}.json")
    return out


def draw_new(
    requests: Sequence[Request], draw: Callable[[Sequence[str], int], list[str]], *, seed: int
) -> list[list[str]]:
    """For each request as many different texts as it asks for, none empty and none known before.

    Those that are not so are drawn again a few times; what is still missing then is left out.

    Args:
      requests: what to ask.
      draw: (what is asked, seed) -> a text for each.
      seed: of the first round; each further one has the next.

    """
    found: list[dict[str, str]] = [{} for _ in requests]
    for turn in range(ROUNDS):
        missing = [
            (k, asked)
            for k, request in enumerate(requests)
            for asked in request.asked[len(found[k]) :]
        ]
        if not missing:
            break
        texts = draw([asked for _, asked in missing], seed + turn)
        for (k, _), text in zip(missing, texts, strict=True):
            if (plain := _plain(text)) and plain != _plain(requests[k].known):
                found[k].setdefault(plain, text)
    return [list(texts.values()) for texts in found]


def _requests(
    experiment: Experiment,
    what: What,
    about: Sequence[str],
    count: int | None,
    prompt: str | None,
) -> list[Request]:
    if what == "texts":
        names = list(about)
        if not names and experiment.data.benchmark == "rwku":
            names = list(people_of(source_of(experiment)))
        if not names:
            raise ConfigError("say whom texts are to be about: --about NAME, as often as needed.")
        forms = TEXTS if prompt is None else (prompt,)
        asked = [[forms[n % len(forms)] for n in range(count or 100)] for _ in names]
        return [
            Request({"subject": name}, tuple(fill(form, {"name": name}) for form in own), "")
            for name, own in zip(names, asked, strict=True)
        ]
    requests = []
    for example in read_task(experiment).forget:
        if example.question is None:
            raise DataError(f"{example.where or 'a row to forget'} is plain text and no question.")
        row = {"question": example.question, "answer": example.answer}
        asked = fill(OTHER_ANSWER if prompt is None else prompt, row)
        requests.append(Request(row, (asked,) * (count or 5), example.answer))
    return requests


def _prompt(tokenizer: Tokenizer, text: str, experiment: Experiment) -> list[int]:
    data = experiment.data
    return prompt_ids(tokenizer, text, template=data.template, system=data.system)


def _drawn(
    experiment: Experiment,
    model: Any,
    params: Any,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    options: dict[str, Any],
) -> list[str]:
    data, settings = experiment.data, experiment.eval
    outputs = models.generate(
        model,
        params,
        prompts,
        max_new_tokens=settings.max_new_tokens,
        stop_ids=end_ids(tokenizer, template=data.template, system=data.system),
        batch_size=settings.batch_size,
        unseen=unseen_token(tokenizer, data.pad_mask),
        **options,
    )
    return [text.strip() for text in tokenizer.batch_decode(outputs, skip_special_tokens=True)]


def _rows(
    what: What, requests: Sequence[Request], texts: Sequence[Sequence[str]]
) -> list[dict[str, Any]]:
    pairs = list(zip(requests, texts, strict=True))
    if what == "texts":
        return [{**request.row, "text": text} for request, own in pairs for text in own]
    return [{**request.row, "alternates": own} for request, own in pairs]


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
