"""Defender's exports on Spark.

- `ingest`: a snapshot made by Spark's executors, with all guarantees of `defender_lake.ingest`.
- `table`: a DataFrame of what a lake has published.
- `spark.read.format("defender")`: a DataFrame of one export, from parts on disk or from the service; found without
  registration, or with `spark.dataSource.register(defender_lake.spark.DefenderDataSource)`.

Options of the data source, in any case:

- `path`: parts, as files, folders or globs that every executor sees; also as `load(path)`, or several as `load([…])`.
- `generatedTime`: when the export in `path` was generated, RFC 3339; by default from a `…/YYYY-MM-DD/HHMM/…` path.
- `tenantId`, `clientId`, `clientSecret`: who asks the service, if there is no `path`; by default the environment of the driver
  says, as for the command line.
- `cloud`, `apiUrl`: which service, `worldwide`, `gcc`, `gcc-high` or `dod`, or its URL.
- `sasValidHours`: hours that its download URLs are to be valid, 1 to 24; 6 by default, the most that most exports allow.
- `dataset`: which export, by default `software-inventory`.
- `extraFields`: `drop` undocumented fields, or `capture` them as JSON text in the column `ExtraFields`.
- `onReject`: `fail` the job at the first rejected record, or add a `column` named `Reject`: each reject, of a field too, is a
  row of its own, whose text is its line of a lake's rejects file; `Reject IS NULL` selects the table's rows.
- `batchRows`: rows of an Arrow batch, by default 10,000.
"""

from ._ingest import ingest
from ._table import table

__all__ = ["DefenderDataSource", "ingest", "table"]


def __getattr__(name):
    # PySpark has data sources from 4.0 on, while `ingest` and `table` need none.
    if name == "DefenderDataSource":
        from pyspark_defender import DefaultSource

        return DefaultSource
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
