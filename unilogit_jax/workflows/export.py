# SPDX-License-Identifier: Apache-2.0
"""Weights in and out: Hugging Face folders that transformers loads, and run folders."""

from typing import Any, Literal

from jax.sharding import Mesh

from unilogit_jax import models
from unilogit_jax.config import Experiment, load_config, method_label
from unilogit_jax.data import Tokenizer, check_vocabulary
from unilogit_jax.errors import WeightsError
from unilogit_jax.methods import Finishing
from unilogit_jax.paths import AnyPath, Remote, to_path
from unilogit_jax.run import Console, RunFolder
from unilogit_jax.sharding import make_mesh
from unilogit_jax.workflows._card import model_card
from unilogit_jax.workflows._runs import (
    ADAPTERS,
    UNLEARN,
    is_run,
    last_stage,
    load_adapters,
    load_decoder_config,
    load_stage,
    load_tokenizer_of,
)
from unilogit_jax.workflows._sources import fetch_tokenizer, tokenizer_of


def load_pretrained(
    source: AnyPath | str,
    *,
    dtype: str = "float32",
    param_dtype: str = "float32",
    mesh: Mesh | None = None,
    revision: str | None = None,
) -> tuple[Any, Any, Tokenizer]:
    """Model, weights and tokenizer of a Hugging Face folder, a Hub id or a run folder.

    Args:
      source: a folder, an id such as "meta-llama/Llama-3.2-1B", or a run.
      dtype: precision of the forward pass.
      param_dtype: of the weights.
      mesh: where the weights live; None: divided over all devices.
      revision: branch, tag or commit of a Hub id.

    Raises:
      WeightsError: it is missing, or holds nothing that can be loaded.

    """
    mesh = make_mesh() if mesh is None else mesh
    if is_run(source):
        run = RunFolder.open(source)
        model, params = load_stage(run, dtype=dtype, param_dtype=param_dtype, mesh=mesh)
        return model, params, load_tokenizer_of(run)
    source = str(source) if isinstance(source, Remote) else source
    folder = models.resolve(source, revision=revision, weights=False)
    tokenizer = tokenizer_of(folder)
    check_vocabulary(tokenizer, models.read_decoder_config(folder).vocab_size, folder)
    model, params = models.load(
        source, revision=revision, dtype=dtype, param_dtype=param_dtype, mesh=mesh
    )
    return model, params, tokenizer


def export(
    source: AnyPath | str,
    out: AnyPath | str,
    *,
    stage: str | None = None,
    dtype: Literal["float32", "bfloat16"] | None = None,
    adapter: bool = False,
    console: Console | None = None,
) -> AnyPath:
    """Writes a model as a Hugging Face folder: config, tokenizer, safetensors, model card.

    Args:
      source: a run, or a Hugging Face folder, which is written anew (in another dtype, say).
      out: the folder to make, on a disk or at gs://; one that holds anything already is refused.
      stage: which model of a run; None means the unlearned one, or the target of a finetuning run.
      dtype: of the stored weights; None: as in the folder that the model came from, float32 for a
        model made from scratch.
      adapter: write only the low-rank adapters of a run that was made with them, for PEFT.
      console: where to print; None prints to standard output.

    Returns:
      The folder.

    Raises:
      WeightsError: the source cannot be read, or the folder not be written.
      CheckpointError: the run has no such stage, or its checkpoint is damaged.

    """
    console = Console() if console is None else console
    out = to_path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise WeightsError(f"{out} exists already and is not empty: choose another folder.")
    if not is_run(source):
        if stage is not None or adapter:
            option = "--stage" if stage is not None else "--adapter"
            raise WeightsError(f"{source} is no run, so {option} means nothing here: leave it out.")
        _export_folder(source, out, dtype, console)
    elif adapter:
        _export_adapter(RunFolder.open(source), out, stage, console)
        console.line(f"{out}: load it with peft.PeftModel.from_pretrained(base, ...)")
        return out
    else:
        _export_run(RunFolder.open(source), out, stage, dtype, console)
    console.line(f"{out}: load it with transformers.AutoModelForCausalLM.from_pretrained")
    return out


def _export_run(
    run: RunFolder, out: AnyPath, stage: str | None, dtype: str | None, console: Console
) -> None:
    stage = last_stage(run) if stage is None else stage
    experiment = load_config(run.config)
    mesh = make_mesh(**experiment.mesh.model_dump())
    with console.stage(f"exporting {stage}") as progress:
        model, params = load_stage(run, stage, mesh=mesh)
        tokenizer = load_tokenizer_of(run)
        ids = {
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        }
        # A chat model may end its answers with several tokens: what its folder says goes first.
        known = models.config_json(model.config)
        models.save(
            out,
            model,
            params,
            dtype=dtype,
            extra_config={key: x for key, x in ids.items() if known.get(key) is None},
            extra_files={"README.md": model_card(run, experiment, stage)},
            progress=progress.amount,
        )
        fetch_tokenizer(run.tokenizer, out)


def _export_adapter(run: RunFolder, out: AnyPath, stage: str | None, console: Console) -> None:
    stage = last_stage(run) if stage is None else stage
    experiment = load_config(run.config)
    if experiment.lora is None:
        raise WeightsError(f"{run.path} was not made with adapters (lora): leave out --adapter.")
    if (run.checkpoints / f"{stage}{ADAPTERS}").is_dir() and _finished(experiment, stage):
        raise WeightsError(
            f"the result of the stage '{stage}' of {run.path} is made of what its adapters add, "
            "and is no adapter itself: leave out --adapter."
        )
    lora = models.Lora(**experiment.lora.model_dump())
    mesh = make_mesh(**experiment.mesh.model_dump())
    with console.stage(f"exporting the adapters of {stage}"):
        model = models.Decoder(load_decoder_config(run), mesh=mesh)
        adapters = load_adapters(run, stage, model, lora, mesh=mesh)
        models.save_adapter(
            out,
            model,
            adapters,
            lora,
            base_name=experiment.model.weights or "the target of the run",
        )


def _finished(experiment: Experiment, stage: str) -> bool:
    """Whether the method of a stage makes its result of the trained weights."""
    named = {f"{UNLEARN}-{method_label(rival)}": rival for rival in experiment.compare}
    return isinstance(named.get(stage, experiment.method), Finishing)


def _export_folder(
    source: AnyPath | str, out: AnyPath, dtype: str | None, console: Console
) -> None:
    source = str(source) if isinstance(source, Remote) else source
    folder = models.resolve(source, weights=False)
    with console.stage("reading weights") as progress:
        # float32 holds every stored value exactly, so writing the stored dtype loses nothing.
        model, params = models.load(source, mesh=make_mesh(), progress=progress.amount)
    with console.stage("writing") as progress:
        models.save(out, model, params, dtype=dtype, progress=progress.amount)
        fetch_tokenizer(folder, out)
