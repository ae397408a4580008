//! Kills the program (`kill -9`) on a real disk while clients publish, consume, acknowledge and commit, several times.
//! `HOPMQ_ROUNDS=200` sets how often, `HOPMQ_SEED=n` how.
//!
//! After each kill: each confirmed message is there or was acked; an acked message is gone or redelivered, and gone if
//! its ack was safe; each queue is in order; a transaction is there as a whole or not at all.

mod clients;
mod ledger;
mod program;
#[path = "../../src/random.rs"]
mod random;

use std::sync::mpsc;
use std::thread;

use ledger::Ledger;
use program::Program;
use random::Random;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|number| number.parse().expect("the variable is a number"))
}

#[test]
fn a_killed_broker_keeps_confirmed_messages_and_does_not_deliver_acked_ones_as_new() {
    let rounds = number("HOPMQ_ROUNDS").unwrap_or(10);
    let seed = number("HOPMQ_SEED").unwrap_or(1);
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("killed-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    let mut random = Random(seed);
    let ledger = Ledger::default();
    for round in 0..rounds {
        if round > 0 && round % 50 == 0 {
            println!("killed {round} of {rounds} times: {ledger}");
        }
        let program = Program::start(&folder);
        ledger.check(&program, &format!("seed {seed}, round {round}"));
        // The kill comes at once, or after up to 2,048 events.
        let most = 1 << random.below(12);
        let after = random.below(most);
        let (event, events) = mpsc::channel();
        let draws = [(); 3].map(|()| Random(random.below(u64::MAX)));
        thread::scope(|scope| {
            let [publishes, consumes, commits] = draws;
            let uri = &program.uri;
            let ledger = &ledger;
            let published = event.clone();
            let consumed = event.clone();
            let committed = event;
            scope.spawn(move || clients::publish(uri, ledger, publishes, &published));
            scope.spawn(move || clients::consume(uri, ledger, consumes, &consumed));
            scope.spawn(move || clients::commit(uri, ledger, commits, &committed));
            events.iter().take(after as usize).for_each(drop);
            program.kill();
        });
    }
    ledger.check(&Program::start(&folder), &format!("seed {seed}, at the end"));
    println!("killed {rounds} times: {ledger}");
    std::fs::remove_dir_all(folder).unwrap();
}
