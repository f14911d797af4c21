# SPDX-License-Identifier: Apache-2.0
"""Weights in and out: Hugging Face folders that transformers loads, and run folders."""

from pathlib import Path
from typing import Any, Literal

from unilogit_jax import models
from unilogit_jax.config import load_config
from unilogit_jax.data import Tokenizer, copy_tokenizer, load_tokenizer
from unilogit_jax.errors import WeightsError
from unilogit_jax.run import Console, RunFolder
from unilogit_jax.sharding import make_mesh
from unilogit_jax.workflows._runs import is_run, last_stage, load_stage, load_tokenizer_of


def load_pretrained(path: Path | str, *, dtype: str = "float32") -> tuple[Any, Any, Tokenizer]:
    """Model, float32 weights and tokenizer of a local Hugging Face folder or of a run folder.

    Args:
      path: the folder.
      dtype: precision of the forward pass.

    Raises:
      WeightsError: the folder is missing, or holds nothing that can be loaded.

    """
    path = Path(path)
    mesh = make_mesh()
    if is_run(path):
        run = RunFolder.open(path)
        model, params = load_stage(run, dtype=dtype, mesh=mesh)
        return model, params, load_tokenizer_of(run)
    model, params = models.load(path, dtype=dtype, mesh=mesh)
    return model, params, load_tokenizer(path)


def export(
    run: Path | str,
    out: Path | str,
    *,
    stage: str | None = None,
    dtype: Literal["float32", "bfloat16"] = "float32",
    console: Console | None = None,
) -> Path:
    """Writes a run's model as a Hugging Face folder: config, tokenizer, safetensors.

    Args:
      run: the run folder.
      out: the folder to make; one that holds anything already is refused.
      stage: which model; None means the unlearned one, or the target of a finetuning run.
      dtype: of the stored weights.
      console: where to print; None prints to standard output.

    Returns:
      The folder.

    """
    console = Console() if console is None else console
    folder, out = RunFolder.open(run), Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise WeightsError(f"{out} exists already and is not empty: choose another folder.")
    stage = last_stage(folder) if stage is None else stage
    mesh = make_mesh(**load_config(folder.config).mesh.model_dump())
    with console.stage(f"exporting {stage}"):
        model, params = load_stage(folder, stage, mesh=mesh)
        tokenizer = load_tokenizer_of(folder)
        ids = {
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        }
        models.save(out, model, params, dtype=dtype, extra_config=ids)
        copy_tokenizer(folder.tokenizer, out)
    console.line(f"{out}: load it with transformers.AutoModelForCausalLM.from_pretrained")
    return out
