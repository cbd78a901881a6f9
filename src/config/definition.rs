//! What one configuration name may hold: its kind, default and legal values, as data, so that the
//! settings file, the Kafka door's DescribeConfigs and the checks of AlterConfigs share one table.

use std::fmt;

/// The kinds of value that Kafka's `ConfigDef` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`, in any case.
    Boolean,
    /// Any text.
    String,
    /// 16-bit signed integer.
    Short,
    /// 32-bit signed integer.
    Int,
    /// 64-bit signed integer.
    Long,
    /// Floating point.
    Double,
    /// Comma-separated words; the only kind to which values are appended.
    List,
    /// Name of a Java class; kept as text.
    Class,
    /// Text that is never shown.
    Password,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Boolean => "BOOLEAN",
            Kind::String => "STRING",
            Kind::Short => "SHORT",
            Kind::Int => "INT",
            Kind::Long => "LONG",
            Kind::Double => "DOUBLE",
            Kind::List => "LIST",
            Kind::Class => "CLASS",
            Kind::Password => "PASSWORD",
        }
    }
}

/// Which values of a kind are legal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Valid {
    /// Every value of the kind.
    Any,
    /// An integer from the first to the second, both included.
    Between(i64, i64),
    /// An integer from the first to the second, or the third.
    BetweenOr(i64, i64, i64),
    /// An integer not below this.
    AtLeast(i64),
    /// A number from the first to the second, both included.
    Ratio(f64, f64),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A list of these words; may be empty.
    ListOf(&'static [&'static str]),
    /// `*`, or a list of `partition:broker`.
    ThrottledReplicas,
}

/// One configuration name.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    name: &'static str,
    kind: Kind,
    default: Option<&'static str>,
    valid: Valid,
    doc: &'static str,
}

/// Why a value was refused. Its text may go to a client: it holds the name and the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidValue {
    name: String,
    value: String,
    reason: String,
}

impl InvalidValue {
    /// A refusal that involves more than one value.
    #[must_use]
    pub fn new(name: &str, value: &str, reason: impl Into<String>) -> InvalidValue {
        InvalidValue { name: name.to_owned(), value: value.to_owned(), reason: reason.into() }
    }
}

impl fmt::Display for InvalidValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Invalid value {} for configuration {}: {}", self.value, self.name, self.reason)
    }
}

impl std::error::Error for InvalidValue {}

impl Definition {
    /// A table row.
    #[must_use]
    pub const fn new(
        name: &'static str,
        kind: Kind,
        default: Option<&'static str>,
        valid: Valid,
        doc: &'static str,
    ) -> Definition {
        Definition { name, kind, default, valid, doc }
    }

