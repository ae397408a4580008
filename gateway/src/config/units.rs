//! The values of settings that carry a unit, and those that nobody may read over one's shoulder.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize, Serializer};

/// A time: `"500ms"`, `"10s"`, `"2m"`, `"1h"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Duration);

/// A number of bytes: `4096`, `"64KiB"`, `"1MiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A password or a key. `Debug` doesn't show it.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
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
            D::Error::custom(format!("`{text}` is no time: write a whole number and ms, s, m or h, such as \"10s\""))
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
        let help = "write a whole number of bytes, or one with KiB, MiB or GiB, such as \"64KiB\"";
        match Written::deserialize(deserializer).map_err(|_| D::Error::custom(help))? {
            Written::Number(number) => Ok(Self(number)),
            Written::Text(text) => {
                Self::parse(&text).ok_or_else(|| D::Error::custom(format!("`{text}` is no size: {help}")))
            }
        }
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let milliseconds = self.0.as_millis();
        let text = match milliseconds {
            0 => "0s".to_owned(),
            time if time % 60_000 == 0 => format!("{}m", time / 60_000),
            time if time % 1000 == 0 => format!("{}s", time / 1000),
            time => format!("{time}ms"),
        };
        serializer.serialize_str(&text)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = self.0;
        let text = match bytes {
            size if size > 0 && size % (1 << 20) == 0 => format!("{}MiB", size >> 20),
            size if size > 0 && size % (1 << 10) == 0 => format!("{}KiB", size >> 10),
            size => format!("{size}B"),
        };
        serializer.serialize_str(&text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Never written out.
impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("…")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read() {
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
