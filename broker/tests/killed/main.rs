//! The program is killed while clients publish, consume, acknowledge and commit: `kill -9`, on a real disk, again and
//! again. `HOPMQ_ROUNDS=200` does it more often, `HOPMQ_SEED=n` in another way.
//!
//! After each kill: what was confirmed is there, or was acked; what was acked is gone, or comes as redelivered, and
//! what the broker had safely acked does not come at all; each queue is in order; a transaction is there as a whole or
//! not at all.

mod book;
mod clients;
mod program;
#[path = "../../src/random.rs"]
mod random;

use std::sync::mpsc;
use std::thread;

use book::Book;
use program::Program;
use random::Random;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|number| number.parse().expect("it is a number"))
}

#[test]
fn what_was_confirmed_is_there_after_each_kill_and_nothing_acked_comes_as_new() {
    let rounds = number("HOPMQ_ROUNDS").unwrap_or(10);
    let seed = number("HOPMQ_SEED").unwrap_or(1);
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("killed-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    let mut random = Random(seed);
    let book = Book::default();
    for round in 0..rounds {
        if round > 0 && round % 50 == 0 {
            println!("killed {round} of {rounds} times: {book}");
        }
        let program = Program::start(&folder);
        book.check(&program, &format!("seed {seed}, round {round}"));
        // From the very first moment to some time of steady work.
        let most = 1 << random.below(12);
        let after = random.below(most);
        let (event, events) = mpsc::channel();
        let draws = [(); 3].map(|()| Random(random.below(u64::MAX)));
        thread::scope(|scope| {
            let [publishes, consumes, commits] = draws;
            let (uri, book, all) = (&program.uri, &book, event);
            let (first, second) = (all.clone(), all.clone());
            scope.spawn(move || clients::publish(uri, book, publishes, &first));
            scope.spawn(move || clients::consume(uri, book, consumes, &second));
            scope.spawn(move || clients::commit(uri, book, commits, &all));
            events.iter().take(after as usize).for_each(drop);
            program.kill();
        });
    }
    book.check(&Program::start(&folder), &format!("seed {seed}, at the end"));
    println!("killed {rounds} times: {book}");
    std::fs::remove_dir_all(folder).unwrap();
}
