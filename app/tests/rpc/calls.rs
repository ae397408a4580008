use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_lite::{StreamExt, future};
use futures_util::stream::{self, FuturesUnordered};
use hopmq_app::rpc;
use hopmq_app::rpc::{Fault, RpcError};

use crate::common::*;

#[test]
fn a_call_returns_the_result_of_the_method() {
    with_server(Prices::default(), async |setting| {
        let pricing = setting.pricing;
        assert_eq!(pricing.sum(1, 2).await.unwrap(), 3);
        assert_eq!(pricing.quote(order("margherita")).await.unwrap(), 18);
        pricing.ping().await.unwrap();
    });
}

#[test]
fn an_error_of_the_method_keeps_its_type() {
    with_server(Prices::default(), async |setting| {
        let failed = setting.pricing.quote(order("quattro")).await.unwrap_err();
        assert_eq!(failed.to_string(), "there is no pizza quattro");
        assert_eq!(failed.failed(), Some(PricingError::NoSuchPizza("quattro".into())));
    });
}

#[test]
fn a_panic_in_a_method_is_a_fault_and_the_server_goes_on() {
    with_server(Prices::default(), async |setting| {
        let Err(RpcError::Fault(fault)) = setting.pricing.quote(order("bomb")).await else { panic!("no fault") };
        assert_eq!((fault.class.as_str(), fault.text.as_str()), (Fault::PANIC, "the method panicked: no bombs"));
        assert_eq!(setting.pricing.sum(1, 2).await.unwrap(), 3);
    });
}

#[test]
fn ten_thousand_calls_in_flight_share_one_consumer() {
    with_server(Prices::default(), async |setting| {
        let calls: FuturesUnordered<_> = (0..10_000).map(|number| setting.pricing.sum(number, number)).collect();
        let sums: Vec<u32> = calls.map(Result::unwrap).collect().await;
        let sum: u64 = sums.into_iter().map(u64::from).sum();
        assert_eq!(sum, 9_999 * 10_000);
        assert_eq!(setting.client.in_flight(), 0);
        assert_eq!(setting.client.late_replies(), 0);
    });
}

#[test]
fn a_dropped_call_is_forgotten_and_its_late_reply_is_counted() {
    with_server(Prices::default(), async |setting| {
        let Setting { pricing, prices, client, .. } = setting;
        let mut call = Box::pin(pricing.wait());
        while prices.calls.load(Ordering::Relaxed) == 0 {
            assert!(future::poll_once(&mut call).await.is_none());
            pricing.ping().await.unwrap();
        }
        assert_eq!(client.in_flight(), 1);
        drop(call);
        assert_eq!(client.in_flight(), 0);
        prices.gate.open();
        while client.late_replies() == 0 {
            pricing.ping().await.unwrap();
        }
        assert_eq!(client.late_replies(), 1);
    });
}

#[test]
fn a_call_that_is_not_polled_holds_up_no_other() {
    with_server(Prices::default(), async |setting| {
        let mut stalled = Box::pin(setting.pricing.sum(1, 1));
        assert!(future::poll_once(&mut stalled).await.is_none());
        let other = setting.pricing.clone();
        let answer = std::thread::spawn(move || future::block_on(other.sum(2, 2)));
        while !answer.is_finished() {
            future::yield_now().await;
        }
        assert_eq!(answer.join().unwrap().unwrap(), 4);
        assert_eq!(stalled.await.unwrap(), 2);
    });
}

#[test]
fn a_missing_server_is_an_error_at_once_for_each_of_many_calls() {
    let broker = hopmq_broker::Broker::in_memory();
    future::block_on(async {
        let connection = connect(&broker.uri()).await;
        let pricing = PricingClient::new(hopmq_app::rpc::Client::open(&connection).await.unwrap());
        let calls: FuturesUnordered<_> =
            (0..10_000).map(|_| pricing.clone().within(Duration::from_secs(60)).ping()).collect();
        let errors: Vec<_> = calls.collect().await;
        for error in errors {
            let Err(RpcError::NoServer { service }) = error else { panic!("{error:?}") };
            assert_eq!(service, "pricing");
        }
        let text = pricing.ping().await.unwrap_err().to_string();
        assert_eq!(text, "no server consumes from 'pricing': start one, or check its name");
        connection.close().await.unwrap();
    });
    broker.assert_idle();
}

