//! The datasets: their columns, types, keys and layout, declared once as plain data.
//!
//! Everything that depends on a dataset derives from its one declaration in
//! [`datasets`]: the Arrow schema of the files ([`arrow`]), the names a decoder binds
//! ([`Dataset::properties`]), the DDL that engines read the lake with ([`ddl`], [`views`]), and the
//! documentation ([`docs`]). Adding a dataset is adding one declaration to [`DATASETS`].
//!
//! This crate does no IO and knows neither JSON text nor Parquet.

mod dataset;
pub mod datasets;

pub mod arrow;
pub mod ddl;
pub mod docs;
pub mod generated;
pub mod views;

pub use dataset::{
    Alias, Better, ChangeWords, Column, ColumnType, ComparedColumn, Condition, Counted, Dataset,
    EXTRA_FIELDS, ExpiryRoles, ExposureRoles, FIRST_SHARED_FIELD_ID, HistoryRoles, Is, Layout, Measure,
    Origin, Permission, Presence, ProductRoles, ReportFigure, ReportRoles, RiskRoles, Routes, SNAPSHOT_DATE,
    Status, StructMember, SupportRoles,
};
pub use datasets::DATASETS;

impl Dataset {
    /// Finds a dataset by its name, given as in the lake (`software_inventory`) or as on the
    /// command line (`software-inventory`).
    ///
    /// ```
    /// let dataset = schema::Dataset::find("software-inventory").expect("declared");
    /// assert_eq!(dataset.name, "software_inventory");
    /// ```
    pub fn find(name: &str) -> Option<&'static Dataset> {
        DATASETS.iter().copied().find(|dataset| dataset.name == name.replace('-', "_"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_columns(dataset: &Dataset) -> impl Iterator<Item = &'static Column> {
        dataset.columns.iter().chain([&SNAPSHOT_DATE, &EXTRA_FIELDS])
    }

    #[test]
    fn names_on_the_wire_are_unique_without_case() {
        for dataset in DATASETS {
            let mut names: Vec<_> = all_columns(dataset)
                .flat_map(|column| {
                    std::iter::once(column.name).chain(column.aliases.iter().map(|alias| alias.name))
                })
                .map(str::to_ascii_lowercase)
                .collect();
            let num_names = names.len();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), num_names, "{}", dataset.name);
        }
    }

    /// Returns path and field id of every column of a dataset and of what is inside of it.
    fn field_ids(dataset: &Dataset) -> Vec<(String, i32)> {
        let mut ids = Vec::new();
        for column in all_columns(dataset) {
            ids.push((column.name.to_owned(), column.field_id));
            let mut children = match column.column_type {
                ColumnType::Utf8List => vec![format!("{}.element", column.name)],
                ColumnType::StructList(members) => {
                    let member = |member: &StructMember| format!("{}.element.{}", column.name, member.name);
                    let members = members.iter().map(member);
                    std::iter::once(format!("{}.element", column.name)).chain(members).collect()
                }
                _ => Vec::new(),
            };
            assert_eq!(children.len(), column.child_ids.len(), "{}", column.name);
            ids.extend(children.drain(..).zip(column.child_ids.iter().copied()));
        }
        ids
    }

    /// Field ids are in data files for good: a line of the list is never changed and never removed.
    #[test]
    fn field_ids_are_unique_and_only_ever_added() {
        const LIST: &str = include_str!("../field_ids.txt");
        let listed: Vec<&str> = LIST.lines().filter(|line| !line.starts_with('#')).collect();
        let mut declared = Vec::new();
        for dataset in DATASETS {
            let ids = field_ids(dataset);
            let unique: std::collections::HashSet<_> = ids.iter().map(|(_, id)| *id).collect();
            assert_eq!(unique.len(), ids.len(), "{}: an id is declared twice", dataset.name);
            for column in dataset.columns {
                let own = std::iter::once(&column.field_id).chain(column.child_ids);
                own.for_each(|id| assert!((1..FIRST_SHARED_FIELD_ID).contains(id), "{}: {id}", column.name));
            }
            declared.extend(ids.iter().map(|(path, id)| format!("{} {id} {path}", dataset.name)));
        }
        let missing: Vec<_> = listed.iter().filter(|line| !declared.iter().any(|one| one == *line)).collect();
        assert!(missing.is_empty(), "listed in schema/field_ids.txt, not declared: {missing:#?}");
        let new: Vec<_> = declared.iter().filter(|line| !listed.contains(&line.as_str())).collect();
        assert!(new.is_empty(), "add these lines to schema/field_ids.txt: {new:#?}");
    }

    #[test]
    fn columns_have_a_doc_line_and_a_source() {
        for column in DATASETS.iter().flat_map(|dataset| all_columns(dataset)) {
            assert!(column.doc.ends_with('.'), "{} has a doc line", column.name);
            assert!(!column.source.is_empty(), "{} names its source", column.name);
            assert!(column.aliases.is_empty() || column.origin == Origin::Property, "{}", column.name);
        }
    }

    #[test]
    fn columns_are_what_their_roles_need() {
        for dataset in DATASETS {
            let Dataset { routes, partition_by, layout, .. } = dataset;
            assert!(routes.files.is_some() || routes.json.is_some(), "{} has a route", dataset.name);
            dataset.key.iter().for_each(|name| assert!(dataset.column(name).is_some(), "{name}"));
            let required: Vec<_> =
                dataset.properties().filter(|column| column.presence == Presence::Required).collect();
            assert_eq!(required.len(), 1, "one property makes a record usable");
            assert_eq!(required[0].column_type, ColumnType::Utf8);
            let exports = dataset.columns.iter().filter(|column| column.origin == Origin::Export);
            let exports: Vec<_> = exports.map(|column| column.column_type).collect();
            assert_eq!(exports, [ColumnType::TimestampMicros], "one column is the generated time");
            if let Some(name) = partition_by {
                let column = dataset.column(name).expect("a declared column");
                assert_eq!(column.column_type, ColumnType::Utf8, "directory names are text");
            }
            let in_files = |name: &str| dataset.file_columns().find(|column| column.name == name);
            for name in layout.cluster_by.iter().chain(layout.bloom) {
                let column = in_files(name).expect("a column of the files");
                assert_eq!((column.column_type, column.origin), (ColumnType::Utf8, Origin::Property));
            }
            assert!(layout.uncompressed.iter().all(|name| in_files(name).is_some()), "{layout:?}");
        }
    }

    #[test]
    fn history_roles_are_columns_of_the_dataset() {
        for (dataset, roles) in
            DATASETS.iter().filter_map(|dataset| Some((dataset, dataset.history.as_ref()?)))
        {
            let mut key = vec![roles.device];
            key.extend(roles.product);
            key.extend(roles.version.filter(|version| dataset.key.contains(version)));
            assert_eq!(key, dataset.key, "device, product and version are the key");
            let type_of = |name: &str| dataset.column(name).map(|column| column.column_type);
            let text = [roles.device_name, roles.group, roles.platform, roles.version, roles.only_with];
            let text = text.into_iter().chain([roles.status.map(|status| status.column)]).flatten();
            for name in text.chain(key).chain(roles.filters.iter().map(|(_, column)| *column)) {
                assert_eq!(type_of(name), Some(ColumnType::Utf8), "{name}");
            }
            for compared in roles.compared {
                let compared_type = type_of(compared.column).expect("a compared column is declared");
                assert!(!matches!(compared_type, ColumnType::Utf8List | ColumnType::StructList(_)));
            }
            for (_, column) in roles.filters {
                let described = [roles.platform, roles.group].contains(&Some(column));
                assert!(described || roles.product.contains(column), "changes have no column {column}");
            }
            let names: Vec<_> = roles.measures.iter().map(|measure| measure.name).collect();
            assert!(
                names.contains(&roles.main_measure) || (names.is_empty() && roles.main_measure == "devices")
            );
            for (index, measure) in roles.measures.iter().enumerate() {
                check_measure(measure.counted, &names[..index], &type_of);
            }
        }
    }

    #[test]
    fn report_roles_are_columns_of_the_dataset() {
        let mut figures = Vec::new();
        for dataset in DATASETS {
            let roles = &dataset.report;
            let Some(history) = &dataset.history else { panic!("{} has no history", dataset.name) };
            let type_of = |name: &str| dataset.column(name).map(|column| column.column_type);
            let measures: Vec<_> = history.measures.iter().map(|measure| measure.name).collect();
            let is_measure = |name: &str| name == "devices" || measures.contains(&name);
            figures.extend(roles.figures.iter().map(|figure| figure.name));
            assert!(roles.figures.iter().all(|figure| is_measure(figure.measure)), "{}", dataset.name);
            assert!(roles.device_measure.is_none_or(is_measure), "{}", dataset.name);
            assert!(roles.name.iter().all(|name| history.product.contains(name)), "{}", dataset.name);
            let needs_name = roles.products.is_some() || roles.support.is_some() || roles.exposure.is_some();
            assert!(!needs_name || !roles.name.is_empty(), "{}", dataset.name);
            let mut text = Vec::new();
            if let Some(ProductRoles { weaknesses: Some(column) }) = roles.products {
                assert_eq!(type_of(column), Some(ColumnType::Int32), "{column}");
            }
            if let Some(support) = roles.support {
                assert_eq!(type_of(support.end_date), Some(ColumnType::Date32));
                assert!(history.status.is_some() && history.version.is_some(), "{}", dataset.name);
            }
            if let Some(exposure) = roles.exposure {
                text.extend([exposure.finding, exposure.severity, exposure.exploitability]);
                assert_eq!(type_of(exposure.score), Some(ColumnType::Float64));
                assert_eq!(type_of(exposure.first_seen), Some(ColumnType::TimestampMicros));
                assert_eq!(type_of(exposure.update_available), Some(ColumnType::Boolean));
            }
            if let Some(expiry) = roles.expiry {
                text.push(expiry.id);
                assert_eq!(type_of(expiry.name), Some(ColumnType::Json));
                assert_eq!(type_of(expiry.expires), Some(ColumnType::TimestampMicros));
                assert!(is_measure(expiry.expired));
            }
            if let Some(risk) = roles.risk {
                text.extend([risk.id, risk.name, risk.place, risk.risk]);
                assert_eq!(type_of(risk.active), Some(ColumnType::Boolean));
            }
            assert!(text.iter().all(|name| type_of(name) == Some(ColumnType::Utf8)), "{text:?}");
        }
        let num_figures = figures.len();
        figures.sort_unstable();
        figures.dedup();
        assert_eq!(figures.len(), num_figures, "a figure's name is unique");
    }

    fn check_measure(counted: Counted, before: &[&str], type_of: &dyn Fn(&str) -> Option<ColumnType>) {
        match counted {
            Counted::Rows | Counted::Products | Counted::Status => {}
            Counted::Sum(column) => assert_eq!(type_of(column), Some(ColumnType::Int32), "{column}"),
            Counted::Distinct(columns) => {
                for column in columns {
                    assert_eq!(type_of(column), Some(ColumnType::Utf8), "{column}");
                }
            }
            Counted::Where(conditions) => {
                for condition in conditions {
                    let expected = match condition.is {
                        Is::Boolean(_) => ColumnType::Boolean,
                        Is::OneOf(_) => ColumnType::Utf8,
                        Is::Past | Is::WithinDays(_) => ColumnType::TimestampMicros,
                    };
                    assert_eq!(type_of(condition.column), Some(expected), "{}", condition.column);
                }
            }
            Counted::Share { of, but } => {
                assert!([of, but].iter().all(|name| before.contains(name)), "{of} and {but} come before");
            }
        }
    }

    #[test]
    fn names_are_found_in_both_spellings() {
        assert!(Dataset::find("software_inventory").is_some());
        assert!(Dataset::find("software-inventory").is_some());
        assert!(Dataset::find("SoftwareInventory").is_none());
    }
}
