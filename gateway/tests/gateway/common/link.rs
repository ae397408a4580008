//! A wire to the RabbitMQ of the tests that can be cut.

use hopmq_tests::broker;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Link {
    port: u16,
    cut: watch::Sender<Option<Vec<u8>>>,
}

impl Link {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("there is a free port");
        let port = listener.local_addr().expect("it is bound").port();
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

    /// Sends these bytes in RabbitMQ's name, and nothing more ever.
    pub(crate) fn cut(&self, rest: &[u8]) {
        self.cut.send_replace(Some(rest.to_vec()));
    }

    /// Lets those pass who connect from now on.
    pub(crate) fn mend(&self) {
        self.cut.send_replace(None);
    }
}

async fn relay(mut gateway: TcpStream, mut cut: watch::Receiver<Option<Vec<u8>>>) {
    let mut rabbit = TcpStream::connect(broker().address()).await.expect("RabbitMQ is there");
    let (mut to, mut from) = (vec![0; 65_536], vec![0; 65_536]);
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
            rest = cut_off(&mut cut) => {
                let _gone = gateway.write_all(&rest).await;
                return;
            }
        }
    }
}

/// What is to be said at last, when it is.
async fn cut_off(cut: &mut watch::Receiver<Option<Vec<u8>>>) -> Vec<u8> {
    cut.wait_for(Option::is_some).await.ok().and_then(|rest| rest.clone()).unwrap_or_default()
}
