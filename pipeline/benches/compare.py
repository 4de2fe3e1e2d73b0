"""Measures ingest against the tools that people would use instead, on the same data and cores: `make bench`.

Takes a folder of gzip parts. Every tool writes them as Parquet partitioned by OSPlatform, with the same zstd level, statistics
and no bloom filters; they are run in turn, round after round. Prints medians and spread of wall time, peak memory and output
size as a Markdown table, once all have written the same number of rows. The other tools read the columns that they can, and
none of them checks, counts or rejects anything. Their time is that inside Python, ours that of the whole process.
"""

import argparse
import datetime
import glob
import importlib
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ZSTD_LEVEL = 1

COLUMNS = {
    "DeviceId": "VARCHAR",
    "DeviceName": "VARCHAR",
    "RbacGroupName": "VARCHAR",
    "SoftwareVendor": "VARCHAR",
    "SoftwareName": "VARCHAR",
    "SoftwareVersion": "VARCHAR",
    "NumberOfWeaknesses": "INTEGER",
    "DiskPaths": "VARCHAR[]",
    "RegistryPaths": "VARCHAR[]",
    "SoftwareFirstSeenTimestamp": "TIMESTAMP",
    "EndOfSupportStatus": "VARCHAR",
    "EndOfSupportDate": "TIMESTAMP",
    "OSPlatform": "VARCHAR",
}


def duckdb(parts, out, bloom_filters=False):
    import duckdb

    columns = ", ".join(f"'{name}': '{kind}'" for name, kind in COLUMNS.items())
    duckdb.sql(
        f"COPY (FROM read_json('{parts}/**/*.json.gz', format='newline_delimited', columns={{{columns}}})) "
        f"TO '{out}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL {ZSTD_LEVEL}, "
        f"WRITE_BLOOM_FILTER {bloom_filters}, PARTITION_BY (OSPlatform))"
    )


def chdb(parts, out):
    import chdb

    kinds = {"VARCHAR": "Nullable(String)", "INTEGER": "Nullable(Int32)", "VARCHAR[]": "Array(String)",
             "TIMESTAMP": "Nullable(String)"}
    schema = ", ".join(f"{name} {kinds[kind]}" for name, kind in COLUMNS.items())
    os.makedirs(out)
    chdb.query(
        f"INSERT INTO FUNCTION file('{out}/{{_partition_id}}.parquet', 'Parquet') PARTITION BY ifNull(OSPlatform, 'null') "
        f"SELECT * FROM file('{parts}/**/*.json.gz', 'JSONEachRow', '{schema}') "
        f"SETTINGS output_format_parquet_compression_method = 'zstd', output_format_compression_level = {ZSTD_LEVEL}, "
        "output_format_parquet_write_bloom_filter = 0, input_format_null_as_default = 1"
    )


def polars(parts, out):
    import polars as pl

    kinds = {"VARCHAR": pl.String, "INTEGER": pl.Int32, "VARCHAR[]": pl.List(pl.String), "TIMESTAMP": pl.String}
    schema = {name: kinds[kind] for name, kind in COLUMNS.items()}
    pl.scan_ndjson(sorted(glob.glob(f"{parts}/**/*.json.gz", recursive=True)), schema=schema).sink_parquet(
        pl.PartitionBy(out, key=["OSPlatform"], include_key=False), compression="zstd", compression_level=ZSTD_LEVEL,
        statistics=True, mkdir=True,
    )


def pyarrow(parts, out):
    import pyarrow as pa
    import pyarrow.dataset as ds
    import pyarrow.json as pj

    kinds = {"VARCHAR": pa.string(), "INTEGER": pa.int32(), "VARCHAR[]": pa.list_(pa.string()), "TIMESTAMP": pa.string()}
    schema = pa.schema([(name, kinds[kind]) for name, kind in COLUMNS.items()])
    parse = pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    read = pj.ReadOptions(block_size=8 << 20)

    def batches():
        for part in sorted(glob.glob(f"{parts}/**/*.json.gz", recursive=True)):
            with pa.input_stream(part, compression="gzip") as stream:
                yield from pj.read_json(stream, read, parse).to_batches()

    form = ds.ParquetFileFormat()
    options = form.make_write_options(compression="zstd", compression_level=ZSTD_LEVEL, write_statistics=True)
    partitioning = ds.partitioning(pa.schema([("OSPlatform", pa.string())]), flavor="hive")
    ds.write_dataset(batches(), out, schema=schema, format=form, partitioning=partitioning, file_options=options)


