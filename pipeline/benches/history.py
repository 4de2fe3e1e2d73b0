"""`diff` and `trend` against DuckDB, which gives the same rows from the same lake: `make bench-history`.

Takes a lake and compares its last two snapshots (`--compare diff`), or its key counts and counts of changes over all snapshots
but the newest, which is then the day after (`--compare trend`). DuckDB runs the SQL of the tests, for changes once as it is
("keys") and once as an expert would tune it ("hashes first"): rows whose hashes are in both snapshots are dropped before the
comparison. "Hashes kept" reads each snapshot's hashes once and not for each of its two pairs. Each run is a process of its own,
in turn, round after round, and writes all rows as Parquet; DuckDB's importing of Python is not counted. All must have written
the same rows. Prints medians and spread of wall time and peak memory as a Markdown table.
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

HASHES = f"SELECT hash({PRODUCT}, {ROW}) AS h, hash({PRODUCT}) AS g"
TOUCHED = f"""
CREATE OR REPLACE TEMP TABLE touched AS
    SELECT DISTINCT coalesce(o.g, n.g) AS g FROM {{old}} o FULL JOIN {{new}} n ON o.h = n.h WHERE o.h IS NULL OR n.h IS NULL;
CREATE OR REPLACE TEMP TABLE old_rows AS SELECT {PRODUCT}, {ROW} FROM old WHERE hash({PRODUCT}) IN (FROM touched);
CREATE OR REPLACE TEMP TABLE new_rows AS SELECT {PRODUCT}, {ROW} FROM new WHERE hash({PRODUCT}) IN (FROM touched);
"""
HASHES_FIRST = TOUCHED.format(old=f"({HASHES} FROM old)", new=f"({HASHES} FROM new)")
HASHES_KEPT = (
    f"CREATE OR REPLACE TEMP TABLE new_hashes AS {HASHES} FROM new;"
    + TOUCHED.format(old="old_hashes", new="new_hashes")
    + "ALTER TABLE old_hashes RENAME TO gone_hashes; ALTER TABLE new_hashes RENAME TO old_hashes; DROP TABLE gone_hashes;"
)
KEYS = "CREATE OR REPLACE VIEW old_rows AS FROM old; CREATE OR REPLACE VIEW new_rows AS FROM new;"

DIFF_WAYS = {"duckdb, keys": KEYS, "duckdb, hashes first": HASHES_FIRST}
CHANGES_WAYS = {"duckdb, hashes first": HASHES_FIRST, "duckdb, hashes kept": HASHES_KEPT}


def name_pair(connection, old, new):
    for name, date in (("old", old), ("new", new)):
        connection.execute(f"CREATE OR REPLACE VIEW {name} AS FROM software_inventory WHERE snapshot_date = DATE '{date}'")


def run_diff(connection, way, dates, out):
    name_pair(connection, *dates)
    connection.execute(DIFF_WAYS[way])
    connection.execute(f"COPY ({history.DIFF}) TO '{out}' (FORMAT parquet, COMPRESSION zstd)")


def run_trend(connection, _, dates, out):
    days = history.TREND.format(by="").replace("GROUP BY", f"WHERE snapshot_date <= DATE '{dates[-1]}' GROUP BY")
    connection.execute(f"COPY ({days}) TO '{out}' (FORMAT parquet, COMPRESSION zstd)")


def run_changes(connection, way, dates, out):
    if "hashes kept" in way:
        connection.execute(
            f"CREATE TEMP TABLE old_hashes AS {HASHES} FROM software_inventory WHERE snapshot_date = DATE '{dates[0]}'"
        )
    for index, pair in enumerate(zip(dates, dates[1:])):
        name_pair(connection, *pair)
        connection.execute(CHANGES_WAYS[way])
        counts = f"SELECT DATE '{pair[1]}' AS snapshot_date, Change, count(*) AS changes FROM ({history.DIFF}) GROUP BY ALL"
        connection.execute(f"INSERT INTO counts {counts}" if index else f"CREATE TEMP TABLE counts AS {counts}")
    connection.execute(f"COPY counts TO '{out}' (FORMAT parquet, COMPRESSION zstd)")


QUESTIONS = {"diff": run_diff, "trend": run_trend, "changes": run_changes}


def run_duckdb(question, way, lake, dates, out):
    """Answers as one process of DuckDB does; prints the seconds."""
    started = time.perf_counter()
    connection = history.connect(lake)
    connection.execute("SET preserve_insertion_order = false")
    QUESTIONS[question](connection, way, dates, out)
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


class Contest:
    """Commands that take turns; each writes a file of its own."""

    def __init__(self, given, scratch):
        self.given, self.scratch = given, scratch
        self.commands, self.prepared, self.measured = {}, {}, {}

    def file(self, name):
        return f"{self.scratch}/{name.replace(' ', '-').replace(',', '')}.parquet"

    def ours(self, name, *arguments, prepare=lambda: None):
        self.commands[name] = [self.given.program, *arguments, "--lake", self.given.lake, "--out", self.file(name)]
        self.prepared[name] = prepare

    def duckdb(self, question, name, way, dates):
        self.commands[name] = [
            sys.executable, __file__, "--question", question, "--way", way, "--lake", self.given.lake, "--dates", *dates,
            "--answer", self.file(name),
        ]
        self.prepared[name] = lambda: None

    def run(self):
        for _ in range(self.given.runs):
            for name, command in self.commands.items():
                self.prepared[name]()
                self.measured.setdefault(name, []).append(measure(command))

    def seconds(self, name):
        return statistics.median(second for second, _ in self.measured[name])

    def megabytes(self, name):
        return statistics.median(megabyte for _, megabyte in self.measured[name])

    def wall(self, name):
        every = [second for second, _ in self.measured[name]]
        return f"{self.seconds(name):.2f} s ({min(every):.2f}–{max(every):.2f})"

    def rows_against(self, names, peers):
        """Table rows with each name's share of the fastest peer and of the one with least memory."""
        best, least = min(map(self.seconds, peers)), min(map(self.megabytes, peers))
        return [
            f"| {name} | {self.wall(name)} | {self.seconds(name) / best:.2f}x | {self.megabytes(name):.0f} MB "
            f"| {self.megabytes(name) / least:.2f}x |"
            for name in names
        ]


