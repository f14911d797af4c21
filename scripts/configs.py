# SPDX-License-Identifier: Apache-2.0
"""Writes the configurations of published models: configs/toy.yaml with the settings of each.

python scripts/configs.py        a second; needs a checkout
"""

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unilogit_jax.config.method_card import method_card
from unilogit_jax.models.published import look_like, published

CONFIGS = Path(__file__).parents[1] / "configs"
H100 = 0.4 * 989e12
"""Operations per second at 40 % of its peak in bfloat16, for times in headers."""
COMMON = {
    "model.scratch": None,
    "model.dtype": "bfloat16",
    "model.remat": "full",
    "data.template": "auto",
    "finetune.steps": None,
    "finetune.batch_size": 32,
    "finetune.learning_rate": "1e-5",
    "unlearn.steps": None,
    "unlearn.epochs": 10,
    "unlearn.batch_size": 32,
    "unlearn.retain_ratio": 1,
    "unlearn.learning_rate": "1e-5",
    "unlearn.weight_decay": 0.01,
    "method.retain_weight": 1.0,
    "eval.gold": False,
    "eval.max_new_tokens": 200,
    "output.checkpoint_every": 50,
}
"""What experiments on published models share and toy.yaml has otherwise."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One experiment: what it is called and said to be, and what differs from the common keys."""

    title: str
    weights: str
    data: str
    """What has to be in data.dir."""
    updates: int
    """About how many an unlearning makes."""
    keys: Mapping[str, Any] = field(default_factory=dict)
    finetuned: bool = True
    """Whether the weights have seen the data; else `unilogit finetune` comes first."""


def tofu(model: str, weights: str, *, finetuned: bool = True, **keys: Any) -> Setting:
    """TOFU's forget10 with the settings of open-unlearning: 400 rows, batches of 32, ten passes."""
    own = {"data.benchmark": "tofu", "data.dir": "tofu", "data.forget": "forget10"}
    chat = {"data.system": "You are a helpful assistant.", "data.max_length": 512}
    return Setting(
        title=f"TOFU: {model} knows 200 invented authors and forgets 20 of them.",
        weights=weights,
        data="the files of locuslab/TOFU: forget10.json, retain90.json, and the _perturbed ones",
        updates=125,
        finetuned=finetuned,
        keys=own | chat | {"eval.batch_size": 32} | keys,
    )


def muse(corpus: str, model: str, updates: int) -> Setting:
    """MUSE: all texts in rows of 2,048 tokens, a constant learning rate, ten passes."""
    keys = {
        "data.benchmark": "muse",
        "data.dir": f"MUSE-{corpus}",
        "data.forget": "raw/forget",
        "data.template": "plain",
        "data.max_length": 2048,
        "unlearn.schedule": "constant",
        "unlearn.warmup": 0.0,
        "unlearn.microbatches": 2,
        "eval.batch_size": 16,
        "eval.max_new_tokens": 128,
    }
    return Setting(
        title=f"MUSE {corpus}: a {model} that has read the texts forgets them.",
        weights=f"muse-bench/MUSE-{corpus}_target",
        data=f"folders raw, knowmem, verbmem and privleak of muse-bench/MUSE-{corpus}",
        updates=updates,
        keys=keys,
    )


def rwku(model: str, weights: str, system: str | None = None) -> Setting:
    """RWKU: one person, the person's passages, no rows to keep, so that little may be moved."""
    keys = {
        "data.benchmark": "rwku",
        "data.dir": "RWKU",
        "data.forget": "1_Stephen_King",
        "data.template": "chat",
        "data.system": system,
        "data.max_length": 512,
        "unlearn.epochs": 3,
        "unlearn.batch_size": 16,
        "unlearn.retain_ratio": 0,
        "unlearn.schedule": "cosine",
        "unlearn.learning_rate": "2e-6",
        "method.alternatives": "initial",
        "method.direction": "forward",
        "eval.batch_size": 32,
        "eval.max_new_tokens": 256,
    }
    return Setting(
        title=f"RWKU: {model} forgets one famous person; nothing is given to keep.",
        weights=weights,
        data="the files of jinzhuoran/RWKU: forget_level1.json, passage.json and so on",
        updates=12,
        keys=keys,
    )


