# SPDX-License-Identifier: Apache-2.0
"""Reads models back from run folders."""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from unilogit_jax import models
from unilogit_jax.config import Experiment, load_config
from unilogit_jax.data import Tokenizer
from unilogit_jax.errors import CheckpointError, ConfigError, suggest
from unilogit_jax.hosts import agreed, check_shared
from unilogit_jax.paths import WRITTEN, AnyPath, Remote, to_source, upload_folder
from unilogit_jax.run import RunFolder, read_json, write_json
from unilogit_jax.train import Checkpoints
from unilogit_jax.train.checkpoint import steps_in
from unilogit_jax.train.state import place
from unilogit_jax.train.watch import BEST
from unilogit_jax.urls import scheme_of
from unilogit_jax.workflows._sources import tokenizer_of

MODEL_FILE = "model.json"
"""The model's shape, beside the run's other files."""

TOKENIZER_FILE = "tokenizer.json"
"""In the tokenizer's folder; where it is, the others are."""

TARGET, GOLD, UNLEARN = "target", "gold", "unlearn"
"""Stages: the model that knows everything, the one that never saw the forget rows, the result."""


ADAPTERS = ".lora"
"""End of the name of a stage that trains adapters; the one without it holds the merged weights."""
TRAINED = ".trained"
"""Likewise where a method makes its result of the trained weights; it is in the one without."""
REINFORCED = ".reinforced"
"""End of the name of a stage that trains a model on forget rows which a teacher is made of."""


def open_run(path: AnyPath | str) -> tuple[RunFolder, Experiment]:
    """An existing run and its configuration; on several hosts the same for every process.

    Raises:
      CheckpointError: the folder is no run, or not one that all hosts share.

    """
    run = agreed(lambda: RunFolder.open(path))
    check_shared(run.path)
    return run, agreed(lambda: load_config(run.config))


def is_run(source: AnyPath | str) -> bool:
    """Whether something is a run, as opposed to a Hugging Face folder, a Hub id or another URL."""
    # Weights are read behind any URL; what cannot hold a run is not asked.
    if isinstance(path := to_source(source), Remote) and scheme_of(str(path)) not in WRITTEN:
        return False
    return (path / MODEL_FILE).is_file() and (path / "checkpoints").is_dir()


def write_model(run: RunFolder, model: Any, tokenizer: Tokenizer) -> None:
    """Stores the model's shape and the tokenizer in the run, so that it can be used on its own."""
    write_json(run.path / MODEL_FILE, dataclasses.asdict(model.config))
    if isinstance(run.tokenizer, Path):
        tokenizer.save_pretrained(run.tokenizer)
        return
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        upload_folder(Path(folder), run.tokenizer, last=(TOKENIZER_FILE,))


def stages_of(run: RunFolder) -> list[str]:
    """Stages that have a checkpoint, in the order target, gold, unlearn, others."""
    if not run.checkpoints.is_dir():
        return []
    names = [folder.name for folder in run.checkpoints.iterdir() if steps_in(folder)]
    names = [name for name in names if not name.endswith((ADAPTERS, TRAINED, REINFORCED, BEST))]
    order = {TARGET: 0, GOLD: 1, UNLEARN: 2}
    return sorted(names, key=lambda name: (order.get(name, 3), name))


def column_of(stage: str) -> str:
    """A stage's column in the tables of a run; a rival method's is its name."""
    columns = {TARGET: "before", GOLD: "gold", UNLEARN: "after"}
    return columns.get(stage, stage.removeprefix(f"{UNLEARN}-"))


def last_stage(run: RunFolder) -> str:
    """The stage that a run is for: the unlearned model if there is one, else the target.

    Raises:
      CheckpointError: the run has saved nothing yet.

    """
    there = stages_of(run)
    for name in (UNLEARN, TARGET):
        if name in there:
            return name
    raise CheckpointError(
        f"{run.path} holds no checkpoint yet. Go on with it: unilogit unlearn --resume {run.path}"
    )


def load_stage(
    run: RunFolder,
    stage: str | None = None,
    *,
    dtype: str | None = None,
    param_dtype: str | None = None,
    mesh: Mesh,
) -> tuple[Any, Any]:
    """The model and the weights of a run's stage (by default the one the run is for).

    Its types are those of the run, unless others are asked for.

    Raises:
      CheckpointError: the run has no such stage, or its checkpoint is damaged.

    """
    stage = last_stage(run) if stage is None else stage
    if stage not in stages_of(run):
        raise CheckpointError(
            f"{run.path} has no stage '{stage}'.{suggest(stage, stages_of(run))} "
            f"It has: {', '.join(stages_of(run))}."
        )
    return load_checkpoint(run, stage, dtype=dtype, param_dtype=param_dtype, mesh=mesh)


def load_checkpoint(
    run: RunFolder,
    stage: str,
    *,
    dtype: str | None = None,
    param_dtype: str | None = None,
    mesh: Mesh,
) -> tuple[Any, Any]:
    """As `load_stage`, of any stage that trains a whole model, those on the way to others too.

    Raises:
      CheckpointError: its checkpoint is not there, or damaged.

    """
    config = load_decoder_config(run)
    if dtype is not None:
        config = dataclasses.replace(config, dtype=dtype)
    model = models.Decoder(config, mesh=mesh)
    targets = place(models.param_shapes(model), models.param_shardings(model, mesh))
    with Checkpoints(run.checkpoints / stage) as checkpoints:
        trees, _ = checkpoints.restore({"params": targets})
    params = trees["params"]
    if param_dtype not in (None, config.param_dtype):
        model = model.clone(config=dataclasses.replace(config, param_dtype=param_dtype))
        params = jax.tree.map(lambda x: x.astype(param_dtype), params)
    return model, params


def load_decoder_config(run: RunFolder) -> models.DecoderConfig:
    """The shape of a run's models.

    Raises:
      CheckpointError: the file that holds it is damaged.

    """
    path = run.path / MODEL_FILE
    try:
        config = models.DecoderConfig.from_dict(read_json(path, dict[str, Any]))
    except (TypeError, ValueError, ConfigError) as error:
        raise CheckpointError(f"{path} is damaged, it holds no shape of a model: {error}") from None
    # The kernel of attention is a choice of the machine that the run was made on.
    return dataclasses.replace(config, attention="auto")


def load_adapters(run: RunFolder, stage: str, model: Any, lora: models.Lora, *, mesh: Mesh) -> Any:
    """The low-rank adapters that a stage was made with.

    Raises:
      CheckpointError: the stage has none, or they are damaged.

    """
    folder = run.checkpoints / f"{stage}{ADAPTERS}"
    if not folder.is_dir():
        raise CheckpointError(
            f"the stage '{stage}' of {run.path} was not made with adapters: leave out --adapter."
        )
    targets = place(lora.shapes(model), lora.shardings(model, mesh))
    with Checkpoints(folder) as checkpoints:
        trees, _ = checkpoints.restore({"params": targets})
    return trees["params"]


def load_tokenizer_of(run: RunFolder) -> Tokenizer:
    """The tokenizer stored in a run."""
    return tokenizer_of(run.tokenizer)
