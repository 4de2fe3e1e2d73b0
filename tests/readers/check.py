"""Compares what one reader finds in lakes with what it should find; tests/readers.rs runs it.

    check.py READER --check rows              --lake … --program … [--dataset …] SNAPSHOT...
    check.py READER --check samples           --lake … --program … SNAPSHOT...
    check.py READER --check partition-values  --lake … --program …
    check.py READER --check answers           --lake … --program … QUESTION.sql...
    check.py READER --check counts            --lake … --program …
    check.py READER --check mixed-columns     --lake … --program … DATE-WITH-EXTRA-FIELDS DATE-WITHOUT
    check.py READER --check old-columns       --lake … --program … COLUMN...

READER is duckdb, spark, spark3 (Spark 3, as spark), pyarrow or polars, or delta_duckdb, delta_rs or delta_polars for Delta tables.
A SNAPSHOT is a JSON object of its `generated_time` and `parts`; `columns` are those that its files have, if they are not all
of the declared ones, and `captured` says whether its undocumented fields were captured.
Several checks, each with its own arguments, share a process. Exits with 1 and prints what differs.
"""

import argparse
import collections
import csv
import datetime
import importlib
import io
import json
import re
import sys
from pathlib import Path

import program
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
    checks = {
        "rows": check_rows,
        "samples": check_samples,
        "partition-values": check_partition_values,
        "answers": check_answers,
        "counts": check_counts,
        "mixed-columns": check_mixed_columns,
        "views": check_views,
        "questions": check_questions,
        "figures": check_figures,
        "old-columns": check_old_columns,
    }
    parser = argparse.ArgumentParser()
    parser.add_argument("reader", choices=READERS)
    parser.add_argument("--check", required=True, choices=checks)
    parser.add_argument("--lake", required=True)
    parser.add_argument("--program", required=True)
    parser.add_argument("--dataset", default="software-inventory")
    parser.add_argument("given", nargs="*")
    name, *given = sys.argv[1:]
    starts = [index for index, argument in enumerate(given) if argument == "--check"]
    differences = []
    for start, end in zip(starts, [*starts[1:], len(given)], strict=True):
        args = parser.parse_intermixed_args([name, *given[start:end]])
        reader = importlib.import_module("by_" + args.reader.removesuffix("3"))
        found = checks[args.check](reader, args)
        differences += (f"{name}, {args.check}, {args.dataset}: {difference}" for difference in found)
    if differences or not starts:
        sys.exit("\n".join(differences) or parser.format_usage())


class Reading:
    """What a reader finds in one way: the rows, and the values of their columns by name."""

    def __init__(self, table, way, types, rows):
        self.way, self.types = way, types
        self.rows = [canonical(row) for row in rows]
        self.columns = table.present(types)

    def values(self, *names):
        """The values of some columns of each row."""
        positions = [self.columns.index(name) for name in names]
        return [tuple(row[position] for position in positions) for row in self.rows]


def readings(reader, args):
    """Yields what the reader finds in each way that it has."""
    table = program.declared(args.program, args.dataset)
    for way, types, rows in reader.ways(args.lake, args.program, table):
        yield Reading(table, way, types, rows)


def check_rows(reader, args, landmarks=()):
    table = program.declared(args.program, args.dataset)
    snapshots = list(map(json.loads, args.given))
    has_extra_fields = any(snapshot.get("captured") for snapshot in snapshots)
    wanted = collections.Counter()
    for snapshot in snapshots:
        time = datetime.datetime.fromisoformat(snapshot["generated_time"])
        captured = snapshot.get("captured", False) if has_extra_fields else None
        wanted.update(wire.rows(table, snapshot["parts"], time, snapshot.get("columns"), captured))
    for reading in readings(reader, args):
        way = reading.way
        if reading.types != table.types_of(reader, has_extra_fields):
            yield f"{way}: types are {reading.types}"
            continue
        found = collections.Counter(reading.rows)
        if found != wanted:
            yield (
                f"{way}: {found.total()} rows, where {wanted.total()} records make as many; "
                f"missing {few(wanted - found)}; not of the parts {few(found - wanted)}"
            )
        for name, column, value in landmarks:
            by_name = dict(reading.values("SoftwareName", column))
            if name not in by_name:
                yield f"{way}: no row is {name}"
            elif (got := by_name[name]) != value:
                yield f"{way}: {column} of {name} is {got!r}, not {value!r}"


def check_samples(reader, args):
    """As `rows`, of parts that have the hand-written samples among them."""
    yield from check_rows(reader, args, LANDMARKS)


