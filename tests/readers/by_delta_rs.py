"""Reads a Delta table with deltalake, the Python side of delta-rs."""

import deltalake
import pyarrow

from wire import present

TYPES = {
    "DeviceId": "string_view",
    "DeviceName": "string_view",
    "RbacGroupName": "string_view",
    "SoftwareVendor": "string_view",
    "SoftwareName": "string_view",
    "SoftwareVersion": "string_view",
    "NumberOfWeaknesses": "int32",
    "DiskPaths": "list<element: string_view>",
    "RegistryPaths": "list<element: string_view>",
    "SoftwareFirstSeenTimestamp": "timestamp[us, tz=UTC]",
    "EndOfSupportStatus": "string_view",
    "EndOfSupportDate": "date32[day]",
    "GeneratedTime": "timestamp[us, tz=UTC]",
    "snapshot_date": "date32[day]",
    "OSPlatform": "string_view",
}

TEXT = "string_view"

NULL_MARKER_READS_AS = "__HIVE_DEFAULT_PARTITION__"


def ways(lake, _program):
    """Yields each way to read: its name, the types by column, the rows."""
    # By its own engine: the way by a dataset of pyarrow has threads of pyarrow call Python, which now and then
    # aborts the process when it ends.
    table = deltalake.DeltaTable(f"{lake}/software_inventory")
    query = deltalake.QueryBuilder().register("software_inventory", table)
    found = pyarrow.table(query.execute("SELECT * FROM software_inventory"))
    types = {field.name: str(field.type) for field in found.schema}
    yield "QueryBuilder", types, zip(*(found[name].to_pylist() for name in present(types)), strict=True)
