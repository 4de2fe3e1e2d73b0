"""Reads the lake with DuckDB."""

import subprocess

import duckdb

from wire import present

TYPES = {
    "DeviceId": "VARCHAR",
    "DeviceName": "VARCHAR",
    "RbacGroupName": "VARCHAR",
    "SoftwareVendor": "VARCHAR",
    "SoftwareName": "VARCHAR",
    "SoftwareVersion": "VARCHAR",
    "NumberOfWeaknesses": "INTEGER",
    "DiskPaths": "VARCHAR[]",
    "RegistryPaths": "VARCHAR[]",
    "SoftwareFirstSeenTimestamp": "TIMESTAMP WITH TIME ZONE",
    "EndOfSupportStatus": "VARCHAR",
    "EndOfSupportDate": "DATE",
    "GeneratedTime": "TIMESTAMP WITH TIME ZONE",
    "snapshot_date": "DATE",
    "OSPlatform": "VARCHAR",
}

TEXT = "VARCHAR"

# What a platform reads as whose text is the name of the null partition itself.
NULL_MARKER_READS_AS = "__HIVE_DEFAULT_PARTITION__"


def ways(lake, program):
    """Yields each way to read: its name, the types by column, the rows."""
    files = f"{lake}/software_inventory/*/*/*.parquet"
    plain = f"read_parquet('{files}', union_by_name = true, hive_types = {{'snapshot_date': DATE, 'OSPlatform': VARCHAR}})"
    yield "read_parquet with union_by_name and hive_types", *read(connect(), plain)
    yield "the view of `schema --format duckdb`", *read(with_view(lake, program), "software_inventory")


def connect():
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def with_view(lake, program):
    connection = connect()
    ddl = [program, "schema", "--format", "duckdb", "--lake", lake]
    connection.execute(subprocess.run(ddl, check=True, capture_output=True, text=True).stdout)
    return connection


def read(connection, table):
    types = {name: kind for name, kind, *_ in connection.execute(f"DESCRIBE SELECT * FROM {table}").fetchall()}
    columns = ", ".join(present(types))
    return types, connection.execute(f"SELECT {columns} FROM {table}").fetchall()


def answers(lake, program, questions):
    """Yields column names and rows for each question about the table `software_inventory`."""
    connection = with_view(lake, program)
    for question in questions:
        answer = connection.execute(question)
        yield [column[0] for column in answer.description], answer.fetchall()
