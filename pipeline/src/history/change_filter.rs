//! `--where`: which changes are wanted, by vendor, product, platform and group.
//!
//! `vendor=adobe,platform=Windows11`: of one field any of the values, of several fields all. A comma
//! separates only where a field's name and `=` follow, so that values may have commas. Values are
//! matched whole and as written; an empty one stands for rows that have none.

use std::collections::BTreeMap;

use serde::Serialize;

/// What a change can be wanted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FilterField {
    /// `SoftwareVendor`.
    Vendor,
    /// `SoftwareName`.
    Product,
    /// `OSPlatform`.
    Platform,
    /// `RbacGroupName`.
    Group,
}

impl FilterField {
    /// Every field, in the order of the documentation.
    pub const ALL: [Self; 4] = [Self::Vendor, Self::Product, Self::Platform, Self::Group];

    /// The name to type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vendor => "vendor",
            Self::Product => "product",
            Self::Platform => "platform",
            Self::Group => "group",
        }
    }

    /// The column that it is about.
    pub fn column(self) -> &'static str {
        match self {
            Self::Vendor => "SoftwareVendor",
            Self::Product => "SoftwareName",
            Self::Platform => "OSPlatform",
            Self::Group => "RbacGroupName",
        }
    }
}

/// What people call a column that is asked for by a name of ours.
pub fn label(column: &str) -> &str {
    FilterField::ALL.into_iter().find(|field| field.column() == column).map_or(column, |field| field.name())
}

/// Why a condition is none.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum ConditionError {
    /// A name that no field has.
    #[error("there is no field {given:?}; did you mean {meant}? known: vendor, product, platform, group")]
    UnknownField {
        /// As typed.
        given: String,
        /// The field with the nearest name.
        meant: &'static str,
    },
    /// Text without `=`.
    #[error("invalid condition: expected FIELD=VALUE, such as vendor=adobe,platform=Windows11")]
    NoCondition,
}

/// The values wanted of each field; `None` stands for rows without a value. A field that is absent
/// may have any.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct ChangeFilter(BTreeMap<FilterField, Vec<Option<String>>>);

impl ChangeFilter {
    /// Reads what was typed, any number of times.
    ///
    /// # Errors
    ///
    /// See [`ConditionError`].
    pub fn parse<'a>(typed: impl IntoIterator<Item = &'a str>) -> Result<Self, ConditionError> {
        let mut wanted = Self::default();
        for condition in typed.into_iter().flat_map(split_conditions) {
            let Some((name, value)) = condition.split_once('=') else {
                return Err(ConditionError::NoCondition);
            };
            let name = name.trim().to_lowercase();
            let Some(field) = FilterField::ALL.into_iter().find(|field| field.name() == name) else {
                let meant =
                    super::nearest(&name, FilterField::ALL.map(FilterField::name)).unwrap_or("vendor");
                return Err(ConditionError::UnknownField { given: name, meant });
            };
            let value = (!value.is_empty()).then(|| value.to_owned());
            wanted.0.entry(field).or_default().push(value);
        }
        Ok(wanted)
    }

    /// Whether everything is wanted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether anything is asked of `field`.
    pub fn has(&self, field: FilterField) -> bool {
        self.0.contains_key(&field)
    }

    /// Whether `value` is wanted of `field`.
    pub fn allows(&self, field: FilterField, value: Option<&str>) -> bool {
        self.0.get(&field).is_none_or(|wanted| wanted.iter().any(|one| one.as_deref() == value))
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

    #[test]
    fn values_of_one_field_are_any_and_fields_are_all() {
        let wanted =
            ChangeFilter::parse(["vendor=adobe,platform=Windows11", "platform=Windows10, Home,group="])
                .unwrap();
        assert!(wanted.allows(FilterField::Vendor, Some("adobe")));
        assert!(!wanted.allows(FilterField::Vendor, Some("Adobe")));
        assert!(!wanted.allows(FilterField::Vendor, None));
        assert!(wanted.allows(FilterField::Platform, Some("Windows11")));
        assert!(wanted.allows(FilterField::Platform, Some("Windows10, Home")));
        assert!(wanted.allows(FilterField::Group, None));
        assert!(wanted.allows(FilterField::Product, None));
        assert!(wanted.has(FilterField::Group) && !wanted.has(FilterField::Product));
        assert!(ChangeFilter::parse([]).unwrap().is_empty());
    }

    #[test]
    fn error_names_the_field_that_was_meant() {
        let error = ChangeFilter::parse(["vendor=adobe,platfrom=Windows11"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"there is no field "platfrom"; did you mean platform? known: vendor, product, platform, group"#
        );
        let error = ChangeFilter::parse(["adobe"]).unwrap_err();
        assert_eq!(error, ConditionError::NoCondition);
    }
}
