//! Stops and starts the broker as an operator does. RabbitMQ's application ends, with all connections and everything
//! that is not durable; the Erlang node keeps running.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::Result;

/// The pause between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(2);
/// The time that the broker may take to answer again.
const TIMEOUT: Duration = Duration::from_secs(60);

pub struct Broker {
    pub address: String,
    ctl: String,
}

impl Broker {
    pub fn new(address: &str, ctl: &str) -> Self {
        Self { address: address.to_owned(), ctl: ctl.to_owned() }
    }

    /// Stops and starts the broker, and calls `on_answer` in the moment in which it answers again.
    pub async fn restart(&self, on_answer: impl FnOnce()) -> Result<()> {
        self.ctl("stop_app").await?;
        let answers = async {
            while self.greets().await.is_err() {
                tokio::time::sleep(PAUSE).await;
            }
            on_answer();
        };
        let answers = tokio::time::timeout(TIMEOUT, answers);
        let (started, answered) = tokio::join!(self.ctl("start_app"), answers);
        started?;
        answered.map_err(|_| format!("the broker did not answer within {} s after start_app", TIMEOUT.as_secs()).into())
    }

    async fn ctl(&self, command: &str) -> Result<()> {
        let output = Command::new(&self.ctl).arg(command).output().await?;
        let reason = || format!("rabbitmqctl {command}: {}", String::from_utf8_lossy(&output.stderr));
        if output.status.success() { Ok(()) } else { Err(reason().into()) }
    }

    /// Checks that the broker begins a session.
    async fn greets(&self) -> io::Result<()> {
        let mut stream = TcpStream::connect(&self.address).await?;
        stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
        stream.read_u8().await.map(drop)
    }
}
