//! Batches of publishes and of deliveries, when something comes in between.

use std::cell::Cell;
use std::rc::Rc;

use futures_lite::StreamExt;
use hopmq::{Channel, Connection, ErrorKind, PublishManyError, Publisher, Recovery, Settled, Unconfirmed};
use hopmq_proto::method::{basic, connection};

use crate::common::{Started, World, fault, poll_once, recovering, seconds};

fn failures(error: &PublishManyError) -> Vec<(usize, ErrorKind)> {
    error.failed().iter().map(|(index, error)| (*index, error.kind())).collect()
}

fn numbers(from: usize, to: usize) -> impl Iterator<Item = String> {
    (from..to).map(|number| number.to_string())
}

/// Publishes a batch of `count` messages with confirms.
fn confirm(world: &mut World, publisher: &Publisher, count: usize) -> Started<Result<(), PublishManyError>> {
    let publisher = publisher.clone();
    world.start(async move { publisher.publish_many(numbers(0, count)).confirm().await })
}

/// Opens a channel with a queue `q` of `count` messages.
fn queue_of(world: &mut World, count: usize) -> (Connection, Channel) {
    let (connection, channel) = world.open_lasting(&recovering());
    world.run(channel.queue("q").declare()).unwrap();
    let publisher = channel.publisher("", "q");
    world.run(publisher.publish_many(numbers(0, count)).confirm()).unwrap();
    (connection, channel)
}

fn bodies(batch: &hopmq::Deliveries) -> Vec<String> {
    batch.iter().map(|delivery| delivery.text().into_owned()).collect()
}

#[test]
fn each_outcome_of_a_batch_is_known_although_others_come_in_between() {
    let mut world = World::new();
    let (_connection, channel) = world.open();
    world.run(channel.queue("q").declare()).unwrap();
    world.server.broker.confirms_by_hand = true;
    let publisher = channel.publisher("", "q");
    let mut many = Box::pin(publisher.publish_many(numbers(0, 300)).confirm_later());
    let std::task::Poll::Ready(Ok(confirms)) = poll_once(&mut many) else { panic!("there is room for all") };
    let other = world.run(channel.publish("", "q", "between").confirm_later()).unwrap();
    let second = confirm(&mut world, &publisher, 3);
    for (delivery_tag, multiple) in [(302, false), (304, false), (7, false)] {
        world.server.answer(1, &basic::Nack { delivery_tag, multiple, requeue: false });
    }
    world.server.answer(1, &basic::Ack { delivery_tag: 303, multiple: true });
    let error = world.wait(&second).unwrap_err();
    assert_eq!((error.sent(), failures(&error)), (3, vec![(0, ErrorKind::Nacked), (2, ErrorKind::Nacked)]));
    let error = world.run(confirms).unwrap_err();
    assert_eq!((error.sent(), failures(&error)), (300, vec![(6, ErrorKind::Nacked)]));
    world.run(other).unwrap();
}

#[test]
fn a_batch_that_loses_its_link_is_published_again() {
    let mut world = World::new();
    let (connection, channel) = world.open_lasting(&recovering());
    world.run(channel.queue("q").declare()).unwrap();
    world.server.broker.confirms_by_hand = true;
    let publisher = channel.publisher("", "q").persistent();
    let batch = confirm(&mut world, &publisher, 10);
    world.server.answer(1, &basic::Ack { delivery_tag: 4, multiple: true });
    world.settle();
    world.server.broker.confirms_by_hand = false;
    world.outage();
    world.wait(&batch).unwrap();
    assert_eq!(world.server.count("1 basic.publish"), 6);
    assert_eq!(connection.stats().confirmed, 10);
}

#[test]
fn a_batch_that_loses_its_link_names_its_unconfirmed_messages() {
    let mut world = World::new();
    let recovery = Recovery::new().unconfirmed(Unconfirmed::Fail).seed(1);
    let (_connection, channel) = world.open_lasting(&Connection::builder().recovery(recovery));
    world.run(channel.queue("q").declare()).unwrap();
    world.server.broker.confirms_by_hand = true;
    let batch = confirm(&mut world, &channel.publisher("", "q"), 5);
    world.server.answer(1, &basic::Ack { delivery_tag: 2, multiple: true });
    world.server.answer(1, &basic::Ack { delivery_tag: 4, multiple: false });
    world.settle();
    world.outage();
    let error = world.wait(&batch).unwrap_err();
    let lost: Vec<usize> = failures(&error).into_iter().map(|(index, _)| index).collect();
    assert_eq!((error.sent(), lost), (5, vec![2, 4]));
}

