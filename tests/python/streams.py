"""Reads the parts in a folder of each dataset with `defender_lake.read`, and compares with a lake of them.

    streams.py DATASET...
"""

import gc
import gzip
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import defender_lake
import duckdb
import polars
import pyarrow
import pyarrow.compute
import pyarrow.parquet

TIME = "2021-01-11T11:01:00Z"
# Arrow's names of the declared types.
TYPES = {
    "string": "string",
    "JSON": "string",
    "int32": "int32",
    "int64": "int64",
    "float64": "double",
    "boolean": "bool",
    "date32": "date32[day]",
    "timestamp(us, UTC)": "timestamp[us, tz=UTC]",
    "list of string": "list<element: string>",
}


def main():
    lake = str(Path("lake").absolute())
    declared = json.loads(run("schema", "--format", "json"))
    for dataset in sys.argv[1:]:
        run("ingest", "-q", "--lake", lake, "--work-dir", "work", "--dataset", dataset, "--generated-time", TIME, "--from", dataset)
        equals_lake(lake, dataset, next(found for found in declared if found["dataset"] == dataset))
    reads_again()
    rejects()
    damage()
    ends_with_its_reader()


def run(*args):
    return subprocess.run([os.environ["PROGRAM"], *args], check=True, capture_output=True, text=True).stdout


def equals_lake(lake, dataset, declared):
    """Every consumer finds the rows of the lake, in the columns and types of the declaration."""
    [manifest] = defender_lake.snapshots(lake, dataset=dataset)
    reader = defender_lake.read(dataset, dataset, generated_time=TIME, batch_rows=50)
    batches = list(pyarrow.RecordBatchReader.from_stream(reader))
    assert max(batch.num_rows for batch in batches) <= 50
    table = pyarrow.Table.from_batches(batches)
    assert table.schema == pyarrow.schema(reader.schema), table.schema
    assert reader.schema.names == [column["name"] for column in declared["columns"] if not is_partition(column)] + [
        column["name"] for column in declared["columns"] if is_partition(column)
    ]
    types = {column["name"]: (column["type"], column["nullable"]) for column in declared["columns"]}
    for field in table.schema:
        kind, is_nullable = types[field.name]
        assert field.nullable == is_nullable and str(field.type) == TYPES.get(kind, str(field.type)), field
    published = lake_table(lake, manifest, table.schema)
    assert in_order(table) == in_order(published), dataset
    counts, totals = reader.counts, manifest["totals"]
    assert table.num_rows == totals["rows"] and counts["records"] == totals["records"]
    assert [without_name(part) for part in reader.parts] == [without_name(part) for part in manifest["parts"]]
    frame = polars.DataFrame(reader)
    assert in_order(frame.to_arrow().cast(table.schema)) == in_order(published), f"Polars: {dataset}"
    duckdb.sql("SET TimeZone = 'UTC'")
    found = duckdb.sql("SELECT * FROM reader").to_arrow_table()
    assert in_order(found.cast(table.schema)) == in_order(published), f"DuckDB: {dataset}"


def is_partition(column):
    return column["name"] in ("snapshot_date", "OSPlatform")


def without_name(part):
    return {name: value for name, value in part.items() if name != "name"}


def lake_table(lake, manifest, schema):
    """The rows of a snapshot's files, with the values of its partitions."""
    tables = []
    for file in manifest["files"]:
        path = f"{lake}/{manifest['dataset']}/{file['path']}"
        table = pyarrow.parquet.ParquetFile(path).read()
        date = pyarrow.scalar(file["snapshot_date"]).cast(pyarrow.date32())
        columns = {"snapshot_date": date, "OSPlatform": pyarrow.scalar(file.get("os_platform"), pyarrow.string())}
        for name in schema.names:
            if name not in table.column_names:
                table = table.append_column(name, pyarrow.repeat(columns[name], len(table)))
        tables.append(table.select(schema.names).cast(schema))
    return pyarrow.concat_tables(tables)


def in_order(table):
    return sorted(json.dumps(row, default=str, sort_keys=True) for row in table.to_pylist())