def check_counts(reader, args):
    """Rows of each date, against what the manifests say."""
    manifests = json.loads(program.run(args.program, "snapshots", "--json", "--lake", args.lake))
    wanted = {manifest["generated_time"][:10]: manifest["totals"]["rows"] for manifest in manifests}
    for reading in readings(reader, args):
        found = collections.Counter(date.isoformat() for (date,) in reading.values("snapshot_date"))
        if found != wanted:
            yield f"{reading.way}: rows by date are {dict(found)}, not {wanted}"


def check_mixed_columns(reader, args):
    """Two records of each date, of which one has an undocumented field; it was captured on one of the dates."""
    with_column, without = map(datetime.date.fromisoformat, args.given)
    wanted = collections.Counter({(with_column, '{"New":1}'): 1, (with_column, None): 1, (without, None): 2})
    types = program.declared(args.program, args.dataset).types_of(reader, has_extra_fields=True)
    for reading in readings(reader, args):
        if reading.types != types:
            yield f"{reading.way}: types are {reading.types}"
        elif (found := collections.Counter(reading.values("snapshot_date", program.EXTRA_FIELDS))) != wanted:
            yield f"{reading.way}: dates and undocumented fields are {dict(found)}, not {dict(wanted)}"


def check_old_columns(reader, args):
    """No file has the given columns yet: a view has them, null, and what reads files alone has not."""
    table = program.declared(args.program, args.dataset)
    for reading in readings(reader, args):
        is_view = reading.way.startswith("the view of ")
        wanted = {name: kind for name, kind in table.types_of(reader).items() if is_view or name not in args.given}
        if reading.types != wanted:
            yield f"{reading.way}: types are {reading.types}"
        elif is_view and set(reading.values(*args.given)) != {(None,) * len(args.given)}:
            yield f"{reading.way}: {args.given} are not null"


def check_partition_values(reader, args):
    types = program.declared(args.program, args.dataset).types_of(reader)
    for reading in readings(reader, args):
        if reading.types != types:
            yield f"{reading.way}: types are {reading.types}"
        found = dict(reading.values("SoftwareName", "OSPlatform"))
        wanted = {**PARTITION_VALUES, "null_marker": reader.NULL_MARKER_READS_AS}
        if len(reading.rows) != len(found) or found != wanted:
            labels = [label for label in wanted | found if wanted.get(label, "?") != found.get(label, "?")]
            different = ", ".join(f"{label} is {found.get(label, 'not there')!r}" for label in labels)
            yield f"{reading.way}: {len(reading.rows)} rows, {len(wanted)} wanted; {different}"


def check_answers(reader, args):
    files = [Path(file) for file in args.given]
    questions = [file.read_text(encoding="utf-8") for file in files]
    for file, (names, rows) in zip(files, reader.answers(args.lake, args.program, questions), strict=True):
        answer = as_csv(names, rows)
        if answer != file.with_suffix(".csv").read_text(encoding="utf-8"):
            yield f"{file.name}: the answer is\n{answer}"


INSTALLED = "snapshot_date, DeviceId, SoftwareVendor, SoftwareName, SoftwareVersion"
AV_MODES = {"0": "Active", "1": "Passive", "2": "Disabled", "3": "Other", "4": "EDR blocked", "5": "Passive audit"}


