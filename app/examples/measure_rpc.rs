//! Measures calls: `measure_rpc [CALLS [IN_FLIGHT]]` on a broker within this program, or on that of `AMQP_URL`.

use std::time::Instant;

use futures_lite::{StreamExt, future};
use futures_util::stream;
use hopmq::Connection;
use hopmq_app::rpc::Client;
use hopmq_app::{App, rpc};
use hopmq_broker::Broker;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[rpc]
trait Sums {
    async fn double(&self, number: u32) -> u64;
    fn count(&self, to: u32) -> impl futures_lite::Stream<Item = Result<u32, String>>;
}

struct Server;

impl Sums for Server {
    async fn double(&self, number: u32) -> u64 {
        u64::from(number) * 2
    }

    fn count(&self, to: u32) -> impl futures_lite::Stream<Item = Result<u32, String>> {
        stream::iter((0..to).map(Ok))
    }
}

fn main() -> Outcome {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<usize>());
    let calls = arguments.next().unwrap_or(Ok(300_000))?;
    let in_flight = arguments.next().unwrap_or(Ok(100))?;
    let broker = Broker::in_memory();
    let uri = std::env::var("AMQP_URL").unwrap_or_else(|_| broker.uri());

    let (queue, server) = serve_sums(Server);
    let app = App::new(()).route(queue.concurrency(in_flight), server);
    let control = app.control();
    let serving = Connection::builder().uri(&uri);
    let (serving, uri) = (future::block_on(serving.open())?, uri);
    let server = std::thread::spawn(move || future::block_on(app.run(&serving)));

    let measured = future::block_on(async {
        let connection = Connection::open(&uri).await?;
        let sums = SumsClient::new(Client::open(&connection).await?);
        while sums.double(1).await.is_err() {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        calls_in_flight(&sums, calls, in_flight).await?;
        calls_in_flight(&sums, calls / 20, 1).await?;
        streamed(&sums, calls).await?;
        Ok(connection.close().await?)
    });
    control.stop();
    server.join().map_err(|_| "the server panicked")??;
    measured
}

async fn calls_in_flight(sums: &SumsClient, calls: usize, in_flight: usize) -> Outcome {
    let begun = Instant::now();
    let mut answers = futures_util::StreamExt::buffer_unordered(
        stream::iter(0..calls).map(|number| sums.double(number as u32)),
        in_flight,
    );
    let mut sum = 0;
    while let Some(double) = answers.next().await {
        sum += double?;
    }
    assert_eq!(sum, (calls as u64 - 1) * calls as u64, "each call has its own answer");
    print("calls", calls, in_flight, begun);
    Ok(())
}

async fn streamed(sums: &SumsClient, count: usize) -> Outcome {
    let begun = Instant::now();
    let mut answers = sums.count(count as u32).await?;
    let mut taken = 0;
    while let Some(answer) = answers.next().await {
        assert_eq!(answer?, taken, "answers come in order");
        taken += 1;
    }
    assert_eq!(taken as usize, count, "all answers come");
    print("answers of a stream", count, 1, begun);
    Ok(())
}

fn print(what: &str, count: usize, in_flight: usize, since: Instant) {
    let seconds = since.elapsed().as_secs_f64();
    println!(
        "{what}, {in_flight} in flight: {:.0}/s ({:.2} µs each)",
        count as f64 / seconds,
        seconds * 1e6 / count as f64
    );
}
