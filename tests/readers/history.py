"""Asks DuckDB what `diff`, `trend` and `query` were asked, over the same lake, and compares row for row.

A question is a JSON object: `{"diff": FILE, "from": DATE, "to": DATE, "where": SQL}`, `{"trend": FILE, "by": [COLUMN]}`,
`{"changes": FILE, "pairs": [[DATE, DATE]], "kinds": [KIND]}` or `{"query": FILE, "sql": SQL}`; the file, Parquet, holds what
the program answered.
"""

import json
import pathlib
import sys

import duckdb

DIFF = pathlib.Path(__file__).with_name("history_diff.sql").read_text()

# Runs of digits are numbers and come first, by their digits once zeros in front are gone; other runs are text.
NATURAL = """
CREATE MACRO natural_order(version) AS list_transform(
    regexp_extract_all(version, '[0-9]+|[^0-9]+'),
    lambda run: CASE WHEN regexp_full_match(run, '[0-9]+')
        THEN {'is_text': false, 'digits': length(ltrim(run, '0')), 'text': ltrim(run, '0')}
        ELSE {'is_text': true, 'digits': 0, 'text': run} END)
"""

TREND = """
SELECT snapshot_date, max(GeneratedTime) AS GeneratedTime, {by}
       count(DISTINCT DeviceId) AS devices, count(*) AS installations,
       count(DISTINCT (SoftwareVendor, SoftwareName)) AS products,
       coalesce(sum(NumberOfWeaknesses), 0) AS weaknesses,
       count(*) FILTER (EndOfSupportStatus LIKE 'EOS%') AS end_of_support
FROM software_inventory GROUP BY ALL
"""


def connect(lake):
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(NATURAL)
    connection.execute(
        "CREATE VIEW software_inventory AS SELECT * EXCLUDE (snapshot_date, OSPlatform), snapshot_date, OSPlatform "
        f"FROM read_parquet('{lake}/software_inventory/*/*/*.parquet', "
        "union_by_name = true, hive_types = {'snapshot_date': DATE, 'OSPlatform': VARCHAR})"
    )
    return connection


def name_pair(connection, old, new):
    """Makes the views that the diff's SQL reads, of the snapshots of two dates."""
    for name, date in (("old", old), ("new", new)):
        connection.execute(f"CREATE OR REPLACE VIEW {name} AS FROM software_inventory WHERE snapshot_date = DATE '{date}'")
        connection.execute(f"CREATE OR REPLACE VIEW {name}_rows AS FROM {name}")


def expected(connection, question):
    """Returns the SQL of what the file must hold."""
    if "diff" in question:
        name_pair(connection, question["from"], question["to"])
        return f"FROM ({DIFF}) WHERE {question.get('where') or 'true'}", question["diff"]
    if "trend" in question:
        by = "".join(f'"{column}", ' for column in question["by"])
        return TREND.format(by=by), question["trend"]
    if "changes" in question:
        kinds = "".join(f", count(*) FILTER (Change = '{kind}') AS {kind}" for kind in question["kinds"])
        for index, (old, new) in enumerate(question["pairs"]):
            name_pair(connection, old, new)
            times = "(SELECT max(GeneratedTime) FROM old) AS OldGeneratedTime, (SELECT max(GeneratedTime) FROM new) AS NewGeneratedTime"
            counts = f"SELECT DATE '{new}' AS snapshot_date, {times} {kinds} FROM ({DIFF})"
            connection.execute(f"INSERT INTO counts {counts}" if index else f"CREATE OR REPLACE TEMP TABLE counts AS {counts}")
        return "FROM counts", question["changes"]
    return question["sql"], question["query"]


def main():
    lake, *questions = sys.argv[1:]
    connection = connect(lake)
    num_rows = 0
    for question in map(json.loads, questions):
        sql, file = expected(connection, question)
        connection.execute(f"CREATE OR REPLACE TEMP TABLE expected AS {sql}")
        connection.execute(f"CREATE OR REPLACE TEMP TABLE found AS FROM read_parquet('{file}')")
        names = [[row[0] for row in connection.execute(f"DESCRIBE {table}").fetchall()] for table in ("expected", "found")]
        assert names[0] == names[1], f"{question}: columns {names[1]}, expected {names[0]}"
        missing, extra = (
            connection.execute(f"(FROM {one} EXCEPT ALL FROM {other}) LIMIT 5").fetchall()
            for one, other in (("expected", "found"), ("found", "expected"))
        )
        assert not missing and not extra, f"{question}: missing {missing}, not expected {extra}"
        num_rows += connection.execute("SELECT count(*) FROM found").fetchone()[0]
    print(f"{len(questions)} answers, {num_rows} rows")


if __name__ == "__main__":
    main()
