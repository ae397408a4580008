//! Logins with wrong passwords.

use std::thread;
use std::time::Instant;

use crate::{Door, Result, Stage, Wire};

/// Many clients that try passwords side by side, for a user that exists and for one that does not.
///
/// # Errors
/// If a login is granted.
pub fn flood(stage: &Stage<'_>) -> Result {
    let doors =
        ["guest", "unknown"].map(|user| Door { user: user.into(), password: "wrong".into(), ..stage.target.door() });
    let end = Instant::now() + stage.time;
    let granted = thread::scope(|scope| {
        let attempts = (0..stage.size).map(|number| {
            let door = &doors[(number % 2) as usize];
            scope.spawn(move || {
                let mut granted = false;
                while Instant::now() < end {
                    granted |= Wire::open(door).is_ok();
                }
                granted
            })
        });
        let attempts: Vec<_> = attempts.collect();
        attempts.into_iter().any(|attempt| attempt.join().unwrap_or(true))
    });
    if granted { Err("a wrong password was accepted".into()) } else { Ok(()) }
}
