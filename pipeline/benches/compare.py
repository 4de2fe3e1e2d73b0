"""Measures ingest against the tools that people would use instead, on the same data and cores: `make bench`.

Takes folders of gzip parts: those of each tenant grouped by device, as an export has them by custom, and the same records in
no order, as it may have them. Every tool writes them as Parquet partitioned by OSPlatform, with the same zstd level,
statistics and no bloom filters; they are run in turn, round after round, case by case. Prints medians and spread of wall
time, peak memory and output size as Markdown tables, once all have written the same number of rows. The other tools read the
columns that they can, and none of them checks, counts or rejects anything. Their time is that inside Python, ours that of the
whole process. Other datasets than software inventory are measured the same way, each grouped by device.

Then ours alone, in turn too: all records of a tenant in one large part, and on one core.
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

# What a figure of ours may be at most, by order of the records. Missing one fails nothing: seconds are no test.
TARGETS = {
    "grouped": {"of the fastest peer": 0.36, "of inflating alone": 2.8, "of the smallest peer's": 1.0},
    "shuffled": {"of the fastest peer": 0.55, "of the smallest peer's": 1.0},
    # Of the other datasets.
    "dataset": {"of the fastest peer": 0.45, "of the smallest peer's": 1.0},
}
ONE_PART_TARGET = 1.3
ONE_CORE_TARGET = 2.1

SOFTWARE_INVENTORY = "software_inventory"

# By dataset, what the peers read: names as files spell them.
COLUMNS = {
    SOFTWARE_INVENTORY: {
        "DeviceId": "VARCHAR",
        "DeviceName": "VARCHAR",
        "RbacGroupName": "VARCHAR",
        "RbacGroupId": "BIGINT",
        "SoftwareVendor": "VARCHAR",
        "SoftwareName": "VARCHAR",
        "SoftwareVersion": "VARCHAR",
        "NumberOfWeaknesses": "INTEGER",
        "DiskPaths": "VARCHAR[]",
        "RegistryPaths": "VARCHAR[]",
        "SoftwareFirstSeenTimestamp": "TIMESTAMP",
        "SoftwareLastSeenTimestamp": "TIMESTAMP",
        "EndOfSupportStatus": "VARCHAR",
        "EndOfSupportDate": "TIMESTAMP",
        "SoftwareTags": "VARCHAR[]",
        "ProductCategory": "VARCHAR",
        "OSPlatform": "VARCHAR",
    },
    "software_vulnerabilities": {
        "Id": "VARCHAR",
        "DeviceId": "VARCHAR",
        "DeviceName": "VARCHAR",
        "RbacGroupName": "VARCHAR",
        "RbacGroupId": "BIGINT",
        "OSVersion": "VARCHAR",
        "OSArchitecture": "VARCHAR",
        "SoftwareVendor": "VARCHAR",
        "SoftwareName": "VARCHAR",
        "SoftwareVersion": "VARCHAR",
        "CveId": "VARCHAR",
        "CvssScore": "DOUBLE",
        "VulnerabilitySeverityLevel": "VARCHAR",
        "ExploitabilityLevel": "VARCHAR",
        "IsOnboarded": "BOOLEAN",
        "FirstSeenTimestamp": "TIMESTAMP",
        "LastSeenTimestamp": "TIMESTAMP",
        "RecommendationReference": "VARCHAR",
        "SecurityUpdateAvailable": "BOOLEAN",
        "RecommendedSecurityUpdate": "VARCHAR",
        "RecommendedSecurityUpdateId": "VARCHAR",
        "RecommendedSecurityUpdateUrl": "VARCHAR",
        "CveBatchTitle": "VARCHAR",
        "CveBatchUrl": "VARCHAR",
        "DiskPaths": "VARCHAR[]",
        "RegistryPaths": "VARCHAR[]",
        "EndOfSupportStatus": "VARCHAR",
        "EndOfSupportDate": "TIMESTAMP",
        "CveMitigationStatus": "VARCHAR",
        "ProductCategory": "VARCHAR",
        "OSPlatform": "VARCHAR",
    },
    "information_gathering": {
        "DeviceId": "VARCHAR",
        "DeviceName": "VARCHAR",
        "RbacGroupName": "VARCHAR",
        "RbacGroupId": "BIGINT",
        "OsVersion": "VARCHAR",
        "Timestamp": "TIMESTAMP",
        "LastSeenTime": "TIMESTAMP",
        "DeviceGatheredInfo": "VARCHAR",
        "OsPlatform": "VARCHAR",
    },
}


def platform_of(dataset):
    """Returns the name of the column that files are partitioned by: the last one."""
    return list(COLUMNS[dataset])[-1]


def duckdb(parts, out, dataset=SOFTWARE_INVENTORY, bloom_filters=False):
    import duckdb

    columns = ", ".join(f"'{name}': '{kind}'" for name, kind in COLUMNS[dataset].items())
    duckdb.sql(
        f"COPY (FROM read_json('{parts}/**/*.json.gz', format='newline_delimited', columns={{{columns}}})) "
        f"TO '{out}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL {ZSTD_LEVEL}, "
        f"WRITE_BLOOM_FILTER {bloom_filters}, PARTITION_BY ({platform_of(dataset)}))"
    )


def chdb(parts, out, dataset=SOFTWARE_INVENTORY):
    import chdb

    kinds = {"VARCHAR": "Nullable(String)", "INTEGER": "Nullable(Int32)", "VARCHAR[]": "Array(String)",
             "TIMESTAMP": "Nullable(String)", "BIGINT": "Nullable(Int64)", "DOUBLE": "Nullable(Float64)", "BOOLEAN": "Nullable(Bool)"}
    schema = ", ".join(f"{name} {kinds[kind]}" for name, kind in COLUMNS[dataset].items())
    os.makedirs(out)
    chdb.query(
        f"INSERT INTO FUNCTION file('{out}/{{_partition_id}}.parquet', 'Parquet') PARTITION BY ifNull({platform_of(dataset)}, 'null') "
        f"SELECT * FROM file('{parts}/**/*.json.gz', 'JSONEachRow', '{schema}') "
        f"SETTINGS output_format_parquet_compression_method = 'zstd', output_format_compression_level = {ZSTD_LEVEL}, "
        "output_format_parquet_write_bloom_filter = 0, input_format_null_as_default = 1"
    )


def polars(parts, out, dataset=SOFTWARE_INVENTORY):
    import polars as pl

    kinds = {"VARCHAR": pl.String, "INTEGER": pl.Int32, "VARCHAR[]": pl.List(pl.String), "TIMESTAMP": pl.String,
             "BIGINT": pl.Int64, "DOUBLE": pl.Float64, "BOOLEAN": pl.Boolean}
    schema = {name: kinds[kind] for name, kind in COLUMNS[dataset].items()}
    pl.scan_ndjson(sorted(glob.glob(f"{parts}/**/*.json.gz", recursive=True)), schema=schema).sink_parquet(
        pl.PartitionBy(out, key=[platform_of(dataset)], include_key=False), compression="zstd", compression_level=ZSTD_LEVEL,
        statistics=True, mkdir=True,
    )


def pyarrow(parts, out, dataset=SOFTWARE_INVENTORY):
    import pyarrow as pa
    import pyarrow.dataset as ds
    import pyarrow.json as pj

    kinds = {"VARCHAR": pa.string(), "INTEGER": pa.int32(), "VARCHAR[]": pa.list_(pa.string()), "TIMESTAMP": pa.string(),
             "BIGINT": pa.int64(), "DOUBLE": pa.float64(), "BOOLEAN": pa.bool_()}
    schema = pa.schema([(name, kinds[kind]) for name, kind in COLUMNS[dataset].items()])
    parse = pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    read = pj.ReadOptions(block_size=8 << 20)

    def batches():
        for part in sorted(glob.glob(f"{parts}/**/*.json.gz", recursive=True)):
            with pa.input_stream(part, compression="gzip") as stream:
                yield from pj.read_json(stream, read, parse).to_batches()

    form = ds.ParquetFileFormat()
    options = form.make_write_options(compression="zstd", compression_level=ZSTD_LEVEL, write_statistics=True)
    partitioning = ds.partitioning(pa.schema([(platform_of(dataset), pa.string())]), flavor="hive")
    ds.write_dataset(batches(), out, schema=schema, format=form, partitioning=partitioning, file_options=options)


# Each with the modules that it imports, which are not timed.
PEERS = {
    "duckdb": (duckdb, ["duckdb"]),
    "chdb": (chdb, ["chdb"]),
    "polars": (polars, ["polars"]),
    "pyarrow": (pyarrow, ["pyarrow.dataset", "pyarrow.json"]),
}


def run_peer(name, dataset, parts, out):
    """Runs a peer in this process; prints its seconds."""
    peer, modules = PEERS[name]
    for module in modules:
        importlib.import_module(module)
    before = time.perf_counter()
    peer(parts, out, dataset)
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


def in_turn(contenders, rounds, out, count_rows):
    """Runs every command, round after round; returns the runs of each, and how many rows all that write have written."""
    results, rows = {}, {}
    for _ in range(rounds):
        for name, command in contenders.items():
            seconds, memory = run(command)
            results.setdefault(name, []).append((seconds, memory, size_mb(out)))
            if os.path.exists(out):
                rows[name] = int(subprocess.check_output([*count_rows]))
                shutil.rmtree(out)
            if len(set(rows.values())) > 1:
                sys.exit(f"not the same rows: {rows}")
    return results, next(iter(rows.values()))


def median_of(runs, index):
    return statistics.median(run[index] for run in runs)


def wall(runs):
    return f"{median_of(runs, 0):.2f} s ({min(run[0] for run in runs):.2f}–{max(run[0] for run in runs):.2f})"


def ratio(value, target):
    """Returns a ratio with its target if it has one, in bold if it misses that."""
    if target is None:
        return f"{value:.2f}x"
    shown = f"{value:.2f}x" if round(value, 2) <= target else f"**{value:.2f}x**"
    return f"{shown} ({target}x)"


HEADS = ["wall, median (least–most)", "of the fastest peer", "of inflating alone", "peak memory", "output", "of the smallest peer's"]


def rows_of(results, peers, order):
    """Returns the cells of each contender's row."""
    floor = median_of(results["inflating alone"], 0)
    fastest = min((median_of(results[name], 0) for name in peers), default=None)
    smallest = min((median_of(results[name], 2) for name in peers), default=None)
    cells = {}
    for name, runs in results.items():
        targets = TARGETS[order] if name == "defender-lake" else {}
        size = median_of(runs, 2)
        cells[name] = [
            wall(runs),
            ratio(median_of(runs, 0) / fastest, targets.get(HEADS[1])) if fastest else "–",
            ratio(median_of(runs, 0) / floor, targets.get(HEADS[2])),
            f"{max(run[1] for run in runs):.0f} MB",
            f"{size:.1f} MB" if size else "–",
            ratio(size / smallest, targets.get(HEADS[5])) if size and smallest else "–",
        ]
    return cells


