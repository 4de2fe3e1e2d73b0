//! The tenant's wire against the declarations: what the one spells by hand and the other declares is the same, of every
//! dataset and on both routes.

use std::collections::{BTreeMap, BTreeSet};

use fixtures::{PartFormat, Tenant, TenantOptions};
use serde_json::{Map, Value};

use crate::support::Sandbox;

/// Parts of a tenant, each with as many records of pages as it has itself, where the service has pages.
fn records(tenant: &Tenant) -> impl Iterator<Item = Vec<Map<String, Value>>> {
    (0..tenant.num_parts()).map(|index| {
        let mut text = Vec::new();
        tenant.write_part(index, PartFormat::Plain, &mut text).unwrap();
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let mut records: Vec<_> = lines.map(|line| serde_json::from_slice(line).unwrap()).collect();
        if tenant.options().dataset.has_json_route() {
            let mut page = b"[".to_vec();
            tenant.write_page_records(tenant.part_records(index), &mut page).unwrap();
            page.push(b']');
            records.extend(serde_json::from_slice::<Vec<_>>(&page).unwrap());
        }
        records
    })
}

#[test]
fn tenant_fills_and_empties_every_declared_column() {
    let mut problems = Vec::new();
    for dataset in fixtures::Dataset::ALL {
        let declared = schema::Dataset::find(dataset.name()).unwrap();
        assert_eq!(declared.routes.json.is_some(), dataset.has_json_route(), "{dataset}");
        assert_eq!(declared.may_be_empty, dataset.may_be_empty(), "{dataset}");
        // Names on the wire, and what they fill.
        let mut columns: BTreeMap<String, &str> = BTreeMap::new();
        for column in declared.properties() {
            columns.insert(column.name.to_ascii_lowercase(), column.name);
            columns.extend(column.aliases.iter().map(|alias| (alias.name.to_ascii_lowercase(), column.name)));
        }
        let options = TenantOptions { dataset, parts: 32, ..TenantOptions::default() };
        let tenant = Tenant::new(options.on_day(3));
        let (mut filled, mut empty) = (BTreeSet::new(), BTreeSet::new());
        let mut unknown = BTreeSet::new();
        let may_be_null = |column: &schema::Column| column.presence == schema::Presence::Optional;
        for records in records(&tenant) {
            for record in records {
                let mut in_record = BTreeSet::new();
                for (name, value) in &record {
                    match columns.get(&name.to_ascii_lowercase()) {
                        Some(column) if !value.is_null() => drop(in_record.insert(*column)),
                        Some(_) => {}
                        None => drop(unknown.insert(name.clone())),
                    }
                }
                empty.extend(columns.values().filter(|column| !in_record.contains(*column)).copied());
                filled.extend(in_record);
            }
            // What is left would show nothing new.
            if declared.properties().all(|column| {
                filled.contains(column.name) && may_be_null(column) == empty.contains(column.name)
            }) {
                break;
            }
        }
        for column in declared.properties() {
            if !filled.contains(column.name) {
                problems.push(format!("{dataset}: {} is never filled", column.name));
            }
            if may_be_null(column) != empty.contains(column.name) {
                problems.push(format!("{dataset}: {} is null or never is", column.name));
            }
        }
        problems.extend(unknown.into_iter().map(|name| format!("{dataset}: {name} is not declared")));
    }
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn diff_of_every_dataset_is_what_happened() {
    let sandbox = Sandbox::new();
    for dataset in fixtures::Dataset::ALL {
        let options = TenantOptions { dataset, devices: 40, parts: 1, ..TenantOptions::default() };
        let [old, new] = [20, 27].map(|day| Tenant::new(options.clone().on_day(day)));
        for tenant in [&old, &new] {
            let folder = sandbox.path().join(tenant.options().generated_time.timestamp().to_string());
            tenant.write_to_dir(&folder).unwrap();
            let part = tenant.part_files(&folder).remove(0);
            let part = part.to_str().unwrap();
            sandbox.run("ingest", &["-q", "--dataset", dataset.name(), "--from", part]).expect(0);
        }
        let args = ["--dataset", dataset.name(), "--from", "2021-01-31", "--to", "2021-02-07"];
        sandbox.run("diff", &[&args[..], &["--out", "changes.ndjson"]].concat()).expect(0);
        let mut expected = Vec::new();
        new.write_changes(&old, &mut expected).unwrap();
        let [expected, found] = [expected, std::fs::read(sandbox.path().join("changes.ndjson")).unwrap()]
            .map(|lines| {
                let lines = String::from_utf8(lines).unwrap();
                let mut lines: Vec<String> = lines
                    .lines()
                    .map(|line| serde_json::from_str::<BTreeMap<String, Value>>(line).unwrap())
                    .map(|change| format!("{change:?}"))
                    .collect();
                lines.sort();
                lines
            });
        assert!(!expected.is_empty(), "{dataset}");
        let differing = expected.iter().zip(&found).find(|(expected, found)| expected != found);
        assert_eq!(differing, None, "{dataset}");
        assert_eq!(expected.len(), found.len(), "{dataset}");
    }
}
