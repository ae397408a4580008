use std::collections::HashSet;

use super::throttle::{ADDRESS, DELAY, PAIR, USER};
use super::*;

/// Logins on a clock that the test moves. Each password is its own digest.
struct World {
    logins: Logins,
    now: Time,
}

fn address(number: u32) -> Option<Source> {
    Some(Source::of(IpAddr::from(number.to_be_bytes())))
}

impl World {
    fn new() -> Self {
        Self { logins: Logins::new([], 2), now: Time::ZERO }
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    fn enter(&mut self, source: Option<Source>, user: &str, password: u64) -> Ticket {
        let mut right = [0; 16];
        right[..8].copy_from_slice(&password.to_be_bytes());
        let mut wrong = right;
        wrong[8..].copy_from_slice(&self.logins.throttle.keys(source, user).pair().to_be_bytes());
        let login = self.logins.login(source, user, right, wrong);
        self.logins.enter(self.now, login, &mut Vec::new())
    }

    fn turn(&mut self, ticket: Ticket) -> Turn {
        self.logins.turn(self.now, ticket, Waker::noop(), &mut Vec::new())
    }

    fn end(&mut self, ticket: Ticket) {
        self.logins.end(self.now, ticket, &mut Vec::new());
    }

    /// Lets a login have its result, which `holds` tells if it must be verified.
    fn complete(&mut self, ticket: Ticket, holds: bool) -> Turn {
        let turn = self.turn(ticket);
        match turn {
            Turn::Verify => self.logins.finish(self.now, ticket, holds),
            Turn::Wait(_) => return turn,
            Turn::Known(_) | Turn::Late => {}
        }
        self.end(ticket);
        turn
    }

    /// Tries passwords, each at once when the one before is refused, for some time. Returns how many were verified.
    fn guess(&mut self, source: Option<Source>, user: impl Fn(u64) -> String, time: Duration) -> u64 {
        let end = self.now + time;
        let mut guesses = 0;
        while self.now < end {
            let ticket = self.enter(source, &user(guesses), 1 << 32 | guesses);
            while let Turn::Wait(until) = self.complete(ticket, false) {
                self.now = until;
            }
            guesses += 1;
            self.pass(Duration::from_millis(5));
        }
        guesses
    }

    /// Returns how long a login takes.
    fn log_in(&mut self, source: Option<Source>, user: &str, password: u64) -> Duration {
        let started = self.now;
        let ticket = self.enter(source, user, password);
        while let Turn::Wait(until) = self.complete(ticket, true) {
            self.now = until;
        }
        self.now - started
    }
}

const ATTACK: Duration = Duration::from_secs(15 * 60);

#[test]
fn guesses_for_a_user_from_an_address_are_slowed_down() {
    let guesses = World::new().guess(address(1), |_| "alice".to_owned(), ATTACK);
    let expected = u64::from(PAIR.free) + ATTACK.as_secs() / PAIR.interval.as_secs();
    assert!(guesses.abs_diff(expected) < 5, "{guesses}, not about {expected}");
}

#[test]
fn guesses_from_an_address_for_many_users_are_slowed_down() {
    let guesses = World::new().guess(address(1), |number| format!("user-{number}"), ATTACK);
    let expected = u64::from(ADDRESS.free) + ATTACK.as_secs() * 5;
    assert!(guesses.abs_diff(expected) < 10, "{guesses}, not about {expected}");
}

#[test]
fn a_user_under_attack_can_log_in_from_elsewhere() {
    let mut world = World::new();
    world.guess(address(1), |_| "alice".to_owned(), Duration::from_secs(600));
    assert_eq!(world.log_in(address(2), "alice", 7), Duration::ZERO);
    // From 500 addresses in turns.
    for number in 0..5_000 {
        let ticket = world.enter(address(1_000 + number % 500), "alice", 1 << 32 | u64::from(number));
        world.complete(ticket, false);
        world.end(ticket);
    }
    assert_eq!(world.log_in(address(3), "alice", 7), DELAY, "from where alice has not logged in yet");
    assert_eq!(world.log_in(address(2), "alice", 7), Duration::ZERO, "from where alice has");
    assert_eq!(world.log_in(address(3), "alice", 7), Duration::ZERO);
    assert_eq!(world.log_in(address(2), "bob", 8), Duration::ZERO, "another user");
    world.pass(USER.interval * 5_000);
    assert_eq!(world.log_in(address(4), "alice", 7), Duration::ZERO, "the attack is over");
}

#[test]
fn users_who_have_logged_in_from_an_address_are_not_kept_out_by_its_other_clients() {
    let mut world = World::new();
    world.log_in(address(1), "alice", 7);
    for number in 0..5_000 {
        let ticket = world.enter(address(1), &format!("user-{number}"), 1 << 32 | number);
        world.complete(ticket, false);
        world.end(ticket);
    }
    assert_eq!(world.log_in(address(1), "alice", 7), Duration::ZERO);
    let waits = world.log_in(address(1), "bob", 8);
    assert!(waits > Duration::ZERO && waits <= ADDRESS.interval, "{waits:?}");
}

#[test]
fn an_outdated_password_of_many_clients_is_refused_at_once_and_keeps_no_client_out() {
    let mut world = World::new();
    let mut verified = 0;
    for round in 0..100 {
        for _ in 0..50 {
            let ticket = world.enter(address(1), "alice", 6);
            verified += u32::from(world.complete(ticket, false) == Turn::Verify);
        }
        assert_eq!(world.log_in(address(1), "alice", 7), Duration::ZERO, "round {round}");
        world.pass(Duration::from_secs(1));
    }
    assert!(verified <= 3, "{verified} of 5,000 were verified");
}

#[test]
fn behind_an_address_that_many_share_logins_wait_for_two_seconds_at_most() {
    let IpAddr::V4(gateway) = IpAddr::from(1_u32.to_be_bytes()) else { unreachable!() };
    let mut world = World { logins: Logins::new([gateway.into()], 2), now: Time::ZERO };
    for number in 0..5_000 {
        let ticket = world.enter(address(1), ["alice", "bob"][number as usize % 2], 1 << 32 | number);
        world.complete(ticket, false);
        world.end(ticket);
    }
    assert_eq!(world.log_in(address(1), "carol", 9), Duration::ZERO);
    assert_eq!(world.log_in(address(1), "alice", 7), DELAY);
}

#[test]
fn a_flood_of_logins_from_one_address_does_not_delay_another() {
    let mut world = World::new();
    let flood: Vec<Ticket> = (0..1_000).map(|number| world.enter(address(1), &format!("u{number}"), number)).collect();
    let other = world.enter(address(2), "alice", 7);
    assert!(matches!(world.turn(other), Turn::Wait(_)), "two are verified");
    assert_eq!((world.turn(flood[0]), world.turn(flood[1])), (Turn::Verify, Turn::Verify));
    assert!(matches!(world.turn(flood[2]), Turn::Wait(_)));
    // It is among the next two.
    world.complete(flood[0], false);
    world.complete(flood[1], false);
    assert_eq!(world.complete(other, true), Turn::Verify);
    // A client that leaves makes room as well.
    assert!(matches!(world.turn(flood[4]), Turn::Wait(_)));
    flood[2..4].iter().for_each(|ticket| world.end(*ticket));
    assert_eq!(world.turn(flood[4]), Turn::Verify);
    flood[4..].iter().for_each(|ticket| world.end(*ticket));
    assert_eq!((world.logins.running, world.logins.waiting.len()), (0, 0));
}

#[test]
fn a_thousand_clients_of_one_user_cost_a_few_verifications() {
    let mut world = World::new();
    let clients: Vec<Ticket> = (0..1_000).map(|number| world.enter(address(number % 10), "alice", 7)).collect();
    let mut verified = 0;
    for ticket in clients {
        let turn = world.complete(ticket, true);
        verified += u32::from(turn == Turn::Verify);
        assert!(matches!(turn, Turn::Verify | Turn::Known(true)), "{turn:?}");
    }
    assert_eq!(verified, 2, "as many as are verified at once");
    world.pass(RIGHT);
    let ticket = world.enter(address(1), "alice", 7);
    assert_eq!(world.complete(ticket, true), Turn::Verify, "it was forgotten");
    let ticket = world.enter(address(1), "alice", 8);
    assert_eq!(world.complete(ticket, false), Turn::Verify, "another password");
}

#[test]
fn a_remembered_password_makes_no_guess_faster() {
    let mut world = World::new();
    world.log_in(address(2), "alice", 7);
    for number in 0..100 {
        let ticket = world.enter(address(1), "alice", 1 << 32 | number);
        world.complete(ticket, false);
        world.end(ticket);
    }
    let ticket = world.enter(address(1), "alice", 7);
    assert_eq!(world.turn(ticket), Turn::Wait(world.now + PAIR.interval));
}

#[test]
fn leaving_before_the_answer_is_a_guess_too() {
    let mut world = World::new();
    for number in 0..u64::from(PAIR.free) {
        let ticket = world.enter(address(1), "alice", 1 << 32 | number);
        assert_eq!(world.turn(ticket), Turn::Verify);
        world.end(ticket);
    }
    let ticket = world.enter(address(1), "alice", 7);
    assert!(matches!(world.turn(ticket), Turn::Wait(_)));
}

#[test]
fn right_passwords_are_never_throttled() {
    let mut world = World::new();
    for number in 0..10_000 {
        // Each is verified: none is remembered.
        assert_eq!(world.log_in(address(1), "alice", number), Duration::ZERO);
    }
    assert_eq!(world.logins.counts, LoginCounts { accepted: 10_000, ..LoginCounts::default() });
}

#[test]
fn a_login_that_waits_too_long_is_turned_away() {
    let mut world = World::new();
    let tickets: Vec<Ticket> = (0..3).map(|number| world.enter(address(1), "alice", number)).collect();
    assert_eq!((world.turn(tickets[0]), world.turn(tickets[1])), (Turn::Verify, Turn::Verify));
    assert_eq!(world.turn(tickets[2]), Turn::Wait(world.now + WAIT_TIMEOUT));
    world.pass(WAIT_TIMEOUT);
    assert_eq!(world.turn(tickets[2]), Turn::Late);
    assert_eq!(world.logins.counts.turned_away, 1);
}

#[test]
fn many_addresses_and_names_take_bounded_memory_and_do_not_wash_out_failures() {
    let mut world = World::new();
    for number in 0..100 {
        let ticket = world.enter(address(1), "alice", 1 << 32 | number);
        world.complete(ticket, false);
        world.end(ticket);
    }
    for number in 0..40_000 {
        let ticket = world.enter(address(10 + number), &format!("user-{number}"), u64::from(number) << 33);
        assert_eq!(world.complete(ticket, false), Turn::Verify);
    }
    let ticket = world.enter(address(1), "alice", 7);
    assert!(matches!(world.turn(ticket), Turn::Wait(_)), "its failures are still known");
    let sizes = world.logins.sizes();
    assert!(sizes.iter().all(|size| *size <= 1 << 15), "{sizes:?}");
}

#[test]
fn connections_without_a_login_are_bounded_by_address_and_in_total() {
    let mut world = World::new();
    let mut admit = |number: u32, count: usize| {
        let source = Source::of(IpAddr::from(number.to_be_bytes()));
        (0..count).filter(|_| world.logins.admit(Time::ZERO, source)).count()
    };
    assert_eq!(admit(1, 10_000), MOST_PENDING_OF_ADDRESS);
    // Attackers from many addresses leave room for the next one.
    let held: Vec<usize> = (2..10).map(|number| admit(number, 10_000)).collect();
    assert!(held.iter().sum::<usize>() + MOST_PENDING_OF_ADDRESS < MOST_PENDING, "{held:?}");
    assert!(admit(100, 1) == 1 && admit(101, 1) == 1);
    let source = Source::of(IpAddr::from(1_u32.to_be_bytes()));
    (0..MOST_PENDING_OF_ADDRESS).for_each(|_| world.logins.leave(source));
    assert!(!world.logins.pending.contains_key(&source));
    assert!(world.logins.counts.turned_away > 0);
}

#[test]
fn an_ipv6_client_is_its_64() {
    let of = |text: &str| Source::of(text.parse().unwrap());
    assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
    assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
    assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    let distinct: HashSet<Source> = (1..=4).map(|number| of(&format!("192.0.2.{number}"))).collect();
    assert_eq!(distinct.len(), 4);
}
