//! Changes as record batches, with the columns of [`Roles::change_columns`].

use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::{ArrayRef, RecordBatch, TimestampMicrosecondArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use chrono::{DateTime, Utc};

use super::HistoryError;
use super::diff::Change;
use super::roles::{NEW_GENERATED_TIME, OLD_GENERATED_TIME, Roles};

/// Rows of a batch.
const BATCH_ROWS: usize = 8192;

/// Gathers changes to batches.
#[derive(Debug)]
pub struct ChangeBatches {
    roles: Roles,
    schema: SchemaRef,
    /// Of the columns of text, in their order.
    texts: Vec<StringBuilder>,
    num_rows: usize,
    generated_times: [DateTime<Utc>; 2],
}

impl ChangeBatches {
    /// Begins the changes from one generated time to another.
    pub fn new(roles: Roles, generated_times: [DateTime<Utc>; 2]) -> Self {
        let fields: Vec<_> = roles
            .change_columns()
            .into_iter()
            .map(|name| match name {
                OLD_GENERATED_TIME | NEW_GENERATED_TIME => Field::new(name, timestamp_type(), true),
                name => Field::new(name, DataType::Utf8, true),
            })
            .collect();
        let texts = fields.iter().filter(|field| *field.data_type() == DataType::Utf8);
        let texts = texts.map(|_| StringBuilder::new()).collect();
        Self { roles, schema: Arc::new(Schema::new(fields)), texts, num_rows: 0, generated_times }
    }

    /// Returns the schema of the batches.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Adds a change; gives `write` a batch if it is full.
    ///
    /// # Errors
    ///
    /// What `write` returns.
    pub fn add(
        &mut self,
        change: &Change<'_>,
        write: impl FnOnce(&RecordBatch) -> Result<(), HistoryError>,
    ) -> Result<(), HistoryError> {
        let roles = self.roles;
        let shown = change.device.shown();
        let described = [
            (roles.device_name, shown.name.as_deref()),
            (roles.platform, shown.platform.as_deref()),
            (roles.group, shown.group.as_deref()),
        ];
        let versions = roles.version.map(|_| [change.old_version, change.new_version]);
        let values = [Some(change.kind), Some(&change.device.id)]
            .into_iter()
            .chain(described.into_iter().filter_map(|(column, value)| column.map(|_| value)))
            .chain(change.product.iter().copied())
            .chain(versions.into_iter().flatten())
            .chain([change.old_value, change.new_value]);
        self.texts.iter_mut().zip(values).for_each(|(column, value)| column.append_option(value));
        self.num_rows += 1;
        if self.num_rows < BATCH_ROWS { Ok(()) } else { write(&self.take()) }
    }

    /// Returns the changes that no batch has yet.
    ///
    /// # Panics
    ///
    /// If columns were of different lengths: a mistake of ours.
    pub fn take(&mut self) -> RecordBatch {
        let mut texts = self.texts.iter_mut();
        let columns = self.schema.fields().iter().map(|field| -> ArrayRef {
            let time = |time: DateTime<Utc>| {
                let times = vec![time.timestamp_micros(); self.num_rows];
                Arc::new(TimestampMicrosecondArray::from(times).with_data_type(timestamp_type()))
            };
            match field.name().as_str() {
                OLD_GENERATED_TIME => time(self.generated_times[0]),
                NEW_GENERATED_TIME => time(self.generated_times[1]),
                _ => Arc::new(texts.next().expect("a builder for each column of text").finish()),
            }
        });
        let columns = columns.collect();
        self.num_rows = 0;
        RecordBatch::try_new(SchemaRef::clone(&self.schema), columns).expect("columns of the schema")
    }
}

/// The type of times in answers.
pub fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}
