//! Views over several tables, or over part of one: the questions that people put to every lake, answered once.
//!
//! Takes declarations; gives SQL for DuckDB and Spark. A view reads tables by their names, never files, so it is the same
//! whatever the lake; a table that the lake lacks is there as a view without rows.

use std::fmt::Write;

use crate::ddl::Engine;
use crate::{DATASETS, Dataset, SNAPSHOT_DATE};

/// A view over tables.
#[derive(Debug)]
pub struct View {
    /// Its name.
    pub name: String,
    /// One sentence: what a row is.
    pub doc: String,
    query: Query,
}

#[derive(Debug)]
enum Query {
    /// As both engines read it.
    Sql(String),
    /// A row for each device and date of any table.
    Devices,
    /// Members of the JSON object in a column, beside columns of the table.
    Json(&'static JsonColumns),
}

/// Members of a JSON object, each a column of the view.
#[derive(Debug)]
struct JsonColumns {
    table: &'static str,
    columns: &'static [&'static str],
    /// The column with the object.
    object: &'static str,
    members: &'static [Member],
}

#[derive(Debug)]
struct Member {
    name: &'static str,
    /// Where its value is, as JSON paths: the first that is there. After `|` the path goes on in the JSON text that is
    /// there.
    paths: &'static [&'static str],
    value: MemberValue,
}

