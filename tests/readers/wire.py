"""What a reader must find in the lake, decoded from the parts by Python's own gzip and json.

Follows the documented rules for clean records and shares nothing with the program: anything else is an error here.
"""

import datetime
import gzip
import json
import re
from pathlib import Path

COLUMNS = [
    "DeviceId",
    "DeviceName",
    "RbacGroupName",
    "SoftwareVendor",
    "SoftwareName",
    "SoftwareVersion",
    "NumberOfWeaknesses",
    "DiskPaths",
    "RegistryPaths",
    "SoftwareFirstSeenTimestamp",
    "EndOfSupportStatus",
    "EndOfSupportDate",
    "GeneratedTime",
    "snapshot_date",
    "OSPlatform",
]

# The column that `--extra-fields capture` adds.
EXTRA_FIELDS = "ExtraFields"


def present(names):
    """The columns that a reader's rows have, of those that it finds."""
    return COLUMNS + [name for name in names if name == EXTRA_FIELDS]


TIMESTAMP = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[ T](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:(Z)|([+-])(\d\d):(\d\d))?)?", re.ASCII
)


def rows(parts, generated_time):
    """Yields a tuple for each record, its values in the order of COLUMNS; a list of paths is a tuple."""
    for part in parts:
        for record in records(Path(part)):
            yield row(record, generated_time)


def records(part):
    data = part.read_bytes()
    if part.suffix == ".gz":
        data = gzip.decompress(data)
    if part.suffix == ".json":  # a page of the JSON route
        yield from json.loads(data)["value"]
        return
    # Only \n ends a record: str.splitlines() would cut at U+0085 and U+2028 inside a string.
    yield from (json.loads(line) for line in data.split(b"\n") if line.strip())


def row(record, generated_time):
    fields = {name.lower(): value for name, value in record.items()}
    values = {
        "NumberOfWeaknesses": typed(fields.get("numberofweaknesses"), int),
        "DiskPaths": paths(fields.get("diskpaths")),
        "RegistryPaths": paths(fields.get("registrypaths")),
        "SoftwareFirstSeenTimestamp": timestamp(fields.get("softwarefirstseentimestamp")),
        "EndOfSupportDate": date(fields.get("endofsupportdate")),
        "GeneratedTime": generated_time,
        "snapshot_date": generated_time.date(),
        # An empty string and null are one partition.
        "OSPlatform": typed(fields.get("osplatform"), str) or None,
    }
    return tuple(values[name] if name in values else typed(fields.get(name.lower()), str) for name in COLUMNS)


def typed(value, wanted):
    assert value is None or type(value) is wanted, f"no clean {wanted.__name__}: {value!r}"
    return value


def paths(value):
    """Absent and null are the same; an empty list is neither."""
    if value is None:
        return None
    return tuple(typed(path, str) for path in typed(value, list))


def timestamp(text):
    if text in (None, "", {}):
        return None
    match = TIMESTAMP.fullmatch(text)
    assert match, f"no documented form of a timestamp: {text!r}"
    year, month, day, hour, minute, second, fraction, _utc, sign, offset_hours, offset_minutes = match.groups()
    if year == "0001":
        return None
    moment = datetime.datetime(
        int(year),
        int(month),
        int(day),
        int(hour or 0),
        int(minute or 0),
        int(second or 0),
        int((fraction or "")[:6].ljust(6, "0")),
        datetime.timezone.utc,
    )
    if sign:
        offset = datetime.timedelta(hours=int(offset_hours), minutes=int(offset_minutes))
        moment = moment - offset if sign == "+" else moment + offset
    return moment


def date(text):
    moment = timestamp(text)
    return moment and moment.date()
