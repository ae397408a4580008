//! Values with units, and secrets.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize, Serializer};

/// A duration: `"500ms"`, `"10s"`, `"2m"`, `"1h"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Duration);

/// A number of bytes: `4096`, `"64KiB"`, `"1MiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A password or a key, which `Debug` and `Serialize` hide.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(pub String);

impl Time {
    pub(crate) const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    fn parse(text: &str) -> Option<Self> {
        let digits = text.find(|c: char| !c.is_ascii_digit())?;
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().ok()?;
        let milliseconds = match unit.trim_start() {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        number.checked_mul(milliseconds).map(|time| Self(Duration::from_millis(time)))
    }
}

impl Size {
    fn parse(text: &str) -> Option<Self> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().ok()?;
        let bytes = match unit.trim_start() {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return None,
        };
        number.checked_mul(bytes).map(Self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            let help = "write a whole number with ms, s, m or h, such as \"10s\"";
            D::Error::custom(format!("`{text}` is not a duration; {help}"))
        })
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Text(String),
        }
        let help = "write a whole number of bytes, or a number with KiB, MiB or GiB, such as \"64KiB\"";
        match Written::deserialize(deserializer).map_err(|_| D::Error::custom(help))? {
            Written::Number(number) => Ok(Self(number)),
            Written::Text(text) => {
                Self::parse(&text).ok_or_else(|| D::Error::custom(format!("`{text}` is not a size; {help}")))
            }
        }
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            0 => f.write_str("0s"),
            time if time % 60_000 == 0 => write!(f, "{}m", time / 60_000),
            time if time % 1000 == 0 => write!(f, "{}s", time / 1000),
            time => write!(f, "{time}ms"),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            size if size > 0 && size % (1 << 20) == 0 => write!(f, "{}MiB", size >> 20),
            size if size > 0 && size % (1 << 10) == 0 => write!(f, "{}KiB", size >> 10),
            size => write!(f, "{size}B"),
        }
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The error of another type would show the value.
        String::deserialize(deserializer).map(Self).map_err(|_| D::Error::custom("a secret must be text in quotes"))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("…")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_parsed_with_their_units() {
        for (text, milliseconds) in [("500ms", 500), ("10s", 10_000), ("2 m", 120_000), ("1h", 3_600_000)] {
            assert_eq!(Time::parse(text), Some(Time(Duration::from_millis(milliseconds))), "{text}");
        }
        for (text, bytes) in [("7", 7), ("7B", 7), ("64KiB", 65_536), ("1 MiB", 1 << 20), ("1GiB", 1 << 30)] {
            assert_eq!(Size::parse(text), Some(Size(bytes)), "{text}");
        }
        for wrong in ["", "10", "s", "-1s", "1.5s", "1d", "99999999999999999999s", "18446744073709551615h"] {
            assert_eq!(Time::parse(wrong), None, "{wrong}");
        }
        for wrong in ["", "KiB", "1KB", "-1", "18446744073709551615GiB"] {
            assert_eq!(Size::parse(wrong), None, "{wrong}");
        }
        assert_eq!(format!("{:?}", Secret("hunter2".into())), "…");
    }
}
