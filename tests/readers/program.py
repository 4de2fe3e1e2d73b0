"""What the program says of a dataset: the columns that it declares, and the views that it prints for a lake."""

import json
import subprocess

# The column that `--extra-fields capture` adds, and its type.
EXTRA_FIELDS = "ExtraFields"
EXTRA_FIELDS_TYPE = "string"


class Table:
    """A dataset's table as `schema --format json` declares it."""

    def __init__(self, declaration):
        self.name = declaration["dataset"]
        self.partitions = declaration["partition_by"]
        self.columns = [column["name"] for column in declaration["columns"]]
        # A list of structs is the list of its members' names and types, other types are their names.
        self.types = {
            column["name"]: [(member["name"], member["type"]) for member in column.get("members", [])] or column["type"]
            for column in declaration["columns"]
        }
        self.aliases = {alias: column["name"] for column in declaration["columns"] for alias in column.get("aliases", [])}
        self.exported = [column["name"] for column in declaration["columns"] if column["from"] == "export"]

    def glob(self, lake):
        """The pattern that finds the data files: a level for each partition column."""
        return f"{lake}/{self.name}{'/*' * len(self.partitions)}/*.parquet"

    def present(self, names):
        """The columns of a reader's rows: those that it finds, in the declared order."""
        return [name for name in [*self.columns, EXTRA_FIELDS] if name in names]

    def types_of(self, reader, has_extra_fields=False):
        """The types that a reader is to find: its own names of the declared ones."""
        extra = {EXTRA_FIELDS: EXTRA_FIELDS_TYPE} if has_extra_fields else {}
        return {name: type_of(reader, declared) for name, declared in (self.types | extra).items()}


def type_of(reader, declared):
    if isinstance(declared, str):
        return reader.TYPES[declared]
    return reader.structs([(name, reader.TYPES[member]) for name, member in declared])


def declared(program, dataset):
    """The table of a dataset."""
    return Table(json.loads(run(program, "schema", "--format", "json", "--dataset", dataset)))


def datasets(program):
    """The names of all datasets."""
    return [declaration["dataset"] for declaration in json.loads(run(program, "schema", "--format", "json"))]


def views(program, lake, engine):
    """The statements that make the views of all tables of a lake, and of those over several."""
    return run(program, "schema", "--format", engine, "--lake", lake)


def view(program, lake, engine, dataset):
    """The statements that make a table's view."""
    return run(program, "schema", "--format", engine, "--lake", lake, "--dataset", dataset)


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
