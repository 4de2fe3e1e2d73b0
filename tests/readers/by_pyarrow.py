"""Reads the lake with pyarrow, and with pandas by way of it."""

import pandas
import pyarrow
import pyarrow.dataset

# Its names of the declared types.
TYPES = {
    "string": "string",
    "int32": "int32",
    "int64": "int64",
    "float64": "double",
    "boolean": "bool",
    "date32": "date32[day]",
    "timestamp(us, UTC)": "timestamp[us, tz=UTC]",
    "JSON": "string",
    "list of string": "list<element: string>",
}

# What a platform reads as whose text is the name of the null partition itself.
NULL_MARKER_READS_AS = None


def structs(members):
    return f"list<element: struct<{', '.join(f'{name}: {kind}' for name, kind in members)}>>"


def ways(lake, _program, table):
    """Yields each way to read a table: its name, the types by column, the rows."""
    kinds = {"date32": pyarrow.date32(), "string": pyarrow.string()}
    schema = pyarrow.schema([(name, kinds[table.types[name]]) for name in table.partitions])
    partitioning = pyarrow.dataset.partitioning(schema, flavor="hive")
    root = f"{lake}/{table.name}"
    files = pyarrow.dataset.dataset(root, format="parquet", partitioning=partitioning)
    schema = pyarrow.unify_schemas([files.schema, *(file.physical_schema for file in files.get_fragments())])
    dataset = pyarrow.dataset.dataset(root, schema=schema, format="parquet", partitioning=partitioning)
    yield "pyarrow.dataset with a partitioning", *read(dataset.to_table(), table)
    frame = pandas.read_parquet(root, partitioning=partitioning, schema=schema, dtype_backend="pyarrow")
    found = pyarrow.Table.from_pandas(frame, preserve_index=False)
    yield "pandas.read_parquet with a partitioning", *read(found, table)


def read(found, table):
    types = {field.name: str(field.type) for field in found.schema}
    columns = [found.column(name).to_pylist() for name in table.present(types)]
    return types, zip(*columns, strict=True)
