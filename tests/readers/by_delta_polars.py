"""Reads a Delta table with Polars."""

import polars

from by_polars import TYPES  # noqa: F401
from wire import COLUMNS

NULL_MARKER_READS_AS = "__HIVE_DEFAULT_PARTITION__"


def ways(lake, _program):
    """Yields each way to read: its name, the types by column, the rows."""
    for way, table in [
        ("read_delta", polars.read_delta(f"{lake}/software_inventory")),
        ("scan_delta", polars.scan_delta(f"{lake}/software_inventory").collect()),
    ]:
        yield way, {name: str(kind) for name, kind in table.schema.items()}, table.select(COLUMNS).rows()
