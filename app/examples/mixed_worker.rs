//! A worker for the queue `mixed`, whose handler fails each time: the tests of the Python package run it beside a
//! worker in Python. It prints each attempt, and ends with its standard input.
//!
//! `cargo run -p hopmq-app --example mixed_worker -- amqp://localhost`

use std::io::Read;
use std::time::Duration;

use hopmq_app::{App, Attempt, Backoff, Bytes, Queue};

async fn fails(Bytes(body): Bytes, Attempt(attempt): Attempt) -> Result<(), String> {
    println!("attempt {} {attempt}", String::from_utf8_lossy(&body));
    Err("not in Rust".to_owned())
}

fn main() -> Result<(), hopmq_app::Error> {
    let uri = std::env::args().nth(1).unwrap_or_else(|| "amqp://localhost".to_owned());
    let retry = Backoff::list([Duration::from_secs(1)]).attempts(3);
    let app = App::new(()).route(Queue::new("mixed").prefetch(1).retry(retry), fails);
    let control = app.control();
    std::thread::spawn(move || {
        // The end of the input, or its failure, is the sign to stop.
        let _end = std::io::stdin().read_to_end(&mut Vec::new());
        control.stop();
    });
    futures_lite::future::block_on(async {
        let connection = hopmq::Connection::open(&uri).await?;
        println!("running");
        app.run(&connection).await
    })
}
