# SPDX-License-Identifier: Apache-2.0
"""Where a model is: in a folder, behind a URL, or on the Hub, which it is then fetched from."""

import os
import re
from pathlib import Path

from unilogit_jax.errors import WeightsError
from unilogit_jax.models.folders import LocalFolder
from unilogit_jax.models.hf_io import INDEX, SINGLE, read_index
from unilogit_jax.urls import one_line, scheme_of

HUB_ID = r"[A-Za-z0-9][\w.-]*/[\w.-]+"
SMALL_FILES = ("*.json", "*.model", "*.jinja", "*.tiktoken", "merges.txt", "vocab.txt")
"""Configuration and tokenizer, as the Hub's patterns."""


def resolve(source: str | Path, revision: str | None = None, *, weights: bool = True) -> Path | str:
    """The folder or URL that a model is read from; a model of the Hub is fetched into its cache.

    Args:
      source: a folder, a URL of any fsspec file system ("gs://...", "s3://..."), or a Hub id
        "org/name". A Path is always a folder.
      revision: branch, tag or commit of a Hub id; None: its main branch.
      weights: whether a Hub model's weights are fetched too, or its small files only:
        configuration and tokenizer. Pickles never are.

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
            return _fetch(source, revision, weights)
        if not found.is_dir():
            raise WeightsError(f"{found} is no folder: give the folder that holds config.json.")
    if revision is not None:
        raise WeightsError(
            f"{found} has no revisions, a model of the Hub has: leave out revision={revision!r}."
        )
    return found


def _fetch(name: str, revision: str | None, weights: bool) -> Path:
    """The local snapshot of a model of the Hub."""
    try:
        import huggingface_hub as hub
        from huggingface_hub import errors
    except ImportError:
        raise WeightsError(
            f"{name} is no folder here, and a model of the Hub needs huggingface_hub: pip install "
            "huggingface_hub."
        ) from None

    def fetch(*patterns: str) -> Path:
        # Other folders of a repository hold the same weights once more, for other programs.
        folder = hub.snapshot_download(
            name, revision=revision, allow_patterns=list(patterns), ignore_patterns=["*/*"]
        )
        return Path(folder)

    page = f"https://huggingface.co/{name}"
    refused = f"is gated: set HF_TOKEN or run hf auth login, after accepting the licence at {page}"
    try:
        folder = fetch(*SMALL_FILES)
        return fetch(*SMALL_FILES, *_weight_files(folder)) if weights else folder
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


def _weight_files(folder: Path) -> list[str]:
    """The files that the index names, or the single one."""
    with LocalFolder(folder) as files:
        return sorted(set(read_index(files).values())) if files.has(INDEX) else [SINGLE]
