//! Plays an attack beside the neighbour.

use std::time::Duration;

use crate::{Attack, Gateway, Kind, Neighbour, Refused, Result, Row, Stage, Target};

/// How large the attacks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// For every change: seconds in total.
    Small,
    /// For the night: sizes that would stop a broker without bounds.
    Full,
}

impl Mode {
    /// The time between two messages of the neighbour.
    fn pace(self) -> Duration {
        Duration::from_millis(if self == Self::Small { 5 } else { 2 })
    }
}

/// How an attack is played.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// The broker.
    pub kind: Kind,
    /// The size.
    pub mode: Mode,
    /// Options of the broker's program.
    pub options: &'a [&'a str],
    /// How long an attack lasts that has no end of its own.
    pub time: Duration,
}

impl Setting<'_> {
    /// Returns the usual setting.
    pub fn new(kind: Kind, mode: Mode) -> Self {
        let time = Duration::from_millis(if mode == Mode::Small { 500 } else { 5_000 });
        Self { kind, mode, options: &[], time }
    }
}

/// Plays an attack on a new broker.
///
/// # Errors
/// If the broker or the neighbour cannot start. What happens in the attack is in the row.
pub fn play(attack: &Attack, setting: &Setting<'_>) -> Result<Row> {
    let Setting { kind, mode, options, time } = *setting;
    let target = Target::start(kind, options)?;
    let gateway = if attack.gateway { Some(Gateway::start(&target)?) } else { None };
    let door = gateway.as_ref().map_or_else(|| Ok(target.door()), Gateway::neighbour)?;
    let neighbour = Neighbour::start(&door, mode.pace(), target.is_durable())?;
    let memory = || gateway.as_ref().map_or_else(|| target.memory(), Gateway::memory);
    let before = memory();
    let size = if mode == Mode::Small { attack.small } else { attack.full };
    let stage =
        Stage { target: &target, gateway: gateway.as_ref(), size, time, neighbour: &neighbour, pace: mode.pace() };
    let (mut refused, mut failure) = (None, None);
    if let Err(error) = (attack.run)(&stage) {
        match error.downcast::<Refused>() {
            Ok(reason) => refused = Some(reason.to_string()),
            Err(error) => failure = Some(error.to_string()),
        }
    }
    // The attackers are gone: what their end costs is seen by these.
    neighbour.awaits(20);
    if mode == Mode::Full {
        stage.hold(Duration::from_secs(10));
    }
    let peak = gateway.as_ref().map_or_else(|| target.peak(), Gateway::peak);
    let figures = before.zip(peak).zip(memory()).map(|((before, peak), after)| [before, peak, after]);
    let neighbour = neighbour.stop();
    let size = format!("{size} {}", attack.unit);
    Ok(Row { attack: attack.name, kind, size, neighbour, steps: steps(&target), memory: figures, refused, failure })
}

/// Returns the most work between two releases of the engine's lock, in steps.
fn steps(target: &Target) -> Option<u64> {
    target.embedded().map(|broker| broker.most_steps().into())
}
