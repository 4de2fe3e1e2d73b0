"""A table of a lake as Spark reads it: by its manifests, not by what is in its folders. Reads no data file itself."""

from __future__ import annotations

import datetime
import logging
import os
import re
from typing import TYPE_CHECKING

from defender_lake import _native

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

LOG = logging.getLogger("defender_lake.spark")

# What Spark takes for a pattern in a path.
PATTERN = re.compile(r"[{}\[\]*?\\]")


def table(
    spark: SparkSession,
    lake: str | os.PathLike[str],
    *,
    dataset: str = "software-inventory",
    date: str | datetime.date | None = None,
    path: str | None = None,
) -> DataFrame:
    """Returns a DataFrame of a dataset's published snapshots: exactly the files that their manifests list.

    `spark` is a session of Spark or of Spark Connect, `lake` a path or URL, `date` a `datetime.date` or `YYYY-MM-DD`, for the
    snapshot of that date alone. Executors read the files with Spark's own Parquet reader, and only those of the partitions
    that a query asks for. `path` is the lake as Spark spells it, where that differs: `s3a://…` for `s3://…` in plain Spark,
    `abfss://…` for `az://…`.

    Columns are those of `defender-lake schema --format spark`, partition columns last; what an older snapshot lacks is null.
    Which snapshots there are is decided at the call: call it again for later ones.

    A table without snapshots is a DataFrame without rows, and a warning in the log.

    Raises `defender_lake.Error`: `exit_code` 2 if `date` has no snapshot, 6 if a manifest is damaged.
    """
    day = date.isoformat()[:10] if isinstance(date, datetime.date) else date
    columns, root, files = _native.table_files(lake, dataset=dataset, date=day)
    if not files:
        LOG.warning("no snapshots of %s in %s: the DataFrame has no rows", dataset, lake)
        return spark.createDataFrame([], columns)
    if path is not None:
        root = f"{path.rstrip('/')}/{root.rsplit('/', 1)[1]}"
    pattern = PATTERN.sub(lambda found: "\\" + found.group(), root)
    return spark.read.schema(columns).option("basePath", root).parquet(*[f"{pattern}/{file}" for file in files])
