"""What Spark imports to find the data source `defender`: it looks for `DefaultSource` in every module named `pyspark_*`.

Imports nothing that can fail: if one such module cannot be imported, no Python data source of the session can be used.
"""

from pyspark.sql.datasource import DataSource, DataSourceReader


class DefaultSource(DataSource):
    """The data source `defender`: the rows of one export, read by Spark's executors.

    See `defender_lake.spark` for its options.
    """

    @classmethod
    def name(cls):
        return "defender"

    def schema(self):
        """The columns of the dataset. Reads and lists nothing."""
        from defender_lake.spark import _data_source

        return _data_source.columns(self.options)

    def reader(self, schema) -> DataSourceReader:
        """What lists the export, once, and reads its parts."""
        from defender_lake.spark import _data_source

        reader = _data_source.DefenderReader(self.options)
        # Spark sends this object to executors, which need none of it.
        self.options = {}
        return reader
