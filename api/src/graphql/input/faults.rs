//! What is wrong with an input, noted field by field under the paths that the client knows.
//!
//! Never repeats a value.

use std::{fmt::Display, str::FromStr};

use domain::{
    id::InvalidId,
    invalid::{Invalid, InvalidField},
};

use crate::graphql::diff::camel_case;

/// How many faults are told of one request.
const FAULTS_MAX: usize = 20;

/// The faults of one request, as they are found.
#[derive(Debug, Default)]
pub(in crate::graphql) struct Faults(Invalid);

impl Faults {
    /// The value that was read, or all faults.
    pub(in crate::graphql) fn or<T>(self, value: Option<T>) -> Result<T, Invalid> {
        value.ok_or(self.0)
    }

    fn note(&mut self, path: &str, problem: impl Into<String>) {
        if self.0.0.len() < FAULTS_MAX {
            self.0.0.push(InvalidField::new(path, problem));
        }
    }

    /// An id.
    pub(super) fn id<T: FromStr<Err = InvalidId>>(&mut self, path: &str, text: &str) -> Option<T> {
        self.parsed(path, text.parse())
    }

    /// Something that says by itself what is wrong with it.
    pub(in crate::graphql) fn parsed<T, E: Display>(
        &mut self,
        path: &str,
        outcome: Result<T, E>,
    ) -> Option<T> {
        outcome.map_err(|problem| self.note(path, problem.to_string())).ok()
    }

    /// A number that must fit into a smaller type.
    pub(in crate::graphql) fn number<T: Whole>(&mut self, path: &str, number: i64) -> Option<T> {
        let outcome = T::try_from(number);
        if outcome.is_err() {
            self.note(path, format!("must be from 0 to {}, but is {number}", T::MAX));
        }
        outcome.ok()
    }

    /// What may be absent; the outer `None` when a fault was noted.
    pub(in crate::graphql) fn optional<I, T>(
        &mut self,
        path: &str,
        item: Option<I>,
        read: impl FnOnce(I, &str, &mut Self) -> Option<T>,
    ) -> Option<Option<T>> {
        match item {
            Some(item) => read(item, path, self).map(Some),
            None => Some(None),
        }
    }

    /// Every member of a list; `None` when a fault was noted of one.
    pub(in crate::graphql) fn each<I, T>(
        &mut self,
        path: &str,
        items: Vec<I>,
        mut read: impl FnMut(I, &str, &mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        let read = items
            .into_iter()
            .enumerate()
            .map(|(index, item)| read(item, &format!("{path}[{index}]"), self));
        // Read to the end, so that the faults of all members are told.
        let all: Vec<Option<T>> = read.collect();
        all.into_iter().collect()
    }
}

/// An unsigned number that a client's number must fit into.
pub(in crate::graphql) trait Whole: TryFrom<i64> {
    /// The largest, in words.
    const MAX: u64;
}

impl Whole for u16 {
    const MAX: u64 = 65_535;
}

impl Whole for u32 {
    const MAX: u64 = 4_294_967_295;
}

impl Whole for u64 {
    const MAX: u64 = 9_223_372_036_854_775_807;
}

/// The domain's faults of a specification, under the client's paths.
pub(in crate::graphql) fn of_spec(faults: Invalid) -> Invalid {
    renamed(faults, |path| {
        if let Some(path) = path.strip_prefix("definition.") {
            return format!("spec.definition.{path}");
        }
        let first = path.split(['.', '[']).next().unwrap_or_default();
        match first {
            "process_guid"
            | "task_guid"
            | "domain"
            | "instances"
            | "routes"
            | "annotation"
            | "restart"
            | "internal_routes"
            | "metric_tags"
            | "completion_callback_url" => format!("spec.{path}"),
            // The domain calls the lists of checks a check definition.
            "check" => match path.strip_prefix("check.") {
                Some("log_source") => "spec.definition.check_log_source".to_owned(),
                inner => format!("spec.definition.{}", inner.unwrap_or("checks")),
            },
            "certificate_properties" => {
                let units = path.strip_prefix("certificate_properties.organizational_unit");
                format!("spec.definition.organizational_units{}", units.unwrap_or_default())
            }
            "log_rate_limit" => "spec.definition.log_bytes_per_second".to_owned(),
            _ => format!("spec.definition.{path}"),
        }
    })
}

/// The domain's faults of an update, under the client's paths.
pub(in crate::graphql) fn of_update(faults: Invalid) -> Invalid {
    renamed(faults, str::to_owned)
}

fn renamed(faults: Invalid, place: impl Fn(&str) -> String) -> Invalid {
    let renamed = |fault: InvalidField| {
        let path = place(&fault.field);
        let names: Vec<String> = path.split('.').map(camel_case).collect();
        InvalidField { field: names.join("."), problem: fault.problem }
    };
    Invalid(faults.0.into_iter().map(renamed).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_domains_faults_are_told_under_the_clients_paths() {
        let told = |field: &str| of_spec(Invalid::one(field, "x")).0.remove(0).field;

        assert_eq!(told("memory_mb"), "spec.definition.memoryMb");
        assert_eq!(told("action.timeout.timeout_ms"), "spec.definition.action.timeout.timeoutMs");
        assert_eq!(told("check.checks[0].timeout_ms"), "spec.definition.checks[0].timeoutMs");
        assert_eq!(told("check"), "spec.definition.checks");
        assert_eq!(told("routes[0].hostnames"), "spec.routes[0].hostnames");
        assert_eq!(told("env[1].name"), "spec.definition.env[1].name");
        assert_eq!(told("instances"), "spec.instances");
    }
}
