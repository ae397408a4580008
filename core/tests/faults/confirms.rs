//! Confirms: each publish gets its own outcome, in any order and however its channel ends.

use std::cell::RefCell;
use std::rc::Rc;

use futures_lite::StreamExt;
use hopmq::{Channel, Confirm, ErrorKind};
use hopmq_proto::method::basic;

use crate::common::{World, fault, poll_once};

/// Opens a channel with publishes that the test confirms.
fn publishes(world: &mut World, count: usize) -> (hopmq::Connection, Channel, Vec<Option<Confirm>>) {
    let (connection, channel) = world.open();
    world.server.broker.confirms_by_hand = true;
    let confirms =
        (0..count).map(|_| Some(world.run(channel.publish("", "q", "x").confirm_later()).unwrap())).collect();
    world.settle();
    (connection, channel, confirms)
}

/// Returns the outcome of each: `+` acked, `-` nacked, `x` its channel ended, `.` unknown.
fn outcomes(confirms: &mut [Option<Confirm>], known: &mut String) -> String {
    let mut text: Vec<char> = known.chars().collect();
    text.resize(confirms.len(), '.');
    for (slot, confirm) in text.iter_mut().zip(confirms) {
        let Some(pending) = confirm else { continue };
        *slot = match poll_once(pending) {
            std::task::Poll::Pending => continue,
            std::task::Poll::Ready(Ok(())) => '+',
            std::task::Poll::Ready(Err(error)) if error.kind() == ErrorKind::Nacked => '-',
            std::task::Poll::Ready(Err(_)) => 'x',
        };
        *confirm = None;
    }
    *known = text.into_iter().collect();
    known.clone()
}

#[test]
fn acks_and_nacks_may_be_multiple_and_out_of_order() {
    let mut world = World::new();
    let (connection, _channel, mut confirms) = publishes(&mut world, 10);
    let mut known = String::new();
    assert_eq!(outcomes(&mut confirms, &mut known), "..........");
    for (delivery_tag, multiple, ack, expected) in [
        (9, false, true, "........+."),
        (3, false, false, "..-.....+."),
        (4, true, true, "++-+....+."),
        (2, true, true, "++-+....+."),
        (7, true, false, "++-+---.+."),
        (0, true, true, "++-+---+++"),
    ] {
        match ack {
            true => world.server.answer(1, &basic::Ack { delivery_tag, multiple }),
            false => world.server.answer(1, &basic::Nack { delivery_tag, multiple, requeue: false }),
        }
        world.settle();
        assert_eq!(outcomes(&mut confirms, &mut known), expected, "after {delivery_tag}");
    }
    let stats = connection.stats();
    assert_eq!((stats.published, stats.confirmed, stats.nacked), (10, 6, 4));
}

#[test]
fn a_confirm_of_an_unpublished_message_is_a_violation() {
    let mut world = World::new();
    let (connection, _channel, _confirms) = publishes(&mut world, 3);
    world.server.answer(1, &basic::Ack { delivery_tag: 4, multiple: false });
    assert_eq!(world.run(connection.closed()).kind(), ErrorKind::Protocol);
}

#[test]
fn a_closed_channel_fails_the_publishes_that_are_still_unconfirmed() {
    let mut world = World::new();
    let (_connection, channel, mut confirms) = publishes(&mut world, 6);
    let mut late = confirms.pop().flatten().unwrap();
    let waiting = world.start(confirms.pop().flatten().unwrap());
    world.server.answer(1, &basic::Ack { delivery_tag: 2, multiple: true });
    world.server.answer(1, &basic::Nack { delivery_tag: 3, multiple: false, requeue: false });
    world.server.refuse_channel(1, 404, "NOT_FOUND - no exchange 'e'");
    world.settle();
    assert!(!channel.is_open());
    let error = waiting.done().unwrap_err();
    assert_eq!(fault(&error), (ErrorKind::ChannelClosed, Some(404)));
    assert_eq!(outcomes(&mut confirms, &mut String::new()), "++-x");
    assert_eq!(world.run(&mut late).unwrap_err().to_string(), error.to_string());
}

#[test]
fn a_returned_message_fails_its_own_confirm_though_an_ack_follows() {
    let mut world = World::new();
    let (connection, channel) = world.open();
    world.run(channel.queue("q").declare()).unwrap();
    let good = world.run(channel.publish("", "q", "good").mandatory().confirm_later()).unwrap();
    let lost = world.run(channel.publish("", "nowhere", "lost").mandatory().confirm_later()).unwrap();
    let also = world.run(channel.publish("", "q", "good").mandatory().confirm_later()).unwrap();
    world.settle();
    world.run(good).unwrap();
    world.run(also).unwrap();
    let error = world.run(lost).unwrap_err();
    assert_eq!(fault(&error), (ErrorKind::Returned, Some(312)));
    assert_eq!(error.returned().unwrap().body(), b"lost");
    assert_eq!(connection.stats().returned, 1);
}

