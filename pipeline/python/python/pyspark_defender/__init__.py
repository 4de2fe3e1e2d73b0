"""What Spark imports to find the data source `defender`."""
