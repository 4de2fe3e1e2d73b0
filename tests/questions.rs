//! All datasets in one lake: the views over them and the questions of `pipeline/docs/questions.md`, asked of DuckDB and
//! Spark; and the measures that `trend` counts of each, against the same as SQL.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;

use fixtures::{Dataset, Tenant, TenantOptions};
use pipeline::history::roles::Roles;
use schema::{Condition, Counted, Is};
use serde_json::Value;

use crate::readers::run_checks;
use crate::support::Sandbox;

const DEVICES: u32 = 60;

fn tenant(dataset: Dataset, day: u32) -> Tenant {
    let options = TenantOptions { dataset, devices: DEVICES, parts: 2, ..TenantOptions::default() };
    Tenant::new(options.on_day(day))
}

/// A lake with a snapshot of every dataset for each of the days.
fn lake_of_all(days: &[u32]) -> Sandbox {
    let sandbox = Sandbox::new();
    for day in days {
        for dataset in Dataset::ALL {
            let folder = sandbox.path().join(format!("{}-{day}", dataset.name()));
            tenant(dataset, *day).write_to_dir(&folder).unwrap();
            let args = ["-q", "--dataset", dataset.name(), "--from", folder.to_str().unwrap()];
            sandbox.run("ingest", &args).expect(0);
        }
    }
    sandbox
}

#[test]
fn trend_of_every_dataset_is_what_sql_counts() {
    let sandbox = lake_of_all(&[0, 5]);
    let mut asked: Vec<OsString> = Vec::new();
    for dataset in schema::DATASETS {
        let report = sandbox.run("trend", &["--dataset", dataset.name, "--json"]).expect(0).report();
        for snapshot in report["snapshots"].as_array().unwrap() {
            let time = snapshot["generated_time"].as_str().unwrap();
            let columns = measures(dataset);
            let names: Vec<_> = columns.iter().map(|(name, _)| *name).collect();
            let values: Vec<_> = names.iter().map(|name| &snapshot[*name]).collect();
            let sql: Vec<_> = columns.iter().map(|(_, sql)| sql.as_str()).collect();
            let sql =
                format!("SELECT {} FROM {} WHERE GeneratedTime = '{time}'", sql.join(", "), dataset.name);
            asked
                .push(serde_json::json!({ "names": names, "sql": sql, "answer": values }).to_string().into());
        }
    }
    run_checks("duckdb", sandbox.path(), [(sandbox.lake(), "figures", &asked[..])]);
}

/// Names of the columns of `trend`, each as SQL.
fn measures(dataset: &'static schema::Dataset) -> Vec<(&'static str, String)> {
    let roles = Roles::of(dataset).unwrap();
    let counted = roles.only_with.map_or_else(|| "true".to_owned(), |column| format!("{column} IS NOT NULL"));
    let mut columns =
        vec![("devices", format!("count(DISTINCT {})", roles.device)), ("rows", "count(*)".to_owned())];
    for measure in roles.measures {
        let distinct = |names: &[&str]| {
            let is_there: Vec<_> = names.iter().map(|name| format!("{name} IS NOT NULL")).collect();
            let is_there = is_there.join(" OR ");
            format!("count(DISTINCT ({})) FILTER ({counted} AND ({is_there}))", row(names))
        };
        let sql = match measure.counted {
            Counted::Rows => format!("count(*) FILTER ({counted})"),
            Counted::Products => format!("count(DISTINCT {}) FILTER ({counted})", row(roles.product)),
            Counted::Distinct(names) => distinct(names),
            Counted::Sum(column) => format!("coalesce(sum({column}), 0)"),
            Counted::Status => {
                let status = roles.status.unwrap();
                format!("count(*) FILTER ({counted} AND starts_with({}, '{}'))", status.column, status.prefix)
            }
            Counted::Where(conditions) => {
                let conditions: String = conditions.iter().fold(String::new(), |mut all, condition| {
                    write!(all, " AND {}", is_met(condition)).unwrap();
                    all
                });
                format!("count(*) FILTER ({counted}{conditions})")
            }
            Counted::Share { of, but } => {
                let sql = |name| &columns.iter().find(|(known, _)| *known == name).unwrap().1;
                let (of, but) = (sql(of), sql(but));
                format!("({of} - {but}) / nullif({of}, 0)")
            }
        };
        columns.push((measure.name, sql));
    }
    columns
}

fn row(names: &[&str]) -> String {
    format!("row({})", names.join(", "))
}

fn is_met(condition: &Condition) -> String {
    let column = condition.column;
    match condition.is {
        Is::Boolean(value) => format!("{column} = {value}"),
        Is::OneOf(values) => format!("{column} IN ('{}')", values.join("', '")),
        Is::Past => format!("{column} < GeneratedTime"),
        Is::WithinDays(days) => {
            format!("{column} >= GeneratedTime AND {column} < GeneratedTime + INTERVAL {days} DAYS")
        }
    }
}

#[test]
fn views_and_questions_are_answered_alike() {
    let sandbox = lake_of_all(&[0, 5]);
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/questions.md");
    let answers = ["duckdb", "spark"].map(|reader| {
        let file = sandbox.path().join(format!("{reader}.json"));
        let questions: Vec<OsString> = vec![page.clone().into(), file.clone().into()];
        let checks = [("views", &[][..]), ("questions", &questions[..])];
        run_checks(reader, sandbox.path(), checks.map(|(check, args)| (sandbox.lake(), check, args)));
        serde_json::from_str::<Value>(&std::fs::read_to_string(file).unwrap()).unwrap()
    });
    let [duckdb, spark] = &answers;
    assert_eq!(duckdb.as_array().unwrap().len(), 12);
    for (duckdb, spark) in duckdb.as_array().unwrap().iter().zip(spark.as_array().unwrap()) {
        assert_eq!(duckdb, spark);
    }
}

#[test]
fn tables_that_a_lake_lacks_have_no_rows() {
    let sandbox = Sandbox::new();
    let folder = sandbox.path().join("parts");
    tenant(Dataset::SoftwareInventory, 0).write_to_dir(&folder).unwrap();
    sandbox.run("ingest", &["-q", "--from", folder.to_str().unwrap()]).expect(0);
    run_checks("duckdb", sandbox.path(), [(sandbox.lake(), "views", &[][..])]);
}
