use std::time::Duration;

use super::*;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn policy() -> Policy {
    Policy {
        retry: Backoff::exponential(Duration::from_millis(200), 10).max(seconds(20)).attempts(4),
        ..Policy::new("q")
    }
}

fn retry(policy: &Policy, attempt: u32) -> Plan {
    decide(policy, Facts { attempt, random: 0 }, Verdict::Retry(Failure::new("timeout", "late")))
}

#[test]
fn a_short_wait_is_in_the_slot_and_a_long_one_in_a_queue() {
    let policy = policy();
    assert_eq!(retry(&policy, 1).again, Some(Duration::from_millis(200)));
    assert_eq!(retry(&policy, 1).settle, Settle::Nothing);
    let plan = retry(&policy, 2);
    let forward = plan.forward.expect("a forward");
    assert_eq!((plan.again, plan.settle), (None, Settle::Ack));
    assert_eq!((forward.queue.as_str(), forward.attempt, forward.expiration), ("q.retry.2000", 3, None));
    assert_eq!(policy.steps(), [seconds(2), seconds(20)]);
}

#[test]
fn after_the_last_attempt_the_message_goes_to_the_dead_letters() {
    let forward = retry(&policy(), 4).forward.expect("a forward");
    assert_eq!((forward.queue.as_str(), forward.attempt), ("q.dlq", 4));
    let none = Policy { dead_letter: None, ..policy() };
    assert_eq!(retry(&none, 4), Plan::settle(Settle::Reject));
}

#[test]
fn jitter_shortens_a_wait_and_never_the_queue() {
    let policy = Policy { retry: Backoff::fixed(seconds(10)).jitter(50), ..Policy::new("q") };
    let plan = decide(&policy, Facts { attempt: 1, random: u32::MAX }, Verdict::Retry(Failure::new("e", "")));
    let forward = plan.forward.expect("a forward");
    assert_eq!((forward.queue.as_str(), forward.expiration), ("q.retry.10000", Some(seconds(5))));
}

#[test]
fn a_failure_may_ask_for_its_own_wait() {
    let policy = Policy { retry: Backoff::list([seconds(2), seconds(30)]), ..Policy::new("q") };
    let ask = |time| {
        let failure = Failure::new("busy", "").after(time);
        decide(&policy, Facts { attempt: 1, random: 0 }, Verdict::Retry(failure))
    };
    let forward = ask(seconds(3)).forward.expect("a forward");
    assert_eq!((forward.queue.as_str(), forward.expiration), ("q.retry.30000", Some(seconds(3))));
    assert_eq!(ask(seconds(60)).forward.expect("a forward").queue, "q.retry.30000");
    assert_eq!(ask(Duration::ZERO).again, Some(Duration::ZERO));
}

#[test]
fn classes_have_their_own_attempts() {
    let busy = vec![("busy".to_owned(), Backoff::fixed(seconds(5)).attempts(2))];
    let policy = Policy { retry_class: busy, ..policy() };
    let plan = decide(&policy, Facts { attempt: 2, random: 0 }, Verdict::Retry(Failure::new("busy", "")));
    assert_eq!(plan.forward.expect("a forward").queue, "q.dlq");
    assert!(policy.steps().contains(&seconds(5)));
}

#[test]
fn ordered_messages_wait_in_the_slot() {
    let policy = Policy { in_slot: true, ..policy() };
    assert_eq!(retry(&policy, 3).again, Some(seconds(20)));
    assert!(policy.steps().is_empty());
}

#[test]
fn a_message_that_never_had_an_outcome_is_parked() {
    let policy = policy();
    assert_eq!(admit(&policy, 9), None);
    let verdict = admit(&policy, 10).expect("a verdict");
    let plan = decide(&policy, Facts { attempt: 1, random: 0 }, verdict);
    assert_eq!(plan.forward.expect("a forward").queue, "q.parked");
    assert_eq!(admit(&Policy { delivery_limit: 0, ..policy }, 1000), None);
}

#[test]
fn release_is_not_counted_and_taken_is_left_alone() {
    let settle = |verdict| decide(&policy(), Facts { attempt: 1, random: 0 }, verdict).settle;
    assert_eq!(settle(Verdict::Release), Settle::NackRequeue);
    assert_eq!(settle(Verdict::Taken), Settle::Nothing);
    assert_eq!(settle(Verdict::Ack), Settle::Ack);
}

#[test]
fn where_the_broker_counts_a_failure_goes_back_until_the_last_attempt() {
    let policy = Policy { by_broker: true, ..policy() };
    let plan = retry(&policy, 3);
    assert_eq!((plan.settle, plan.forward, plan.again), (Settle::RejectRequeue, None, None));
    assert_eq!(retry(&policy, 4).forward.expect("a forward").queue, "q.dlq");
    assert_eq!(admit(&policy, 1000), None);
    assert!(policy.steps().is_empty());
}