HEADER = ["| | wall, median (least–most) | of DuckDB's best | peak memory | of DuckDB's least |", "|---|---|---|---|---|"]


def hold_equal(connection, one, other):
    """Ends if two relations do not have the same rows."""
    for some, others in ((one, other), (other, one)):
        missing = connection.execute(f"SELECT count(*) FROM (FROM {some} EXCEPT ALL FROM {others})").fetchone()[0]
        if missing:
            sys.exit(f"{missing} rows of {some} are not in {others}")


def compare_diff(given, manifests, scratch):
    last = manifests[-2:]
    contest = Contest(given, scratch)
    contest.ours("defender-lake diff", "diff")
    for way in DIFF_WAYS:
        contest.duckdb("diff", way, way, [date_of(manifest) for manifest in last])
    contest.run()
    connection = history.connect(given.lake)
    ours = f"'{contest.file('defender-lake diff')}'"
    num_changes = connection.execute(f"SELECT count(*) FROM {ours}").fetchone()[0]
    for way in DIFF_WAYS:
        hold_equal(connection, ours, f"'{contest.file(way)}'")
    rows = " and ".join(f"{manifest['totals']['rows']:,}" for manifest in last)
    return [
        f"{compare.machine()}, {given.runs} runs in turn; {rows} rows, {num_changes:,} changes", "", *HEADER,
        *contest.rows_against(contest.commands, DIFF_WAYS),
    ]


