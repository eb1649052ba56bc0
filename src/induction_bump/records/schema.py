"""The tables and `run.json`: what every writer must produce and every reader may rely on."""

from collections.abc import Mapping
from typing import Any, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

VERSION = 1
"""Version of this layout, in every file's metadata."""

_KEY = [
    pa.field("run_id", pa.string(), False),
    pa.field("step", pa.int64(), False),
    pa.field("tokens", pa.int64(), False),
]


def _table(*columns: tuple[str, pa.DataType] | tuple[str, pa.DataType, bool]) -> pa.Schema:
    """Schema of a tidy table; a column's third entry says that it may be null."""
    return pa.schema([*_KEY, *(pa.field(c[0], c[1], len(c) == 3 and c[2]) for c in columns)])


_head = [("layer", pa.int16()), ("head", pa.int16())]
_value = [("value", pa.float64()), ("stderr", pa.float64(), True)]

TABLES: Mapping[str, pa.Schema] = {
    "scalars": _table(("name", pa.string()), *_value),
    "positions": _table(("position", pa.int32()), ("loss", pa.float64()), ("stderr", pa.float64())),
    "tokens": _table(("example", pa.int32()), ("loss", pa.float32())),
    "examples": _table(("name", pa.string()), ("example", pa.int32()), ("value", pa.float32())),
    "heads": _table(*_head, ("measure", pa.string()), *_value),
    "head_pairs": _table(
        ("layer_in", pa.int16()),
        ("head_in", pa.int16()),
        ("layer_out", pa.int16()),
        ("head_out", pa.int16()),
        ("kind", pa.string()),
        ("value", pa.float64()),
        ("baseline", pa.float64()),
    ),
    "ablations": _table(
        ("layer", pa.int16(), True),
        ("head", pa.int16(), True),
        ("group", pa.string(), True),
        ("draw", pa.int32(), True),
        ("kind", pa.string()),
        ("quantity", pa.string()),
        *_value,
    ),
    "ablated_tokens": _table(*_head, ("kind", pa.string()), ("example", pa.int32()), ("loss", pa.float32())),
    "paths": _table(("path", pa.string()), ("order", pa.int32()), ("how", pa.string()), *_value),
    "training": _table(
        ("loss", pa.float64()),
        ("learning_rate", pa.float64()),
        ("grad_norm", pa.float64()),
        ("tokens_per_second", pa.float64()),
    ),
}
"""Tables that snapshots and training write, by name."""

PHASE_CHANGES = pa.schema(
    [
        ("run_id", pa.string()),
        ("run", pa.string()),
        ("event", pa.string()),
        ("found", pa.bool_()),
        ("step_low", pa.int64()),
        ("step_high", pa.int64()),
        ("tokens_low", pa.int64()),
        ("tokens_high", pa.int64()),
        ("tokens_estimate", pa.float64()),
        ("ci_low", pa.float64()),
        ("ci_high", pa.float64()),
        ("value_before", pa.float64()),
        ("value_after", pa.float64()),
        ("verdict", pa.string()),
        ("rule", pa.string()),
    ]
)
"""What `bump locate` writes: one row an event; nulls where an event was not found."""

_RANGES = ("onset", "midpoint", "end", "width", "drop", "share")

CHANGES = pa.schema(
    [
        ("run_id", pa.string()),
        ("run", pa.string()),
        ("event", pa.string()),
        ("quantity", pa.string()),
        ("verdict", pa.string()),
        *((f"{name}{end}", pa.float64()) for name in _RANGES for end in ("", "_low", "_high")),
        ("value_before", pa.float64()),
        ("value_after", pa.float64()),
        ("p", pa.float64()),
        ("model", pa.string()),
        ("most_drop", pa.float64()),
        ("phi", pa.float64()),
        ("jitter", pa.float64()),
        ("wandering", pa.float64()),
        ("snapshots", pa.int32()),
        ("rule", pa.string()),
    ]
)
"""What `bump locate` writes of each quantity that may have a phase change: estimates with their 90 % intervals, onset,
midpoint and end in tokens, width as ln(end/onset); nulls where no change was found to be placed."""

CELLS = pa.schema(
    [
        ("cell", pa.string()),
        ("event", pa.string()),
        ("runs", pa.int32()),
        ("found", pa.int32()),
        ("undetermined", pa.int32()),
        ("median", pa.float64()),
        ("median_low", pa.float64()),
        ("median_high", pa.float64()),
        ("cv", pa.float64()),
        ("cv_low", pa.float64()),
        ("cv_high", pa.float64()),
        ("rule", pa.string()),
    ]
)
"""What `bump locate` writes of a study: the time of each event over the seeds of each cell, in tokens. Of its `runs`,
`found` have it, `undetermined` leave that open, the others ended without it. A median that is open on a side is null,
with `median_low` 0 or `median_high` infinite; `cv` is null where only `cv_high` is known."""

