//! The shutdown of the gateway.

use crate::common::{Page, Served, soon};
use hopmq::{Connection, Recovery};

#[tokio::test(flavor = "multi_thread")]
async fn all_clients_are_closed_with_the_reason() {
    let mut served = Served::start("drain = { spread = \"100ms\", deadline = \"20s\" }").await;
    let mut pages = Vec::new();
    for _ in 0..5 {
        pages.push(Page::log_in(&served.url(), "guest", "guest").await);
    }
    let mut not_logged_in = Page::open(&served.url(), &[]).await.unwrap();
    served.stop();
    for page in &mut pages {
        let (code, text) = page.closed_by_amqp().await;
        assert!(code == 320 && text.contains("connect again"), "{code} {text}");
        assert_eq!(page.closed().await.0, 1001);
    }
    assert_eq!(not_logged_in.closed().await.0, 1001);
    served.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_websockets_are_refused_while_draining() {
    let mut served = Served::start("drain = { spread = \"60s\", deadline = \"60s\" }").await;
    let page = Page::log_in(&served.url(), "guest", "guest").await;
    served.stop();
    soon(async {
        while served.get("/readyz").await != (503, "draining\n".to_owned()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let refused = Page::open(&served.url(), &[]).await.err().unwrap();
    assert!(refused.0 == 503 && refused.1.contains("shutting down"), "{refused:?}");
    assert_eq!(served.get("/healthz").await.0, 200);
    drop(page);
    served.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_dropped_at_the_deadline() {
    let mut served =
        Served::start("drain = { spread = \"60s\", deadline = \"100ms\" }\nwebsocket = { close_timeout = \"100ms\" }")
            .await;
    // Nothing reads this page, so it does not answer the close.
    let page = Page::log_in(&served.url(), "guest", "guest").await;
    served.stop();
    served.ended().await;
    drop(page);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hopmq_client_reports_the_shutdown() {
    let mut served = Served::start("drain = { spread = \"10ms\" }").await;
    let builder = Connection::builder().uri(&served.amqp("guest", "guest")).recovery(Recovery::off());
    let connection = builder.open_tokio().await.unwrap();
    let channel = connection.channel().await.unwrap();
    served.stop();
    let error = soon(async {
        loop {
            if let Err(error) = channel.queue("").exclusive().declare().await {
                return error;
            }
        }
    })
    .await;
    assert_eq!(error.code(), Some(320), "{error}");
    served.ended().await;
}
