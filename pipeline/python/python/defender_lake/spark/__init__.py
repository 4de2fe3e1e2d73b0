"""Ingest with Spark, and Spark's readers of parts and lakes."""
