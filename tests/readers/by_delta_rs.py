"""Reads a Delta table with deltalake, the Python side of delta-rs."""

import deltalake
import pyarrow

# Its names of the declared types.
TYPES = {
    "string": "string_view",
    "int32": "int32",
    "int64": "int64",
    "float64": "double",
    "boolean": "bool",
    "date32": "date32[day]",
    "timestamp(us, UTC)": "timestamp[us, tz=UTC]",
    "JSON": "string_view",
    "list of string": "list<element: string_view>",
}

NULL_MARKER_READS_AS = "__HIVE_DEFAULT_PARTITION__"


def structs(members):
    return f"list<element: struct<{', '.join(f'{name}: {kind}' for name, kind in members)}>>"


def ways(lake, _program, table):
    """Yields each way to read a table: its name, the types by column, the rows."""
    # By its own engine: the way by a dataset of pyarrow has threads of pyarrow call Python, which now and then
    # aborts the process when it ends.
    query = deltalake.QueryBuilder().register(table.name, deltalake.DeltaTable(f"{lake}/{table.name}"))
    found = pyarrow.table(query.execute(f"SELECT * FROM {table.name}"))
    types = {field.name: str(field.type) for field in found.schema}
    yield "QueryBuilder", types, zip(*(found[name].to_pylist() for name in table.present(types)), strict=True)