#[derive(Debug, Clone, Copy)]
enum MemberValue {
    /// The text that is there.
    Text,
    /// A boolean; text that is neither `true` nor `false`, in any case, is null.
    Boolean,
    /// The word for a number; others are null.
    Word(&'static [(&'static str, &'static str)]),
}

const fn text(name: &'static str, paths: &'static [&'static str]) -> Member {
    Member { name, paths, value: MemberValue::Text }
}

const fn boolean(name: &'static str, paths: &'static [&'static str]) -> Member {
    Member { name, paths, value: MemberValue::Boolean }
}

static AV_HEALTH: JsonColumns = JsonColumns {
    table: "information_gathering",
    columns: &[
        "snapshot_date",
        "DeviceId",
        "DeviceName",
        "RbacGroupName",
        "RbacGroupId",
        "OSPlatform",
        "OSVersion",
        "Timestamp",
        "LastSeenTime",
        "GeneratedTime",
    ],
    object: "DeviceGatheredInfo",
    members: &[
        Member {
            name: "AvMode",
            paths: &["$.AvMode"],
            value: MemberValue::Word(&[
                ("0", "Active"),
                ("1", "Passive"),
                ("2", "Disabled"),
                ("3", "Other"),
                ("4", "EDR blocked"),
                ("5", "Passive audit"),
            ]),
        },
        text("AvEngineVersion", &["$.AvEngineVersion"]),
        text("AvSignatureVersion", &["$.AvSignatureVersion"]),
        text("AvPlatformVersion", &["$.AvPlatformVersion"]),
        text("AvEngineUpdateTime", &["$.AvEngineUpdateTime"]),
        text("AvSignatureUpdateTime", &["$.AvSignatureUpdateTime"]),
        text("AvPlatformUpdateTime", &["$.AvPlatformUpdateTime"]),
        // The service spells the three as differently as this.
        boolean("AvIsEngineUpToDate", &["$.AvIsEngineUptodate", "$.AvIsEngineUpToDate"]),
        boolean("AvIsSignatureUpToDate", &["$.AvIsSignatureUptoDate", "$.AvIsSignatureUpToDate"]),
        boolean("AvIsPlatformUpToDate", &["$.AvIsPlatformUptodate", "$.AvIsPlatformUpToDate"]),
        text("CloudProtectionState", &["$.CloudProtectionState"]),
        text("QuickScanStatus", &["$.AvScanResults|$.Quick.ScanStatus"]),
        text("QuickScanTime", &["$.AvScanResults|$.Quick.Timestamp"]),
        text("FullScanStatus", &["$.AvScanResults|$.Full.ScanStatus"]),
        text("FullScanTime", &["$.AvScanResults|$.Full.Timestamp"]),
    ],
};

const EXPOSURE: &str = "\
SELECT
    v.snapshot_date, v.DeviceId, v.DeviceName, v.RbacGroupName, v.RbacGroupId, v.OSPlatform, v.OSVersion,
    v.SoftwareVendor, v.SoftwareName, v.SoftwareVersion, v.CveId, v.CvssScore, v.VulnerabilitySeverityLevel,
    v.ExploitabilityLevel, v.FirstSeenTimestamp, v.LastSeenTimestamp, v.SecurityUpdateAvailable,
    v.RecommendedSecurityUpdate, v.RecommendedSecurityUpdateId, i.EndOfSupportStatus, i.EndOfSupportDate,
    i.DiskPaths, i.RegistryPaths, i.GeneratedTime AS InventoryGeneratedTime, v.GeneratedTime
FROM software_vulnerabilities v
JOIN software_inventory i
    ON i.snapshot_date = v.snapshot_date AND i.DeviceId = v.DeviceId
    AND i.SoftwareVendor IS NOT DISTINCT FROM v.SoftwareVendor
    AND i.SoftwareName IS NOT DISTINCT FROM v.SoftwareName
    AND i.SoftwareVersion IS NOT DISTINCT FROM v.SoftwareVersion
WHERE v.CveId IS NOT NULL";

/// The columns of installed software that both tables have.
const INSTALLED: &str = "snapshot_date, DeviceId, DeviceName, RbacGroupName, RbacGroupId, OSPlatform, SoftwareVendor, \
                         SoftwareName, SoftwareVersion,\n    RegistryPaths, SoftwareLastSeenTimestamp, GeneratedTime";

/// What tables know of a device beside its identifier.
const OF_DEVICES: [&str; 7] = [
    "DeviceName",
    "RbacGroupName",
    "RbacGroupId",
    "OSPlatform",
    "OSVersion",
    "OSArchitecture",
    "LastSeenTime",
];

/// Returns every view: `latest_<dataset>` of each dataset, then those over several tables.
pub fn views() -> Vec<View> {
    let mut views: Vec<View> = DATASETS.iter().map(|dataset| latest(dataset)).collect();
    views.push(View {
        name: "exposure".to_owned(),
        doc: "One row per device, installed software and CVE: what is vulnerable, where it is, and until when it is supported; inventory and vulnerabilities of one date.".to_owned(),
        query: Query::Sql(EXPOSURE.to_owned()),
    });
    views.push(View {
        name: "installed_software".to_owned(),
        doc: "One row per device and installed version of a product, with a CPE or without.".to_owned(),
        query: Query::Sql(format!(
            "SELECT\n    {INSTALLED}, true AS HasCpe\nFROM software_inventory\nUNION ALL\nSELECT\n    {INSTALLED}, false AS HasCpe\nFROM software_inventory_non_cpe"
        )),
    });
    views.push(View {
        name: "av_health".to_owned(),
        doc: "One row per device: mode, versions, age and scans of its antivirus; times as the service words them.".to_owned(),
        query: Query::Json(&AV_HEALTH),
    });
    views.push(View {
        name: "devices".to_owned(),
        doc: "One row per device and date, of whatever table has it; each value from the table that knows most of devices and has one.".to_owned(),
        query: Query::Devices,
    });
    views
}

fn latest(dataset: &Dataset) -> View {
    let (name, date) = (dataset.name, SNAPSHOT_DATE.name);
    View {
        name: format!("latest_{name}"),
        doc: format!("The newest snapshot of {name}."),
        query: Query::Sql(format!("SELECT * FROM {name} WHERE {date} = (SELECT max({date}) FROM {name})")),
    }
}

/// Every table's devices, a row each, then the best value of every column.
fn devices(engine: Engine) -> String {
    let known = |dataset: &Dataset| OF_DEVICES.iter().filter(|name| dataset.column(name).is_some()).count();
    let mut by_knowledge = DATASETS.to_vec();
    by_knowledge.sort_by_key(|dataset| std::cmp::Reverse(known(dataset)));
    let mut sql = String::from("SELECT\n    snapshot_date, DeviceId");
    for name in OF_DEVICES {
        let _ = write!(sql, ",\n    min_by({name}, CASE WHEN {name} IS NOT NULL THEN place END) AS {name}");
    }
    sql.push_str("\nFROM (");
    for (place, dataset) in by_knowledge.into_iter().enumerate() {
        let union = if place == 0 { "" } else { "    UNION ALL\n" };
        let _ = write!(sql, "\n{union}    SELECT snapshot_date, DeviceId, {place} AS place");
        for name in OF_DEVICES {
            let column = DATASETS.iter().find_map(|dataset| dataset.column(name)).expect("one table has it");
            let _ = if dataset.column(name).is_some() {
                write!(sql, ", max({name}) AS {name}")
            } else {
                write!(sql, ", CAST(NULL AS {}) AS {name}", engine.type_name(column.column_type))
            };
        }
        let _ = write!(sql, "\n    FROM {} GROUP BY snapshot_date, DeviceId", dataset.name);
    }
    sql.push_str("\n) AS known\nGROUP BY snapshot_date, DeviceId");
    sql
}

impl View {
    /// Returns the statement that creates it, temporary for Spark, which cannot keep a view over temporary ones.
    pub fn statement(&self, engine: Engine) -> String {
        let Self { name, doc, query } = self;
        let query = match query {
            Query::Sql(sql) => sql.clone(),
            Query::Devices => devices(engine),
            Query::Json(json) => json.sql(engine),
        };
        let doc = engine.text(doc);
        match engine {
            Engine::DuckDb => {
                format!("CREATE OR REPLACE VIEW {name} AS\n{query};\nCOMMENT ON VIEW {name} IS {doc};\n")
            }
            Engine::Spark => {
                format!("CREATE OR REPLACE TEMPORARY VIEW {name} COMMENT {doc} AS\n{query};\n")
            }
        }
    }
}

impl JsonColumns {
    fn sql(&self, engine: Engine) -> String {
        let mut sql = format!("SELECT\n    {}", self.columns.join(", "));
        for Member { name, paths, value: kind } in self.members {
            let mut value = paths
                .iter()
                .map(|path| {
                    let start = self.object.to_owned();
                    path.split('|').fold(start, |value, step| engine.json_text(&value, step))
                })
                .collect::<Vec<_>>()
                .join(", ");
            if paths.len() > 1 {
                value = format!("coalesce({value})");
            }
            value = match kind {
                MemberValue::Text => value,
                MemberValue::Boolean => {
                    format!("CASE lower({value}) WHEN 'true' THEN true WHEN 'false' THEN false END")
                }
                MemberValue::Word(words) => {
                    let word = |(number, word): &(&str, &str)| format!(" WHEN '{number}' THEN '{word}'");
                    format!("CASE {value}{} END", words.iter().map(word).collect::<String>())
                }
            };
            let _ = write!(sql, ",\n    {value} AS {name}");
        }
        let _ = write!(sql, "\nFROM {}", self.table);
        sql
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_have_names_of_their_own() {
        let views = views();
        let mut names: Vec<_> = views.iter().map(|view| view.name.as_str()).collect();
        names.extend(DATASETS.iter().map(|dataset| dataset.name));
        let num_names = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), num_names);
        assert!(views.iter().all(|view| view.doc.ends_with('.')));
    }

    #[test]
    fn members_are_columns_of_what_is_there() {
        let dataset = Dataset::find(AV_HEALTH.table).unwrap();
        for name in AV_HEALTH.columns.iter().chain([&AV_HEALTH.object]) {
            assert!(dataset.column(name).is_some() || *name == SNAPSHOT_DATE.name, "{name}");
        }
        let view = views().into_iter().find(|view| view.name == "av_health").unwrap();
        let spark = view.statement(Engine::Spark);
        let scan =
            "get_json_object(get_json_object(DeviceGatheredInfo, '$.AvScanResults'), '$.Quick.ScanStatus')";
        assert!(spark.contains(scan), "{spark}");
        assert!(
            view.statement(Engine::DuckDb).contains("json_extract_string(DeviceGatheredInfo, '$.AvMode')")
        );
    }
}
