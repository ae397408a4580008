//! Sizes as people write them on the command line.

/// Parses a number of bytes: `50000000`, `50MB`, `64MiB`.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "" | "B" => Some(1),
        "kB" | "KB" => Some(1_000),
        "MB" => Some(1_000_000),
        "GB" => Some(1_000_000_000),
        "TB" => Some(1_000_000_000_000),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        "TiB" => Some(1 << 40),
        _ => None,
    };
    let bytes = factor.and_then(|factor: u64| number.parse::<u64>().ok()?.checked_mul(factor));
    bytes.ok_or_else(|| "write a whole number with a unit, such as 50MB, 64MiB or 2GB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn sizes_have_units() {
        for (text, expected) in [("0", 0), ("50MB", 50_000_000), ("64MiB", 64 << 20), ("2 GB", 2_000_000_000)] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        for text in ["", "MB", "5 parrots", "-1MB", "1.5GB", "99999999999TB"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
