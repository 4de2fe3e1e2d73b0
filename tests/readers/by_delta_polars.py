"""Reads a Delta table with Polars."""

import polars

from by_polars import TEXT, TYPES  # noqa: F401
from wire import present

# It reads the value from the directory's name, past the log.
NULL_MARKER_READS_AS = None


def ways(lake, _program):
    """Yields each way to read: its name, the types by column, the rows."""
    for way, table in [
        ("read_delta", polars.read_delta(f"{lake}/software_inventory")),
        ("scan_delta", polars.scan_delta(f"{lake}/software_inventory").collect()),
    ]:
        types = {name: str(kind) for name, kind in table.schema.items()}
        yield way, types, table.select(present(types)).rows()
