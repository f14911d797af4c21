# SPDX-License-Identifier: Apache-2.0
"""Arrays that are made piece by piece: written to .npy files as they come, and mapped from there.

The host then holds a piece, not the whole, and reads of the files what a batch asks for.
"""

import hashlib
import io
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

PIECE = 64 * 2**20
"""Bytes of an array that are in memory before they are written."""

Arrays = dict[str, np.ndarray]


class Collected(NamedTuple):
    """Arrays, and what is to be known of their files."""

    arrays: Arrays
    entries: dict[str, dict[str, Any]]
    """Name -> shape, dtype and checksum of NAME.npy; of all arrays, or none."""
    problem: OSError | None
    """Why they are not in files, where they were to be."""


def collect(pieces: Iterable[Mapping[str, np.ndarray]], rows: int, room: Path | None) -> Collected:
    """Puts arrays together from pieces of their first axis.

    Args:
      pieces: name -> next rows, the same names each time.
      rows: of every array, in all.
      room: folder for their files; None keeps them in memory. So does a disk that takes no more:
        nothing is lost then, what was written is read back.

    Returns:
      The arrays. Those in files can be read as long as they are referred to, even if the files are
      deleted or the folder gets another name.

    """
    growing: dict[str, _Growing] = {}
    for piece in pieces:
        for name, part in piece.items():
            if name not in growing:
                path = None if room is None else room / f"{name}.npy"
                growing[name] = _Growing(path, (rows, *part.shape[1:]), part.dtype)
            growing[name].add(part)
    arrays = {name: one.finish() for name, one in growing.items()}
    problem = next((one.problem for one in growing.values() if one.problem), None)
    whole = room is not None and problem is None
    return Collected(arrays, {n: o.entry() for n, o in growing.items()} if whole else {}, problem)


def map_array(path: Path, entry: Mapping[str, Any], *, check: bool) -> np.ndarray:
    """One of the arrays, mapped from its file.

    Args:
      path: the file.
      entry: what `Collected` knows of it.
      check: whether to read all of it and compare the checksum.

    Raises:
      ValueError: it is not the file that was written.
      OSError: it cannot be read.

    """
    if check:
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != entry["sha256"]:
                raise ValueError("its checksum is another one")
    array = np.load(path, mmap_mode="r").view(jnp.dtype(entry["dtype"]))
    if array.shape != tuple(entry["shape"]):
        raise ValueError(f"its shape is {array.shape}")
    return array


class _Growing:
    """One array of a known shape, the first axis of which fills up."""

    def __init__(self, path: Path | None, shape: tuple[int, ...], dtype: np.dtype):
        self.problem: OSError | None = None
        self._path, self._shape, self._dtype = path, shape, dtype
        # NumPy's format has no name for bfloat16: it is stored as integers of its size.
        self._stored = dtype if dtype.isbuiltin == 1 else np.dtype(f"u{dtype.itemsize}")
        self._sha256 = hashlib.sha256()
        self._held: list[np.ndarray] = []
        self._written = 0
        self._memory = np.empty(shape, dtype) if path is None else None
        self._filled = 0

    def add(self, part: np.ndarray) -> None:
        """The next rows."""
        start, self._filled = self._filled, self._filled + len(part)
        if self._memory is not None:
            self._memory[start : self._filled] = part
            return
        self._held.append(part)
        if sum(each.nbytes for each in self._held) >= PIECE:
            self._spill()

    def finish(self) -> np.ndarray:
        """The array."""
        assert self._filled == self._shape[0], f"{self._filled} rows came of {self._shape[0]}"
        if self._memory is None and self._held:
            self._spill()
        if self._memory is None:
            try:
                assert self._path is not None
                return map_array(self._path, self.entry(), check=False)
            except OSError as error:  # a file system without memory maps
                self._take_back(error)
        assert self._memory is not None
        return self._memory

    def entry(self) -> dict[str, Any]:
        """What has to be known to read the file."""
        return {
            "shape": list(self._shape),
            "dtype": self._dtype.name,
            "sha256": self._sha256.hexdigest(),
        }

    def _spill(self) -> None:
        # Not through a writable map: where the disk is full, that ends the process with a signal.
        data = [np.ascontiguousarray(part).view(self._stored).tobytes() for part in self._held]
        if not self._written:
            data.insert(0, self._header())
        try:
            assert self._path is not None
            with self._path.open("ab") as file:
                for block in data:
                    file.write(block)
                file.flush()
                # Some file systems say only now that there is no room.
                os.fsync(file.fileno())
        except OSError as error:
            self._take_back(error)
            return
        for block in data:
            self._sha256.update(block)
        self._written, self._held = self._filled, []

    def _take_back(self, problem: OSError) -> None:
        """Goes on in memory, with what is in the file already."""
        self.problem = problem
        self._memory = np.empty(self._shape, self._dtype)
        if self._written:
            assert self._path is not None
            count = self._written * int(np.prod(self._shape[1:]))
            known = np.fromfile(self._path, self._stored, count, offset=len(self._header()))
            self._memory[: self._written] = known.view(self._dtype).reshape(-1, *self._shape[1:])
        if self._held:
            self._memory[self._written : self._filled] = np.concatenate(self._held)
            self._held = []
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink()

    def _header(self) -> bytes:
        head = io.BytesIO()
        described = np.lib.format.dtype_to_descr(self._stored)
        facts = {"descr": described, "fortran_order": False, "shape": self._shape}
        np.lib.format.write_array_header_1_0(head, facts)
        return head.getvalue()
