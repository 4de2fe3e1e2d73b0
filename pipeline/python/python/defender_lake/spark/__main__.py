"""The job to submit: `python -m defender_lake.spark ingest`, or this file with `spark-submit`."""

import argparse
import logging
import signal
import sys

from defender_lake import _native
from defender_lake.spark._ingest import Executors

_HELP = """\
The options of `defender-lake ingest` follow, see `defender-lake ingest --help`. Exit codes are those of `defender-lake`.
--memory is of each task. --work-dir keeps the record of calls to the service: it must outlive the cluster."""


def main(arguments=None):
    """Runs the command line and returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m defender_lake.spark",
        description="Ingest exports with Spark's executors and publish each as a snapshot",
        epilog=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("command", choices=["ingest"])
    parser.add_argument("--master", metavar="URL", help="Spark's master, or sc://… for Spark Connect [default: as submitted]")
    parser.add_argument("--tasks", type=_positive, metavar="N", help="tasks of a job [default: one for 128 MiB of parts]")
    parser.add_argument("--where", choices=["executors", "driver"], default="executors", help="what reads the parts")
    options, rest = parser.parse_known_args(arguments)
    line = ["defender-lake", options.command, *rest]
    if options.where == "driver":
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        return _native.run(line)
    if not {"-q", "--quiet"} & set(rest):
        logging.basicConfig(format="%(message)s")
        logging.getLogger("defender_lake").setLevel(logging.INFO)
    spark = _session(options.master)
    try:
        # The program handles the signal. Spark has a handler of its own by now, which would print a traceback on top.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        return _native.run_on(Executors(spark, options.tasks), line)
    finally:
        spark.stop()


def _session(master):
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.appName("defender-lake ingest")
    if master and master.startswith("sc://"):
        builder = builder.remote(master)
    elif master:
        builder = builder.master(master)
    return builder.getOrCreate()


def _positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, found {number}")
    return number


if __name__ == "__main__":
    sys.exit(main())
