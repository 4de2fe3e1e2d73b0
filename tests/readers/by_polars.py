"""Reads the lake with Polars."""

from glob import glob

import polars

# Its names of the declared types.
TYPES = {
    "string": "String",
    "int32": "Int32",
    "int64": "Int64",
    "float64": "Float64",
    "boolean": "Boolean",
    "date32": "Date",
    "timestamp(us, UTC)": "Datetime(time_unit='us', time_zone='UTC')",
    "JSON": "String",
    "list of string": "List(String)",
}

# What a platform reads as whose text is the name of the null partition itself.
NULL_MARKER_READS_AS = None


def structs(members):
    return f"List(Struct({{{', '.join(f'{name!r}: {kind}' for name, kind in members)}}}))"


def ways(lake, _program, table):
    """Yields each way to read a table: its name, the types by column, the rows."""
    files = table.glob(lake)
    columns = {}
    for file in sorted(glob(files)):
        columns |= polars.read_parquet_schema(file)
    kinds = {"date32": polars.Date, "string": polars.String}
    frame = polars.scan_parquet(
        files,
        schema=columns,
        missing_columns="insert",
        hive_schema={name: kinds[table.types[name]] for name in table.partitions},
    ).collect()
    yield "scan_parquet with schema and hive_schema", *read(frame, table)


def read(frame, table):
    types = {name: str(kind) for name, kind in frame.schema.items()}
    return types, frame.select(table.present(types)).rows()
