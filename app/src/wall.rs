//! The time of day, which deadlines travel by.

use std::fmt;
use std::sync::Arc;

/// A clock that says how many milliseconds have passed since 1970, for deadlines that travel between programs.
///
/// The default is the system's clock. On `wasm32-unknown-unknown`, which has none, the default knows no time: calls
/// then carry no absolute deadline until a program gives it a clock.
///
/// ```
/// use hopmq_app::WallClock;
///
/// let stopped = WallClock::new(|| 1_800_000_000_000);
/// assert_eq!(stopped.unix_millis(), Some(1_800_000_000_000));
/// ```
#[derive(Clone, Default)]
pub struct WallClock(Option<Arc<dyn Fn() -> u64 + Send + Sync>>);

impl WallClock {
    /// Returns a clock that `unix_millis` reads.
    pub fn new(unix_millis: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(unix_millis)))
    }

    /// Returns the milliseconds since 1970, or `None` if there is no clock.
    pub fn unix_millis(&self) -> Option<u64> {
        self.0.as_ref().map_or_else(system, |read| Some(read()))
    }
}

#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
fn system() -> Option<u64> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok()
}

#[cfg(all(target_family = "wasm", target_os = "unknown"))]
fn system() -> Option<u64> {
    None
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WallClock").field(&self.unix_millis()).finish()
    }
}
