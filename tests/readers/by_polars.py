"""Reads the lake with Polars."""

from glob import glob

import polars

from wire import present

UTC_MICROS = "Datetime(time_unit='us', time_zone='UTC')"
TYPES = {
    "DeviceId": "String",
    "DeviceName": "String",
    "RbacGroupName": "String",
    "SoftwareVendor": "String",
    "SoftwareName": "String",
    "SoftwareVersion": "String",
    "NumberOfWeaknesses": "Int32",
    "DiskPaths": "List(String)",
    "RegistryPaths": "List(String)",
    "SoftwareFirstSeenTimestamp": UTC_MICROS,
    "EndOfSupportStatus": "String",
    "EndOfSupportDate": "Date",
    "GeneratedTime": UTC_MICROS,
    "snapshot_date": "Date",
    "OSPlatform": "String",
}

TEXT = "String"

# What a platform reads as whose text is the name of the null partition itself.
NULL_MARKER_READS_AS = None


def ways(lake, _program):
    """Yields each way to read: its name, the types by column, the rows."""
    files = f"{lake}/software_inventory/*/*/*.parquet"
    columns = {}
    for file in sorted(glob(files)):
        columns |= polars.read_parquet_schema(file)
    table = polars.scan_parquet(
        files,
        schema=columns,
        missing_columns="insert",
        hive_schema={"snapshot_date": polars.Date, "OSPlatform": polars.String},
    ).collect()
    types = {name: str(kind) for name, kind in table.schema.items()}
    yield "scan_parquet with schema and hive_schema", types, table.select(present(types)).rows()
