"""Reads the lake with Polars."""

import polars

from wire import COLUMNS

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

# What a platform reads as whose text is the name of the null partition itself.
NULL_MARKER_READS_AS = None


def ways(lake, _program):
    """Yields each way to read: its name, the types by column, the rows."""
    schema = {"snapshot_date": polars.Date, "OSPlatform": polars.String}
    table = polars.scan_parquet(f"{lake}/software_inventory/*/*/*.parquet", hive_schema=schema).collect()
    types = {name: str(kind) for name, kind in table.schema.items()}
    yield "scan_parquet with hive_schema", types, table.select(COLUMNS).rows()