#[test]
fn a_closed_channel_ends_a_batch_with_the_outcome_of_each_message() {
    let mut world = World::new();
    let (_connection, channel) = world.open();
    world.server.broker.confirms_by_hand = true;
    let batch = confirm(&mut world, &channel.publisher("", "q"), 4);
    world.server.answer(1, &basic::Ack { delivery_tag: 1, multiple: false });
    world.server.answer(1, &basic::Nack { delivery_tag: 3, multiple: false, requeue: false });
    world.settle();
    world.server.refuse_channel(1, 404, "no exchange");
    let error = world.wait(&batch).unwrap_err();
    let closed = ErrorKind::ChannelClosed;
    assert_eq!(failures(&error), [(1, closed), (2, ErrorKind::Nacked), (3, closed)]);
    assert_eq!(fault(&hopmq::Error::from(error)), (closed, Some(404)));
}

#[test]
fn a_batch_that_is_not_confirmed_in_time_names_the_messages() {
    let mut world = World::new();
    let (_connection, channel) = world.open();
    world.server.broker.confirms_by_hand = true;
    let publisher = channel.within(seconds(3)).publisher("", "q");
    let batch = confirm(&mut world, &publisher, 3);
    world.server.answer(1, &basic::Ack { delivery_tag: 2, multiple: false });
    let begin = world.time.now();
    let error = world.wait(&batch).unwrap_err();
    assert_eq!(world.time.now() - begin, seconds(3));
    assert_eq!(failures(&error), [(0, ErrorKind::Timeout), (2, ErrorKind::Timeout)]);
}

#[test]
fn a_batch_waits_while_the_broker_blocks_and_takes_few_bodies_meanwhile() {
    let mut world = World::new();
    let (_connection, channel) = world.open();
    world.run(channel.queue("q").declare()).unwrap();
    world.server.answer(0, &connection::Blocked { reason: "low on disk" });
    world.settle();
    let taken = Rc::new(Cell::new(0));
    let count = Rc::clone(&taken);
    let publisher = channel.publisher("", "q");
    let batch = world.start(async move {
        let counted = numbers(0, 2000).inspect(|_| count.set(count.get() + 1));
        publisher.publish_many(counted).send().await
    });
    let other = channel.clone();
    let behind = world.start(async move { other.publish("", "q", "behind").confirm().await });
    assert!(!batch.is_done() && taken.get() <= 256, "{} bodies were taken", taken.get());
    assert_eq!(world.server.count("1 basic.publish"), 0);
    world.server.answer(0, &connection::Unblocked {});
    assert_eq!(world.wait(&batch).unwrap(), 2000);
    world.wait(&behind).unwrap();
    assert_eq!(world.server.broker.ready("q"), 2001);
}

#[test]
fn a_batch_that_finds_no_room_in_time_says_how_far_it_got() {
    let mut world = World::new();
    let (_connection, channel) = world.open_by(&Connection::builder().high_water_mark(10_000));
    world.run(channel.queue("q").declare()).unwrap();
    world.server.wire.stall_writes(true);
    let publisher = channel.within(seconds(3)).publisher("", "q");
    let batch = world.start(async move {
        let bodies = (0..100).map(|_| vec![7; 1000]);
        publisher.publish_many(bodies).confirm_later().await.map(|confirms| confirms.len())
    });
    world.advance(seconds(4));
    let error = batch.done().unwrap_err();
    assert!((9..22).contains(&error.sent()), "{} were sent", error.sent());
    assert_eq!(failures(&error), [(error.sent(), ErrorKind::Timeout)]);
    assert!(error.to_string().contains("messages of the batch were sent, then one could not be"), "{error}");
    world.server.wire.stall_writes(false);
    world.settle();
    assert_eq!(world.server.broker.ready("q"), error.sent());
}

