//! What is wrong with a request from outside: which field, what is wrong, what to do.
//!
//! All faults are told at once, up to a bound. A value is never repeated in a message: it may be a
//! secret.

use std::fmt;

/// How many faults are told of one request.
const FAULTS_MAX: usize = 20;

/// One field that cannot be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidField {
    /// Where it is, as `a.b[3].c`.
    pub field: String,
    /// What it must be.
    pub problem: String,
}

impl InvalidField {
    /// A fault of one field.
    #[must_use]
    pub fn new(field: &str, problem: impl Into<String>) -> Self {
        Self { field: field.to_owned(), problem: problem.into() }
    }
}

/// The faults of one request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Invalid(pub Vec<InvalidField>);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{} {}", fault.field, fault.problem)?;
        }
        Ok(())
    }
}

impl std::error::Error for Invalid {}

impl Invalid {
    /// One fault.
    #[must_use]
    pub fn one(field: &str, problem: impl Into<String>) -> Self {
        Self(vec![InvalidField::new(field, problem)])
    }

    /// The value, when nothing was wrong.
    ///
    /// # Errors
    /// The faults, when there are any.
    pub fn or<T>(self, value: T) -> Result<T, Self> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }

    pub(crate) fn push(&mut self, fault: InvalidField) {
        if self.0.len() < FAULTS_MAX {
            self.0.push(fault);
        }
    }

    /// A text that must not be empty, not too long and without NUL.
    pub(crate) fn text(&mut self, field: &str, text: &str, bytes_max: usize) {
        if text.is_empty() {
            self.push(InvalidField::new(field, "must not be empty"));
        }
        self.without_nul(field, text, bytes_max);
    }

    /// A text, perhaps empty, that must not be too long and must be without NUL.
    pub(crate) fn without_nul(&mut self, field: &str, text: &str, bytes_max: usize) {
        if text.len() > bytes_max {
            let problem =
                format!("must not be longer than {bytes_max} bytes, but has {}", text.len());
            self.push(InvalidField::new(field, problem));
        }
        if text.contains('\0') {
            self.push(InvalidField::new(field, "must not hold a NUL byte"));
        }
    }

    /// A list that must not be too long.
    pub(crate) fn at_most(&mut self, field: &str, length: usize, max: usize) {
        if length > max {
            let problem = format!("must not have more than {max} entries, but has {length}");
            self.push(InvalidField::new(field, problem));
        }
    }

    /// A number between two bounds, both allowed.
    pub(crate) fn between(&mut self, field: &str, number: u64, min: u64, max: u64) {
        if number < min || number > max {
            let problem = format!("must be from {min} to {max}, but is {number}");
            self.push(InvalidField::new(field, problem));
        }
    }
}

/// A field's path below another.
pub(crate) fn field(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
