"""Reads the lake with Spark, as PySpark starts it on the machine's Java."""

import atexit
import datetime
import functools
import os
import sys
import tempfile
import time

# PySpark makes naive datetimes in the zone of this process.
os.environ["TZ"] = "UTC"
time.tzset()
os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
# Its data sources in Python are those of this environment.
os.environ["PYSPARK_PYTHON"] = sys.executable

from pyspark.sql import SparkSession  # noqa: E402

from program import view, views  # noqa: E402

# Its names of the declared types.
TYPES = {
    "string": "string",
    "int32": "int",
    "int64": "bigint",
    "float64": "double",
    "boolean": "boolean",
    "date32": "date",
    "timestamp(us, UTC)": "timestamp",
    "JSON": "string",
    "list of string": "array<string>",
}

# What a platform reads as whose text is the name of the null partition itself.
NULL_MARKER_READS_AS = "__HIVE_DEFAULT_PARTITION__"


def structs(members):
    return f"array<struct<{','.join(f'{name}:{kind}' for name, kind in members)}>>"


def ways(lake, program, table):
    """Yields each way to read a table: its name, the types by column, the rows."""
    spark = start()
    merged = spark.read.option("mergeSchema", True).parquet(f"{lake}/{table.name}")
    yield "spark.read.parquet with mergeSchema", *read(merged, table)
    create(spark, view(program, lake, "spark", table.name))
    yield "the view of `schema --format spark`", *read(spark.table(table.name), table)


@functools.cache
def start():
    """The session of this process, which ends with it."""
    scratch = tempfile.mkdtemp(prefix="spark-")
    spark = (
        SparkSession.builder.master("local[2]")
        .config("spark.driver.memory", "1g")
        .config("spark.local.dir", scratch)
        .config("spark.sql.warehouse.dir", f"{scratch}/warehouse")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .getOrCreate()
    )
    atexit.register(spark.stop)
    return spark


def create(spark, statements):
    for statement in statements.split(";\n"):
        if statement:
            spark.sql(statement)


def read(found, table):
    types = dict(found.dtypes)
    return types, [tuple(map(with_zone, row)) for row in found.select(*table.present(types)).collect()]


def with_zone(value):
    return value.replace(tzinfo=datetime.timezone.utc) if isinstance(value, datetime.datetime) else value


def answers(lake, program, questions):
    """Yields column names and rows for each question about the views of a lake."""
    spark = start()
    create(spark, views(program, lake, "spark"))
    for question in questions:
        answer = spark.sql(question)
        yield answer.columns, [tuple(map(with_zone, row)) for row in answer.collect()]
