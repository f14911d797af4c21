# SPDX-License-Identifier: Apache-2.0
"""Attacks a finished run: does what was unlearned come back?"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from unilogit_jax.config import Experiment, load_config
from unilogit_jax.errors import CheckpointError, ConfigError, suggest
from unilogit_jax.hosts import agreed, by_first
from unilogit_jax.paths import AnyPath, to_path
from unilogit_jax.run import Console, RunFolder, make_console, write_json
from unilogit_jax.workflows._attacks import ATTACKS
from unilogit_jax.workflows._bench import Bench, Options
from unilogit_jax.workflows._checks import check_out
from unilogit_jax.workflows._findings import FILE, Page, enter, read_page, show_page
from unilogit_jax.workflows._prepare import prepare
from unilogit_jax.workflows._runs import UNLEARN, is_run, open_run, stages_of
from unilogit_jax.workflows.evaluate import columns_of


def attack(
    run: AnyPath | str,
    *overrides: str,
    only: Sequence[str] = (),
    again: bool = False,
    out: AnyPath | str | None = None,
    console: Console | None = None,
    **options: Any,
) -> Page:
    """Attacks the models of a finished run in several ways; prints what each gives away.

    Every attack is made on the model before unlearning, on the one after it, on those of rival
    methods, and on gold where there is one, which never saw the forget rows: what it gives away
    nobody can unlearn. `relearn` trains shortly on a few rows and asks for the others, `quantize`
    rounds the weights, `paraphrase` asks in other words, `prompts` asks with a role, an
    instruction, examples and begun answers, `sample` draws several answers, `lens` reads every
    layer.

    Args:
      run: the run folder.
      *overrides: `key=value` each, laid over the run's configuration, such as `eval.max_items=50`.
      only: names of attacks; none: all of them.
      again: also those that the file holds already with the same settings.
      out: a JSON file in place of the run's attack.json.
      console: where to print; None prints to standard output.
      **options: `rows`, `relearn_on`, `updates`, `every`, `learning_rate` of relearning, `samples`
        and `temperature` of drawing, and `seed`.

    Returns:
      What the file holds: "rows", one for each attack, setting and number, with "values" by column;
      "curves", with "lines" by column; "settings" by attack.

    Raises:
      UnilogitError: there is no such attack, the run is not finished, or its data are gone; or one
        that `only` names cannot be made. Without names it is left out with a warning.

    """
    console = make_console() if console is None else console
    names = _names(only)
    asked = _options(options)
    folder, experiment = _finished(run, overrides)
    file = folder.path / FILE if out is None else to_path(out)
    check_out(file, folder=False)
    page = agreed(lambda: read_page(file))
    wanted = {name: _settings(name, asked, overrides) for name in names}
    due = [name for name in names if again or page["settings"].get(name) != wanted[name]]
    for name in names:
        if name not in due:
            console.line(f"{name}: there already, in {file}; --again repeats it")
    if due:
        bench = _bench(folder, experiment, asked, console)
        for name in due:
            console.title(name)
            try:
                found = ATTACKS[name].run(bench)
            except ConfigError as error:  # of these data; the others may find something
                if name in only:
                    raise
                console.warn(f"{name} is left out. {error}")
                continue
            if found.rows:
                page = enter(page, name, found, wanted[name])
                by_first(lambda page=page: write_json(file, page))
    show_page(console, f"{experiment.name}: what comes back", page, names)
    console.line(_READING)
    console.line(f"all of it: {file}")
    console.finish()
    return page


_READING = (
    '"like gold" is what to hope for after unlearning: gold never saw the forget rows, so what it '
    "gives away is known to anybody. Where even before gives little, the attack shows nothing."
)


def _names(only: Sequence[str]) -> list[str]:
    for name in only:
        if name not in ATTACKS:
            raise ConfigError(
                f"there is no attack '{name}'.{suggest(name, ATTACKS)} There are: "
                f"{', '.join(ATTACKS)}."
            )
    return [name for name in ATTACKS if name in only or not only]


def _options(options: dict[str, Any]) -> Options:
    known = asdict(Options())
    for name in options:
        if name not in known:
            raise ConfigError(f"attack has no option '{name}'.{suggest(name, known)}")
    asked = Options(**options)
    for name in ("rows", "updates", "every", "samples", "learning_rate", "temperature"):
        value = getattr(asked, name)
        if value is not None and not value > 0:
            raise ConfigError(f"{name} must be larger than 0, got {value}.")
    if asked.seed < 0:
        raise ConfigError(f"seed must be at least 0, got {asked.seed}.")
    sources = ("forget", "retain")
    for source in asked.relearn_on:
        if source not in sources:
            raise ConfigError(f"relearn_on: forget or retain, got '{source}'.")
    return asked


def _finished(run: AnyPath | str, overrides: Sequence[str]) -> tuple[RunFolder, Experiment]:
    """A run of `unlearn` that came to its end, and what it is to be measured on."""
    folder, experiment = open_run(run)
    if overrides:
        experiment = agreed(lambda: load_config(folder.config, *overrides))

    def check() -> None:
        if not is_run(folder.path) or UNLEARN not in stages_of(folder):
            raise CheckpointError(
                f"{folder.path} has no unlearned model: attack takes a run of 'unilogit unlearn'."
            )
        if folder.status != "done":
            raise CheckpointError(
                f"{folder.path} is not finished, its status is '{folder.status}'. Finish it with "
                f"unilogit unlearn --resume {folder.path}"
            )

    agreed(check)
    return folder, experiment


def _settings(name: str, asked: Options, overrides: Sequence[str]) -> dict[str, Any]:
    """What the result of an attack depends on, as the file holds it."""
    values = {key: getattr(asked, key) for key in ATTACKS[name].options}
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
    return {**plain, "overrides": list(overrides)}


def _bench(folder: RunFolder, experiment: Experiment, asked: Options, console: Console) -> Bench:
    with console.stage("reading data and weights") as stage:
        prepared = agreed(lambda: prepare(experiment, folder, progress=stage.amount))
        found = columns_of(folder, prepared, None)
    if "before" not in found:
        console.warn(
            f"{folder.path} began with the models of another run, as those of a sweep do, and that "
            "one is not there any more: there are no columns before and gold."
        )
    return Bench(prepared, {name: params for name, (_, params) in found.items()}, asked, console)