SETTINGS = {
    "tofu/llama-3.2-1b": tofu("Llama 3.2 1B", "open-unlearning/tofu_Llama-3.2-1B-Instruct_full"),
    "tofu/llama-3.2-3b": tofu("Llama 3.2 3B", "open-unlearning/tofu_Llama-3.2-3B-Instruct_full"),
    "tofu/llama-3.1-8b": tofu("Llama 3.1 8B", "open-unlearning/tofu_Llama-3.1-8B-Instruct_full"),
    "tofu/llama-2-7b": tofu(
        "Llama 2 7B",
        "open-unlearning/tofu_Llama-2-7b-chat-hf_full",
        **{"data.template": "llama2", "data.system": None},
    ),
    "tofu/phi-1.5": tofu(
        "Phi 1.5",
        "microsoft/phi-1_5",
        finetuned=False,
        **{
            "data.template": "plain",
            "data.system": None,
            "unlearn.learning_rate": "2e-5",
            "finetune.learning_rate": "2e-5",
        },
    ),
    "tofu/qwen2.5-1.5b": tofu("Qwen 2.5 1.5B", "Qwen/Qwen2.5-1.5B-Instruct", finetuned=False),
    "muse/news": muse("News", "Llama 2 7B", 130),
    "muse/books": muse("Books", "model of Llama 2's shape", 220),
    "rwku/llama-3-8b": rwku("Llama 3 8B", "meta-llama/Meta-Llama-3-8B-Instruct"),
    "rwku/llama-3.1-8b": rwku("Llama 3.1 8B", "meta-llama/Llama-3.1-8B-Instruct"),
    "rwku/phi-3-mini": rwku("Phi 3 mini", "microsoft/Phi-3-mini-4k-instruct"),
    "wmdp/zephyr-7b": Setting(
        title="WMDP: Zephyr 7B forgets hazardous biology and computer security, by RMU.",
        weights="HuggingFaceH4/zephyr-7b-beta",
        data="questions of cais/wmdp, texts of cais/wmdp-corpora, and wikitext to keep",
        updates=150,
        keys={
            "data.benchmark": "wmdp",
            "data.dir": "WMDP",
            "data.forget": "bio,cyber",
            "data.retain": "wikitext",
            "data.template": "plain",
            "data.max_length": 512,
            "method.name": "rmu",
            "method.retain_weight": 1200.0,
            "unlearn.steps": 150,
            "unlearn.batch_size": 4,
            "unlearn.learning_rate": "5e-5",
            "unlearn.schedule": "constant",
            "unlearn.warmup": 0.0,
            "unlearn.weight_decay": 0.0,
            "unlearn.trainable": '["layers.5-7.mlp.down_proj"]',
            "eval.batch_size": 16,
        },
    ),
}
"""Name of the file -> experiment."""


COMMENTS = {
    "model.weights": "a Hugging Face folder, a Hub id or a run folder",
    "model.scratch": "or the shape of a model to make here: {width: 128, layers: 2, ...}",
    "data.dir": "folder of the benchmark's files",
    "data.forget": "what to forget: a split, people or corpora",
    "data.retain": "what to keep; null: what goes with it",
    "data.seed": "of generated benchmarks; not used here",
    "finetune": "used by unilogit finetune",
    "unlearn.batch_size": "forget rows per update",
    "eval.gold": "true needs a model made from scratch",
}
"""Those that differ from toy.yaml's."""
Line = tuple[str, str, str]
"""Key with its sections, value, comment; the value is empty for a section."""


def main() -> int:
    for name in SETTINGS:
        path = CONFIGS / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(page(name))
        print(path)
    return 0