# Each with the modules that it imports, which are not timed.
PEERS = {
    "duckdb": (duckdb, ["duckdb"]),
    "chdb": (chdb, ["chdb"]),
    "polars": (polars, ["polars"]),
    "pyarrow": (pyarrow, ["pyarrow.dataset", "pyarrow.json"]),
}


def run_peer(name, parts, out):
    """Runs a peer in this process; prints its seconds."""
    peer, modules = PEERS[name]
    for module in modules:
        importlib.import_module(module)
    before = time.perf_counter()
    peer(parts, out)
    print(time.perf_counter() - before)


def run(command):
    """Runs a command; returns seconds, its own if it prints them, and peak memory in MB."""
    before = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - before
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"failed with {process.returncode}: {command}")
    return float(said or seconds), usage.ru_maxrss / 1024


def size_mb(folder, pattern="*.parquet"):
    return sum(os.path.getsize(file) for file in glob.glob(f"{folder}/**/{pattern}", recursive=True)) / 1e6


def print_rows(folder):
    """Prints how many rows the footers of a folder's files say."""
    import pyarrow.parquet as pq

    print(sum(pq.read_metadata(file).num_rows for file in glob.glob(f"{folder}/**/*.parquet", recursive=True)))


def machine():
    return f"{datetime.date.today()}, {os.cpu_count()} cores, {platform.machine()}"


def report(lines, out):
    """Prints a table, and writes it to a file if there is to be one."""
    table = "\n".join(lines) + "\n"
    print(table)
    if out:
        with open(out, "w") as file:
            file.write(table)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--program", required=True, help="defender-lake")
    arguments.add_argument("--inflate", required=True, help="a program that inflates every part, for the floor")
    arguments.add_argument("--parts", required=True, help="folder of gzip parts")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--only", nargs="*", default=list(PEERS), help="peers to run")
    arguments.add_argument("--out", help="file for the table")
    # What this program calls itself with: memory is that of a process, and Python keeps what it has imported.
    arguments.add_argument("--peer", help=argparse.SUPPRESS)
    arguments.add_argument("--rows", action="store_true", help=argparse.SUPPRESS)
    arguments.add_argument("--peer-out", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.rows:
        return print_rows(given.peer_out)
    if given.peer:
        return run_peer(given.peer, given.parts, given.peer_out)

    results, rows = {}, {}
    with tempfile.TemporaryDirectory() as scratch:
        out = f"{scratch}/out"
        this = [sys.executable, *sys.argv, "--peer-out", out]
        contenders = {"inflating alone": [given.inflate, given.parts]}
        contenders["defender-lake"] = [
            given.program, "ingest", "-q", "--from", given.parts, "--lake", out, "--work-dir", f"{scratch}/work",
        ]
        contenders |= {peer: [*this, "--peer", peer] for peer in given.only}
        for _ in range(given.rounds):
            for name, command in contenders.items():
                seconds, memory = run(command)
                results.setdefault(name, []).append((seconds, memory, size_mb(out)))
                if os.path.exists(out):
                    rows[name] = int(subprocess.check_output([*this, "--rows"]))
                    shutil.rmtree(out)
                if len(set(rows.values())) > 1:
                    sys.exit(f"not the same rows: {rows}")

    def median_of(name, index):
        return statistics.median(run[index] for run in results[name])

    floor = median_of("inflating alone", 0)
    fastest = min((median_of(name, 0) for name in given.only), default=None)
    smallest = min((median_of(name, 2) for name in given.only), default=None)
    lines = [
        f"{machine()}, {given.rounds} rounds in turn; {rows['defender-lake']} rows in {size_mb(given.parts, '*.gz'):.0f} MB of gzip, "
        f"written by each with zstd {ZSTD_LEVEL}",
        "",
        "| | wall, median (least–most) | of the fastest peer | of inflating alone | peak memory | output | of the smallest peer's |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, runs in results.items():
        wall, size = median_of(name, 0), median_of(name, 2)
        lines.append(
            f"| {name} | {wall:.2f} s ({min(run[0] for run in runs):.2f}–{max(run[0] for run in runs):.2f}) "
            f"| {f'{wall / fastest:.2f}x' if fastest else '–'} | {wall / floor:.2f}x | {max(run[1] for run in runs):.0f} MB "
            f"| {f'{size:.1f} MB' if size else '–'} | {f'{size / smallest:.2f}x' if size and smallest else '–'} |"
        )
    report(lines, given.out)


if __name__ == "__main__":
    main()
