//! SQL over the tables of a lake, by their names, for people without an engine of their own.
//!
//! Takes a query; gives its answer in frames. Conditions on partition columns prune files.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use polars::error::set_warning_function;
use polars::prelude::*;
use polars::sql::SQLContext;

use super::local_copies::LocalCopies;
use super::table_scan::{is_supported, scan, scanned_files};
use super::{HistoryError, is_io, nearest, text};
use crate::cancel::Cancel;
use crate::ddl;
use crate::display::{TextTable, count};
use crate::lake::Lake;
use crate::threads::ThreadError;

/// A parsed query.
pub struct Query {
    plan: LazyFrame,
    schema: SchemaRef,
    /// What it reads, if the lake is in a store.
    copies: Option<LocalCopies>,
}

impl std::fmt::Debug for Query {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Query").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl Query {
    /// Parses `sql` over the tables of `lake` that it names. Reads their manifests and a few footers.
    ///
    /// # Errors
    ///
    /// [`HistoryError::Sql`] names what is wrong and what was meant; else the lake cannot be read.
    pub fn try_new(lake: &Lake, sql: &str, cancel: &Cancel) -> Result<Self, HistoryError> {
        // Polars' warnings are for its own users, not for ours.
        set_warning_function(|message, _| tracing::debug!(message, "advice of the engine"));
        let mut context = SQLContext::new();
        let mut copies = LocalCopies::for_lake(lake)?;
        let mut columns = Vec::new();
        for dataset in ddl::datasets_named_in(sql) {
            let table = lake.table(dataset);
            let mut rows = scan(&table, &table.snapshots()?, copies.as_mut(), cancel)?;
            columns.extend(rows.collect_schema()?.iter_names().map(ToString::to_string));
            context.register(dataset.name, rows);
        }
        let tables: Vec<_> = schema::DATASETS.iter().map(|dataset| dataset.name).collect();
        let mut understand = || {
            let mut plan = context.execute(sql)?;
            let schema = plan.collect_schema()?;
            Ok((plan, schema))
        };
        let (plan, schema) = understand().map_err(|error| match unsupported_column(&error, sql) {
            Some(column) => HistoryError::UnsupportedColumn { column },
            None => HistoryError::Sql { reason: explain(&error, &columns, &tables) },
        })?;
        Ok(Self { plan, schema, copies })
    }