def check_views(reader, args):
    """The views over several tables, each against the tables' own rows."""
    tables = program.datasets(args.program)
    sources = {
        "inventory": f"SELECT {INSTALLED} FROM software_inventory",
        "non_cpe": f"SELECT {INSTALLED} FROM software_inventory_non_cpe",
        "found": f"SELECT {INSTALLED}, CveId FROM software_vulnerabilities WHERE CveId IS NOT NULL",
        "gathered": "SELECT snapshot_date, DeviceId, DeviceGatheredInfo FROM information_gathering",
        "exposure": f"SELECT {INSTALLED}, CveId FROM exposure",
        "installed_software": f"SELECT {INSTALLED}, HasCpe FROM installed_software",
        "av_health": "SELECT snapshot_date, DeviceId, AvMode, AvEngineVersion, AvSignatureUpdateTime, AvIsEngineUpToDate,"
        " AvIsSignatureUpToDate, AvIsPlatformUpToDate, QuickScanStatus, FullScanTime FROM av_health",
        "devices": "SELECT snapshot_date, DeviceId, DeviceName FROM devices",
    }
    for table in tables:
        sources[table] = f"SELECT snapshot_date, DeviceId, DeviceName FROM {table}"
        sources[f"latest_{table}"] = f"SELECT snapshot_date, DeviceId, DeviceName FROM latest_{table}"
    answers = reader.answers(args.lake, args.program, list(sources.values()))
    rows = {name: [canonical(row) for row in answer] for name, (_, answer) in zip(sources, answers, strict=True)}

    installed = collections.Counter(rows["inventory"])
    wanted = {
        "exposure": collections.Counter(
            {row: count * installed[row[:-1]] for row, count in collections.Counter(rows["found"]).items()}
        ),
        "installed_software": collections.Counter(
            [(*row, True) for row in rows["inventory"]] + [(*row, False) for row in rows["non_cpe"]]
        ),
        "av_health": collections.Counter((date, device, *av_health(info)) for date, device, info in rows["gathered"]),
    }
    for table in tables:
        newest = max((row[0] for row in rows[table]), default=None)
        wanted[f"latest_{table}"] = collections.Counter(row for row in rows[table] if row[0] == newest)
    for view, wanted_rows in wanted.items():
        found = collections.Counter(rows[view])
        if +found != +wanted_rows:
            yield f"{view}: missing {few(wanted_rows - found)}; not of the tables {few(found - wanted_rows)}"
    names = collections.defaultdict(set)
    for table in tables:
        for date, device, name in rows[table]:
            names[date, device].add(name)
    found = {(date, device): name for date, device, name in rows["devices"]}
    if len(found) != len(rows["devices"]) or found.keys() != names.keys():
        yield f"devices: {len(rows['devices'])} rows of {len(found)} devices, where the tables have {len(names)}"
    for device, name in found.items():
        if name not in names[device] or (name is None and names[device] != {None}):
            yield f"devices: the name of {device} is {name!r}, of {names[device]}"


def av_health(info):
    """What the view says of what was gathered about a device."""
    states = json_object(info)
    scans = json_object(states.get("AvScanResults"))

    def flag(*keys):
        text = next((as_text(states[key]) for key in keys if states.get(key) is not None), None)
        return {"true": True, "false": False}.get(text and text.lower())

    return (
        AV_MODES.get(as_text(states.get("AvMode"))),
        as_text(states.get("AvEngineVersion")),
        as_text(states.get("AvSignatureUpdateTime")),
        flag("AvIsEngineUptodate", "AvIsEngineUpToDate"),
        flag("AvIsSignatureUptoDate", "AvIsSignatureUpToDate"),
        flag("AvIsPlatformUptodate", "AvIsPlatformUpToDate"),
        as_text(json_object(scans.get("Quick")).get("ScanStatus")),
        as_text(json_object(scans.get("Full")).get("Timestamp")),
    )


def json_object(value):
    """An object, or the one that JSON text is; anything else has no members."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    return value if isinstance(value, dict) else {}


def as_text(value):
    return value if value is None or isinstance(value, str) else json.dumps(value)


def check_questions(reader, args):
    """Every question of a page has an answer; writes the answers, to be compared with those of others."""
    page, file = args.given
    questions = re.findall(r"^```sql views\n(.*?)^```", Path(page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    answers = []
    for question, (names, rows) in zip(questions, reader.answers(args.lake, args.program, questions), strict=True):
        answers.append([names, sorted(repr(canonical(row)) for row in rows)])
        if not rows:
            yield f"no rows: {question}"
    Path(file).write_text(json.dumps(answers), encoding="utf-8")


def check_figures(reader, args):
    """Figures that `trend` gives, each row of them beside the query that counts the same."""
    asked = list(map(json.loads, args.given))
    answers = reader.answers(args.lake, args.program, [question["sql"] for question in asked])
    for question, (_, rows) in zip(asked, answers, strict=True):
        for name, found, wanted in zip(question["names"], rows[0], question["answer"], strict=True):
            is_same = found == wanted or (None not in (found, wanted) and abs(found - wanted) < 1e-12)
            if not is_same:
                yield f"{name} is {found}, and trend says {wanted}: {question['sql']}"


def as_csv(names, rows):
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)
    return text.getvalue()


def canonical(value):
    """A value, or a row of values, as wire.rows gives it: lists, structs and rows as tuples, timestamps in UTC."""
    if isinstance(value, dict):
        value = value.values()
    elif isinstance(value, datetime.datetime):
        return value.astimezone(datetime.timezone.utc)
    elif not isinstance(value, (list, tuple)):
        return value
    return tuple(map(canonical, value))


def few(rows):
    return f"{rows.total()}: {list(rows)[:3]}"


main()