def compare_trend(given, manifests, scratch):
    dates = [date_of(manifest) for manifest in manifests]
    days, newest = dates[:-1], dates[-1]
    cache = pathlib.Path(given.lake, "_defender", "software_inventory", "changes.ndjson")

    def forget():
        cache.unlink(missing_ok=True)

    def forget_newest():
        forget()
        cache.write_bytes(cached)

    forget()
    subprocess.run(
        [given.program, "trend", "--changes", "--to", days[-1], "--lake", given.lake], check=True, stdout=subprocess.DEVNULL
    )
    cached = cache.read_bytes()
    contest = Contest(given, scratch)
    trend, changes = "defender-lake trend", "defender-lake trend --changes"
    after, again = "defender-lake trend --changes, a day later", "defender-lake trend --changes, again"
    contest.ours(trend, "trend", "--to", days[-1])
    contest.duckdb("trend", "duckdb, trend", "", days)
    contest.ours(changes, "trend", "--changes", "--to", days[-1], prepare=forget)
    peers = [f"{way}, changes" for way in CHANGES_WAYS]
    for way, name in zip(CHANGES_WAYS, peers):
        contest.duckdb("changes", name, way, days)
    contest.ours(after, "trend", "--changes", prepare=forget_newest)
    contest.ours(again, "trend", "--changes")
    contest.ours("defender-lake diff of that day", "diff")
    contest.run()

    connection = history.connect(given.lake)
    hold_equal(connection, f"'{contest.file(trend)}'", f"'{contest.file('duckdb, trend')}'")
    ours = (
        f"(FROM (UNPIVOT (SELECT * EXCLUDE (OldGeneratedTime, NewGeneratedTime) FROM '{contest.file(changes)}') "
        "ON * EXCLUDE (snapshot_date) INTO NAME Change VALUE changes) WHERE changes > 0)"
    )
    for name in peers:
        hold_equal(connection, ours, f"'{contest.file(name)}'")
    hold_equal(connection, f"(FROM '{contest.file(after)}' WHERE snapshot_date < DATE '{newest}')", f"'{contest.file(changes)}'")
    hold_equal(connection, f"'{contest.file(after)}'", f"'{contest.file(again)}'")

    diff = contest.seconds("defender-lake diff of that day")
    rows = statistics.mean(manifest["totals"]["rows"] for manifest in manifests[:-1])
    num_changes = connection.execute(f"SELECT sum(changes) FROM {ours}").fetchone()[0]
    return [
        f"{compare.machine()}, {given.runs} runs in turn; {len(days)} days of {rows:,.0f} rows on average, {num_changes:,} changes",
        "", *HEADER,
        *contest.rows_against([trend, "duckdb, trend"], ["duckdb, trend"]),
        *contest.rows_against([changes, *peers], peers),
        "", "| | wall, median (least–most) | of a diff | peak memory |", "|---|---|---|---|",
        *(
            f"| {name} | {contest.wall(name)} | {contest.seconds(name) / diff:.2f}x | {contest.megabytes(name):.0f} MB |"
            for name in (after, again, "defender-lake diff of that day")
        ),
    ]


def date_of(manifest):
    return manifest["generated_time"][:10]


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--program", help="defender-lake")
    arguments.add_argument("--lake", required=True)
    arguments.add_argument("--compare", choices=["diff", "trend"], default="diff")
    arguments.add_argument("--runs", type=int, default=5)
    arguments.add_argument("--out", help="file for the table")
    # What this program calls itself with.
    arguments.add_argument("--question", choices=QUESTIONS, help=argparse.SUPPRESS)
    arguments.add_argument("--way", help=argparse.SUPPRESS)
    arguments.add_argument("--answer", help=argparse.SUPPRESS)
    arguments.add_argument("--dates", nargs="*", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.question:
        return run_duckdb(given.question, given.way, given.lake, given.dates, given.answer)

    listed = subprocess.run(
        [given.program, "snapshots", "--json", "--lake", given.lake], check=True, capture_output=True, text=True
    )
    compared = {"diff": compare_diff, "trend": compare_trend}[given.compare]
    with tempfile.TemporaryDirectory() as scratch:
        lines = compared(given, json.loads(listed.stdout), scratch)
    compare.report(lines, given.out)


if __name__ == "__main__":
    main()