def reads_again():
    """A reader is read as often as one wants, and a part of it only."""
    reader = defender_lake.read([Path("software_inventory")], generated_time=TIME)
    rows = [pyarrow.table(reader).num_rows for _ in range(2)]
    assert rows[0] == rows[1] == reader.counts["records"] > 0
    assert duckdb.sql("SELECT count(*) FROM (FROM reader LIMIT 3)").fetchall() == [(3,)]


def rejects():
    part = Path("rejects.json")
    records = ['{"DeviceId":"a","OSPlatform":"Linux"}', '{"OSPlatform":"Linux"}', '{"DeviceId":"b","NumberOfWeaknesses":"many","x":1}']
    part.write_text("\n".join(records))
    reader = defender_lake.read(part, generated_time=TIME)
    text = raised(lambda: pyarrow.table(reader))
    assert f"part {part}, line 2: the record was rejected: no DeviceId" in text, text
    skipping = defender_lake.read(part, generated_time=TIME, on_reject="skip", extra_fields="capture")
    table = pyarrow.table(skipping)
    assert table["DeviceId"].to_pylist() == ["a", "b"] or table["DeviceId"].to_pylist() == ["b", "a"]
    assert sorted(table["ExtraFields"].to_pylist(), key=str) == ["None", '{"x":1}'] or '{"x":1}' in table["ExtraFields"].to_pylist()
    counts = skipping.counts
    assert (counts["records"], counts["rejected_records"], counts["field_rejects"]) == (3, 1, 1), counts


def damage():
    """A part that is cut off, and what is wrong before a row is read."""
    whole = gzip.compress(b'{"DeviceId":"a"}\n' * 1000)
    Path("cut.json.gz").write_bytes(whole[:-9])
    text = raised(lambda: pyarrow.table(defender_lake.read("cut.json.gz", generated_time=TIME)))
    assert "part cut.json.gz is damaged: gzip is damaged" in text and "hint: replace the file" in text, text
    os.mkfifo("pipe")
    for code, expected, call in [
        (2, "nothing*: no files match", lambda: defender_lake.read("nothing*")),
        (2, "unknown generated time", lambda: defender_lake.read("cut.json.gz")),
        (2, "generated_time: expected a time", lambda: defender_lake.read("cut.json.gz", generated_time="noon")),
        (2, "unknown dataset", lambda: defender_lake.read("cut.json.gz", "nothing")),
        (2, "found a URL", lambda: defender_lake.read("https://h/p?sig=hunter2")),
        (2, "is a pipe, which can be read only once", lambda: defender_lake.read("pipe", generated_time=TIME)),
    ]:
        try:
            call()
        except defender_lake.Error as error:
            assert error.exit_code == code and expected in str(error) and "hunter2" not in str(error), error
        else:
            raise AssertionError(f"not raised: {expected}")
    for arguments in [{"batch_rows": 0}, {"on_reject": "x"}, {"extra_fields": "x"}]:
        assert isinstance(error_of(lambda: defender_lake.read("cut.json.gz", generated_time=TIME, **arguments)), ValueError)


def ends_with_its_reader():
    """The thread of a stream that is not read to its end is gone soon after it."""
    before = threads()
    reader = defender_lake.read("software_inventory", generated_time=TIME, batch_rows=1)
    stream = pyarrow.RecordBatchReader.from_stream(reader)
    assert threads() == before, "no thread before the first batch"
    stream.read_next_batch()
    assert "read-parts" in threads()
    del stream
    gc.collect()
    deadline = time.monotonic() + 10
    while "read-parts" in threads():
        assert time.monotonic() < deadline, "the thread is still there"
        time.sleep(0.01)


def threads():
    names = []
    for task in Path("/proc/self/task").iterdir():
        try:
            names.append((task / "comm").read_text().strip())
        except OSError:
            pass
    return [name for name in names if name == "read-parts"]


def raised(call):
    error = error_of(call)
    assert error is not None, "nothing was raised"
    return str(error)


def error_of(call):
    try:
        call()
    except Exception as error:
        return error
    return None


main()
