# SPDX-License-Identifier: Apache-2.0
"""What the JSON files of a run hold, as far as they are read back: checked when they are.

`run` imports this inside its functions: help texts need no pydantic.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from annotated_types import Len
from pydantic import AfterValidator, FiniteFloat

# Python's own do not keep what pydantic needs before 3.12.
from typing_extensions import TypedDict

Moment = Annotated[str, AfterValidator(datetime.fromisoformat)]
Number = FiniteFloat | None
"""JSON has no NaN: it is null."""


class Git(TypedDict):
    """The state of the working directory."""

    commit: str
    dirty: bool | None


class Env(TypedDict, total=False):
    """env.json."""

    verb: str
    started: Moment | None
    resumed: list[str]
    command_line: list[str]
    versions: dict[str, str | None]
    platform: str
    git: Git | None


class Digest(TypedDict):
    """Rows as their number and a hash."""

    rows: int
    sha256: str


class Data(TypedDict, total=False):
    """The rows of a run."""

    name: str
    forget: Digest
    retain: Digest


class Model(TypedDict, total=False):
    """The model of a run."""

    parameters: int


class Devices(TypedDict):
    """What a run was computed on."""

    kind: str
    count: int
    processes: int
    mesh: dict[str, int]


class Work(TypedDict):
    """The arithmetic of an update of a stage."""

    updates: int
    tokens: FiniteFloat
    flops: FiniteFloat


class Origin(TypedDict):
    """The run whose models another one began with."""

    folder: str


class End(TypedDict, total=False):
    """What is known at the end."""

    warnings: list[str]


class Record(TypedDict, total=False):
    """record.json."""

    data: Data
    model: Model
    devices: Devices
    start: Origin
    stages: dict[str, Work]
    weights: dict[str, str]
    memory: dict[Literal["host", "device"], FiniteFloat]
    end: End


class Served(Digest):
    """An entry of ledger.json."""

    request: int
    served: str
    forget: str
    method: str


class Identity(TypedDict):
    """trackers.json."""

    id: str


class Page(TypedDict):
    """attack.json."""

    rows: list["Found"]
    curves: list["Curve"]
    settings: dict[str, dict[str, Any]]


class Found(TypedDict):
    """A number of an attack."""

    attack: str
    setting: str
    title: str
    wanted: str
    values: dict[str, Number]


class Curve(TypedDict):
    """A curve of an attack."""

    attack: str
    title: str
    x: str
    y: str
    lines: dict[str, list[Annotated[list[Number], Len(2, 2)]]]


class Requests(TypedDict):
    """requests.json of requests served in turn."""

    requests: list[str]
    probability: list[list[Number]]


class Sweep(TypedDict):
    """sweep.json."""

    runs: list[list[str]]
    rule: dict[str, Any]
