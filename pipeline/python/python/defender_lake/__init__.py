"""Microsoft Defender's device exports as a lake of Parquet snapshots: the same program as the command line `defender-lake`.

The log goes to the logger `defender_lake`, which is quiet until `logging` is configured.
"""

import logging

from ._native import Error, Reader, Schema, __version__, ingest, read, snapshots

__all__ = ["Error", "Reader", "Schema", "__version__", "ingest", "read", "snapshots"]

logging.getLogger(__name__).addHandler(logging.NullHandler())
