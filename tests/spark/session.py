"""Sessions of Spark that the tests use: real executors, Spark Connect, or threads of one JVM."""

import os
import sys
import time
import urllib.request
from pathlib import Path

# PySpark makes naive datetimes in the zone of this process.
os.environ["TZ"] = "UTC"
time.tzset()
os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
os.environ["PYSPARK_PYTHON"] = sys.executable

from pyspark.sql import SparkSession  # noqa: E402

MASTERS = {"cluster": "local-cluster[2,1,1024]", "local": "local[2]"}


def start(kind, scratch, **config):
    """Starts a session; what it writes is below the folder `scratch`: its event log, scratch files and executors' logs."""
    scratch = Path(scratch)
    for folder in ("events", "local", "work"):
        (scratch / folder).mkdir(parents=True, exist_ok=True)
    # By default executors' logs are in Spark's own folder.
    os.environ["SPARK_WORKER_DIR"] = str(scratch / "work")
    builder = SparkSession.builder
    builder = builder.remote("local[2]") if kind == "connect" else builder.master(MASTERS.get(kind, kind))
    settings = {
        "spark.driver.memory": "1g",
        "spark.local.dir": scratch / "local",
        "spark.sql.warehouse.dir": scratch / "warehouse",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "2",
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": f"file://{scratch}/events",
        "spark.eventLog.compress": "false",
        "spark.task.maxFailures": "2",
        "spark.ui.enabled": "true" if kind == "cluster" else "false",
        "spark.ui.port": "0",
        "spark.ui.showConsoleProgress": "false",
        # A server of Spark Connect writes requests into its event log, with the options of data sources.
        "spark.sql.redaction.string.regex": "(?is)clientSecret.{0,400}",
        # A derby.log in the working folder, otherwise.
        "spark.sql.catalogImplementation": "in-memory",
    } | config
    for name, value in settings.items():
        builder = builder.config(name, str(value))
    return builder.getOrCreate()


def save_ui(spark, scratch):
    """Saves what the UI says of the session, as its REST API has it."""
    context = spark.sparkContext
    root = f"{context.uiWebUrl}/api/v1/applications/{context.applicationId}"
    for page in ("jobs", "stages?details=true", "environment", "allexecutors", "sql?details=true&length=1000"):
        with urllib.request.urlopen(f"{root}/{page}") as answer:
            Path(scratch, f"ui-{page.split('?')[0]}.json").write_bytes(answer.read())