#[test]
fn a_batch_that_is_dropped_half_way_sends_whole_messages_only() {
    let mut world = World::new();
    let (_connection, channel) = world.open_by(&Connection::builder().high_water_mark(10_000));
    world.run(channel.queue("q").declare()).unwrap();
    world.server.wire.stall_writes(true);
    let publisher = channel.publisher("", "q");
    let mut batch = Box::pin(publisher.publish_many((0..100).map(|_| vec![7; 1000])).confirm());
    assert!(poll_once(&mut batch).is_pending());
    drop(batch);
    world.server.wire.stall_writes(false);
    world.run(channel.publish("", "q", "after").confirm()).unwrap();
    let ready = world.server.broker.ready("q");
    assert!((9..13).contains(&ready), "{ready} messages");
    assert_eq!(world.server.violation, None);
}

#[test]
fn a_batch_in_a_transaction_is_sent_and_can_not_be_confirmed() {
    let mut world = World::new();
    let (_connection, channel) = world.open();
    world.run(channel.queue("q").declare()).unwrap();
    world.run(channel.tx_select()).unwrap();
    let publisher = channel.publisher("", "q");
    assert_eq!(world.run(publisher.publish_many(["a", "b"]).send()).unwrap(), 2);
    let error = world.run(publisher.publish_many(["a", "b"]).confirm()).unwrap_err();
    assert_eq!((error.sent(), failures(&error)), (0, vec![(0, ErrorKind::Usage)]));
}

#[test]
fn a_batch_with_a_message_that_is_refused_stops_before_it() {
    let mut world = World::new();
    let (_connection, channel) = world.open();
    let key = "k".repeat(256);
    let publisher = channel.publisher("", &key);
    let error = world.run(publisher.publish_many(["a", "b"]).confirm()).unwrap_err();
    assert_eq!((error.sent(), failures(&error)), (0, vec![(0, ErrorKind::Usage)]));
}

#[test]
fn deliveries_of_a_lost_link_are_dropped_and_a_batch_of_it_is_stale() {
    let mut world = World::new();
    let (_connection, channel) = queue_of(&mut world, 4);
    let consumer = world.run(channel.consume("q").start()).unwrap();
    world.settle();
    let mut batches = consumer.batches().max_count(2);
    let first = world.run(batches.next()).unwrap().unwrap();
    assert_eq!((bodies(&first), first.resumed(), first.link()), (vec!["0".into(), "1".into()], false, 0));
    world.outage();
    assert_eq!(first.ack_all().unwrap(), Settled::Stale);
    let again = world.run(batches.next()).unwrap().unwrap();
    assert_eq!((bodies(&again), again.resumed(), again.link()), (vec!["0".into(), "1".into()], true, 1));
    assert_eq!(again.ack_all().unwrap(), Settled::Sent);
    let rest = world.run(batches.next()).unwrap().unwrap();
    assert_eq!((bodies(&rest), rest.resumed()), (vec!["2".into(), "3".into()], false));
    rest.ack_all().unwrap();
    world.settle();
    assert_eq!((world.server.broker.ready("q"), world.server.broker.unacked()), (0, 0));
}

#[test]
fn a_batch_that_waits_ends_with_its_time_and_with_its_consumer() {
    let mut world = World::new();
    let (_connection, channel) = queue_of(&mut world, 1);
    let mut batches = world.run(channel.consume("q").start()).unwrap().batches().wait(seconds(5));
    let begin = world.time.now();
    let first = world.run(batches.next()).unwrap().unwrap();
    assert_eq!((first.len(), world.time.now() - begin), (1, seconds(5)));
    first.ack_all().unwrap();
    world.run(channel.publish("", "q", "last").confirm()).unwrap();
    let begin = world.time.now();
    let tag = batches.tag().to_owned();
    let second = world.start(async move { (batches.next().await, batches.next().await) });
    world.server.cancel(1, &tag);
    let (last, end) = world.wait(&second);
    assert_eq!(world.time.now(), begin, "the consumer's end ends the wait");
    assert_eq!(bodies(&last.unwrap().unwrap()), ["last"]);
    assert_eq!(end.unwrap().unwrap_err().kind(), ErrorKind::ConsumerCancelled);
}