    /// The configuration's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// What kind of value it holds.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The value when nobody sets one; `None` where Kafka shows none.
    #[must_use]
    pub const fn default_value(&self) -> Option<&'static str> {
        self.default
    }

    /// Which values are legal.
    #[must_use]
    pub const fn valid(&self) -> Valid {
        self.valid
    }

    /// One line for people.
    #[must_use]
    pub const fn doc(&self) -> &'static str {
        self.doc
    }

    /// Checks `value` and returns its plain form: trimmed, booleans in lower case.
    ///
    /// # Errors
    /// The value is not of the kind or not among the legal ones.
    pub fn check(&self, value: &str) -> Result<String, InvalidValue> {
        let plain = self.plain_form(value)?;
        self.check_range(&plain).map_err(|reason| InvalidValue::new(self.name, value, reason))?;
        Ok(plain)
    }

    fn plain_form(&self, value: &str) -> Result<String, InvalidValue> {
        let trimmed = value.trim();
        let is_of_kind = match self.kind {
            Kind::Boolean => {
                let lower = trimmed.to_ascii_lowercase();
                return if lower == "true" || lower == "false" {
                    Ok(lower)
                } else {
                    let reason = "Expected value to be either true or false";
                    Err(InvalidValue::new(self.name, value, reason))
                };
            }
            Kind::Short => trimmed.parse::<i16>().is_ok(),
            Kind::Int => trimmed.parse::<i32>().is_ok(),
            Kind::Long => trimmed.parse::<i64>().is_ok(),
            Kind::Double => trimmed.parse::<f64>().is_ok(),
            Kind::String | Kind::List | Kind::Class | Kind::Password => true,
        };
        if is_of_kind {
            return Ok(trimmed.to_owned());
        }
        let reason = format!("Not a number of type {}", self.kind.name());
        Err(InvalidValue::new(self.name, value, reason))
    }

    fn check_range(&self, plain: &str) -> Result<(), String> {
        let one_of = |words: &[&str]| format!("String must be one of: {}", words.join(", "));
        match self.valid {
            Valid::Any => Ok(()),
            Valid::AtLeast(min) => Self::check_bounds(plain, min, i64::MAX),
            Valid::Between(min, max) => Self::check_bounds(plain, min, max),
            Valid::BetweenOr(_, _, also) if plain.parse() == Ok(also) => Ok(()),
            Valid::BetweenOr(min, max, also) => Self::check_bounds(plain, min, max)
                .map_err(|_| format!("Value must be between {min} and {max} or equal to {also}")),
            Valid::Ratio(min, max) => match plain.parse::<f64>() {
                Ok(number) if (min..=max).contains(&number) => Ok(()),
                Ok(number) if number < min => Err(format!("Value must be at least {min}")),
                _ => Err(format!("Value must be no more than {max}")),
            },
            Valid::OneOf(words) if words.contains(&plain) => Ok(()),
            Valid::OneOf(words) => Err(one_of(words)),
            Valid::ListOf(words) if list_items(plain).all(|item| words.contains(&item)) => Ok(()),
            Valid::ListOf(words) => Err(one_of(words)),
            Valid::ThrottledReplicas if plain == "*" || list_items(plain).all(is_replica) => Ok(()),
            Valid::ThrottledReplicas => Err(format!(
                "{} must be the literal '*' or a list of replicas in the following format: \
                 [partitionId]:[brokerId],[partitionId]:[brokerId],...",
                self.name
            )),
        }
    }

    fn check_bounds(plain: &str, min: i64, max: i64) -> Result<(), String> {
        let number = plain.parse::<i64>().map_err(|error| error.to_string())?;
        if number < min {
            return Err(format!("Value must be at least {min}"));
        }
        if number > max {
            return Err(format!("Value must be no more than {max}"));
        }
        Ok(())
    }
}

fn is_replica(item: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    item.split_once(':')
        .is_some_and(|(partition, broker)| is_number(partition) && is_number(broker))
}

/// The words of a list value: separated by commas, blanks around them ignored, none if blank.
pub fn list_items(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Definition =
        Definition::new("retention.ms", Kind::Long, Some("1"), Valid::AtLeast(-1), "");

    #[test]
    fn a_number_is_checked_for_kind_and_range() {
        assert_eq!(LONG.check(" 42 ").unwrap(), "42");
        let error = LONG.check("abc").unwrap_err().to_string();
        assert_eq!(
            error,
            "Invalid value abc for configuration retention.ms: Not a number of type LONG"
        );
        let error = LONG.check("-2").unwrap_err().to_string();
        assert!(error.ends_with("Value must be at least -1"), "{error}");
    }

    #[test]
    fn a_boolean_takes_any_case_and_nothing_else() {
        let flag = Definition::new("preallocate", Kind::Boolean, None, Valid::Any, "");
        assert_eq!(flag.check("TRUE").unwrap(), "true");
        assert!(flag.check("yes").is_err());
    }

    #[test]
    fn a_list_refuses_strange_words() {
        let words = Valid::ListOf(&["compact", "delete"]);
        let list = Definition::new("cleanup.policy", Kind::List, None, words, "");
        assert!(list.check("compact, delete").is_ok());
        assert!(list.check("").is_ok());
        assert!(list.check("shred").is_err());
    }

    #[test]
    fn throttled_replicas_are_all_or_pairs() {
        let valid = Valid::ThrottledReplicas;
        let list = Definition::new("leader", Kind::List, None, valid, "");
        for good in ["", "*", "0:1", "0:1, 22:3"] {
            assert!(list.check(good).is_ok(), "{good}");
        }
        for bad in ["zzz", "0", "0:", ":1", "0:1,*", "a:1"] {
            assert!(list.check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_ratio_refuses_what_is_no_number() {
        let ratio = Definition::new("r", Kind::Double, None, Valid::Ratio(0.0, 1.0), "");
        assert!(ratio.check("0.5").is_ok());
        assert!(ratio.check("NaN").is_err());
        assert!(ratio.check("1.5").is_err());
    }
}
