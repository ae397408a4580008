use std::sync::atomic::Ordering;

use futures_lite::StreamExt;
use hopmq_app::rpc::{Fault, RpcError};

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
        assert!(futures_lite::future::poll_once(&mut begin).await.is_none());
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
    if std::env::var_os("AMQP_URL").is_some() {
        return;
    }
    with_server(Prices::default(), async |setting| {
        let mut answers = setting.pricing.watch(u32::MAX).await.unwrap();
        answers.next().await.unwrap().unwrap();
        let serving =
            setting.broker.inspect().consumers().iter().find(|one| one.queue == "pricing").unwrap().connection;
        setting.broker.faults().connection(serving).cut();
        let mut last = None;
        while let Some(answer) = answers.next().await {
            last = Some(answer);
        }
        assert!(matches!(last, Some(Err(RpcError::OutcomeUnknown(_)))), "{last:?}");
    });
}
