//! The filter of `--where`: selects changes by vendor, product, platform and group.
//!
//! `vendor=adobe,platform=Windows11`: any value of one field, and all fields. A comma separates only if a
//! field's name and `=` follow, so that values may have commas. Values are matched whole and case-sensitively;
//! an empty one matches null.

use serde::Serialize;

use super::roles::Roles;

/// An invalid condition.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum ConditionError {
    /// The field is unknown.
    #[error("unknown field {given:?}, did you mean {meant}? expected one of: {known}")]
    UnknownField {
        /// As typed.
        given: String,
        /// The field with the nearest name.
        meant: &'static str,
        /// The fields that there are.
        known: String,
    },
    /// There is no `=`.
    #[error("invalid condition: expected FIELD=VALUE, such as vendor=adobe,platform=Windows11")]
    NoCondition,
}

/// Conditions on fields; a field without one may have any value.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ChangeFilter {
    /// In the order of the declaration.
    conditions: Vec<Condition>,
}

/// The allowed values of one field.
#[derive(Debug, Clone, PartialEq)]
struct Condition {
    name: &'static str,
    column: &'static str,
    /// `None` allows null.
    wanted: Vec<Option<String>>,
}

impl Serialize for ChangeFilter {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.conditions.iter().map(|condition| (condition.name, &condition.wanted)))
    }
}

impl ChangeFilter {
    /// Parses all values of the option; fields are named as the roles' filters are.
    ///
    /// # Errors
    ///
    /// See [`ConditionError`].
    pub fn parse<'a>(roles: Roles, typed: impl IntoIterator<Item = &'a str>) -> Result<Self, ConditionError> {
        let names = || roles.filters.iter().map(|(name, _)| *name);
        let mut conditions: Vec<_> = roles
            .filters
            .iter()
            .map(|(name, column)| Condition { name, column, wanted: Vec::new() })
            .collect();
        for condition in typed.into_iter().flat_map(split_conditions) {
            let Some((given, value)) = condition.split_once('=') else {
                return Err(ConditionError::NoCondition);
            };
            let given = given.trim().to_lowercase();
            let Some(condition) = conditions.iter_mut().find(|condition| condition.name == given) else {
                let meant = super::nearest(&given, names()).or(names().next()).unwrap_or_default();
                let known = names().collect::<Vec<_>>().join(", ");
                return Err(ConditionError::UnknownField { given, meant, known });
            };
            condition.wanted.push((!value.is_empty()).then(|| value.to_owned()));
        }
        conditions.retain(|condition| !condition.wanted.is_empty());
        Ok(Self { conditions })
    }

    /// Whether all changes are selected.
    pub fn is_empty(&self) -> bool {
        self.conditions.is_empty()
    }

    fn condition(&self, column: Option<&str>) -> Option<&Condition> {
        self.conditions.iter().find(|condition| Some(condition.column) == column)
    }

    /// Whether there is a condition on a column.
    pub fn has(&self, column: Option<&str>) -> bool {
        self.condition(column).is_some()
    }

    /// Whether the conditions on a column allow `value`.
    pub fn allows(&self, column: Option<&str>, value: Option<&str>) -> bool {
        let condition = self.condition(column);
        condition.is_none_or(|condition| condition.wanted.iter().any(|wanted| wanted.as_deref() == value))
    }
}

fn split_conditions(typed: &str) -> Vec<&str> {
    let begins_condition = |rest: &str| {
        rest.split_once('=').is_some_and(|(name, _)| {
            let name = name.trim();
            !name.is_empty() && name.chars().all(|character| character.is_ascii_alphabetic())
        })
    };
    let mut conditions = Vec::new();
    let mut start = 0;
    for (comma, _) in typed.match_indices(',') {
        if begins_condition(&typed[comma + 1..]) {
            conditions.push(&typed[start..comma]);
            start = comma + 1;
        }
    }
    conditions.push(&typed[start..]);
    conditions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse<'a>(typed: impl IntoIterator<Item = &'a str>) -> Result<ChangeFilter, ConditionError> {
        ChangeFilter::parse(Roles::of(schema::DATASETS[0]).unwrap(), typed)
    }

    #[test]
    fn values_of_one_field_are_any_and_fields_are_all() {
        let filter = parse(["vendor=adobe,platform=Windows11", "platform=Windows10, Home,group="]).unwrap();
        let allows = |column, value| filter.allows(Some(column), value);
        assert!(allows("SoftwareVendor", Some("adobe")));
        assert!(!allows("SoftwareVendor", Some("Adobe")));
        assert!(!allows("SoftwareVendor", None));
        assert!(allows("OSPlatform", Some("Windows11")));
        assert!(allows("OSPlatform", Some("Windows10, Home")));
        assert!(allows("RbacGroupName", None));
        assert!(allows("SoftwareName", None));
        assert!(filter.allows(None, Some("of a role that no column has")));
        assert!(filter.has(Some("RbacGroupName")) && !filter.has(Some("SoftwareName")));
        let json = r#"{"vendor":["adobe"],"platform":["Windows11","Windows10, Home"],"group":[null]}"#;
        assert_eq!(serde_json::to_string(&filter).unwrap(), json);
        assert!(parse([]).unwrap().is_empty());
    }

    #[test]
    fn error_names_the_field_that_was_meant() {
        let error = parse(["vendor=adobe,platfrom=Windows11"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"unknown field "platfrom", did you mean platform? expected one of: vendor, product, platform, group"#
        );
        assert_eq!(parse(["adobe"]).unwrap_err(), ConditionError::NoCondition);
    }
}
