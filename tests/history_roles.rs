//! `diff` and `trend` know columns by their roles alone: the history of a dataset that no one exports, of another shape
//! than software inventory, declared here. Its first version lacks a column of the second.

use std::fmt::Write as _;
use std::num::NonZeroUsize;
use std::path::Path;

use pipeline::cancel::Cancel;
use pipeline::fetch::{MinThroughput, RetryPolicy};
use pipeline::history::SnapshotReader;
use pipeline::history::change_filter::ChangeFilter;
use pipeline::history::diff::{self, Diff};
use pipeline::history::roles::Roles;
use pipeline::history::trend::{By, Trend};
use pipeline::ingest::{DatasetChoice, IfPublished, IngestConfig, MaxRejects, ingest};
use pipeline::lake::Lake;
use pipeline::memory::MemoryBudget;
use pipeline::source::{RouteConfig, SourceConfig};
use schema::{
    ChangeWords, Column, ColumnType, ComparedColumn, Condition, Counted, Dataset, HistoryRoles, Is, Layout,
    Measure, Origin, Permission, Presence, ReportRoles, Routes,
};
use serde_json::{Value, json};

const fn column(field_id: i32, name: &'static str, column_type: ColumnType) -> Column {
    Column {
        name,
        field_id,
        child_ids: &[],
        column_type,
        presence: Presence::Optional,
        origin: Origin::Property,
        aliases: &[],
        doc: "Invented.",
        source: "these tests",
    }
}

const HULL: Column = Column { presence: Presence::Required, ..column(1, "Hull", ColumnType::Utf8) };
const SAILED: Column = Column {
    presence: Presence::Required,
    origin: Origin::Export,
    ..column(8, "Sailed", ColumnType::TimestampMicros)
};
const COLUMNS: [Column; 8] = [
    HULL,
    column(2, "Fleet", ColumnType::Utf8),
    column(3, "Deck", ColumnType::Utf8),
    column(4, "Test", ColumnType::Utf8),
    column(5, "Passed", ColumnType::Boolean),
    column(6, "Score", ColumnType::Float64),
    column(7, "Due", ColumnType::TimestampMicros),
    SAILED,
];
const MORE_COLUMNS: [Column; 9] = {
    let mut columns = [SAILED; 9];
    let mut index = 0;
    while index < COLUMNS.len() {
        columns[index] = COLUMNS[index];
        index += 1;
    }
    columns[8] = column(9, "Inspector", ColumnType::Utf8);
    columns
};

const ROLES: HistoryRoles = HistoryRoles {
    device: "Hull",
    device_name: None,
    group: Some("Fleet"),
    platform: None,
    product: &["Deck", "Test"],
    version: None,
    only_with: Some("Test"),
    compared: &[
        ComparedColumn { column: "Passed", kind: "outcome_changed" },
        ComparedColumn { column: "Score", kind: "score_changed" },
        ComparedColumn { column: "Inspector", kind: "inspector_changed" },
    ],
    measures: &[
        Measure { name: "tests", counted: Counted::Rows },
        Measure {
            name: "failed",
            counted: Counted::Where(&[Condition { column: "Passed", is: Is::Boolean(false) }]),
        },
        Measure { name: "pass_rate", counted: Counted::Share { of: "tests", but: "failed" } },
        Measure { name: "overdue", counted: Counted::Where(&[Condition { column: "Due", is: Is::Past }]) },
        Measure {
            name: "due",
            counted: Counted::Where(&[Condition { column: "Due", is: Is::WithinDays(30) }]),
        },
        Measure {
            name: "below_deck",
            counted: Counted::Where(&[Condition { column: "Deck", is: Is::OneOf(&["orlop", "hold"]) }]),
        },
        Measure { name: "inspectors", counted: Counted::Distinct(&["Inspector"]) },
        Measure { name: "kinds", counted: Counted::Products },
    ],
    main_measure: "failed",
    status: None,
    words: ChangeWords { added: "ordered", removed: "waived", version_changed: "" },
    filters: &[("fleet", "Fleet"), ("deck", "Deck"), ("test", "Test")],
};

const SHIPS: Dataset = Dataset {
    name: "ship_tests",
    version: 2,
    doc: "One row per ship and test.",
    source: "these tests",
    routes: Routes { files: Some("ships/Export"), json: None },
    permission: Permission { application: "Ships.Read.All", delegated: "Ships.Read" },
    key: &["Hull", "Deck", "Test"],
    partition_by: None,
    may_be_empty: false,
    layout: Layout { cluster_by: &["Deck", "Test"], bloom: &[], uncompressed: &[] },
    history: Some(ROLES),
    report: ReportRoles::NONE,
    columns: &MORE_COLUMNS,
};
static NEW_SHIPS: Dataset = SHIPS;

/// A row is a device.
static HULLS: Dataset = Dataset {
    name: "hulls",
    key: &["Hull"],
    columns: &COLUMNS,
    history: Some(HistoryRoles {
        product: &[],
        only_with: None,
        compared: &[
            ComparedColumn { column: "Deck", kind: "deck_changed" },
            ComparedColumn { column: "Due", kind: "due_changed" },
        ],
        measures: &[],
        main_measure: "devices",
        filters: &[("fleet", "Fleet")],
        ..ROLES
    }),
    ..SHIPS
};

