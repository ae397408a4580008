use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_lite::{StreamExt, future};
use hopmq_app::WallClock;
use hopmq_app::rpc::{Client, Fault, RpcError};

use crate::common::*;

#[test]
fn a_stream_brings_all_answers_in_order_and_ends() {
    with_server(Prices::default(), async |setting| {
        let answers: Vec<_> = setting.pricing.watch(1_000).await.unwrap().collect().await;
        assert_eq!(answers.len(), 1_000);
        for (number, answer) in answers.into_iter().enumerate() {
            match answer {
                Ok(answer) => assert_eq!(answer as usize, number),
                Err(error) => assert_eq!((number, error.failed()), (3, Some(PricingError::NoSuchPizza("3".into())))),
            }
        }
        let none: Vec<_> = setting.pricing.watch(0).await.unwrap().collect().await;
        assert!(none.is_empty());
        assert_eq!(setting.client.in_flight(), 0);
    });
}

#[test]
fn a_server_waits_for_the_caller_to_take_its_answers() {
    with_server(Prices::default(), async |setting| {
        let mut answers = setting.pricing.watch(100_000).await.unwrap();
        answers.next().await.unwrap().unwrap();
        for _ in 0..100 {
            setting.pricing.ping().await.unwrap();
        }
        let produced = setting.prices.produced.load(Ordering::Relaxed);
        assert!(produced <= 64, "{produced} answers were made, and one was taken");
        drop(answers);
        setting.prices.ended.opened().await;
    });
}

#[test]
fn a_dropped_stream_ends_the_method() {
    with_server(Prices::default(), async |setting| {
        let mut answers = setting.pricing.watch(u32::MAX).await.unwrap();
        for _ in 0..200 {
            answers.next().await.unwrap().ok();
        }
        drop(answers);
        setting.prices.ended.opened().await;
    });
}

#[test]
fn a_stream_that_is_dropped_before_it_begins_ends_the_method() {
    with_server(Prices::default(), async |setting| {
        let mut begin = Box::pin(setting.pricing.watch(u32::MAX));
        assert!(future::poll_once(&mut begin).await.is_none());
        drop(begin);
        setting.prices.ended.opened().await;
    });
}

#[test]
fn a_panic_in_a_stream_is_its_last_answer() {
    with_server(Prices::default(), async |setting| {
        let answers: Vec<_> = setting.pricing.watch_bombs().await.unwrap().collect().await;
        assert_eq!(answers.len(), 3);
        let Err(RpcError::Fault(fault)) = &answers[2] else { panic!("{answers:?}") };
        assert_eq!((fault.class.as_str(), fault.text.as_str()), (Fault::PANIC, "the method panicked: no bombs"));
    });
}

#[test]
fn a_server_that_goes_away_ends_the_stream() {
    with_embedded(Prices::default(), async |setting, broker| {
        let time = VirtualTime::default();
        let client = Client::open_with(&setting.connection, time.clone(), WallClock::default()).await.unwrap();
        let mut answers = PricingClient::new(client).watch(u32::MAX).await.unwrap();
        answers.next().await.unwrap().unwrap();
        let serving = broker.inspect().consumers().iter().find(|one| one.queue == "pricing").unwrap().connection;
        broker.faults().connection(serving).cut();
        let mut last = None;
        loop {
            match future::poll_once(answers.next()).await {
                Some(Some(answer)) => last = Some(answer),
                Some(None) => break,
                None => {
                    time.advance(Duration::from_secs(1));
                    future::yield_now().await;
                }
            }
        }
        assert!(matches!(last, Some(Err(RpcError::OutcomeUnknown(_)))), "{last:?}");
    });
}

#[test]
fn a_caller_that_goes_away_ends_the_method() {
    with_server(Prices::default(), async |setting| {
        let connection = connect(&setting.uri).await;
        let client = Client::open(&connection).await.unwrap();
        let mut answers = PricingClient::new(client).watch(u32::MAX).await.unwrap();
        answers.next().await.unwrap().unwrap();
        // The connection goes away before the stream can tell the server.
        connection.close().await.unwrap();
        drop(answers);
        let mut ended = pin!(setting.prices.ended.opened());
        while future::poll_once(&mut ended).await.is_none() {
            setting.time.advance(Duration::from_secs(1));
            setting.pricing.ping().await.unwrap();
        }
    });
}

#[test]
fn a_server_that_stops_says_so_in_its_streams() {
    with_server(Prices::default(), async |setting| {
        let mut answers = setting.pricing.watch(u32::MAX).await.unwrap();
        answers.next().await.unwrap().unwrap();
        setting.control.stop();
        let mut last = None;
        loop {
            match future::poll_once(answers.next()).await {
                Some(Some(answer)) => last = Some(answer),
                Some(None) => break,
                None => {
                    setting.time.advance(Duration::from_secs(1));
                    future::yield_now().await;
                }
            }
        }
        let Some(Err(RpcError::Fault(fault))) = last else { panic!("{last:?}") };
        assert_eq!(fault.class, Fault::STOPPED);
    });
}
