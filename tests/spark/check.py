"""Checks of `defender_lake.spark` in one session of Spark; tests/spark.rs runs it.

    check.py SESSION SCRATCH CHECKS

SESSION is cluster, connect or local, SCRATCH a folder for what Spark writes, CHECKS a JSON array of objects: `check` is a
function below, the others are its arguments. Exits with 1 and prints what differs.
"""

import json
import sys
import traceback
from pathlib import Path

import session

import defender_lake
import defender_lake.spark
from defender_lake.spark import DefenderDataSource, table

# What failing jobs said, as they should.
ERRORS = []


def main():
    kind, scratch, checks = sys.argv[1:]
    spark = session.start(kind, scratch)
    differences = []
    for arguments in json.loads(checks):
        check = globals()["check_" + arguments.pop("check")]
        try:
            found = list(check(spark, **arguments))
        except Exception:
            found = [traceback.format_exc()]
        differences += (f"{check.__name__} {arguments}: {difference}" for difference in found)
    # To be searched for secrets.
    Path(scratch, "errors.txt").write_text("\n".join(ERRORS), encoding="utf-8")
    if kind == "cluster":
        session.save_ui(spark, scratch)
    spark.stop()
    if differences:
        sys.exit("\n".join(differences))


def load(spark, path=None, **options):
    """A DataFrame of the data source."""
    return spark.read.format("defender").options(**options).load(path)


def columns(found):
    """Names and types; of partition columns Spark forgets the comments."""
    return [(field.name, field.dataType.simpleString(), field.nullable) for field in found.schema.fields]


def differences(one, other):
    """Yields what two DataFrames differ in: columns, types, and rows as often as they are there."""
    if (schemas := [columns(one), columns(other)])[0] != schemas[1]:
        yield f"schemas are {schemas}"
    # In one job: each costs more than the rows.
    rows = one.exceptAll(other).selectExpr("'-' AS sign", "*").unionAll(other.exceptAll(one).selectExpr("'+' AS sign", "*"))
    for row in rows.limit(4).collect():
        yield str(row)


def check_same(spark, lake, path, dataset="software-inventory", num_rows=None, **options):
    """The data source reads the parts that the lake was made of as the lake has them."""
    found = load(spark, path, dataset=dataset, **options)
    yield from differences(found, table(spark, lake, dataset=dataset))
    if num_rows is not None and (count := found.count()) != num_rows:
        yield f"{count} rows, where the manifest has {num_rows}"


def check_view(spark, lake, path, generatedTime):
    """SQL reads it, and it takes options in any case."""
    options = f"path '{path}', GENERATEDTIME '{generatedTime}', dataSet 'software_inventory', BatchRows '7'"
    spark.sql(f"CREATE OR REPLACE TEMPORARY VIEW v USING defender OPTIONS ({options})")
    table(spark, lake).createOrReplaceTempView("t")
    found, wanted = (
        spark.sql(f"SELECT OSPlatform, count(*) AS num_rows, max(NumberOfWeaknesses) AS most FROM {name} GROUP BY OSPlatform")
        for name in "vt"
    )
    yield from differences(found, wanted)


def check_rejects(spark, path, num_rows, num_rejects, **options):
    """The first rejected record fails a job, or each reject is a row of its own."""
    yield from check_failure(spark, "the record was rejected: ", path, **options)
    found = load(spark, path, onReject="column", **options).cache()
    rows, rejects = (found.where(f"Reject IS {null} NULL").count() for null in ("", "NOT"))
    if (rows, rejects) != (num_rows, num_rejects):
        yield f"{rows} rows and {rejects} rejects, not {num_rows} and {num_rejects}"
    for row in found.where("Reject IS NOT NULL").select("snapshot_date", "GeneratedTime", "DeviceId", "Reject").collect():
        reject = json.loads(row["Reject"])
        if row["snapshot_date"] is None or row["GeneratedTime"] is None or row["DeviceId"] is not None or not reject["reason"]:
            yield f"a reject is {row}"
    found.unpersist()


def check_failure(spark, text, path=None, **options):
    """A job, or already the load, fails with this text."""
    try:
        load(spark, path, **options).write.format("noop").mode("overwrite").save()
    except Exception as error:
        ERRORS.append(str(error))
        if text not in str(error):
            yield f"fails with {error}"
    else:
        yield "does not fail"