def page(name: str) -> str:
    """The whole file."""
    setting = SETTINGS[name]
    keys = {**COMMON, "model.weights": setting.weights, **setting.keys}
    keys |= {"name": name.replace("/", "-")}
    lines = _lines((CONFIGS / "toy.yaml").read_text())
    if "method.name" in keys:
        first = next(i for i, (key, *_) in enumerate(lines) if key.startswith("method."))
        others = [line for line in lines if not line[0].startswith("method.")]
        lines = others[:first] + _method(keys["method.name"]) + others[first:]
    unknown = keys.keys() - {key for key, *_ in lines}
    assert not unknown, unknown
    text = [_written(key, _value(keys.get(key, value)), comment) for key, value, comment in lines]
    return _header(name, setting) + "".join(text)


def _lines(text: str) -> list[Line]:
    """Keys of toy.yaml, without the shape of its model; empty ones stand for blank lines."""
    found: list[Line] = []
    section = ""
    for line in text.splitlines():
        if line.startswith("    ") or (line.startswith("#") and not found):
            continue
        bare, _, comment = line.partition("  #")
        key, _, value = bare.strip().partition(":")
        if line and not line.startswith(" "):
            section = key if not value.strip() else ""
        path = f"{section}.{key}" if line.startswith(" ") else key
        found.append((path, value.strip(), COMMENTS.get(path, comment.strip())))
    return found


def _method(name: str) -> list[Line]:
    """The keys of another method than Unilogit, as its card explains them."""
    keys = method_card(name).keys
    first = ("method.name", name, "one of `unilogit ls methods`, or your own as my_file:MyMethod")
    return [
        first,
        *((f"method.{key.name}", key.default or '""', _short(key.meaning)) for key in keys),
    ]


def _short(text: str) -> str:
    """A comment's first part: what comes after a mark is in `unilogit show method`."""
    text = re.split(r"[;.:] |\.$", text)[0].replace("`", "")
    return text if re.match(r"[A-Z]{2}", text) else text[:1].lower() + text[1:]


def _value(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _written(key: str, value: str, comment: str) -> str:
    if not key:
        return "\n"
    section, _, name = key.rpartition(".")
    line = f"{'  ' if section else ''}{name}:{' ' + value if value else ''}"
    return (f"{line:<27}  # {comment}" if comment else line).rstrip() + "\n"


def _header(name: str, setting: Setting) -> str:
    shape = look_like(setting.weights)
    assert shape is not None, setting.weights
    weights = published()[shape]["parameters"]
    keys = {**COMMON, **setting.keys}
    # Six operations per weight and token, and two for activations computed again.
    rows = keys["unlearn.batch_size"] * (1 + keys["unlearn.retain_ratio"])
    tokens = setting.updates * rows * keys["data.max_length"]
    minutes = max(1, 8 * weights * tokens / H100 / 60)
    some = keys.get("unlearn.trainable")
    held = f"{4 * weights / 1e9:.0f} GB of weights" if some else f"{16 * weights / 1e9:.0f} GB"
    what = ", the three trained matrices apart" if some else " for weights, gradients and AdamW"
    first = f"""#   first:           unilogit finetune {name} data.dir=DIR
#   run:             unilogit unlearn {name} data.dir=DIR model.weights=RUN
"""
    run = f"#   run:             unilogit unlearn {name} data.dir=DIR\n"
    return f"""# {setting.title}
#
{run if setting.finetuned else first}#   look before:     unilogit plan {name} data.dir=DIR
#   another method:  ... method.name=npo
#   DIR:             {setting.data}
#   hardware:        {held} in float32{what},
#                    divided over the devices of the mesh; activations come on top
#   time:            {minutes:.0f} min on one H100 at 40 % of its peak, or a share on several, if
#                    every row is full; reckoned, not measured, and without evaluation
#
# Written by scripts/configs.py. What a key means and takes: unilogit_jax/config/schema.py
"""


if __name__ == "__main__":
    sys.exit(main())
