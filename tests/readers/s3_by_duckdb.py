"""Counts the rows of each date of a lake on an S3 server: HOST PORT BUCKET/PREFIX."""

import sys

import duckdb
import pyarrow.fs
from fsspec.implementations.arrow import ArrowFSWrapper


class Lake(ArrowFSWrapper):
    protocol = "arrow-s3"

    @classmethod
    def _strip_protocol(cls, path):
        return path.removeprefix("arrow-s3://").rstrip("/")


host, port, place = sys.argv[1:]
store = pyarrow.fs.S3FileSystem(
    access_key="AKIAIOSFODNN7EXAMPLE",
    secret_key="any",
    region="us-east-1",
    scheme="http",
    endpoint_override=f"{host}:{port}",
)
duckdb.register_filesystem(Lake(store))
rows = duckdb.sql(
    f"""
    FROM read_parquet('arrow-s3://{place}/software_inventory/*/*/*.parquet',
                      hive_types = {{'snapshot_date': DATE, 'OSPlatform': VARCHAR}})
    SELECT snapshot_date, count(*) AS rows GROUP BY ALL ORDER BY ALL
    """
).fetchall()
for date, count in rows:
    print(date, count)
