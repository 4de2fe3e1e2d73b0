"""`diff` against DuckDB, which gives the same rows from the same lake: `make bench-history`.

Takes a lake of two snapshots or more and compares the last two. DuckDB runs the SQL of the tests, once as it is ("keys") and
once as an expert would tune it ("hashes first"): rows whose hashes are in both snapshots are dropped before the comparison. Each run is a process of its own, in turn, round after round, and writes all changes as Parquet;
DuckDB's importing of Python is not counted. All must have written the same rows. Prints medians and spread of wall time and
peak memory as a Markdown table.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

READERS = pathlib.Path(__file__).parent.parent.parent / "tests" / "readers"
sys.path[:0] = [str(READERS), str(pathlib.Path(__file__).parent)]

import compare
import history

ROW = "SoftwareVersion, NumberOfWeaknesses, EndOfSupportStatus"
PRODUCT = "DeviceId, SoftwareVendor, SoftwareName"

HASHES_FIRST = f"""
CREATE TEMP TABLE touched AS
    WITH o AS (SELECT hash({PRODUCT}, {ROW}) AS h, hash({PRODUCT}) AS g FROM old),
         n AS (SELECT hash({PRODUCT}, {ROW}) AS h, hash({PRODUCT}) AS g FROM new)
    SELECT DISTINCT coalesce(o.g, n.g) AS g FROM o FULL JOIN n ON o.h = n.h WHERE o.h IS NULL OR n.h IS NULL;
CREATE TEMP TABLE old_rows AS SELECT {PRODUCT}, {ROW} FROM old WHERE hash({PRODUCT}) IN (FROM touched);
CREATE TEMP TABLE new_rows AS SELECT {PRODUCT}, {ROW} FROM new WHERE hash({PRODUCT}) IN (FROM touched);
"""
KEYS = "CREATE VIEW old_rows AS FROM old; CREATE VIEW new_rows AS FROM new;"
WAYS = {"duckdb, keys": KEYS, "duckdb, hashes first": HASHES_FIRST}


def run_duckdb(way, lake, dates, out):
    """Answers as one process of DuckDB does; prints the seconds."""
    started = time.perf_counter()
    connection = history.connect(lake)
    connection.execute("SET preserve_insertion_order = false")
    for name, date in zip(("old", "new"), dates):
        connection.execute(f"CREATE VIEW {name} AS FROM software_inventory WHERE snapshot_date = DATE '{date}'")
    connection.execute(WAYS[way])
    connection.execute(f"COPY ({history.DIFF}) TO '{out}' (FORMAT parquet, COMPRESSION zstd)")
    print(time.perf_counter() - started)


def measure(command):
    """Returns seconds and peak megabytes of a process; seconds as it says them where it does."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    elapsed = time.perf_counter() - started
    if status != 0:
        sys.exit(f"{command} failed")
    try:
        elapsed = float(said)
    except ValueError:
        pass
    return elapsed, usage.ru_maxrss / 1024


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--program", help="defender-lake, built with the feature history")
    arguments.add_argument("--lake", required=True)
    arguments.add_argument("--runs", type=int, default=5)
    arguments.add_argument("--out", help="file for the table")
    arguments.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    arguments.add_argument("--changes", help=argparse.SUPPRESS)
    arguments.add_argument("--dates", nargs=2, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.way:
        return run_duckdb(given.way, given.lake, given.dates, given.changes)

    listed = subprocess.run(
        [given.program, "snapshots", "--json", "--lake", given.lake], check=True, capture_output=True, text=True
    )
    last = json.loads(listed.stdout)[-2:]
    dates = [manifest["generated_time"][:10] for manifest in last]
    with tempfile.TemporaryDirectory() as scratch:
        def changes(way):
            return f"{scratch}/{way.replace(' ', '-')}.parquet"

        commands = {"defender-lake diff": [given.program, "diff", "--lake", given.lake, "--out", changes("defender-lake diff")]}
        for way in WAYS:
            commands[way] = [
                sys.executable, __file__, "--way", way, "--lake", given.lake, "--dates", *dates, "--changes", changes(way),
            ]
        measured = {way: [] for way in commands}
        for _ in range(given.runs):
            for way, command in commands.items():
                measured[way].append(measure(command))
        connection = history.connect(given.lake)
        ours = changes("defender-lake diff")
        num_changes = connection.execute(f"SELECT count(*) FROM '{ours}'").fetchone()[0]
        for way in WAYS:
            for one, other in ((ours, changes(way)), (changes(way), ours)):
                rows = connection.execute(f"SELECT count(*) FROM (FROM '{one}' EXCEPT ALL FROM '{other}')").fetchone()[0]
                if rows:
                    sys.exit(f"{rows} rows of {one} are not in {other}")

    seconds = {way: [second for second, _ in runs] for way, runs in measured.items()}
    megabytes = {way: [megabyte for _, megabyte in runs] for way, runs in measured.items()}
    best = min(statistics.median(seconds[way]) for way in WAYS)
    least = min(statistics.median(megabytes[way]) for way in WAYS)
    rows = " and ".join(f"{manifest['totals']['rows']:,}" for manifest in last)
    lines = [
        f"{compare.machine()}, {given.runs} runs in turn; {rows} rows, {num_changes:,} changes",
        "",
        "| | wall, median (least–most) | of DuckDB's best | peak memory | of DuckDB's least |",
        "|---|---|---|---|---|",
    ]
    for way in commands:
        second, megabyte = statistics.median(seconds[way]), statistics.median(megabytes[way])
        lines.append(
            f"| {way} | {second:.2f} s ({min(seconds[way]):.2f}–{max(seconds[way]):.2f}) | {second / best:.2f}x | "
            f"{megabyte:.0f} MB | {megabyte / least:.2f}x |"
        )
    compare.report(lines, given.out)


if __name__ == "__main__":
    main()
