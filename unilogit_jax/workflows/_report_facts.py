# SPDX-License-Identifier: Apache-2.0
"""The facts of a report: request, model, method, cost and provenance, out of a run's own files."""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from unilogit_jax.accelerators import GIB
from unilogit_jax.config import Experiment, method_label, method_name
from unilogit_jax.config.method_card import method_card
from unilogit_jax.methods import Method
from unilogit_jax.run import Facts, MetricsLog, RunFolder, StageCost, read_json
from unilogit_jax.run.files import read_numbers
from unilogit_jax.run.ledger import read_ledger
from unilogit_jax.run.record import read_record
from unilogit_jax.run.shapes import Env
from unilogit_jax.workflows._runs import MODEL_FILE, load_decoder_config

Rows = list[tuple[str, str]]

_DIGEST = (
    "The rows are on record as a digest alone, the SHA-256 of repr(question), a line break, "
    "repr(answer), a line break, row after row: it shows whether a given file is what was meant."
)
_WEIGHTS = (
    "A digest of weights shows whether two models are the same. It is made to notice changes, not "
    "to withstand somebody who wants them unnoticed."
)
_RECKONED = (
    "Operations are reckoned, not measured: two for each weight of a linear layer and token, those "
    "of attention, and twice as many backwards. Padding, references, evaluations and what was "
    "computed again to save memory do not count."
)