/// The version is no part of the key.
static SAILS: Dataset = Dataset {
    name: "sails",
    key: &["Hull", "Deck"],
    columns: &COLUMNS,
    history: Some(HistoryRoles {
        product: &["Deck"],
        version: Some("Test"),
        only_with: None,
        compared: &[],
        measures: &[],
        main_measure: "devices",
        words: ChangeWords { added: "hoisted", removed: "struck", version_changed: "replaced" },
        filters: &[],
        ..ROLES
    }),
    ..SHIPS
};
static OLD_SHIPS: Dataset = Dataset { version: 1, columns: &COLUMNS, ..SHIPS };

/// Publishes records as the snapshot of a day of June 2021.
fn publish(dataset: &'static Dataset, folder: &Path, day: u32, records: &[Value]) {
    let part = folder.join(format!("{day}.ndjson"));
    let lines = records.iter().fold(String::new(), |mut lines, record| {
        writeln!(lines, "{record}").unwrap();
        lines
    });
    std::fs::write(&part, lines).unwrap();
    let one = NonZeroUsize::MIN;
    let config = IngestConfig {
        datasets: DatasetChoice::Named(vec![dataset]),
        lake: folder.join("lake").display().to_string(),
        source: SourceConfig {
            route: RouteConfig::Local {
                patterns: vec![part.display().to_string()],
                generated_time: Some(format!("2021-06-{day:02}T06:00:00Z").parse().unwrap()),
            },
            downloads: one,
            api_retry: RetryPolicy::API,
            part_retry: RetryPolicy::PART,
            min_throughput: MinThroughput::DEFAULT,
            unlimited_calls: false,
        },
        work_dir: folder.join("work"),
        table: None,
        if_published: IfPublished::Fail,
        max_rejects: MaxRejects::default(),
        capture_extra_fields: false,
        keep_parts: false,
        allow_future: false,
        threads: one,
        memory: MemoryBudget::new(1 << 30),
        dry_run: false,
    };
    let runtime = pipeline::threads::start_runtime("test", 1).unwrap();
    let taken = ingest(&config, &runtime, &Cancel::default(), &mut |_| {}).unwrap();
    assert!(taken[0].result.is_ok(), "{taken:?}");
}

/// Returns the changes between two days in words, and checks that their counts agree.
fn changes(dataset: &'static Dataset, folder: &Path, pair: [usize; 2], filter: &[&str]) -> Vec<String> {
    let table = Lake::open(folder.join("lake")).unwrap().table(dataset);
    let roles = Roles::of(dataset).unwrap();
    let published = table.snapshots().unwrap();
    let cancel = Cancel::default();
    let [old, new] = pair.map(|index| SnapshotReader::open(&table, &published[index], &cancel).unwrap());
    let filter = ChangeFilter::parse(roles, filter.iter().copied()).unwrap();
    let mut changes = Vec::new();
    let mut counts = vec![0; roles.kinds().len()];
    let diff = Diff { roles, old: &old, new: &new, filter: &filter, memory_bytes: 1 << 30 };
    diff.run(&cancel, |change| {
        counts[roles.kinds().iter().position(|kind| *kind == change.kind).unwrap()] += 1;
        let versions = roles.version.map(|_| [change.old_version, change.new_version]);
        let values = change.product.iter().copied().chain(versions.into_iter().flatten());
        let values = values.chain([change.old_value, change.new_value]);
        let words =
            [change.kind, &change.device.id].into_iter().chain(values.map(|value| value.unwrap_or("-")));
        changes.push(words.collect::<Vec<_>>().join(" "));
        Ok(())
    })
    .unwrap();
    if filter.is_empty() {
        assert_eq!(diff::count(roles, &old, &new, 1 << 30, &cancel).unwrap(), counts);
    }
    changes
}

fn record(hull: &str, fleet: &str, deck: &str, test: &str, others: &Value) -> Value {
    let mut record = json!({ "Hull": hull, "Fleet": fleet, "Deck": deck, "Test": test });
    record.as_object_mut().unwrap().extend(others.as_object().unwrap().clone());
    record
}

fn lake_of_ships() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let passed = |score: f64| json!({ "Passed": true, "Score": score, "Due": "2021-06-30T00:00:00Z" });
    let failed = json!({ "Passed": false, "Due": "2021-05-01T00:00:00Z", "Inspector": "not yet a column" });
    publish(
        &OLD_SHIPS,
        path,
        1,
        &[
            record("a", "north", "hold", "pumps", &passed(7.0)),
            record("a", "north", "orlop", "sails", &failed),
            record("b", "north", "main", "flags", &passed(1.5)),
            json!({ "Hull": "c" }),
        ],
    );
    let inspected = |inspector: &str| json!({ "Passed": true, "Score": 7.5, "Inspector": inspector });
    publish(
        &NEW_SHIPS,
        path,
        2,
        &[
            record("a", "south", "hold", "pumps", &inspected("x")),
            record("a", "south", "main", "flags", &json!({ "Passed": null })),
            record(
                "b",
                "north",
                "main",
                "flags",
                &json!({ "Passed": false, "Score": 1.5, "Inspector": "y" }),
            ),
            json!({ "Hull": "c", "Fleet": null }),
            json!({ "Hull": "d", "Fleet": "south" }),
        ],
    );
    publish(&NEW_SHIPS, path, 3, &[record("a", "south", "hold", "pumps", &inspected("z"))]);
    folder
}

