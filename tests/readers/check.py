"""Compares what one reader finds in lakes with what it should find; tests/readers.rs runs it.

    check.py READER --check rows              --lake … --program … --generated-time … PART...
    check.py READER --check partition-values  --lake … --program …
    check.py READER --check answers           --lake … --program … QUESTION.sql...
    check.py READER --check counts            --lake … --program …
    check.py READER --check mixed-columns     --lake … --program … DATE-WITH-EXTRA-FIELDS DATE-WITHOUT

READER is duckdb, spark, spark3 (Spark 3, as spark), pyarrow or polars, or delta_duckdb, delta_rs or delta_polars for Delta tables.
Several checks, each with its own arguments, share a process. Exits with 1 and prints what differs.
"""

import argparse
import collections
import csv
import datetime
import importlib
import io
import json
import subprocess
import sys
from pathlib import Path

import wire


def utc(*parts):
    return datetime.datetime(*parts, tzinfo=datetime.timezone.utc)


# Of the hand-written samples, by SoftwareName: what a row must hold, stated without a decoder.
LANDMARKS = [
    ("date_with_offset", "EndOfSupportDate", datetime.date(2021, 5, 11)),
    ("date_alone", "EndOfSupportDate", datetime.date(2020, 12, 30)),
    ("date_absent", "EndOfSupportDate", None),
    ("first_seen_millis", "SoftwareFirstSeenTimestamp", utc(2021, 1, 30, 11, 31, 12, 271_000)),
    ("first_seen_ticks", "SoftwareFirstSeenTimestamp", utc(2020, 11, 3, 10, 13, 34, 847_688)),
    ("first_seen_iso", "SoftwareFirstSeenTimestamp", utc(2020, 11, 3, 10, 13, 34)),
    ("both_filled", "DiskPaths", ("C:\\a.exe", "C:\\b.exe")),
    ("both_empty", "DiskPaths", ()),
    ("both_absent", "DiskPaths", None),
    ("both_null", "DiskPaths", None),
    ("both_empty", "RegistryPaths", ()),
    ("both_absent", "RegistryPaths", None),
    ("platform_empty", "OSPlatform", None),
    ("platform_null", "OSPlatform", None),
]

# fixtures/samples/software-inventory/partition-values.ndjson, by SoftwareName.
PARTITION_VALUES = {
    "slash": "a/b",
    "dot_dot": "..",
    "dot": ".",
    "equals": "x=y",
    "percent": "50%",
    "percent_escape": "%41",
    "blank": "Windows 10",
    "trailing_blank": "Windows ",
    "plus": "mac+OS",
    "accent": "é",
    "emoji": "🖥",
    "quotes": '"q"',
    "backslash": "a\\b",
    "tab": "a\tb",
    "newline": "a\nb",
    "del": "a\x7fb",
    "glob": "a*[b]?",
    "null_marker": "__HIVE_DEFAULT_PARTITION__",
    "empty": None,
    "null": None,
    "absent": None,
    "leading_zero": "01001",
    "boolean": "true",
    "null_word": "NULL",
    "date": "2021-01-01",
}


