//! The broker itself, as its operator stops and starts it: RabbitMQ's application ends, and all connections and all
//! that was not durable with it; the Erlang node goes on.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::Result;

/// Between two looks whether it is there.
const LOOK: Duration = Duration::from_millis(2);
/// After this long, it does not come.
const LIMIT: Duration = Duration::from_secs(60);

pub struct Broker {
    pub address: String,
    ctl: String,
}

impl Broker {
    pub fn new(address: &str, ctl: &str) -> Self {
        Self { address: address.to_owned(), ctl: ctl.to_owned() }
    }

    /// Stops and starts it, and does `back` in the moment in which it answers again.
    pub async fn restart(&self, back: impl FnOnce()) -> Result<()> {
        self.ctl("stop_app").await?;
        let answers = async {
            while self.greets().await.is_err() {
                tokio::time::sleep(LOOK).await;
            }
            back();
        };
        let answers = tokio::time::timeout(LIMIT, answers);
        let (started, answered) = tokio::join!(self.ctl("start_app"), answers);
        started?;
        answered.map_err(|_| "the broker does not come back".into())
    }

    async fn ctl(&self, word: &str) -> Result<()> {
        let output = Command::new(&self.ctl).arg(word).output().await?;
        let why = || format!("{word}: {}", String::from_utf8_lossy(&output.stderr));
        if output.status.success() { Ok(()) } else { Err(why().into()) }
    }

    /// Whether it begins a session with whoever asks.
    async fn greets(&self) -> io::Result<()> {
        let mut stream = TcpStream::connect(&self.address).await?;
        stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
        stream.read_u8().await.map(drop)
    }
}
