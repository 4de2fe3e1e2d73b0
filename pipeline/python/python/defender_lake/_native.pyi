"""Types of the native module."""

from typing import Any

__version__: str

class Error(Exception):
    exit_code: int
    hint: str | None
    reports: list[dict[str, Any]]

def ingest(*, lake: Any = None, dataset: Any = None, **options: Any) -> Any: ...
def snapshots(lake: Any = None, *, dataset: str | None = None) -> list[dict[str, Any]]: ...
def run(args: list[str]) -> int: ...
