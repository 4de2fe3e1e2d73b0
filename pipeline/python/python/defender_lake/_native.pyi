"""The native half of the package: types and what each call takes, returns and raises."""

from collections.abc import Sequence
from datetime import datetime
from os import PathLike
from typing import Any, Literal, TypedDict, final, type_check_only

__all__: list[str]
__version__: str
"""The version of the package, that of the command line."""

_Path = str | PathLike[str]

class Error(Exception):
    """A call failed. `str(error)` is the line that the command line prints: what failed, where, and what to do about it."""

    exit_code: int
    """The exit code of the command line: 2 usage, 3 not authorised, 4 the source did not deliver a whole snapshot, 5 too many
    rejects, 6 the lake could not be written or is damaged, 7 the rate budget is used up, 1 an internal error."""
    hint: str | None
    """What to do about it."""
    reports: list[dict[str, Any]]
    """Of `ingest`: the reports of all datasets taken, in order; else empty."""

@type_check_only
class Counts(TypedDict):
    """Counts of parts, named as in a manifest's `parts`."""

    bytes: int
    """Size of the parts on disk."""
    json_bytes: int
    """Size of their text."""
    records: int
    """Records read: rows and rejected records."""
    rejected_records: int
    """Records that are no row."""
    field_rejects: int
    """Values that could not become their column's type, and are null."""
    coerced: int
    """Values converted from another JSON type."""
    duplicate_names: int
    """Names given twice in a record."""

@final
class Schema:
    """The columns of record batches. `pyarrow.schema(schema)` and other Arrow libraries take it."""

    @property
    def names(self) -> list[str]:
        """The names of the columns, in order."""
    def __arrow_c_schema__(self) -> Any:
        """An `ArrowSchema` of Arrow's C data interface, in a capsule."""

@final
class Reader:
    """The rows of some parts, as a stream of Arrow's record batches.

    Each use reads the parts from the start, on a thread of its own that starts with the first batch and ends with the stream; it
    is at most two batches ahead, so memory does not grow with the number of parts.
    """

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> Any:
        """An `ArrowArrayStream` of Arrow's C stream interface, in a capsule. `requested_schema` is ignored, as may be."""
    @property
    def schema(self) -> Schema:
        """The columns of the batches."""
    @property
    def generated_time(self) -> str:
        """When the service made the export, RFC 3339."""
    @property
    def counts(self) -> Counts:
        """What the parts held that were read to their end so far, summed; of the use that was begun last."""
    @property
    def parts(self) -> list[dict[str, Any]]:
        """The same of each part, as a manifest's `parts`: also `name` and `proof`."""

def read(
    paths: _Path | Sequence[_Path],
    dataset: str = "software-inventory",
    *,
    generated_time: datetime | str | None = None,
    batch_rows: int = 65536,
    on_reject: Literal["raise", "skip"] = "raise",
    extra_fields: Literal["drop", "capture"] = "drop",
) -> Reader:
    """Opens parts that are on this machine: a path, a glob, a folder with all that is below it, or a list of them.

    Batches have at most `batch_rows` rows, each of one platform, and the columns of `defender-lake schema` in their order: text as
    `string`, times as `timestamp[us, tz=UTC]`, lists with a child `element`; the partition columns `snapshot_date` (`date32`) and
    `OSPlatform` (`string`, for datasets that have it) last. The device's identifier and `GeneratedTime` are never null.

    `generated_time` is when the service made the export: a `datetime` with a zone or RFC 3339; without it, it is read from a
    `YYYY-MM-DD/HHMM` folder in the paths. `on_reject="raise"` ends at the first rejected record, `"skip"` counts them in `counts`.
    `extra_fields="capture"` adds a column `ExtraFields` with undocumented fields as JSON text.

    Raises `Error` with `exit_code` 2 or 4 if no file matches, one cannot be read, the dataset is unknown or the time is missing;
    `ValueError` and `TypeError` for other arguments. A damaged part and a rejected record are raised by whoever reads the stream,
    with the message of the command line; rows that were read before do not count then.
    """

