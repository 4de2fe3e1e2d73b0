"""Ingest with Spark, and Spark's readers of parts and lakes."""

from ._ingest import ingest

__all__ = ["ingest"]