    /// The columns of the answer.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Calls `take` with the answer, one frame after the other, until it returns false.
    ///
    /// The engine cannot be stopped: after an error, or after `take` has returned false, it may run until the
    /// process ends.
    ///
    /// # Errors
    ///
    /// [`HistoryError::Memory`] if the query takes more than `memory_bytes`, as far as the program
    /// counts ([`polars_ooc::Allocator`]); an interruption; what the engine says, or what `take` returns.
    pub fn run(
        mut self,
        memory_bytes: u64,
        cancel: &Cancel,
        mut take: impl FnMut(DataFrame) -> Result<bool, HistoryError>,
    ) -> Result<(), HistoryError> {
        /// Interval at which memory and signals are checked.
        const LOOK: Duration = Duration::from_millis(2);
        if let Some(copies) = &mut self.copies {
            // Of the very plan that is run: what it reads is there, and nothing else.
            let callback = PlanCallback::new(|_| Ok(false));
            let plan = self.plan.clone().sink_batches(callback, true, None)?;
            let plan = plan.to_alp_optimized().map_err(run_error)?;
            copies.fetch(&scanned_files(&plan), cancel)?;
        }
        let (send, receive) = sync_channel(1);
        let callback = PlanCallback::new(move |frame| Ok(send.send(frame).is_err()));
        let plan = self.plan.sink_batches(callback, true, None)?;
        let run_engine = move || plan.collect_with_engine(Engine::Streaming).map(drop);
        let engine = std::thread::Builder::new().spawn(run_engine);
        let engine = engine.map_err(|source| ThreadError::new("the engine", source))?;
        loop {
            match receive.recv_timeout(LOOK) {
                Ok(frame) => {
                    if !take(frame)? {
                        return Ok(());
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if cancel.is_cancelled() {
                return Err(HistoryError::Interrupted);
            }
            if polars_ooc::estimate_memory_usage() > memory_bytes {
                return Err(HistoryError::Memory { memory_bytes });
            }
        }
        let ended = engine.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        ended.map_err(run_error)
    }
}

/// Unless reading failed, the query is wrong, such as by a value that cannot be cast.
fn run_error(error: PolarsError) -> HistoryError {
    match error {
        error if is_io(&error) => error.into(),
        error => HistoryError::Sql { reason: first_line(&error.to_string()) },
    }
}

/// Returns the column that a query asks for and that [`scan`] leaves out.
fn unsupported_column(error: &PolarsError, sql: &str) -> Option<&'static str> {
    let message = error.to_string();
    let given = quoted(&message)?;
    let mut columns = ddl::datasets_named_in(sql).flat_map(|dataset| dataset.columns);
    columns.find(|column| column.name == given && !is_supported(column)).map(|column| column.name)
}

/// Explains what is wrong with a query in the query's own words.
fn explain(error: &PolarsError, columns: &[String], tables: &[&str]) -> String {
    match error {
        PolarsError::Context { error, .. } | PolarsError::ExprContext { error, .. } => {
            explain(error, columns, tables)
        }
        PolarsError::ColumnNotFound(message) | PolarsError::SchemaFieldNotFound(message) => {
            let Some(given) = quoted(message) else { return first_line(message) };
            meant("column", given, columns.iter().map(String::as_str))
        }
        PolarsError::SQLInterface(message) | PolarsError::SQLSyntax(message) => {
            match (message.contains("relation"), message.contains("column"), quoted(message)) {
                (true, _, Some(given)) => meant("table", given, tables.iter().copied()),
                (_, true, Some(given)) if !columns.iter().any(|column| column == given) => {
                    meant("column", given, columns.iter().map(String::as_str))
                }
                _ => first_line(message),
            }
        }
        error => first_line(&error.to_string()),
    }
}

fn meant<'a>(kind: &str, given: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    match nearest(given, known.clone()) {
        Some(name) => format!("there is no {kind} {given:?}; did you mean {name}?"),
        None => format!("there is no {kind} {given:?}; known: {}", known.collect::<Vec<_>>().join(", ")),
    }
}

/// Returns the first text in quotes.
fn quoted(message: &str) -> Option<&str> {
    let start = message.find(['"', '\'', '`'])?;
    let (quote, rest) = message[start..].split_at(1);
    rest.split(quote).next().filter(|text| !text.is_empty())
}

fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}

/// Rows of a table for people, at most.
const MAX_SHOWN: usize = 100;

/// Returns the first rows of the answer for people.
///
/// # Errors
///
/// What [`Query::run`] returns.
pub fn table(query: Query, memory_bytes: u64, cancel: &Cancel) -> Result<String, HistoryError> {
    let names: Vec<String> = query.schema.iter_names().map(ToString::to_string).collect();
    let data_types: Vec<_> = query.schema.iter_values().collect();
    let mut table = TextTable::new(&names, |index| data_types[index].is_primitive_numeric());
    let mut num_rows = 0;
    query.run(memory_bytes, cancel, |frame| {
        for row in 0..frame.height().min(MAX_SHOWN - num_rows.min(MAX_SHOWN)) {
            let cells = frame.columns().iter().map(|column| Ok(text::cell(&column.get(row)?)));
            table.push(cells.collect::<PolarsResult<Vec<_>>>()?);
        }
        num_rows += frame.height();
        Ok(num_rows <= MAX_SHOWN)
    })?;
    let more = if num_rows > MAX_SHOWN {
        format!("the first {MAX_SHOWN} rows; --format csv, json or parquet gives all\n")
    } else {
        format!("{}\n", count(num_rows as u64, "row"))
    };
    Ok(format!("{table}\n{more}"))
}
