"""A snapshot made by Spark's executors: carries the program's assignments to tasks, and their reports back.

The driver lists, holds the table lock and makes the one commit. Of Spark this uses
`spark.range(…).mapInArrow(…).collect()` alone, which classic sessions, Spark Connect and serverless compute all have.
"""

import contextlib
import logging
import pickle
import threading
import uuid
import zlib

from .. import _native

_log = logging.getLogger("defender_lake")

# Seconds between two lines of progress.
_PROGRESS_INTERVAL = 10

# Rows of the question how many partitions Spark makes by itself, which is the number of its cores.
_MAX_CORES = 4096


def ingest(spark, *, lake=None, dataset=None, tasks=None, where="executors", **options):
    """Ingests exports and publishes each as a snapshot, with Spark's executors reading and writing the parts.

    spark: a session, classic or of Spark Connect. defender-lake must be installed on its executors, in the same version.
    lake: a path that every executor sees, or the URL of an object store. Executors sign in with credentials of their own
      environment if they have some, else with those of the driver's.
    tasks: tasks of a job; by default one for each 128 MiB of parts, up to two for each core.
    where: "executors", or "driver" to do everything on the driver, as `defender_lake.ingest` does.
    options: as of `defender_lake.ingest`. `memory` is of each task, which uses one thread; `work_dir` is on the driver, and
      keeps the record of calls to the service: it must outlive the cluster.

    Returns the run report, a dict; with several datasets or "all" a list of them. Raises `defender_lake.Error`; the lake is
    then as it was. Pages (`via="json"`) are read on the driver, as each names the next.
    """
    if where == "driver":
        return _native.ingest(lake=lake, dataset=dataset, **options)
    if where != "executors":
        raise ValueError(f"where: expected 'executors' or 'driver', found {where!r}")
    return _native.ingest_on(Executors(spark, tasks), [], lake=lake, dataset=dataset, **options)


class Executors:
    """Runs assignments as tasks of Spark jobs: what `_native.ingest_on` takes."""

    def __init__(self, spark, tasks=None):
        if tasks is not None and tasks < 1:
            raise ValueError(f"tasks: expected 1 or more, found {tasks}")
        self._spark = spark
        self._tasks = tasks
        self._name = f"defender-lake-{uuid.uuid4().hex}"

    def task_count(self):
        """Returns the tasks of a job that were asked for, or None, and the number of cores."""
        if self._tasks is not None:
            return self._tasks, 0
        from pyspark.sql import functions

        rows = self._spark.range(0, _MAX_CORES).select(functions.spark_partition_id()).collect()
        return None, len({row[0] for row in rows})

    def run(self, assignments):
        """Has each assignment carried out by one task, and returns the reports."""
        # A closure of more than a mebibyte would be written to a disk; the signed URLs in it have much in common.
        packed = zlib.compress(pickle.dumps(assignments), 1)

        def write(batches):
            import pyarrow

            from defender_lake import _native

            for batch in batches:
                for number in batch.column(0).to_pylist():
                    report = _native.write_portion(pickle.loads(zlib.decompress(packed))[number])
                    yield pyarrow.RecordBatch.from_arrays([pyarrow.array([report], pyarrow.binary())], ["report"])

        num_tasks = len(assignments)
        with self._named_job(), self._progress(num_tasks):
            rows = self._spark.range(0, num_tasks, 1, num_tasks).mapInArrow(write, "report binary").collect()
        return [bytes(row[0]) for row in rows]

    def cancel(self):
        """Ends the job that runs."""
        _try(lambda: self._spark.interruptTag(self._name))
        _try(lambda: self._spark.sparkContext.cancelJobGroup(self._name))

    @contextlib.contextmanager
    def _named_job(self):
        # Connect knows tags, classic sessions job groups; what a session lacks is left out.
        _try(lambda: self._spark.addTag(self._name))
        _try(lambda: self._spark.sparkContext.setJobGroup(self._name, "defender-lake ingest"))
        try:
            yield
        finally:
            _try(lambda: self._spark.removeTag(self._name))

    @contextlib.contextmanager
    def _progress(self, num_tasks):
        ended = threading.Event()

        def watch():
            while not ended.wait(_PROGRESS_INTERVAL):
                done = _try(self._tasks_done)
                if done is not None:
                    _log.info("%d of %d tasks done", done, num_tasks)

        thread = threading.Thread(target=watch, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()

    def _tasks_done(self):
        tracker = self._spark.sparkContext.statusTracker()
        jobs = [tracker.getJobInfo(job) for job in tracker.getJobIdsForGroup(self._name)]
        running = [job for job in jobs if job and job.status == "RUNNING"]
        stages = [tracker.getStageInfo(stage) for job in running for stage in job.stageIds]
        return sum(stage.numCompletedTasks for stage in stages if stage)


def _try(call):
    """Returns what `call` returns, or None: not every kind of session has it, and the job does without."""
    try:
        return call()
    except Exception:  # noqa: BLE001
        return None