#[test]
fn a_call_ends_at_its_deadline_and_the_server_drops_it_then() {
    with_server(Prices::default(), async |setting| {
        let Setting { pricing, prices, .. } = setting;
        let short = pricing.clone().within(Duration::from_millis(20));
        let error = short.wait().await.unwrap_err();
        assert!(matches!(error, RpcError::Deadline { waited } if waited == Duration::from_millis(20)), "{error:?}");
        assert!(error.is_outcome_unknown());
        prices.gate.open();
        // A call whose deadline has passed is not even sent, nor is one whose deadline passed on the way carried out.
        let passed = hopmq_app::Deadline::at(1, &hopmq_app::WallClock::default());
        let error = pricing.clone().until(passed).ping().await.unwrap_err();
        assert_eq!(error.to_string(), "the deadline had passed before the call");
    });
}

#[test]
fn a_server_drops_a_call_whose_deadline_has_passed() {
    with_server(Prices::default(), async |setting| {
        let channel = setting.connection.channel().await.unwrap();
        let call = |deadline: i64| {
            channel.publish("", "pricing", "[1,2]").kind("sum").header("x-hopmq-deadline", deadline).confirm()
        };
        call(1).await.unwrap();
        call(i64::MAX).await.unwrap();
        while setting.prices.calls.load(Ordering::Relaxed) == 0 {
            setting.pricing.ping().await.unwrap();
        }
        setting.pricing.ping().await.unwrap();
        assert_eq!(setting.prices.calls.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_call_that_no_server_takes_in_time_leaves_the_queue() {
    let broker = hopmq_broker::Broker::in_memory();
    future::block_on(async {
        let connection = connect(&broker.uri()).await;
        let channel = connection.channel().await.unwrap();
        channel.queue("pricing").durable().auto_delete().declare().await.unwrap();
        let client = hopmq_app::rpc::Client::open(&connection).await.unwrap();
        let pricing = PricingClient::new(client).within(Duration::from_millis(20));
        let error = pricing.ping().await.unwrap_err();
        assert!(matches!(error, RpcError::Deadline { .. }), "{error:?}");
        broker.until(|inspect| inspect.queue("pricing").is_some_and(|queue| queue.ready == 0)).await;
        channel.queue_delete("pricing").await.unwrap();
        connection.close().await.unwrap();
    });
    broker.assert_idle();
}

#[test]
fn a_nested_call_inherits_the_deadline() {
    with_server(Prices::default(), async |setting| {
        let pricing = setting.pricing.within(Duration::from_secs(10));
        let own = pricing.left().await.unwrap().unwrap();
        let nested = pricing.left_of_nested().await.unwrap().unwrap();
        assert!((1..=10_000).contains(&own), "{own}");
        assert!((1..=10_000).contains(&nested), "{nested}");
    });
}

#[test]
fn what_a_server_cannot_read_is_a_fault_that_says_so() {
    with_server(Prices::default(), async |setting| {
        let client = setting.client;
        let call = async |method, body: &str| {
            let body = serde_json::from_str::<serde_json::Value>(body).unwrap();
            let written = hopmq_app::rpc::Written::new::<hopmq_app::Json, _>(&body);
            let called = client.call::<hopmq_app::Json, u32, String>("pricing", method, written).await;
            called.unwrap_err().to_string()
        };
        let said = call("sum", r#"["a"]"#).await;
        assert!(said.contains("decode: can't read the arguments of 'sum': the body is not the JSON of "), "{said}");
        assert!(said.contains("invalid type: string \"a\""), "{said}");
        let said = call("prod", "[1,2]").await;
        assert!(
            said.contains("unknown-method: the service 'pricing' has no method 'prod'; it has quote, sum"),
            "{said}"
        );
    });
}

#[test]
fn a_reply_that_the_client_cannot_read_is_its_own_error() {
    with_server(Prices::default(), async |setting| {
        let written = hopmq_app::rpc::Written::new::<hopmq_app::Json, _>(&(1, 2));
        let called = setting.client.call::<hopmq_app::Json, String, String>("pricing", "sum", written).await;
        let said = called.unwrap_err().to_string();
        assert!(said.starts_with("client and server do not agree: can't read the result of 'sum'"), "{said}");
    });
}

#[test]
fn two_servers_share_the_calls() {
    with_server(Prices::default(), async |setting| {
        let other = Prices::default();
        let (queue, handler) = serve_pricing(other.clone());
        let app = hopmq_app::App::new(()).route(queue, handler);
        let (control, connection) = (app.control(), connect(&setting.uri).await);
        let calls = async {
            while other.calls.load(Ordering::Relaxed) == 0 || setting.prices.calls.load(Ordering::Relaxed) == 0 {
                assert_eq!(setting.pricing.sum(1, 2).await.unwrap(), 3);
            }
            control.stop();
        };
        let (ran, ()) = future::zip(app.run(&connection), calls).await;
        ran.unwrap();
        // The other one has stopped, and the first takes all.
        let sums: Vec<_> = stream::iter(0..20).then(|number| setting.pricing.sum(number, 0)).collect().await;
        assert!(sums.iter().all(Result::is_ok), "{sums:?}");
        connection.close().await.unwrap();
    });
}

#[test]
fn calls_in_work_are_answered_when_the_server_stops() {
    with_server(Prices::default(), async |setting| {
        let Setting { pricing, prices, control, .. } = setting;
        let calls: FuturesUnordered<_> = (0..10).map(|_| pricing.wait()).collect();
        let stop = async {
            while prices.calls.load(Ordering::Relaxed) < 10 {
                pricing.ping().await.unwrap();
            }
            control.stop();
            prices.gate.open();
        };
        let (answers, ()) = future::zip(calls.collect::<Vec<_>>(), stop).await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    });
}

#[test]
fn calls_in_flight_end_when_the_link_is_lost_and_the_next_call_works() {
    with_embedded(Prices::default(), async |setting, broker| {
        let Setting { pricing, prices, .. } = setting;
        let mut calls: FuturesUnordered<_> = (0..10).map(|_| pricing.wait()).collect();
        while prices.calls.load(Ordering::Relaxed) < 10 {
            assert!(future::poll_once(calls.next()).await.is_none());
            pricing.ping().await.unwrap();
        }
        let mine =
            broker.inspect().consumers().iter().find(|consumer| consumer.queue == "pricing").map(|c| c.connection);
        for one in broker.inspect().connections() {
            if Some(one.id) != mine {
                broker.faults().connection(one.id).cut();
            }
        }
        let ended: Vec<_> = calls.collect().await;
        for end in &ended {
            assert!(matches!(end, Err(RpcError::OutcomeUnknown(_))), "{end:?}");
        }
        assert_eq!(ended.len(), 10);
        assert_eq!(pricing.sum(1, 2).await.unwrap(), 3);
        prices.gate.open();
    });
}

#[test]
fn a_closed_channel_ends_the_calls_in_flight_and_the_next_call_works() {
    with_embedded(Prices::default(), async |setting, broker| {
        let Setting { pricing, prices, .. } = setting;
        let mut call = Box::pin(pricing.wait());
        while prices.calls.load(Ordering::Relaxed) < 1 {
            assert!(future::poll_once(&mut call).await.is_none());
            pricing.ping().await.unwrap();
        }
        let serving = broker.inspect().consumers().iter().find(|one| one.queue == "pricing").map(|one| one.connection);
        for channel in broker.inspect().channels().iter().filter(|channel| Some(channel.connection) != serving) {
            broker.faults().connection(channel.connection).close_channel(channel.number, 406, "a test");
        }
        let ended = call.await;
        assert!(matches!(ended, Err(RpcError::OutcomeUnknown(_))), "{ended:?}");
        assert_eq!(pricing.sum(1, 2).await.unwrap(), 3);
        prices.gate.open();
    });
}

#[rpc(queue = "local-pricing", local)]
trait LocalPricing {
    async fn quote(&self, pizza: String) -> u32;
}

struct LocalPrices(std::rc::Rc<u32>);

impl LocalPricing for LocalPrices {
    async fn quote(&self, pizza: String) -> u32 {
        let price = std::rc::Rc::clone(&self.0);
        future::yield_now().await;
        *price + u32::try_from(pizza.len()).unwrap()
    }
}

#[test]
fn a_local_server_need_not_be_send() {
    let broker = hopmq_broker::Broker::in_memory();
    future::block_on(async {
        let connection = connect(&broker.uri()).await;
        let (queue, handler) = serve_local_pricing(LocalPrices(std::rc::Rc::new(5)));
        let app = hopmq_app::App::local(()).route(queue, handler);
        let control = app.control();
        let test = async {
            broker.until(|inspect| inspect.queue("local-pricing").is_some_and(|queue| queue.consumers == 1)).await;
            let pricing = LocalPricingClient::new(hopmq_app::rpc::Client::open(&connection).await.unwrap());
            assert_eq!(pricing.quote("funghi".to_owned()).await.unwrap(), 11);
            control.stop();
        };
        let (ran, ()) = future::zip(app.run(&connection), test).await;
        ran.unwrap();
        connection.close().await.unwrap();
    });
    broker.assert_idle();
}
