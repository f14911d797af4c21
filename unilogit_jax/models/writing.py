# SPDX-License-Identifier: Apache-2.0
"""Models to Hugging Face folders: streamed layer by layer, complete or not there at all."""

import json
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unilogit_jax.errors import ConfigError, StorageError, WeightsError
from unilogit_jax.models.blocks import WORKERS
from unilogit_jax.models.build import Params
from unilogit_jax.models.checks import check_name
from unilogit_jax.models.config import DTYPES, DecoderConfig
from unilogit_jax.models.decoder import Decoder
from unilogit_jax.models.families import find_family
from unilogit_jax.models.header import make_header
from unilogit_jax.models.hf_io import INDEX, SINGLE
from unilogit_jax.models.new_folder import check_empty, complete_folder
from unilogit_jax.models.stored import Gathered, Slot, Step, divide, slots_of, steps_of, stored
from unilogit_jax.paths import AnyPath, Remote, to_path

FILE_BYTES = 5 * 10**9
"""Size that one file of several grows to; transformers 4.x takes the same."""

IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
KINDS = {"float32": "F32", "bfloat16": "BF16"}


def save(
    folder: str | AnyPath,
    model: Decoder,
    params: Params,
    *,
    dtype: str | None = None,
    extra_config: Mapping[str, Any] | None = None,
    extra_files: Mapping[str, str] | None = None,
    file_bytes: int = FILE_BYTES,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes a folder that transformers and other readers of safetensors load.

    The folder appears only when it is complete and on the disk; behind gs:// its config.json does,
    and until then the files lie in a temporary folder of this machine (TMPDIR). The host holds some
    layers of one parameter at a time. With several processes all must call this; the first one
    writes.

    Args:
      folder: on a disk, or gs://bucket/name; must not exist, or be empty.
      model: the decoder.
      params: its parameters; sharded ones are gathered one by one.
      dtype: type of the stored tensors; None: that of the folder the model was read from, float32
        for a model made here.
      extra_config: further keys of config.json, such as bos_token_id; they win over ours.
      extra_files: further files of the folder, name -> text.
      file_bytes: tensors are divided into files of about this size.
      progress: called with the bytes of tensors written so far, and of all.

    Raises:
      WeightsError: the folder is not empty, or cannot be written.
      ConfigError: an unknown dtype, or a family whose config.json cannot be made here.

    """
    folder = to_path(folder)
    if isinstance(folder, Path):
        folder = folder.expanduser()
    config = config_json(model.config)
    if dtype is None:
        dtype = config.get("dtype", config.get("torch_dtype"))
        dtype = dtype if dtype in DTYPES else "float32"
    check_name("dtype", dtype, DTYPES)
    config.pop("torch_dtype", None)
    config |= {"dtype": dtype, **(extra_config or {})}
    ids = {key: config[key] for key in IDS if config.get(key) is not None}
    texts = {
        "config.json": _json(config),
        "generation_config.json": _json({"_from_model_config": True, **ids}),
        **(extra_files or {}),
    }
    slots, itemsize = slots_of(model.config), jnp.dtype(dtype).itemsize
    files, steps = divide(slots, itemsize, file_bytes), steps_of(slots, params)
    first = jax.process_index() == 0
    size = sum(slot.size for slot in slots) * itemsize
    _follow_first(_why_not(folder, size) if first else "")
    problem = _write(folder, texts, files, steps, dtype, progress) if first else ""
    if jax.process_count() > 1:
        # Gathering needs every process, also after the first one could not write.
        deque(steps, maxlen=0)
    _follow_first(problem)


def config_json(config: DecoderConfig) -> dict[str, Any]:
    """The config.json of a decoder: the one it was read from, or its family's.

    Raises:
      ConfigError: it was made here, in a family that only reads.

    """
    if config.hf_config is not None:
        return json.loads(config.hf_config)
    family = find_family(config.family)
    if family.write_config is None:
        raise ConfigError(
            f"a model of the family '{config.family}' can be written only if it was read from a "
            "folder, whose config.json is passed on."
        )
    return family.write_config(config)


def hf_tensors(
    model: Decoder, params: Params, *, dtype: str = "float32"
) -> Iterator[tuple[str, np.ndarray]]:
    """The parameters (or any tree like them, gradients say) under their Hugging Face names."""
    gathered = Gathered(params)
    for slot in slots_of(model.config):
        yield slot.name, stored(slot, gathered.rows(slot, *slot.range), jnp.dtype(dtype))


def _why_not(folder: AnyPath, count: int) -> str:
    """What speaks against writing so many bytes there, or the empty string."""
    try:
        check_empty(folder)
        if isinstance(folder, Remote):
            there = Path(tempfile.gettempdir())
            with folder.marked():
                pass  # what cannot be uploaded need not be converted
        elif os.path.ismount(folder):
            return f"{folder} is a mount point and cannot be made at once: choose a folder in it."
        else:
            there = next(parent for parent in folder.absolute().parents if parent.exists())
        free = shutil.disk_usage(there).free
    except (WeightsError, StorageError) as error:
        return str(error)
    except OSError as error:
        return f"{folder} cannot be written: {error}."
    if free < count:
        return (
            f"{folder} needs {count / 1e9:.1f} GB, {there} has {free / 1e9:.1f} GB left: free some "
            f"or {'set TMPDIR' if isinstance(folder, Remote) else 'choose another folder'}."
        )
    return ""


def _follow_first(problem: str) -> None:
    """Every process fails where the first one does; none waits for it in vain."""
    if jax.process_count() > 1:
        from jax.experimental.multihost_utils import broadcast_one_to_all

        failed = bool(broadcast_one_to_all(np.int32(bool(problem))))
        problem = problem or ("The first process could not write the model." if failed else "")
    if problem:
        raise WeightsError(problem)


def _write(
    folder: AnyPath,
    texts: Mapping[str, str],
    files: list[list[Slot]],
    steps: Iterator[Step],
    dtype: str,
    progress: Callable[[int, int], None] | None,
) -> str:
    """Writes the folder; returns what went wrong, which the other processes must hear of."""
    try:
        with complete_folder(folder) as part:
            for name, text in texts.items():
                (part / name).write_text(text, encoding="utf-8")
            _write_tensors(part, files, steps, dtype, progress)
    except WeightsError as error:
        return str(error)
    return ""


def _write_tensors(
    folder: Path,
    files: list[list[Slot]],
    steps: Iterator[Step],
    dtype: str,
    progress: Callable[[int, int], None] | None,
) -> None:
    """All tensors, each piece put at its place in its file by the thread that converts it."""
    number, kind = jnp.dtype(dtype), KINDS[dtype]
    where: dict[str, tuple[int, int]] = {}
    with ExitStack() as stack, ThreadPoolExecutor(WORKERS) as pool:
        for name, slots in zip(_names(len(files)), files, strict=True):
            file = stack.enter_context(open(folder / name, "wb"))
            header, starts = make_header({slot.name: (kind, slot.shape) for slot in slots})
            file.write(header)
            file.flush()
            where |= {slot: (file.fileno(), start) for slot, start in starts.items()}

        def put(step: Step) -> int:
            slot, row, arrays = step
            data = stored(slot, arrays, number)
            file, start = where[slot.name]
            start += row * data.nbytes // max(1, len(data))
            view = data.reshape(-1).view(np.uint8).data
            while view:
                count = os.pwrite(file, view, start)
                view, start = view[count:], start + count
            return data.nbytes

        done, total = 0, sum(slot.size for slots in files for slot in slots) * number.itemsize
        for count in _few(pool, put, steps):
            done += count
            if progress is not None:
                progress(done, total)
    if len(files) > 1:
        names = zip(_names(len(files)), files, strict=True)
        places = {slot.name: name for name, slots in names for slot in slots}
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
        (folder / INDEX).write_text(_json(index), encoding="utf-8")


def _few(pool: ThreadPoolExecutor, work: Callable[[Step], int], steps: Iterator[Step]) -> Any:
    """Results in order, with no more steps in memory than there are threads to do them."""
    waiting: deque[Future[int]] = deque()
    for step in steps:
        waiting.append(pool.submit(work, step))
        if len(waiting) > WORKERS:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _names(count: int) -> list[str]:
    if count == 1:
        return [SINGLE]
    return [f"model-{i:05d}-of-{count:05d}.safetensors" for i in range(1, count + 1)]


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2) + "\n"
