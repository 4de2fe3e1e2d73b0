"""Ingest against the tools that people would use instead, on the same data and cores: `make bench`.

Takes a folder of gzip parts; every tool writes them as Parquet partitioned by OSPlatform, zstd, and is run in turn,
round after round. Prints medians and spread of wall time, peak memory and output size as a Markdown table.
Peers read the columns that they can; none of them checks, counts or rejects anything.
"""

import argparse
import datetime
import glob
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

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


def duckdb(parts, out):
    import duckdb

    columns = ", ".join(f"'{name}': '{kind}'" for name, kind in COLUMNS.items())
    duckdb.sql(
        f"COPY (FROM read_json('{parts}/**/*.json.gz', format='newline_delimited', columns={{{columns}}})) "
        f"TO '{out}' (FORMAT parquet, COMPRESSION zstd, PARTITION_BY (OSPlatform))"
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
        "SETTINGS output_format_parquet_compression_method = 'zstd', input_format_null_as_default = 1"
    )


def polars(parts, out):
    import polars as pl

    kinds = {"VARCHAR": pl.String, "INTEGER": pl.Int32, "VARCHAR[]": pl.List(pl.String), "TIMESTAMP": pl.String}
    schema = {name: kinds[kind] for name, kind in COLUMNS.items()}
    pl.scan_ndjson(sorted(glob.glob(f"{parts}/**/*.json.gz", recursive=True)), schema=schema).sink_parquet(
        pl.PartitionBy(out, key=["OSPlatform"], include_key=False), compression="zstd", mkdir=True
    )


def pyarrow(parts, out):
    import pyarrow as pa
    import pyarrow.dataset as ds
    import pyarrow.json as pj

    kinds = {"VARCHAR": pa.string(), "INTEGER": pa.int32(), "VARCHAR[]": pa.list_(pa.string()), "TIMESTAMP": pa.string()}
    schema = pa.schema([(name, kinds[kind]) for name, kind in COLUMNS.items()])
    options = pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    read = pj.ReadOptions(block_size=8 << 20)

    def batches():
        for part in sorted(glob.glob(f"{parts}/**/*.json.gz", recursive=True)):
            with pa.input_stream(part, compression="gzip") as stream:
                yield from pj.read_json(stream, read, options).to_batches()

    form = ds.ParquetFileFormat()
    ds.write_dataset(
        batches(), out, schema=schema, format=form, partitioning=ds.partitioning(pa.schema([("OSPlatform", pa.string())]),
        flavor="hive"), file_options=form.make_write_options(compression="zstd"),
    )


PEERS = {"duckdb": duckdb, "chdb": chdb, "polars": polars, "pyarrow": pyarrow}


def run(command):
    """Runs a command; returns seconds and peak memory in MB."""
    before = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - before
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"failed with {process.returncode}: {command}")
    return seconds, usage.ru_maxrss / 1024


def size_mb(folder):
    files = glob.glob(f"{folder}/**/*.parquet", recursive=True)
    return sum(os.path.getsize(file) for file in files) / 1e6


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--program", required=True, help="defender-lake")
    arguments.add_argument("--inflate", required=True, help="a program that inflates every part, for the floor")
    arguments.add_argument("--parts", required=True, help="folder of gzip parts")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--only", nargs="*", default=list(PEERS))
    arguments.add_argument("--out", help="file for the table")
    arguments.add_argument("--peer", help=argparse.SUPPRESS)
    arguments.add_argument("--peer-out", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.peer:
        return PEERS[given.peer](given.parts, given.peer_out)

    results = {}
    with tempfile.TemporaryDirectory() as scratch:
        out = f"{scratch}/out"
        this = [sys.executable, *sys.argv]
        contenders = {"inflating alone": [given.inflate, given.parts]}
        contenders["defender-lake"] = [
            given.program, "ingest", "-q", "--from", given.parts, "--lake", out, "--work-dir", f"{scratch}/work",
        ]
        contenders |= {peer: [*this, "--peer", peer, "--peer-out", out] for peer in given.only}
        for _ in range(given.rounds):
            for name, command in contenders.items():
                seconds, memory = run(command)
                results.setdefault(name, []).append((seconds, memory, size_mb(out)))
                shutil.rmtree(out, ignore_errors=True)

    peers = [statistics.median(s for s, _, _ in results[name]) for name in given.only]
    floor = statistics.median(s for s, _, _ in results["inflating alone"])
    lines = [
        f"{datetime.date.today()}, {os.cpu_count()} cores, {platform.machine()}, {given.rounds} rounds in turn, "
        f"{sum(os.path.getsize(p) for p in glob.glob(f'{given.parts}/**/*.gz', recursive=True)) / 1e6:.0f} MB of gzip",
        "",
        "| | wall, median (least–most) | of the fastest peer | of inflating alone | peak memory | output |",
        "|---|---|---|---|---|---|",
    ]
    for name, runs in results.items():
        wall = [s for s, _, _ in runs]
        median = statistics.median(wall)
        of_peer = f"{median / min(peers):.2f}x" if peers else "–"
        lines.append(
            f"| {name} | {median:.2f} s ({min(wall):.2f}–{max(wall):.2f}) | {of_peer} | {median / floor:.2f}x "
            f"| {max(m for _, m, _ in runs):.0f} MB | {statistics.median(b for _, _, b in runs):.1f} MB |"
        )
    table = "\n".join(lines) + "\n"
    print(table)
    if given.out:
        with open(given.out, "w") as file:
            file.write(table)


if __name__ == "__main__":
    main()
