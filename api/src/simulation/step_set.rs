//! Which steps of a run are left out, written as `0-35,40`.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A set of steps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StepSet(pub BTreeSet<u32>);

/// The most that a step's number may be.
pub const STEPS_MAX: u32 = 100_000;

impl fmt::Display for StepSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut steps = self.0.iter().copied().peekable();
        let mut comma = "";
        while let Some(first) = steps.next() {
            let mut last = first;
            while let Some(next) = steps.next_if(|next| *next == last + 1) {
                last = next;
            }
            write!(f, "{comma}{first}")?;
            if last > first {
                write!(f, "-{last}")?;
            }
            comma = ",";
        }
        Ok(())
    }
}

impl FromStr for StepSet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut steps = BTreeSet::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str| text.trim().parse::<u32>().ok().filter(|it| *it < STEPS_MAX);
            let (Some(first), Some(last)) = (number(first), number(last)) else {
                return Err(format!(
                    "{part:?} is neither a step nor a range of steps below {STEPS_MAX}; write \
                     for example 0-35,40"
                ));
            };
            steps.extend(first..=last);
        }
        Ok(Self(steps))
    }
}

impl TryFrom<String> for StepSet {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<StepSet> for String {
    fn from(steps: StepSet) -> Self {
        steps.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_steps_is_written_in_ranges_and_read_again() {
        let steps = StepSet([0, 1, 2, 5, 8, 9].into());

        assert_eq!(steps.to_string(), "0-2,5,8-9");
        assert_eq!("0-2, 5,8-9".parse(), Ok(steps));
        assert_eq!("".parse(), Ok(StepSet::default()));
        assert!("4-x".parse::<StepSet>().unwrap_err().contains("\"4-x\""));
        assert!("0-4294967295".parse::<StepSet>().is_err());
    }
}
