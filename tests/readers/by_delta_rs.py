"""Reads a Delta table with deltalake, the Python side of delta-rs."""

import deltalake

from wire import COLUMNS

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

NULL_MARKER_READS_AS = "__HIVE_DEFAULT_PARTITION__"


def ways(lake, _program):
    """Yields each way to read: its name, the types by column, the rows."""
    found = deltalake.DeltaTable(f"{lake}/software_inventory").to_pyarrow_table()
    types = {field.name: str(field.type) for field in found.schema}
    yield "to_pyarrow_table", types, zip(*(found[name].to_pylist() for name in COLUMNS), strict=True)
