"""Reads the lake with Spark, as PySpark starts it on the machine's Java."""

import datetime
import os
import subprocess
import tempfile
import time

# PySpark makes naive datetimes in the zone of this process.
os.environ["TZ"] = "UTC"
time.tzset()
os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"

from pyspark.sql import SparkSession  # noqa: E402

from wire import present  # noqa: E402

TYPES = {
    "DeviceId": "string",
    "DeviceName": "string",
    "RbacGroupName": "string",
    "SoftwareVendor": "string",
    "SoftwareName": "string",
    "SoftwareVersion": "string",
    "NumberOfWeaknesses": "int",
    "DiskPaths": "array<string>",
    "RegistryPaths": "array<string>",
    "SoftwareFirstSeenTimestamp": "timestamp",
    "EndOfSupportStatus": "string",
    "EndOfSupportDate": "date",
    "GeneratedTime": "timestamp",
    "snapshot_date": "date",
    "OSPlatform": "string",
}

TEXT = "string"

# What a platform reads as whose text is the name of the null partition itself.
NULL_MARKER_READS_AS = "__HIVE_DEFAULT_PARTITION__"

DDL_VIEW = "the view of `schema --format spark`"


def ways(lake, program):
    """Yields each way to read: its name, the types by column, the rows."""
    spark = start()
    merged = spark.read.option("mergeSchema", True).parquet(f"{lake}/software_inventory")
    yield "spark.read.parquet with mergeSchema", *read(merged)
    create_view(spark, lake, program)
    yield DDL_VIEW, *read(spark.table("software_inventory"))
    spark.stop()


def start():
    scratch = tempfile.mkdtemp(prefix="spark-")
    return (
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


def create_view(spark, lake, program):
    ddl = [program, "schema", "--format", "spark", "--lake", lake]
    statement = subprocess.run(ddl, check=True, capture_output=True, text=True).stdout
    spark.sql(statement.rstrip(";\n"))


def read(table):
    types = dict(table.dtypes)
    return types, [tuple(map(with_zone, row)) for row in table.select(*present(types)).collect()]


def with_zone(value):
    return value.replace(tzinfo=datetime.timezone.utc) if isinstance(value, datetime.datetime) else value


def answers(lake, program, questions):
    """Yields column names and rows for each question about the table `software_inventory`."""
    spark = start()
    create_view(spark, lake, program)
    for question in questions:
        answer = spark.sql(question)
        yield answer.columns, [tuple(row) for row in answer.collect()]
    spark.stop()