def check_listed_once(spark, lake, out, **options):
    """Several actions of one load; the caller counts the calls of the service."""
    found = load(spark, **options)
    counts = {found.count(), found.count()}
    found.write.parquet(out)
    counts.add(spark.read.parquet(out).count())
    published = table(spark, lake)
    if counts != {published.count()}:
        yield f"counts are {counts}"
    yield from differences(found, published)


def check_closure(_spark, options):
    """What Spark sends to executors has no credentials."""
    from pyspark import cloudpickle

    source = DefenderDataSource(dict(options))
    reader = source.reader(None)
    sent = cloudpickle.dumps((reader, source))
    for name in ("tenantId", "clientId", "clientSecret"):
        if options[name].encode() in sent:
            yield f"{name} is sent"


def check_table(spark, lake, num_rows, dataset="software-inventory", date=None, nulls=(), captured=False):
    """A table has so many rows, the declared columns, and only null in some of them."""
    found = table(spark, lake, dataset=dataset, date=date)
    declared = spark.read.format("defender").options(dataset=dataset, extraFields="capture" if captured else "drop").load("unread")
    if columns(found) != columns(declared):
        yield f"the schema is {columns(found)}, not {columns(declared)}"
    if (count := found.count()) != num_rows:
        yield f"{count} rows, not {num_rows}"
    for name in nulls:
        if found.where(f"`{name}` IS NOT NULL").count():
            yield f"{name} is not null"


def check_pruned(spark, lake, platform):
    """A query for a platform reads the files of that platform alone, and they are those of the manifests."""
    files = [file for manifest in defender_lake.snapshots(lake) for file in manifest["files"]]
    found = table(spark, lake)
    if (count := len(found.inputFiles())) != len(files):
        yield f"{count} files, where manifests list {len(files)}"
    condition = "OSPlatform IS NULL" if platform is None else f"OSPlatform = '{platform}'"
    wanted = {file["path"].rsplit("/", 1)[1] for file in files if file.get("os_platform") == platform}
    rows = found.where(condition).selectExpr("_metadata.file_name AS file").distinct().collect()
    if {row["file"] for row in rows} != wanted:
        yield f"files {rows}, not {wanted}"


def check_no_snapshot(spark, lake, date):
    """A date that the lake lacks is a usage error."""
    try:
        table(spark, lake, date=date)
    except defender_lake.Error as error:
        if error.exit_code != 2 or date not in str(error):
            yield f"exit code {error.exit_code}: {error}"
    else:
        yield "does not fail"


def check_ingest(spark, lake, like, dataset="software-inventory", tasks=2, **options):
    """Executors publish what one machine published of the same export: the same totals, the same rows."""
    report = defender_lake.spark.ingest(spark, lake=lake, dataset=dataset, tasks=tasks, **options)
    if report["outcome"] != "published":
        yield f"the outcome is {report['outcome']}"
    found, wanted = (defender_lake.snapshots(place, dataset=dataset)[-1] for place in (lake, like))
    platforms = {file.get("os_platform") for file in wanted["files"]}
    if found["totals"]["files"] > tasks * len(platforms):
        yield f"{found['totals']['files']} files of {tasks} tasks and {len(platforms)} platforms"
    for manifest in (found, wanted):
        del manifest["totals"]["files"], manifest["totals"]["bytes"]
    if found["totals"] != wanted["totals"]:
        yield f"totals are {found['totals']}, not {wanted['totals']}"
    day = found["generated_time"][:10]
    yield from differences(table(spark, lake, dataset=dataset, date=day), table(spark, like, dataset=dataset, date=day))


def check_ingest_fails(spark, lake, exit_code, **options):
    """An ingest fails as on one machine, and publishes nothing."""
    try:
        defender_lake.spark.ingest(spark, lake=lake, tasks=2, **options)
    except defender_lake.Error as error:
        ERRORS.append(str(error))
        if error.exit_code != exit_code:
            yield f"exit code {error.exit_code}: {error}"
    else:
        yield "does not fail"
    if defender_lake.snapshots(lake):
        yield "something was published"


if __name__ == "__main__":
    main()