#[test]
fn a_message_returned_without_a_confirm_arrives_in_channel_returns() {
    let mut world = World::new();
    let (_connection, channel) = world.open();
    let mut returns = channel.returns();
    assert!(poll_once(&mut returns.next()).is_pending());
    for number in 0..3 {
        world.run(channel.publish("", "nowhere", number.to_string()).mandatory().send()).unwrap();
    }
    for number in 0..3 {
        let returned = world.run(returns.next()).unwrap();
        assert_eq!((returned.code(), returned.body()), (312, number.to_string().as_bytes()));
    }
    let last = world.start(async move { returns.next().await.is_none() });
    drop(channel);
    world.settle();
    assert!(!last.is_done(), "the stream keeps its channel open");
}

#[test]
fn confirm_mode_is_selected_once_by_the_first_confirmed_publish() {
    let mut world = World::new();
    let (connection, channel) = world.open();
    world.run(channel.publish("", "q", "unconfirmed").send()).unwrap();
    world.run(channel.publish("", "q", "first").confirm()).unwrap();
    world.run(channel.publish("", "q", "between").send()).unwrap();
    world.run(channel.publish("", "q", "second").confirm()).unwrap();
    world.settle();
    assert_eq!(world.server.count("1 confirm.select"), 1);
    assert_eq!(connection.stats().confirmed, 3);
}

#[test]
fn a_transactional_channel_refuses_confirms() {
    let mut world = World::new();
    let (connection, channel) = world.open();
    world.run(channel.tx_select()).unwrap();
    for _ in 0..3 {
        assert_eq!(world.run(channel.publish("", "q", "x").confirm()).unwrap_err().kind(), ErrorKind::Usage);
    }
    world.run(channel.publish("", "q", "x").send()).unwrap();
    world.run(channel.tx_commit()).unwrap();
    assert_eq!(connection.stats().published, 1);
    let other = world.run(connection.channel()).unwrap();
    world.run(other.publish("", "q", "x").confirm()).unwrap();
    assert_eq!(world.run(other.tx_select()).unwrap_err().kind(), ErrorKind::Usage);
    assert!(other.is_open() && channel.is_open());
}

#[test]
fn many_tasks_on_one_channel_each_get_their_own_outcome() {
    let mut world = World::with_capacity(700);
    let (connection, channel) = world.open();
    world.server.broker.nack_every = Some(7);
    // The broker counts the messages in the order in which they were accepted.
    let order = Rc::new(RefCell::new(Vec::new()));
    let refused = Rc::new(RefCell::new(Vec::new()));
    let tasks: Vec<_> = (0..10)
        .map(|task| {
            let channel = channel.clone();
            let order = Rc::clone(&order);
            let refused = Rc::clone(&refused);
            world.start(async move {
                for number in 0..50 {
                    let later = channel.publish("", "q", vec![0; 100]).confirm_later().await?;
                    order.borrow_mut().push((task, number));
                    match later.await {
                        Ok(()) => {}
                        Err(error) if error.kind() == ErrorKind::Nacked => refused.borrow_mut().push((task, number)),
                        Err(error) => return Err(error),
                    }
                }
                Ok(())
            })
        })
        .collect();
    for task in tasks {
        world.wait(&task).unwrap();
    }
    let mut expected: Vec<_> = order.borrow().iter().skip(6).step_by(7).copied().collect();
    let mut refused = refused.take();
    expected.sort_unstable();
    refused.sort_unstable();
    assert_eq!(refused, expected);
    assert_eq!((connection.stats().confirmed, connection.stats().nacked), (429, 71));
}

#[test]
fn a_message_that_cannot_be_encoded_is_refused_and_not_counted() {
    let mut world = World::new();
    let (connection, channel) = world.open();
    let long = "x".repeat(256);
    assert_eq!(world.run(channel.publish(&long, "q", "x").confirm()).unwrap_err().kind(), ErrorKind::Usage);
    assert_eq!(world.run(channel.publish("", &long, "x").confirm()).unwrap_err().kind(), ErrorKind::Usage);
    let flawed = channel.publish("", "q", "x").correlation_id(&long);
    assert_eq!(world.run(flawed.confirm()).unwrap_err().kind(), ErrorKind::Usage);
    world.run(channel.publish("", "q", "x").confirm()).unwrap();
    assert_eq!(connection.stats().published, 1);
    world.run(connection.close()).unwrap();
}