#[test]
fn a_batch_that_waits_is_dropped_with_its_link() {
    let mut world = World::new();
    let (_connection, channel) = queue_of(&mut world, 1);
    let mut batches = world.run(channel.consume("q").start()).unwrap().batches().wait(seconds(5));
    let waiting = world.start(async move { batches.next().await });
    world.advance(seconds(1));
    assert!(!waiting.is_done());
    world.outage();
    let batch = world.wait(&waiting).unwrap().unwrap();
    assert_eq!((bodies(&batch), batch.link()), (vec!["0".into()], 1));
    assert_eq!(batch.ack_all().unwrap(), Settled::Sent);
}

#[test]
fn a_dropped_future_of_the_next_batch_loses_no_delivery() {
    let mut world = World::new();
    let (_connection, channel) = queue_of(&mut world, 3);
    let mut batches = world.run(channel.consume("q").start()).unwrap().batches().wait(seconds(5));
    world.settle();
    assert!(poll_once(&mut batches.next()).is_pending());
    world.advance(seconds(9));
    let batch = world.run(batches.next()).unwrap().unwrap();
    assert_eq!(bodies(&batch), ["0", "1", "2"]);
    batch.ack_all().unwrap();
}

#[test]
fn a_batch_is_bounded_by_bytes_and_has_one_message_at_least() {
    let mut world = World::new();
    let (_connection, channel) = world.open();
    world.run(channel.queue("q").declare()).unwrap();
    let publisher = channel.publisher("", "q");
    world.run(publisher.publish_many((0..6).map(|_| vec![7; 1000])).confirm()).unwrap();
    let consumer = world.run(channel.consume("q").start()).unwrap();
    world.settle();
    let mut batches = consumer.batches().max_size(2600).wait(seconds(5));
    let begin = world.time.now();
    assert_eq!(world.run(batches.next()).unwrap().unwrap().len(), 2);
    assert_eq!(world.time.now(), begin, "a full batch does not wait");
    let mut batches = batches.max_size(1);
    assert_eq!(world.run(batches.next()).unwrap().unwrap().len(), 1);
}

#[test]
fn dropped_batches_requeue_what_was_not_yielded_and_keep_what_was() {
    let mut world = World::new();
    let (_connection, channel) = queue_of(&mut world, 5);
    let consumer = world.run(channel.consume("q").start()).unwrap();
    world.settle();
    let mut batches = consumer.batches().max_count(2);
    drop(world.run(batches.next()).unwrap().unwrap());
    drop(batches);
    world.settle();
    assert_eq!((world.server.broker.ready("q"), world.server.broker.unacked()), (3, 2));
    world.run(channel.close()).unwrap();
    assert_eq!((world.server.broker.ready("q"), world.server.broker.unacked()), (5, 0));
}

#[test]
fn a_shutdown_waits_for_a_batch_and_requeues_the_rest() {
    let mut world = World::new();
    let (connection, channel) = queue_of(&mut world, 5);
    let consumer = world.run(channel.consume("q").start()).unwrap();
    world.settle();
    let mut batches = consumer.batches().max_count(2);
    let batch = world.run(batches.next()).unwrap().unwrap();
    let closing = connection.clone();
    let done = world.start(async move { closing.shutdown(seconds(30)).await });
    world.advance(seconds(5));
    assert!(!done.is_done(), "a batch is in progress");
    assert!(world.run(batches.next()).is_none(), "nothing is delivered any more");
    assert_eq!(batch.ack_all().unwrap(), Settled::Sent);
    world.wait(&done).unwrap();
    assert_eq!((world.server.broker.ready("q"), world.server.broker.unacked()), (3, 0));
}

#[test]
fn a_batch_settles_what_is_left_of_it_and_nothing_else() {
    let mut world = World::new();
    let (connection, channel) = queue_of(&mut world, 5);
    let consumer = world.run(channel.consume("q").start()).unwrap();
    world.settle();
    let mut batches = consumer.batches().max_count(4);
    let batch = world.run(batches.next()).unwrap().unwrap();
    channel.acker(2, batch.link()).ack().unwrap();
    let acked = connection.stats().acked;
    let error = batch.ack_all().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    assert_eq!(connection.stats().acked - acked, 3);
    world.settle();
    assert_eq!((world.server.broker.ready("q"), world.server.broker.unacked()), (0, 1));
    assert_eq!(world.server.violation, None);
}
