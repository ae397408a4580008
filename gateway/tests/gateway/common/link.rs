//! A link to the RabbitMQ of the tests that a test can cut.

use hopmq_tests::broker;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A TCP relay to RabbitMQ; see the [module](self).
#[derive(Debug)]
pub(crate) struct Link {
    port: u16,
    cut: watch::Sender<Option<Vec<u8>>>,
}

impl Link {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        let port = listener.local_addr().expect("the listener is bound").port();
        let (cut, watched) = watch::channel(None);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(relay(socket, watched.clone()));
            }
        });
        Self { port, cut }
    }

    pub(crate) fn host(&self) -> String {
        format!("amqp://127.0.0.1:{}", self.port)
    }

    /// Sends these bytes as if from RabbitMQ, and then closes the connections.
    pub(crate) fn cut(&self, last_bytes: &[u8]) {
        self.cut.send_replace(Some(last_bytes.to_vec()));
    }

    /// Relays new connections again.
    pub(crate) fn restore(&self) {
        self.cut.send_replace(None);
    }
}

async fn relay(mut gateway: TcpStream, mut cut: watch::Receiver<Option<Vec<u8>>>) {
    let mut rabbit = TcpStream::connect(broker().address()).await.expect("RabbitMQ accepts connections");
    let mut to = vec![0; 65_536];
    let mut from = vec![0; 65_536];
    loop {
        tokio::select! {
            biased;
            read = rabbit.read(&mut from) => match read {
                Ok(count) if count > 0 => if gateway.write_all(&from[..count]).await.is_err() { return },
                _ => return,
            },
            read = gateway.read(&mut to) => match read {
                Ok(count) if count > 0 => if rabbit.write_all(&to[..count]).await.is_err() { return },
                _ => return,
            },
            last_bytes = cut_off(&mut cut) => {
                let _gone = gateway.write_all(&last_bytes).await;
                return;
            }
        }
    }
}

/// Awaits the cut, and returns the last bytes.
async fn cut_off(cut: &mut watch::Receiver<Option<Vec<u8>>>) -> Vec<u8> {
    cut.wait_for(Option::is_some).await.ok().and_then(|last_bytes| last_bytes.clone()).unwrap_or_default()
}