#[test]
fn dataset_without_version_changes_in_its_own_words() {
    let folder = lake_of_ships();
    assert_eq!(
        changes(&NEW_SHIPS, folder.path(), [0, 1], &[]),
        [
            "device_moved a - - north south",
            "score_changed a hold pumps 7.0 7.5",
            "ordered a main flags - -",
            "waived a orlop sails - -",
            "outcome_changed b main flags true false",
            "device_appeared d - - - -",
        ],
        "no inspector_changed: the first snapshot has no such column"
    );
    assert_eq!(
        changes(&NEW_SHIPS, folder.path(), [1, 2], &[]),
        [
            "inspector_changed a hold pumps x z",
            "waived a main flags - -",
            "device_disappeared b - - - -",
            "waived b main flags - -",
            "device_disappeared c - - - -",
            "device_disappeared d - - - -",
        ]
    );
    assert_eq!(
        changes(&NEW_SHIPS, folder.path(), [0, 1], &["deck=main"]),
        ["ordered a main flags - -", "outcome_changed b main flags true false"]
    );
    assert_eq!(
        changes(&NEW_SHIPS, folder.path(), [1, 0], &["fleet=north,test=flags"]),
        ["waived a main flags - -", "outcome_changed b main flags false true"]
    );
}

#[test]
fn row_that_is_a_device_has_only_changed_values() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let on =
        |hull: &str, deck: &str| record(hull, "north", deck, "", &json!({ "Due": "2021-06-30T00:00:00Z" }));
    publish(&HULLS, path, 1, &[on("a", "main"), on("b", "main")]);
    publish(
        &HULLS,
        path,
        2,
        &[on("a", "hold"), record("c", "north", "main", "", &json!({})), json!({ "Hull": "a", "Due": null })],
    );
    assert_eq!(
        changes(&HULLS, path, [0, 1], &[]),
        ["deck_changed a main hold", "device_disappeared b - -", "device_appeared c - -"]
    );
    let roles = Roles::of(&HULLS).unwrap();
    assert_eq!(roles.kinds()[..3], ["deck_changed", "due_changed", "device_appeared"]);
    let columns = roles.change_columns();
    assert_eq!(
        columns,
        ["Change", "Hull", "Fleet", "OldValue", "NewValue", "OldGeneratedTime", "NewGeneratedTime"]
    );
}

#[test]
fn versions_that_are_no_key_are_paired() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let version = |deck: &str, version: &str| record("a", "north", deck, version, &json!({}));
    publish(&SAILS, path, 1, &[version("main", "9"), version("main", "kept"), version("hold", "1")]);
    publish(&SAILS, path, 2, &[version("main", "10"), version("main", "kept"), version("top", "2")]);
    assert_eq!(
        changes(&SAILS, path, [0, 1], &[]),
        ["struck a hold 1 - - -", "replaced a main 9 10 - -", "hoisted a top - 2 - -"]
    );
}

#[test]
fn measures_are_counted_as_declared() {
    let folder = lake_of_ships();
    let table = Lake::open(folder.path().join("lake")).unwrap().table(&NEW_SHIPS);
    let published = table.snapshots().unwrap();
    let trend = |by: &[&'static str]| {
        Trend::read(&table, &published, by, 1 << 30, &Cancel::default()).unwrap().json(10)
    };
    let all = trend(&[]);
    assert_eq!(
        all["snapshots"][0],
        json!({
            "generated_time": "2021-06-01T06:00:00Z", "rows": 4, "devices": 3, "tests": 3, "failed": 1,
            "pass_rate": 2.0 / 3.0, "overdue": 1, "due": 2, "below_deck": 2, "inspectors": 0, "kinds": 3,
        })
    );
    assert_eq!(all["snapshots"][1]["inspectors"], 2);
    assert_eq!(all["snapshots"][1]["tests"], 3);
    let roles = Roles::of(&NEW_SHIPS).unwrap();
    assert_eq!(By::parse(roles, "test").unwrap().columns(), ["Deck", "Test"]);
    let error = By::parse(roles, "platform").unwrap_err().to_string();
    assert_eq!(error, "cannot group ship_tests by \"platform\": expected one of: fleet, deck, test");
    let by_fleet = trend(By::parse(roles, "Fleet").unwrap().columns());
    assert_eq!(by_fleet["num_groups"], 3);
    assert_eq!(by_fleet["groups"][0]["fleet"], Value::Null);
    assert_eq!(by_fleet["groups"][0]["snapshots"][2], Value::Null);
    assert_eq!(by_fleet["groups"][0]["snapshots"][1]["pass_rate"], Value::Null);
}
