"""Reads the lake with DuckDB."""

import duckdb

from program import view, views

# Its names of the declared types.
TYPES = {
    "string": "VARCHAR",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "float64": "DOUBLE",
    "boolean": "BOOLEAN",
    "date32": "DATE",
    "timestamp(us, UTC)": "TIMESTAMP WITH TIME ZONE",
    "JSON": "VARCHAR",
    "list of string": "VARCHAR[]",
}

# What a platform reads as whose text is the name of the null partition itself.
NULL_MARKER_READS_AS = "__HIVE_DEFAULT_PARTITION__"


def structs(members):
    return f"STRUCT({', '.join(f'{name} {kind}' for name, kind in members)})[]"


def ways(lake, program, table):
    """Yields each way to read a table: its name, the types by column, the rows."""
    hive_types = ", ".join(f"'{name}': {TYPES[table.types[name]]}" for name in table.partitions)
    plain = f"read_parquet('{table.glob(lake)}', union_by_name = true, hive_types = {{{hive_types}}})"
    yield "read_parquet with union_by_name and hive_types", *read(connect(), plain, table)
    connection = connect()
    connection.execute(view(program, lake, "duckdb", table.name))
    yield "the view of `schema --format duckdb`", *read(connection, table.name, table)


def connect():
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def read(connection, source, table):
    described = connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
    # DuckDB 2 quotes the members of structs, DuckDB 1 does not.
    types = {name: kind.replace('"', "") for name, kind, *_ in described}
    columns = ", ".join(table.present(types))
    return types, connection.execute(f"SELECT {columns} FROM {source}").fetchall()


def answers(lake, program, questions):
    """Yields column names and rows for each question about the views of a lake."""
    connection = connect()
    connection.execute(views(program, lake, "duckdb"))
    for question in questions:
        answer = connection.execute(question)
        yield [column[0] for column in answer.description], answer.fetchall()