READERS = ["duckdb", "spark", "spark3", "pyarrow", "polars", "delta_duckdb", "delta_rs", "delta_polars"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("reader", choices=READERS)
    parser.add_argument("--check", required=True, choices=["rows", "partition-values", "answers", "counts", "mixed-columns"])
    parser.add_argument("--lake", required=True)
    parser.add_argument("--program", required=True)
    parser.add_argument("--generated-time", type=datetime.datetime.fromisoformat)
    parser.add_argument("files", nargs="*")
    checks = {
        "rows": check_rows,
        "partition-values": check_partition_values,
        "answers": check_answers,
        "counts": check_counts,
        "mixed-columns": check_mixed_columns,
    }
    name, *given = sys.argv[1:]
    starts = [index for index, argument in enumerate(given) if argument == "--check"]
    differences = []
    for start, end in zip(starts, [*starts[1:], len(given)], strict=True):
        args = parser.parse_intermixed_args([name, *given[start:end]])
        reader = importlib.import_module("by_" + args.reader.removesuffix("3"))
        differences += (f"{name}, {args.check}: {difference}" for difference in checks[args.check](reader, args))
    if differences or not starts:
        sys.exit("\n".join(differences) or parser.format_usage())


def check_rows(reader, args):
    wanted = collections.Counter(wire.rows(args.files, args.generated_time))
    for way, types, rows in reader.ways(args.lake, args.program):
        if types != reader.TYPES:
            yield f"{way}: types are {types}"
        found = collections.Counter(map(canonical, rows))
        if found != wanted:
            yield (
                f"{way}: {found.total()} rows, where {wanted.total()} records make as many; "
                f"missing {few(wanted - found)}; not of the parts {few(found - wanted)}"
            )
        by_name = {row[wire.COLUMNS.index("SoftwareName")]: row for row in found}
        for name, column, value in LANDMARKS:
            if name not in by_name:
                yield f"{way}: no row is {name}"
            elif (got := by_name[name][wire.COLUMNS.index(column)]) != value:
                yield f"{way}: {column} of {name} is {got!r}, not {value!r}"


def check_counts(reader, args):
    """Rows of each date, against what the manifests say."""
    command = [args.program, "snapshots", "--json", "--lake", args.lake]
    manifests = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    wanted = {manifest["generated_time"][:10]: manifest["totals"]["rows"] for manifest in manifests}
    date = wire.COLUMNS.index("snapshot_date")
    for way, _types, rows in reader.ways(args.lake, args.program):
        found = collections.Counter(row[date].isoformat() for row in rows)
        if found != wanted:
            yield f"{way}: rows by date are {dict(found)}, not {wanted}"


def check_mixed_columns(reader, args):
    """Two records of each date, of which one has an undocumented field; it was captured on one of the dates."""
    with_column, without = map(datetime.date.fromisoformat, args.files)
    wanted = collections.Counter({(with_column, '{"New":1}'): 1, (with_column, None): 1, (without, None): 2})
    date, extra = wire.COLUMNS.index("snapshot_date"), len(wire.COLUMNS)
    for way, types, rows in reader.ways(args.lake, args.program):
        if types != {**reader.TYPES, wire.EXTRA_FIELDS: reader.TEXT}:
            yield f"{way}: types are {types}"
        elif (found := collections.Counter((row[date], row[extra]) for row in rows)) != wanted:
            yield f"{way}: dates and undocumented fields are {dict(found)}, not {dict(wanted)}"


def check_partition_values(reader, args):
    name, platform = wire.COLUMNS.index("SoftwareName"), wire.COLUMNS.index("OSPlatform")
    for way, types, rows in reader.ways(args.lake, args.program):
        if types != reader.TYPES:
            yield f"{way}: types are {types}"
        rows = [canonical(row) for row in rows]
        found = {row[name]: row[platform] for row in rows}
        wanted = {**PARTITION_VALUES, "null_marker": reader.NULL_MARKER_READS_AS}
        if len(rows) != len(found) or found != wanted:
            labels = [label for label in wanted | found if wanted.get(label, "?") != found.get(label, "?")]
            different = ", ".join(f"{label} is {found.get(label, 'not there')!r}" for label in labels)
            yield f"{way}: {len(rows)} rows, {len(wanted)} wanted; {different}"


def check_answers(reader, args):
    files = [Path(file) for file in args.files]
    questions = [file.read_text(encoding="utf-8") for file in files]
    for file, (names, rows) in zip(files, reader.answers(args.lake, args.program, questions), strict=True):
        answer = as_csv(names, rows)
        if answer != file.with_suffix(".csv").read_text(encoding="utf-8"):
            yield f"{file.name}: the answer is\n{answer}"


def as_csv(names, rows):
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)
    return text.getvalue()


def canonical(row):
    """A row as wire.rows gives it: lists as tuples, timestamps in UTC."""
    return tuple(map(canonical_value, row))


def canonical_value(value):
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.timezone.utc)
    return value


def few(rows):
    return f"{rows.total()}: {list(rows)[:3]}"


main()
