"""Reads a Delta table with DuckDB's extension, which is built on the Delta Kernel."""

import duckdb
import duckdb_extensions

from by_duckdb import TEXT, TYPES, read  # noqa: F401

# The log has the value itself, so the directory's name does not matter.
NULL_MARKER_READS_AS = "__HIVE_DEFAULT_PARTITION__"


def ways(lake, _program):
    """Yields each way to read: its name, the types by column, the rows."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    duckdb_extensions.import_extension("delta")
    connection.execute("LOAD delta")
    yield "delta_scan", *read(connection, f"delta_scan('{lake}/software_inventory')")
