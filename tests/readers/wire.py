"""What a reader must find in the lake, decoded from the parts by Python's own gzip and json.

Follows the documented rules for clean records and shares nothing with the program but the declared columns: anything
else is an error here.
"""

import collections
import datetime
import gzip
import json
import re
from pathlib import Path

# Blanks outside of strings; a string is kept by its group.
BLANKS = re.compile(r'("(?:[^"\\]|\\.)*")|\s+', re.ASCII)

TIMESTAMP = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[ T](\d{1,2}):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:(Z)|([+-])(\d\d):(\d\d))?)?", re.ASCII
)


DECODER = json.JSONDecoder()

# A JSON value, and its text without blanks if that is asked for.
Raw = collections.namedtuple("Raw", ["value", "text"])


def rows(table, parts, generated_time, columns=None, captured=None):
    """Yields a tuple for each record: the values of the table's columns in their order, those that are not of `columns`
    null, as a snapshot of an older schema version has them. The undocumented fields are the last if `captured` is given,
    and null if it is false. Lists are tuples, and structs the tuples of their members.
    """
    columns = set(columns or table.columns) - set(table.exported)
    names = {name.lower(): name for name in columns}
    names |= {alias.lower(): name for alias, name in table.aliases.items() if name in columns}
    is_text_needed = captured or "JSON" in table.types.values()
    for part in parts:
        for record in records(Path(part)):
            if is_text_needed:
                fields = members(record)
            else:
                fields = [(name, Raw(value, None)) for name, value in json.loads(record).items()]
            yield row(table, fields, generated_time, names, captured)


def records(part):
    """Yields the text of each record."""
    data = part.read_bytes()
    if part.suffix == ".gz":
        data = gzip.decompress(data)
    # Only \n ends a record: str.splitlines() would cut at U+0085 and U+2028 inside a string.
    lines = data.decode().split("\n")
    if part.suffix == ".json":  # a page of the JSON route
        yield from elements(dict(members("".join(lines)))["value"].text)
        return
    yield from (line for line in lines if line.strip())


def members(text):
    """The members of an object, their names as written."""
    text = BLANKS.sub(r"\1", text)
    found, position = [], 1
    while text[position] != "}":
        position += text[position] == ","
        name, position = DECODER.raw_decode(text, position)
        value, end = DECODER.raw_decode(text, position + 1)
        found.append((name, Raw(value, text[position + 1 : end])))
        position = end
    return found


def elements(text):
    """Yields the texts of the elements of an array that is written without blanks."""
    position = 1
    while text[position] != "]":
        position += text[position] == ","
        _value, end = DECODER.raw_decode(text, position)
        yield text[position:end]
        position = end


def row(table, record, generated_time, names, captured):
    """`names` are those of the columns by the names on the wire, in lower case."""
    fields, undocumented = {}, []
    for name, raw in record:
        if name.lower() in names:
            fields[names[name.lower()]] = raw
        elif captured:
            undocumented.append(f"{json.dumps(name, ensure_ascii=False)}:{raw.text}")
    values = {name: value(table.types[name], raw) for name, raw in fields.items()}
    values |= {name: generated_time for name in table.exported} | {"snapshot_date": generated_time.date()}
    for name in table.partitions[1:]:  # An empty string and null are one partition.
        values[name] = values.get(name) or None
    found = tuple(values.get(name) for name in table.columns)
    if captured is None:
        return found
    return (*found, "{" + ",".join(undocumented) + "}" if captured and undocumented else None)


def value(declared, raw):
    """A field as the value of a column; absent and null are the same."""
    if raw.value is None:
        return None
    if not isinstance(declared, str):
        return structs(declared, raw.value)
    return VALUES[declared](raw)


def typed(value, *wanted):
    assert type(value) in wanted, f"no clean {wanted[0].__name__}: {value!r}"
    return value


def integer(raw):
    return None if raw.value == "" else typed(raw.value, int)


def double(raw):
    return None if raw.value == "" else float(typed(raw.value, float, int))


def boolean(raw):
    if type(raw.value) is str:
        return {"true": True, "false": False, "unknown": None, "-": None, "": None}[raw.value.lower()]
    return typed(raw.value, bool)


def json_text(raw):
    """A string as it is, not parsed; anything else as it was written."""
    return raw.value if type(raw.value) is str else raw.text


def texts(raw):
    """An empty list is neither absent nor null."""
    if type(raw.value) is str:
        return (raw.value,)
    return tuple(element if element is None else typed(element, str) for element in typed(raw.value, list))


def structs(declared, value):
    def struct(element):
        if element is None:
            return None
        if type(element) is str:  # Its first member alone.
            return (element, *[None] * (len(declared) - 1))
        fields = {name.lower(): field for name, field in typed(element, dict).items()}
        return tuple(
            None if (field := fields.get(name.lower())) is None else VALUES[kind](Raw(field, json.dumps(field)))
            for name, kind in declared
        )

    return tuple(map(struct, [value] if type(value) is str else typed(value, list)))


def timestamp(raw):
    if raw.value in ("", {}):
        return None
    match = TIMESTAMP.fullmatch(raw.value)
    assert match, f"no documented form of a timestamp: {raw.value!r}"
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


def date(raw):
    moment = timestamp(raw)
    return moment and moment.date()


# How a field becomes a value of each declared type.
VALUES = {
    "string": lambda raw: typed(raw.value, str),
    "int32": integer,
    "int64": integer,
    "float64": double,
    "boolean": boolean,
    "date32": date,
    "timestamp(us, UTC)": timestamp,
    "JSON": json_text,
    "list of string": texts,
}
