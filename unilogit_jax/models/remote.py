# SPDX-License-Identifier: Apache-2.0
"""Where a model is: in a folder, behind a URL, or on the Hub, which it is then fetched from."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unilogit_jax.errors import WeightsError
from unilogit_jax.models.folders import LocalFolder
from unilogit_jax.models.hf_io import INDEX, SINGLE, read_index
from unilogit_jax.urls import one_line, scheme_of

HUB_ID = r"[A-Za-z0-9][\w.-]*/[\w.-]+"
SMALL_FILES = ("*.json", "*.model", "*.jinja", "*.tiktoken", "merges.txt", "vocab.txt")
"""Configuration and tokenizer, as the Hub's patterns."""


Progress = Callable[[int, int], None]


def resolve(
    source: str | Path,
    revision: str | None = None,
    *,
    weights: bool = True,
    progress: Progress | None = None,
) -> Path | str:
    """The folder or URL that a model is read from; a model of the Hub is fetched into its cache.

    Args:
      source: a folder, a URL of any fsspec file system ("gs://...", "s3://..."), or a Hub id
        "org/name". A Path is always a folder.
      revision: branch, tag or commit of a Hub id; None: its main branch.
      weights: whether a Hub model's weights are fetched too, or its small files only:
        configuration and tokenizer. Pickles never are.
      progress: called with the bytes fetched so far, and of all that are to be fetched; None: the
        Hub's own bars.

    Returns:
      A Path, or the URL as a string.

    Raises:
      WeightsError: nothing is there, or it cannot be reached.

    Example:
      >>> resolve("gs://bucket/model/")
      'gs://bucket/model'

    """
    url = isinstance(source, str) and scheme_of(source)
    if url and url != "file":
        found = str(source).rstrip("/")
    else:
        found = Path(os.path.expanduser(str(source).removeprefix("file://") if url else source))
        if not os.path.exists(found):
            if not isinstance(source, str) or not re.fullmatch(HUB_ID, source):
                raise WeightsError(
                    f"{found} is no folder: give the folder that holds config.json, a URL such as "
                    "gs://bucket/model, or a Hub id such as org/name."
                )
            return _fetch(source, revision, weights, progress)
        if not found.is_dir():
            raise WeightsError(f"{found} is no folder: give the folder that holds config.json.")
    if revision is not None:
        raise WeightsError(
            f"{found} has no revisions, a model of the Hub has: leave out revision={revision!r}."
        )
    return found


def _fetch(name: str, revision: str | None, weights: bool, progress: Progress | None) -> Path:
    """The local snapshot of a model of the Hub."""
    try:
        import huggingface_hub as hub
        from huggingface_hub import errors
    except ImportError:
        raise WeightsError(
            f"{name} is no folder here, and a model of the Hub needs huggingface_hub: pip install "
            "huggingface_hub."
        ) from None

    def fetch(*patterns: str, bars: type[Any] | None) -> Path:
        folder = hub.snapshot_download(
            name,
            revision=revision,
            allow_patterns=list(patterns),
            # Other folders of a repository hold the same weights once more, for other programs.
            ignore_patterns=["*/*"],
            tqdm_class=bars,
        )
        return Path(folder)

    page = f"https://huggingface.co/{name}"
    refused = f"is gated: set HF_TOKEN or run hf auth login, after accepting the licence at {page}"
    try:
        folder = fetch(*SMALL_FILES, bars=_counter(lambda *_: None))
        if not weights:
            return folder
        bars = None if progress is None else _counter(progress)
        return fetch(*SMALL_FILES, *_weight_files(folder), bars=bars)
    except WeightsError:
        raise
    except errors.GatedRepoError:
        reason = refused
    except errors.RevisionNotFoundError:
        reason = f"has no revision {revision!r}: see {page}/commits"
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        reason = (
            "is neither a folder here nor a model of the Hub: check the spelling; for a private "
            "model set HF_TOKEN or run hf auth login"
        )
    except errors.LocalEntryNotFoundError:
        reason = (
            "is no folder here, and as a model of the Hub it is not in the cache, while the Hub is "
            "out of reach (no connection, or HF_HUB_OFFLINE is set)"
        )
    except Exception as error:  # of the connection, the server or the disk
        status = getattr(getattr(error, "response", None), "status_code", None)
        failed = f"cannot be fetched from the Hub ({type(error).__name__}: {one_line(error)})"
        reason = refused if status in (401, 403) else failed
    raise WeightsError(f"{name} {reason}.")


def _counter(progress: Progress) -> type[Any]:
    """What the Hub's client takes for its bars: shows nothing, tells how many bytes are there."""
    from tqdm import tqdm

    most = 0

    class Counter(tqdm):
        monitor_interval = 0  # no thread that watches over bars

        def display(self, *_: Any, **__: Any) -> None:
            """Nothing is drawn."""

        def update(self, n: int | float | None = 1) -> bool | None:
            nonlocal most
            with self.get_lock():  # files are fetched by several threads
                shown = super().update(n)
                # Bytes that arrive and bytes that are written have a bar each; files have one too.
                if self.unit == "B" and self.total and self.n > most:
                    most = int(self.n)
                    progress(most, int(self.total))
            return shown

    return Counter


def _weight_files(folder: Path) -> list[str]:
    """The files that the index names, or the single one."""
    with LocalFolder(folder) as files:
        return sorted(set(read_index(files).values())) if files.has(INDEX) else [SINGLE]
