//! Durations as people write them.

use std::str::FromStr;
use std::time::Duration;

/// A time: a [`Duration`], or a text of numbers with units, such as `"10m"`, `"1h30m"`, `"2d"`, `"250ms"`, `"1.5s"`.
///
/// ```
/// use std::time::Duration;
/// use hopmq_broker::Period;
///
/// assert_eq!(Period::from("1h30m").duration(), Duration::from_secs(5400));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period(Duration);

impl Period {
    /// Returns the period as a duration.
    pub fn duration(self) -> Duration {
        self.0
    }

    fn parse(text: &str) -> Option<Duration> {
        let mut rest = text.trim();
        let mut sum = Duration::ZERO;
        while !rest.is_empty() || sum.is_zero() && text.trim().is_empty() {
            let digits = rest.find(|character: char| !character.is_ascii_digit() && character != '.')?;
            let (number, after) = rest.split_at(digits);
            let unit = after.find(|character: char| !character.is_ascii_alphabetic()).unwrap_or(after.len());
            let seconds = match &after[..unit] {
                "ms" => 0.001,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                "d" => 86400.0,
                _ => return None,
            };
            let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
            sum = sum.checked_add(part)?;
            rest = after[unit..].trim_start();
        }
        Some(sum)
    }
}

impl From<Duration> for Period {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = Self::parse(text).map(Self);
        read.ok_or_else(|| format!("{text:?} is not a duration: write \"10m\", \"1h30m\" or \"250ms\""))
    }
}

impl From<&str> for Period {
    /// # Panics
    /// If the text is no period, which is a mistake in the test.
    #[track_caller]
    fn from(text: &str) -> Self {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_with_units_are_parsed() {
        for (text, milliseconds) in
            [("10m", 600_000), ("1h30m", 5_400_000), ("250ms", 250), ("1.5s", 1500), ("2d 1s", 172_801_000), ("0s", 0)]
        {
            assert_eq!(Period::from(text).0, Duration::from_millis(milliseconds), "{text}");
        }
        for text in ["", "10", "m", "ten minutes", "1m2", "-1s", "1e5s"] {
            assert_eq!(Period::parse(text), None, "{text}");
        }
    }
}
