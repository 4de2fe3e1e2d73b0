"""Reads a Delta table with deltalake, the Python side of delta-rs."""

import pyarrow

import deltalake

from by_pyarrow import TYPES
from wire import COLUMNS

NULL_MARKER_READS_AS = "__HIVE_DEFAULT_PARTITION__"


def ways(lake, _program):
    """Yields each way to read: its name, the types by column, the rows."""
    table = deltalake.DeltaTable(f"{lake}/software_inventory")
    found = pyarrow.table(table.to_pyarrow_dataset().to_table())
    types = {field.name: str(field.type) for field in found.schema}
    yield "to_pyarrow_dataset", types, list(zip(*(found[name].to_pylist() for name in COLUMNS)))