@dataclass(frozen=True)
class RunFacts:
    """What a run's files say of it."""

    run: RunFolder
    experiment: Experiment

    @cached_property
    def env(self) -> dict[str, Any]:
        """Versions, command line, times."""
        return read_json(self.run.env, Env) if self.run.env.is_file() else {}

    @cached_property
    def record(self) -> dict[str, Any]:
        """What the run noted for its report."""
        return read_record(self.run.path)

    @cached_property
    def ledger(self) -> list[dict[str, Any]]:
        """The requests served, oldest first."""
        return read_ledger(self.run.path)

    @cached_property
    def summary(self) -> dict[str, float | None]:
        """The final numbers and seconds."""
        return read_numbers(self.run.summary) if self.run.summary.is_file() else {}

    @property
    def finetuned(self) -> bool:
        """Whether this run only trained a model."""
        return self.env.get("verb") == "finetune"

    def request(self) -> list[Facts]:
        """What was asked, of which model, by which method."""
        tables = [self._rows(), self._model()]
        if not self.finetuned:
            tables += [self._method(method) for method in self.experiment.methods]
        return [*tables, self._training()]

    def _rows(self) -> Facts:
        data, noted = self.experiment.data, self.record.get("data", {})
        source = ", ".join(
            f"{key} {value}"
            for key in ("benchmark", "dir", "forget", "retain", "texts")
            if (value := getattr(data, key)) is not None
        )
        rows: Rows = [("data", source)]
        if noted.get("name") not in (None, data.benchmark):
            rows.append(("task", noted["name"]))
        for side, what in (("forget", "to forget"), ("retain", "to keep")):
            if side in noted:
                count, digest = noted[side]["rows"], noted[side]["sha256"]
                rows.append((f"rows {what}", f"{count:,}, SHA-256 {digest}" if count else "none"))
        for entry in self.ledger:
            told = f"{entry['served']}: {entry['rows']:,} rows of {entry['forget']}"
            told += f" by {entry['method']}, SHA-256 {entry['sha256']}"
            rows.append((f"served as request {entry['request']}", told))
        return Facts("Rows", rows, _DIGEST)

    def _model(self) -> Facts:
        settings, noted = self.experiment.model, self.record.get("model", {})
        scratch = "made from scratch and trained on all rows in this run"
        rows: Rows = [("weights from", settings.weights or scratch)]
        if settings.revision is not None:
            rows.append(("revision", settings.revision))
        if "parameters" in noted:
            rows.append(("parameters", f"{noted['parameters']:,}"))
        if (self.run.path / MODEL_FILE).is_file():
            shape = dataclasses.asdict(load_decoder_config(self.run))
            rows.append(
                (
                    "shape",
                    f"{shape['family']}: {shape['layers']} layers, width {shape['width']}, "
                    f"vocabulary {shape['vocab_size']:,}",
                )
            )
        rows.append(("types", f"weights {settings.param_dtype}, computed in {settings.dtype}"))
        if self.experiment.lora is not None:
            rows.append(("adapters", _settings(self.experiment.lora.model_dump())))
        weights = self.record.get("weights", {})
        rows += [(f"digest of {name}", weights[name]) for name in in_order(weights)]
        return Facts("Model", rows, _WEIGHTS if weights else "")

    def _method(self, method: Method) -> Facts:
        card = method_card(method_name(method))
        rows: Rows = [("what it does", card.summary)]
        if card.papers:
            rows.append(("paper", ", ".join(f"arXiv:{number}" for number in card.papers)))
        own = {key: value for key, value in vars(method).items() if key not in ("name", "label")}
        rows.append(("hyper-parameters", _settings(own, "\n")))
        title = method_label(method)
        first = method is self.experiment.method
        return Facts(f"Method: {title}" if first else f"Compared with: {title}", rows)

    def _training(self) -> Facts:
        section = self.experiment.finetune if self.finetuned else self.experiment.unlearn
        settings = section.model_dump(exclude_none=True)
        if section.steps is not None:
            del settings["epochs"]  # which the number of updates overrules
        return Facts("Training", [(name, _value(value)) for name, value in settings.items()])

    def stages(self) -> list[StageCost]:
        """Every stage with its seconds and its work."""
        seconds = {
            name.removeprefix("seconds."): value
            for name, value in self.summary.items()
            if name.startswith("seconds.")
        }
        names = dict.fromkeys([*seconds, *self._worked])
        return [StageCost(name, seconds.get(name), self._work(name)) for name in names]

    def _work(self, name: str) -> str:
        if name not in self._worked:
            return ""
        updates, tokens, flops = self._worked[name]
        return f"{updates:,} updates, {tokens:,.0f} tokens, {flops:.2e} operations"

    @cached_property
    def _worked(self) -> dict[str, tuple[int, float, float]]:
        """Stage -> updates that were made, their tokens and operations."""
        made: dict[str, int] = {}
        for row in MetricsLog.read(self.run.metrics):
            made[row["stage"]] = max(made.get(row["stage"], 0), row["step"])
        return {
            name: (made[name], made[name] * noted["tokens"], made[name] * noted["flops"])
            for name, noted in self.record.get("stages", {}).items()
            if name in made
        }

    def cost(self) -> Facts:
        """Devices, arithmetic, memory."""
        rows: Rows = []
        if devices := self.record.get("devices"):
            shape = " x ".join(f"{axis} {size}" for axis, size in devices["mesh"].items())
            told = f"{devices['count']} x {devices['kind']}, mesh {shape}"
            rows.append(("devices", f"{told}, {devices['processes']} process(es)"))
        if self._worked:
            flops = sum(flops for *_, flops in self._worked.values())
            rows.append(("operations in training", f"{flops:.2e}, reckoned"))
        names = {"host": "peak memory of the process", "device": "peak memory of a device"}
        for key, size in self.record.get("memory", {}).items():
            rows.append((names[key], f"{size / GIB:.2f} GiB"))
        lead = _RECKONED if self._worked else ""
        if times := len(self.env.get("resumed", ())):
            lead += (
                f" The run was resumed {times} time(s): seconds and memory are of its last part."
            )
        return Facts("Devices, arithmetic and memory", rows, lead.strip())

    def provenance(self) -> list[Facts]:
        """Where, when and with what the run was made."""
        env, output = self.env, self.experiment.output
        git = env.get("git")
        commit = "none" if not git else git["commit"] + " (with changes)" * bool(git["dirty"])
        config = hashlib.sha256(self.run.config.read_bytes()).hexdigest()
        rows: Rows = [
            ("run", str(self.run.path)),
            ("command", " ".join(env.get("command_line", ()))),
            ("begun", env.get("started") or "not known"),
            ("resumed", ", ".join(env.get("resumed", ())) or "never"),
            ("git commit of the working directory", commit),
            ("seeds", f"output.seed {output.seed}, data.seed {self.experiment.data.seed}"),
            ("SHA-256 of config.yaml", config),
            ("platform", env.get("platform", "not known")),
        ]
        versions = [(n, v or "not installed") for n, v in env.get("versions", {}).items()]
        return [Facts("Run", rows), Facts("Versions", versions)]


def in_order(columns: Iterable[str]) -> list[str]:
    """Columns as tables have them: before and after first, gold last, others as they come.

    Example:
      >>> in_order(["npo", "gold", "after", "before"])
      ['before', 'after', 'npo', 'gold']

    """
    rank = {"before": 0, "after": 1, "gold": 3}
    return sorted(columns, key=lambda name: rank.get(name, 2))


def _settings(values: Mapping[str, Any], between: str = ", ") -> str:
    """Settings as text."""
    return between.join(f"{key} = {_value(value)}" for key, value in values.items())


def _value(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_value, value)) or "none"
    return "none" if value is None or value == {} else f"{value}"
