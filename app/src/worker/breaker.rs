//! A circuit breaker: stops taking messages while what their handler depends on fails.

use std::collections::VecDeque;
use std::time::Duration;

use hopmq::Time;

use crate::flow::Verdict;
use crate::topology::{Breaker, BreakerState};

/// The circuit of one queue.
pub(super) struct Circuit {
    settings: Breaker,
    state: BreakerState,
    /// The latest outcomes: whether each was a failure.
    outcomes: VecDeque<bool>,
    failures: usize,
    /// When messages are taken again.
    until: Time,
}

impl Circuit {
    pub(super) fn new(settings: Breaker) -> Self {
        let outcomes = VecDeque::with_capacity(settings.of);
        Self { settings, state: BreakerState::Closed, outcomes, failures: 0, until: Time::ZERO }
    }

    pub(super) fn state(&self) -> BreakerState {
        self.state
    }

    pub(super) fn pause(&self) -> Duration {
        self.settings.pause
    }

    /// Returns when messages may be taken again, if that is later than now.
    pub(super) fn closed_until(&self, now: Time) -> Option<Time> {
        (self.state == BreakerState::Open && now < self.until).then_some(self.until)
    }

    /// Begins to probe if the circuit is open. Returns whether that changed its state.
    pub(super) fn begin_probe(&mut self) -> bool {
        let begins = self.state == BreakerState::Open;
        if begins {
            self.state = BreakerState::Probing;
        }
        begins
    }

    /// Notes how a message ended. Returns whether that changed the state.
    pub(super) fn ended(&mut self, verdict: &Verdict, now: Time) -> bool {
        let failed = self.settings.counts(verdict);
        match self.state {
            // A message that was in work when the circuit opened says nothing new.
            BreakerState::Open => false,
            BreakerState::Probing => {
                if failed {
                    self.open(now);
                } else {
                    self.state = BreakerState::Closed;
                }
                true
            }
            BreakerState::Closed => {
                if self.outcomes.len() == self.settings.of && self.outcomes.pop_front() == Some(true) {
                    self.failures -= 1;
                }
                self.outcomes.push_back(failed);
                self.failures += usize::from(failed);
                let opens = self.failures >= self.settings.failures;
                if opens {
                    self.open(now);
                }
                opens
            }
        }
    }

    fn open(&mut self, now: Time) {
        self.state = BreakerState::Open;
        self.until = now + self.settings.pause;
        self.outcomes.clear();
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Failure;

    fn at(seconds: u64) -> Time {
        Time::from_epoch(Duration::from_secs(seconds))
    }

    fn failed(class: &'static str) -> Verdict {
        Verdict::Retry(Failure::new(class, "down"))
    }

    #[test]
    fn it_opens_after_failures_among_the_latest_and_probes_with_one_message() {
        let mut circuit = Circuit::new(Breaker::after(3).of(4).pause(Duration::from_secs(10)));
        for verdict in [failed("db"), Verdict::Ack, Verdict::Ack, Verdict::Ack, failed("db"), failed("db")] {
            assert!(!circuit.ended(&verdict, at(1)), "the first failure is no longer among the latest four");
        }
        assert!(circuit.ended(&failed("db"), at(1)));
        assert_eq!((circuit.state(), circuit.closed_until(at(2))), (BreakerState::Open, Some(at(11))));
        assert!(!circuit.ended(&failed("db"), at(5)), "what was in work does not make it longer");
        assert_eq!(circuit.closed_until(at(11)), None);
        assert!(circuit.begin_probe());
        assert!(circuit.ended(&failed("db"), at(12)));
        assert_eq!(circuit.closed_until(at(12)), Some(at(22)));
        assert!(circuit.begin_probe());
        assert!(circuit.ended(&Verdict::Ack, at(23)));
        assert_eq!(circuit.state(), BreakerState::Closed);
    }

    #[test]
    fn only_the_named_classes_count() {
        let mut circuit = Circuit::new(Breaker::after(1).class("db"));
        assert!(!circuit.ended(&failed("smtp"), at(1)));
        assert!(!circuit.ended(&Verdict::Reject(Failure::new("decode", "no JSON")), at(1)));
        assert!(circuit.ended(&Verdict::Park(Failure::new("db", "down")), at(1)));
    }
}