def ingest(
    *,
    lake: _Path | None = None,
    dataset: str | Sequence[str] | None = None,
    via: Literal["files", "json"] | None = None,
    from_: _Path | Sequence[_Path] | None = None,
    generated_time: datetime | str | None = None,
    allow_future: bool | None = None,
    cloud: Literal["worldwide", "gcc", "gcc-high", "dod"] | None = None,
    api_url: str | None = None,
    login_url: str | None = None,
    scope: str | None = None,
    auth: str | None = None,
    blob_host: str | Sequence[str] | None = None,
    sas_valid_hours: int | None = None,
    page_size: int | None = None,
    table: Literal["plain", "delta"] | None = None,
    if_published: Literal["skip", "replace", "fail"] | None = None,
    max_rejects: int | str | None = None,
    extra_fields: Literal["drop", "capture"] | None = None,
    work_dir: _Path | None = None,
    keep_parts: bool | None = None,
    threads: int | None = None,
    downloads: int | None = None,
    memory: int | str | None = None,
    dry_run: bool | None = None,
    config: _Path | None = None,
) -> Any:
    """Ingests exports and publishes each as a snapshot: `defender-lake ingest` as a call, with the options of its flags.

    What is not given is taken from the environment and the file `config`, as on the command line; no secret is ever an argument.
    `memory` is in bytes or as "512MiB", `max_rejects` a number of records or a share such as "0.1%".

    Returns the run report as `--json` prints it: a dict; with several datasets or "all" a list of them, in the order taken.

    Raises `Error` if a dataset failed: the lake is as it was for that dataset, and `reports` has those of all. Ctrl-C raises
    `KeyboardInterrupt` and leaves the lake as it was, unless the snapshot was published by then; a second one does not wait.
    """

def snapshots(lake: _Path | None = None, *, dataset: str | None = None) -> list[dict[str, Any]]:
    """Reads the manifests of a dataset's published snapshots, oldest first; of every dataset that the lake holds with "all".

    `lake` is a path or an `abfss://`, `az://`, `s3://` or `gs://` URL, by default that of the environment, else `./lake`.

    Raises `Error` if the lake cannot be read (6), the dataset is unknown (2), or a manifest is damaged (6).
    """

def run(args: Sequence[str]) -> int:
    """Runs a command line, whose first argument is the program's name, and returns its exit code. For the console script."""

def ingest_on(cluster: Any, arguments: Sequence[str], **options: Any) -> Any:
    """Ingests as `ingest` does, with the parts read and written by the tasks of `cluster`. For `defender_lake.spark`."""

def run_on(cluster: Any, args: Sequence[str]) -> int:
    """Runs a command line as `run` does, with an `ingest` on a cluster. For `python -m defender_lake.spark`."""

def write_portion(assignment: bytes) -> bytes:
    """Runs one task of an ingest on a cluster, and returns its report. For `defender_lake.spark`."""

def spark_columns(dataset: str, *, extra_fields: bool, reject_column: bool) -> str:
    """Returns the columns of a dataset as the schema of a Spark DataFrame. For `defender_lake.spark`."""

def table_files(lake: _Path, *, dataset: str, date: str | None) -> tuple[str, str, list[str]]:
    """Returns the columns of a table for Spark, its folder as a URL, and the files that manifests list. For `defender_lake.spark`."""

def list_parts(
    dataset: str,
    options: dict[str, Any],
    *,
    tenant_id: str | None,
    client_id: str | None,
    client_secret: str | None,
) -> tuple[str, list[tuple[str, int | None]]]:
    """Lists an export: its time, and each part with its size if known. For `defender_lake.spark`."""

def read_parts(
    parts: Sequence[str],
    *,
    generated_time: str,
    dataset: str,
    extra_fields: bool,
    reject_column: bool,
    batch_rows: int,
) -> Any:
    """Reads listed parts as a stream of Arrow's record batches. For `defender_lake.spark`."""
