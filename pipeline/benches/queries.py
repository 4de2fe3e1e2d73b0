"""Measures queries of DuckDB over ten snapshots of ours, and over the files that DuckDB writes from the same parts: `make bench`.

Parts are those of a tenant grouped by device, and the same records in no order. Each lake takes the same parts again, as one
snapshot a day. The three questions are those that people ask of an inventory:
which devices have a product, how many rows by platform and end-of-support status, and everything on one device.
Both lakes must answer with the same rows before anything is timed; then they take turns in one process, and the first turn is
not counted. "No such device" is the cost of opening the files alone. Prints medians and spread as Markdown tables, in bold
where an answer takes longer from ours.
"""

import argparse
import datetime
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

import compare
import duckdb

NEWEST = datetime.date(2021, 1, 11)
# Products by their rank in rows: the first, one a third of the way down, one of the last.
PRODUCT_RANKS = {"common": 0.0, "typical": 0.3, "rare": 0.999}
# Devices that are asked for; one query each, timed together.
DEVICES = 8
# Columns that both lakes have, with the same types.
SHARED = "DeviceId, DeviceName, SoftwareVendor, SoftwareName, SoftwareVersion, DiskPaths, RegistryPaths, OSPlatform"


def publish(program, parts, snapshots, scratch):
    """Writes both lakes; returns the folder of each."""
    lake, peers = f"{scratch}/lake", f"{scratch}/duckdb"
    os.makedirs(peers)
    for back in range(snapshots):
        day = NEWEST - datetime.timedelta(days=back)
        subprocess.run(
            [program, "ingest", "-q", "--from", parts, "--generated-time", f"{day}T11:01:00Z", "--lake", lake,
             "--work-dir", f"{scratch}/work"],
            check=True,
        )
        compare.duckdb(parts, f"{peers}/snapshot_date={day}", bloom_filters=True)
    return {"duckdb": peers, "ours": f"{lake}/software_inventory"}


def table(folder):
    return f"read_parquet('{folder}/**/*.parquet', hive_partitioning = true)"


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


def questions(connection, folder):
    """Returns the queries of each question, with {} for the table; a lake says what there is to ask for."""
    newest = f"snapshot_date = '{NEWEST}'"
    rows = f"(FROM {table(folder)} WHERE {newest})"
    products = connection.execute(
        f"SELECT SoftwareVendor, SoftwareName FROM {rows} WHERE SoftwareVendor IS NOT NULL AND SoftwareName IS NOT NULL "
        "GROUP BY ALL ORDER BY count(*) DESC, SoftwareVendor, SoftwareName"
    ).fetchall()
    devices = connection.execute(f"SELECT DISTINCT DeviceId FROM {rows} ORDER BY md5(DeviceId) LIMIT {DEVICES}").fetchall()
    asked = {}
    for days, only in (("all days", ""), ("newest day", f" AND {newest}")):
        for kind, rank in PRODUCT_RANKS.items():
            vendor, name = products[int(rank * (len(products) - 1))]
            asked[f"(a) devices with a {kind} product, {days}"] = [
                "SELECT DISTINCT DeviceId, DeviceName, SoftwareVersion FROM {} "
                f"WHERE SoftwareVendor = {quoted(vendor)} AND SoftwareName = {quoted(name)}{only}"
            ]
    asked["(b) rows by platform and end of support, all days"] = [
        "SELECT snapshot_date, OSPlatform, EndOfSupportStatus, count(*) FROM {} GROUP BY ALL"
    ]
    for days, only in (("all days", ""), ("newest day", f" AND {newest}")):
        asked[f"(c) everything on a device, {days}"] = [
            f"SELECT * FROM {{}} WHERE DeviceId = {quoted(device)}{only}" for device, in devices
        ]
    asked["no such device, all days"] = ["SELECT * FROM {} WHERE DeviceId = ''"]
    return asked


def check(connection, asked, folders):
    """Stops where the lakes do not answer with the same rows, in the columns that both have."""
    for name, queries in asked.items():
        for query in queries:
            shared = re.sub(r"^SELECT \*", f"SELECT {SHARED}", query)
            found = {
                connection.execute(
                    f"SELECT count(*), sum(hash(answer::VARCHAR)::HUGEINT) FROM ({shared.format(table(folder))}) answer"
                ).fetchone()
                for folder in folders.values()
            }
            if len(found) != 1:
                sys.exit(f"the lakes differ in {name}: {query}: {found}")


def measure(connection, asked, folders, runs):
    """Returns milliseconds a query, of each run, by question and lake."""
    millis = {}
    for turn in range(runs + 1):
        for name, queries in asked.items():
            for lake, folder in folders.items():
                before = time.perf_counter()
                for query in queries:
                    connection.execute(query.format(table(folder))).to_arrow_table()
                if turn > 0:
                    millis.setdefault((name, lake), []).append(1e3 * (time.perf_counter() - before) / len(queries))
    return millis


def tables_of(program, order, parts, snapshots, runs):
    """Publishes both lakes from the parts and returns the lines of their table."""
    with tempfile.TemporaryDirectory() as scratch, duckdb.connect() as connection:
        folders = publish(program, parts, snapshots, scratch)
        size = {lake: compare.size_mb(folder) / snapshots for lake, folder in folders.items()}
        asked = questions(connection, folders["ours"])
        check(connection, asked, folders)
        millis = measure(connection, asked, folders, runs)

    lines = [
        "",
        f"### From {order} parts",
        "",
        f"Each snapshot is {size['ours']:.1f} MB of ours and {size['duckdb']:.1f} MB of DuckDB's.",
        "",
        "| | over DuckDB's files, median (least–most) | over ours | times as fast |",
        "|---|---|---|---|",
    ]
    for name in asked:
        medians = {lake: statistics.median(millis[name, lake]) for lake in folders}
        cells = [
            f"{medians[lake]:.1f} ms ({min(millis[name, lake]):.1f}–{max(millis[name, lake]):.1f})" for lake in folders
        ]
        times = f"{medians['duckdb'] / medians['ours']:.2f}x"
        slower = name.startswith("(") and medians["ours"] > medians["duckdb"]
        lines.append(f"| {name} | {' | '.join(cells)} | {f'**{times}**' if slower else times} |")
    return lines


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--program", required=True, help="defender-lake")
    arguments.add_argument("--case", nargs=2, action="append", required=True, metavar=("ORDER", "PARTS"),
                           help="the order of the records (grouped or shuffled), and their folder of gzip parts")
    arguments.add_argument("--snapshots", type=int, default=10)
    arguments.add_argument("--runs", type=int, default=7)
    arguments.add_argument("--out", help="file for the tables")
    given = arguments.parse_args()
    # Arrow is what costs least of the answer; the other way to get it plans a query twice.
    warnings.filterwarnings("ignore", message="Arrow output")

    lines = [f"{compare.machine()}, DuckDB {duckdb.__version__}, {given.runs} runs in turn; {given.snapshots} snapshots."]
    for order, parts in given.case:
        lines += tables_of(given.program, order, parts, given.snapshots, given.runs)
    compare.report(lines, given.out)


if __name__ == "__main__":
    main()