PROBES = pa.schema(
    [
        pa.field("example", pa.int32(), False),
        pa.field("position", pa.int32(), False),
        pa.field("document", pa.int32(), False),
        pa.field("token", pa.int32(), False),
    ]
)
"""What the examples of the held-out probe are: which document each is of, and the position and token that the table
`tokens` holds the loss of."""

Status = Literal["running", "finished", "preempted", "failed"]


class RecordsError(RuntimeError):
    """Records on disk, or about to be written, do not have the layout they should have."""


class Resumed(BaseModel):
    """A time at which an interrupted training was taken up again."""

    model_config = ConfigDict(extra="forbid")

    step: int
    """The last step of the checkpoint that it went on from."""
    at: str
    """UTC, ISO 8601."""
    host: str
    world_size: int
    threads: int
    differs: list[str] = []
    """What was other than at the first start, so that the outcome is not exactly that of an uninterrupted run."""


class RunInfo(BaseModel):
    """Contents of `run.json`."""

    model_config = ConfigDict(extra="forbid")

    run_id: str
    study: str
    name: str
    status: Status
    generation: int = 1
    """Counts the starts from step 0 that left records; a W&B run belongs to one of them."""
    schema_version: int = VERSION
    message: str | None = None
    """Why a run failed."""
    host: str
    pid: int
    created_at: str
    """UTC, ISO 8601."""
    started_at: str
    finished_at: str | None = None
    git_revision: str | None = None
    versions: dict[str, str]
    """These, and all until `accumulation`, are of the first start; `resumes` says where a later one differs."""
    hardware: dict[str, str | int]
    threads: int
    """CPU threads of each process."""
    world_size: int
    accumulation: int = 1
    """Passes that gradients are accumulated over in each process."""
    parameters: int
    vocab_size: int
    tokens_per_step: int
    total_steps: int
    total_tokens: int
    hashes: dict[str, str]
    """sha256 of corpus, tokenizer and probes."""
    probes: dict[str, dict[str, int | float | str]]
    """What is needed to read scores: sizes of the probes, and the positions of the ICL scores."""
    measure_versions: dict[str, int]
    not_applicable: dict[str, str] = {}
    """Measures that this model cannot have, or that some of its heads leave undefined, each with the reason."""
    without_rows: dict[str, list[int]] = {}
    """Measures that were taken afterwards and are undefined, with the steps at which they are: there they have no rows.
    """
    weights: dict[int, str] = {}
    """Step → sha256 of the weights that were saved with its snapshot."""
    groups: dict[str, Any] = {}
    """Groups of heads that were ablated together: which heads, and when and how they were chosen."""
    seconds: dict[str, float] = {}
    """Wall time of the steps that count: `training`, `snapshots`, `writing`."""
    resumes: list[Resumed] = []
    """Times at which training went on from a checkpoint."""

    def up_to(self, step: int) -> dict[str, Any]:
        """Of the fields that grow with snapshots, what a run that is taken back to `step` keeps."""
        return {
            "weights": {at: digest for at, digest in self.weights.items() if at <= step},
            "without_rows": {name: [at for at in steps if at <= step] for name, steps in self.without_rows.items()},
        }


def validate_info(values: Mapping[str, Any], where: str) -> RunInfo:
    """Check the contents of `run.json`. Raises RecordsError naming `where` and the first field that is wrong."""
    try:
        info = RunInfo.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise RecordsError(f"{where}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if info.schema_version > VERSION:
        raise RecordsError(
            f"{where}: written by a newer version (layout {info.schema_version}, this one reads up to {VERSION})"
        )
    return info


def validate_table(name: str, table: pa.Table, where: str) -> pa.Table:
    """Check columns, types and nulls of a table. Raises RecordsError naming `where` and the column that is wrong."""
    schema = TABLES.get(name)
    if schema is None:
        raise RecordsError(f"{where}: no table is called '{name}'; known: {', '.join(TABLES)}")
    return validate_columns(schema, table, where)


def validate_columns(schema: pa.Schema, table: pa.Table, where: str) -> pa.Table:
    """The same for a table of any schema."""
    if table.schema.names != schema.names:
        raise RecordsError(f"{where}: columns {table.schema.names} instead of {schema.names}")
    for field in schema:
        column = table.column(field.name)
        if column.type != field.type:
            raise RecordsError(f"{where}: column {field.name} is {column.type}, not {field.type}")
        if column.null_count and not field.nullable:
            raise RecordsError(f"{where}: column {field.name} holds {column.null_count} nulls")
    return table
