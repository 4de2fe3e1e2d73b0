"""Reads the lake with pyarrow, and with pandas by way of it."""

import pandas
import pyarrow
import pyarrow.dataset

from wire import present

TYPES = {
    "DeviceId": "string",
    "DeviceName": "string",
    "RbacGroupName": "string",
    "SoftwareVendor": "string",
    "SoftwareName": "string",
    "SoftwareVersion": "string",
    "NumberOfWeaknesses": "int32",
    "DiskPaths": "list<element: string>",
    "RegistryPaths": "list<element: string>",
    "SoftwareFirstSeenTimestamp": "timestamp[us, tz=UTC]",
    "EndOfSupportStatus": "string",
    "EndOfSupportDate": "date32[day]",
    "GeneratedTime": "timestamp[us, tz=UTC]",
    "snapshot_date": "date32[day]",
    "OSPlatform": "string",
}

TEXT = "string"

# What a platform reads as whose text is the name of the null partition itself.
NULL_MARKER_READS_AS = None


def ways(lake, _program):
    """Yields each way to read: its name, the types by column, the rows."""
    schema = pyarrow.schema([("snapshot_date", pyarrow.date32()), ("OSPlatform", pyarrow.string())])
    partitioning = pyarrow.dataset.partitioning(schema, flavor="hive")
    root = f"{lake}/software_inventory"
    files = pyarrow.dataset.dataset(root, format="parquet", partitioning=partitioning)
    schema = pyarrow.unify_schemas([files.schema, *(file.physical_schema for file in files.get_fragments())])
    dataset = pyarrow.dataset.dataset(root, schema=schema, format="parquet", partitioning=partitioning)
    yield "pyarrow.dataset with a partitioning", *read(dataset.to_table())
    frame = pandas.read_parquet(root, partitioning=partitioning, schema=schema, dtype_backend="pyarrow")
    yield "pandas.read_parquet with a partitioning", *read(pyarrow.Table.from_pandas(frame, preserve_index=False))


def read(table):
    types = {field.name: str(field.type) for field in table.schema}
    columns = [table.column(name).to_pylist() for name in present(types)]
    return types, zip(*columns, strict=True)
