"""The data source's work: checks options, lists an export once, reads parts on executors. Decodes nothing itself."""

import json

from pyspark.sql.datasource import DataSourceReader, InputPartition

from defender_lake import _native

# Of smaller parts a task reads several, up to this size together: about a second's work.
MIN_GROUP_BYTES = 16 << 20
# Of parts whose size only a download tells.
MAX_TASKS_OF_UNKNOWN_SIZE = 512
# As many as Spark itself has in an Arrow batch: more rows were not faster.
BATCH_ROWS = 10_000

# Options of the data source that are options of the command line, with its names of them.
FLAGS = {
    "dataset": "dataset",
    "generatedtime": "generated_time",
    "cloud": "cloud",
    "apiurl": "api_url",
    "sasvalidhours": "sas_valid_hours",
}
CREDENTIALS = {"tenantId": "tenant_id", "clientId": "client_id", "clientSecret": "client_secret"}
OF_SERVICE = (*CREDENTIALS, "cloud", "apiUrl", "sasValidHours")
KNOWN = ("path", "paths", "dataset", "generatedTime", *OF_SERVICE, "extraFields", "onReject", "batchRows")


class Options:
    """The options of one `load()`, checked."""

    def __init__(self, given):
        given = {name.lower(): value for name, value in given.items()}
        known = {name.lower() for name in KNOWN}
        # Platforms add options of their own, all with a dot or two underscores.
        unknown = [name for name in given if name not in known and "." not in name and not name.startswith("__")]
        if unknown:
            names = ", ".join(name for name in KNOWN if name != "paths")
            raise ValueError(f"unknown option {unknown[0]!r}, expected some of {names}")
        self.paths = json.loads(given["paths"]) if "paths" in given else [given["path"]] if "path" in given else []
        of_service = [name for name in OF_SERVICE if name.lower() in given]
        if self.paths and of_service:
            raise ValueError(f"{of_service[0]} is for the service, and cannot be used with a path")
        self.credentials = {argument: given.get(name.lower()) for name, argument in CREDENTIALS.items()}
        self.dataset = given.get("dataset", "software-inventory")
        self.capture = one_of(given, "extraFields", "drop", "capture") == "capture"
        self.reject_column = one_of(given, "onReject", "fail", "column") == "column"
        self.batch_rows = positive(given, "batchRows", BATCH_ROWS)
        self.flags = {flag: given[name] for name, flag in FLAGS.items() if name in given}
        self.flags["dataset"] = self.dataset


def one_of(given, name, *values):
    """The value of an option that has only these; the first is the default."""
    value = given.get(name.lower(), values[0]).lower()
    if value not in values:
        raise ValueError(f"{name}: expected {' or '.join(values)}, found {value!r}")
    return value


def positive(given, name, default):
    text = given.get(name.lower(), str(default))
    if not text.isdecimal() or int(text) == 0:
        raise ValueError(f"{name}: expected a number above 0, found {text!r}")
    return int(text)


def columns(options):
    """The schema of `load()` with these options, as DDL."""
    options = Options(options)
    return _native.spark_columns(options.dataset, extra_fields=options.capture, reject_column=options.reject_column)


class Parts(InputPartition):
    """Parts that one task reads, as the listing gives them: with signed URLs, which are not for printing."""

    def __init__(self, generated_time, parts):
        super().__init__(None)
        self.generated_time = generated_time
        self.parts = parts

    def __repr__(self):
        return f"Parts({len(self.parts)})"


class DefenderReader(DataSourceReader):
    """Lists in `partitions()`, beside the driver; reads in `read()`, on executors. No filters, columns or limits are pushed
    down: in PySpark 4.3.0 a reader with filters is kept for later queries of the same DataFrame, which then lack rows."""

    def __init__(self, options):
        self.options = Options(options)
        self.how = {
            "dataset": self.options.dataset,
            "extra_fields": self.options.capture,
            "reject_column": self.options.reject_column,
            "batch_rows": self.options.batch_rows,
        }

    def __getstate__(self):
        # It goes to executors, which need no credentials.
        return {"how": self.how}

    def partitions(self):
        """Lists the export; Spark calls this once for a DataFrame, and all its actions use the result."""
        options = self.options
        flags = options.flags | ({"from_": options.paths} if options.paths else {})
        generated_time, parts = _native.list_parts(options.dataset, flags, **options.credentials)
        return [Parts(generated_time, group) for group in groups(parts)]

    def read(self, partition):
        """Yields the batches of a partition's parts, each part once it is whole: downloads are checked first."""
        # Spark makes one partition of nothing out of none.
        if not isinstance(partition, Parts):
            return
        import pyarrow

        stream = _native.read_parts(partition.parts, generated_time=partition.generated_time, **self.how)
        yield from pyarrow.RecordBatchReader.from_stream(stream)


def groups(parts):
    """Groups listed parts, each with its size if that is known, for tasks: small ones together."""
    if any(size is None for _, size in parts):
        num_tasks = min(len(parts), MAX_TASKS_OF_UNKNOWN_SIZE)
        return [[part for part, _ in parts[task::num_tasks]] for task in range(num_tasks)]
    grouped, group_bytes = [], MIN_GROUP_BYTES
    for part, size in parts:
        if group_bytes + size > MIN_GROUP_BYTES:
            grouped.append([])
            group_bytes = 0
        grouped[-1].append(part)
        group_bytes += size
    return grouped
