"""Reads a Delta table with Polars."""

import polars

from by_polars import TYPES, read, structs  # noqa: F401

# It reads the value from the directory's name, past the log.
NULL_MARKER_READS_AS = None


def ways(lake, _program, table):
    """Yields each way to read a table: its name, the types by column, the rows."""
    for way, frame in [
        ("read_delta", polars.read_delta(f"{lake}/{table.name}")),
        ("scan_delta", polars.scan_delta(f"{lake}/{table.name}").collect()),
    ]:
        yield way, *read(frame, table)