def table(head, rows):
    return [f"| {' | '.join(['', *head])} |".replace("|  |", "| |"), "|---" * (len(head) + 1) + "|",
            *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items())]


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--program", required=True, help="defender-lake")
    arguments.add_argument("--inflate", required=True, help="a program that inflates every part, for the floor")
    arguments.add_argument("--case", nargs=3, action="append", default=[], metavar=("TENANT", "ORDER", "PARTS"),
                           help=f"a tenant's name, the order of its records ({' or '.join(TARGETS)}), and its folder of gzip parts")
    arguments.add_argument("--dataset", nargs=2, action="append", default=[], metavar=("NAME", "PARTS"),
                           help=f"another dataset ({', '.join(list(COLUMNS)[1:])}), and its folder of gzip parts")
    arguments.add_argument("--one-part", nargs=2, action="append", default=[], metavar=("ORDER", "PART"),
                           help="the folder of one gzip part with the records of the first tenant in that order")
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--only", nargs="*", default=list(PEERS), help="peers to run")
    arguments.add_argument("--out", help="file for the tables")
    # What this program calls itself with: memory is that of a process, and Python keeps what it has imported.
    arguments.add_argument("--peer", nargs=4, help=argparse.SUPPRESS)
    arguments.add_argument("--rows", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.rows:
        return print_rows(given.rows)
    if given.peer:
        return run_peer(*given.peer)
    for _, order, _ in given.case:
        if order not in TARGETS:
            arguments.error(f"not an order of records: {order}")
    for dataset, _ in given.dataset:
        if dataset not in COLUMNS:
            arguments.error(f"not a dataset that the peers read: {dataset}")

    summary, tables = {}, []
    with tempfile.TemporaryDirectory() as scratch:
        out = f"{scratch}/out"
        this = [sys.executable, sys.argv[0], "--program", given.program, "--inflate", given.inflate]

        def ingest(parts, *options):
            return [given.program, "ingest", "-q", *options, "--from", parts, "--lake", out, "--work-dir", f"{scratch}/work"]

        cases = [(f"{tenant}, {order}", SOFTWARE_INVENTORY, order, parts) for tenant, order, parts in given.case]
        cases += [(dataset.replace("_", " "), dataset, "dataset", parts) for dataset, parts in given.dataset]
        for title, dataset, order, parts in cases:
            contenders = {"inflating alone": [given.inflate, parts], "defender-lake": ingest(parts, "--dataset", dataset)}
            contenders |= {peer: [*this, "--peer", peer, dataset, parts, out] for peer in given.only}
            results, num_rows = in_turn(contenders, given.rounds, out, [*this, "--rows", out])
            cells = rows_of(results, given.only, order)
            summary[title] = cells["defender-lake"]
            tables += ["", f"### {title}", "", f"{num_rows} rows in {size_mb(parts, '*.gz'):.0f} MB of gzip.", "",
                       *table(HEADS, cells)]

        alone = {}
        for order, one_part in given.one_part:
            parts = next(parts for _, of, parts in given.case if of == order)
            targets = {"as above": None, "one large part": ONE_PART_TARGET, "one thread": ONE_CORE_TARGET, "one core": ONE_CORE_TARGET}
            contenders = {"as above": ingest(parts), "one large part": ingest(one_part)}
            contenders["one thread"] = ingest(parts, "--threads", "1")
            if shutil.which("taskset"):
                contenders["one core"] = ["taskset", "-c", "0", *ingest(parts)]
            results, _ = in_turn(contenders, given.rounds, out, [*this, "--rows", out])
            for name, runs in results.items():
                times = ratio(median_of(runs, 0) / median_of(results["as above"], 0), targets[name])
                alone[f"{order}, {name}"] = [wall(runs), times, f"{max(run[1] for run in runs):.0f} MB"]

    lines = [f"{machine()}, {given.rounds} rounds in turn, written by each with zstd {ZSTD_LEVEL}.",
             "Ours; in brackets what it may be at most, in bold what is more:", "", *table(HEADS, summary), *tables]
    if alone:
        lines += ["", "### One large part, one core", "",
                  f"The records of the {given.case[0][0]}, ours alone: in one gzip part, with `--threads 1`, and under `taskset -c 0`.", "",
                  *table(["wall, median (least–most)", "of the time above", "peak memory"], alone)]
    report(lines, given.out)


if __name__ == "__main__":
    main()
