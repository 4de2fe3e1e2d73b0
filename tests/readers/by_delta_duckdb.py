"""Reads a Delta table with DuckDB's extension, which is built on the Delta Kernel."""

import duckdb_extensions

from by_duckdb import TYPES, connect, read, structs  # noqa: F401

# The log has the value itself, so the directory's name does not matter.
NULL_MARKER_READS_AS = "__HIVE_DEFAULT_PARTITION__"


def ways(lake, _program, table):
    """Yields each way to read a table: its name, the types by column, the rows."""
    connection = connect()
    duckdb_extensions.import_extension("delta")
    connection.execute("LOAD delta")
    yield "delta_scan", *read(connection, f"delta_scan('{lake}/{table.name}')", table)
