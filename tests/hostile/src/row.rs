//! The table: what each attack did to others.

use std::fmt;
use std::time::Duration;

use crate::{Kind, Report};

/// The outcome of an attack.
#[derive(Debug)]
pub struct Row {
    /// The name of the attack.
    pub attack: &'static str,
    /// The broker that was attacked.
    pub kind: Kind,
    /// The size with its unit.
    pub size: String,
    /// What the neighbour saw.
    pub neighbour: Report,
    /// The most work between two releases of the engine's lock, in steps; `None` for the program.
    pub steps: Option<u64>,
    /// The memory in MiB before the attack, at most, and after it.
    pub memory: Option<[u64; 3]>,
    /// Why the attack did not go as far as it wanted.
    pub refused: Option<String>,
    /// What the attack did wrong, or could not do.
    pub failure: Option<String>,
}

impl Row {
    /// Returns the heading.
    pub fn heading() -> String {
        format!(
            "{:<52} {:>18} {:<8} {:>9} {:>9} {:>9} {:>8} {:>8} {:>8}",
            "attack", "size", "broker", "p99", "max", "steps", "before", "peak", "after"
        )
    }

    /// Returns what exceeds the bounds of a full size: others' p99 below 20 ms, their maximum below 200 ms, no 4 GiB of
    /// memory, and memory that goes back to 10 % above what it was, or to 32 MiB above that if it is little.
    pub fn excess(&self) -> Vec<String> {
        let mut excess = self.wrong();
        if self.neighbour.p99() >= Duration::from_millis(20) {
            excess.push(format!("p99 {}", milliseconds(self.neighbour.p99())));
        }
        if self.neighbour.max() >= Duration::from_millis(200) {
            excess.push(format!("max {}", milliseconds(self.neighbour.max())));
        }
        if let Some([before, peak, _]) = self.memory
            && peak >= before + 4_096
        {
            excess.push(format!("{peak} MiB at most, {before} before"));
        }
        if let Some([before, _, after]) = self.memory
            && after > (before + before / 10).max(before + 32)
        {
            excess.push(format!("{after} MiB after the attack, {before} before"));
        }
        excess
    }

    /// Returns what is wrong in any size: a failure of the neighbour or of the attack, or lost messages.
    pub fn wrong(&self) -> Vec<String> {
        let mut wrong: Vec<String> = self.failure.iter().map(|failure| format!("the attack: {failure}")).collect();
        wrong.extend(self.neighbour.failure.iter().map(|failure| format!("the neighbour: {failure}")));
        if self.neighbour.lost > 0 {
            wrong.push(format!("{} messages of the neighbour are lost", self.neighbour.lost));
        }
        wrong
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figure = |figure: Option<u64>| figure.map_or_else(|| "-".into(), |figure| figure.to_string());
        let kind = format!("{:?}", self.kind).to_lowercase();
        let [before, peak, after] = self.memory.map_or([None; 3], |figures| figures.map(Some)).map(figure);
        write!(
            f,
            "{:<52} {:>18} {:<8} {:>9} {:>9} {:>9} {:>8} {:>8} {:>8}",
            self.attack,
            self.size,
            kind,
            milliseconds(self.neighbour.p99()),
            milliseconds(self.neighbour.max()),
            figure(self.steps),
            before,
            peak,
            after,
        )?;
        if !self.neighbour.blocked.is_zero() {
            write!(f, "  others blocked for {}", milliseconds(self.neighbour.blocked))?;
        }
        if let Some(refused) = &self.refused {
            write!(f, "  {refused}")?;
        }
        Ok(())
    }
}

fn milliseconds(time: Duration) -> String {
    match time.as_micros() {
        micros @ ..100_000 => format!("{:.1} ms", micros as f64 / 1e3),
        micros @ ..10_000_000 => format!("{} ms", micros / 1_000),
        micros => format!("{:.0} s", micros as f64 / 1e6),
    }
}
