//! A TCP proxy to the broker that injects faults.
//!
//! It owns a listener and two threads for each connection, and does not interpret AMQP. A fault affects the connections
//! that exist; later ones are served, unless the proxy is [down](Proxy::down).

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use crate::Outcome;

/// The proxy. See the [module's documentation](self).
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    upstream: String,
    links: Mutex<Vec<(Arc<Link>, TcpStream, TcpStream)>>,
    down: AtomicBool,
    ended: AtomicBool,
    accepted: AtomicUsize,
    /// The wakers of [`Proxy::until_accepted`].
    waiting: Mutex<Vec<Waker>>,
    /// Bytes that later connections may carry, both directions together; 0 means no limit.
    allowance: AtomicU64,
}

/// One connection.
#[derive(Debug, Default)]
struct Link {
    /// Bytes are read and dropped.
    hole: AtomicBool,
    /// Bytes are not read.
    frozen: AtomicBool,
    /// The end of the client's connection does not end the broker's.
    orphaned: AtomicBool,
    /// Bytes are forwarded a few at a time.
    slow: AtomicBool,
    /// Bytes that may still be carried, both directions together; 0 means no limit.
    left: AtomicU64,
}

/// Connections to the broker whose clients are gone.
#[derive(Debug)]
pub struct Orphans(Vec<TcpStream>);

impl Drop for Orphans {
    fn drop(&mut self) {
        self.0.iter().for_each(|broker| drop(broker.shutdown(Shutdown::Both)));
    }
}

/// Time between two checks for a changed fault.
const TICK: Duration = Duration::from_millis(5);

impl Proxy {
    /// Starts a proxy of `upstream` (`host:port`) on a free port.
    ///
    /// # Errors
    /// If there is no free port.
    pub fn new(upstream: &str) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        listener.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            links: Mutex::default(),
            down: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            accepted: AtomicUsize::new(0),
            waiting: Mutex::default(),
            allowance: AtomicU64::new(0),
        });
        let accepting = Arc::clone(&shared);
        thread::Builder::new().name("proxy".to_owned()).spawn(move || accepting.accept(&listener))?;
        Ok(Self { port, shared })
    }

    /// Returns the address of the proxy.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Returns the number of connections so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Waits until the proxy has had `count` connections.
    ///
    /// # Errors
    /// Never; the result fits [`within`](crate::traffic::within).
    pub async fn until_accepted(&self, count: usize) -> Outcome {
        poll_fn(|context| {
            // The waker must be stored before the count is read: `serve` raises the count before it takes the wakers.
            self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(context.waker().clone());
            if self.accepted() >= count { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
        .await
    }

    /// Closes all connections.
    pub fn cut(&self) {
        for (_, client, broker) in self.take() {
            // The sockets may be closed already.
            let _ = (client.shutdown(Shutdown::Both), broker.shutdown(Shutdown::Both));
        }
    }

    /// Resets all connections towards the client: bytes in flight are lost.
    pub fn reset(&self) {
        for (_, client, broker) in self.take() {
            let _ = socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO));
            let _ = broker.shutdown(Shutdown::Both);
        }
    }

    /// Closes all connections towards the client. Those to the broker stay open as long as the result, as if the broker
    /// had not noticed.
    pub fn orphan(&self) -> Orphans {
        let links = self.take().into_iter().map(|(link, client, broker)| {
            link.orphaned.store(true, Ordering::SeqCst);
            let _ = client.shutdown(Shutdown::Both);
            broker
        });
        Orphans(links.collect())
    }

    /// Drops all bytes of existing connections from now on, in both directions.
    pub fn black_hole(&self) {
        self.each(|link| link.hole.store(true, Ordering::SeqCst));
    }

    /// Stops reading from existing connections, but keeps them open.
    pub fn half_open(&self) {
        self.each(|link| link.frozen.store(true, Ordering::SeqCst));
    }

    /// Limits existing connections to a few kilobytes a second, or ends that limit.
    pub fn throttle(&self, slow: bool) {
        self.each(|link| link.slow.store(slow, Ordering::SeqCst));
    }

    /// Cuts later connections when they have carried `bytes` bytes; 0 means no limit.
    pub fn cut_after(&self, bytes: u64) {
        self.shared.allowance.store(bytes, Ordering::SeqCst);
    }

    /// Sets whether new connections are closed at once.
    pub fn down(&self, down: bool) {
        self.shared.down.store(down, Ordering::SeqCst);
    }

    fn take(&self) -> Vec<(Arc<Link>, TcpStream, TcpStream)> {
        std::mem::take(&mut *self.shared.links.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn each(&self, change: impl Fn(&Link)) {
        let links = self.shared.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.iter().for_each(|(link, ..)| change(link));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.cut();
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        while !self.ended.load(Ordering::SeqCst) {
            let Ok((client, _)) = listener.accept() else {
                thread::park_timeout(TICK);
                continue;
            };
            if !self.down.load(Ordering::SeqCst) {
                // If the broker is gone, the client's connection closes.
                let _ = self.serve(client);
            }
        }
    }

    fn serve(&self, client: TcpStream) -> io::Result<()> {
        client.set_nonblocking(false)?;
        let broker = TcpStream::connect(&self.upstream)?;
        let link = Arc::new(Link::default());
        link.left.store(self.allowance.load(Ordering::SeqCst), Ordering::SeqCst);
        for (from, to) in [(&client, &broker), (&broker, &client)] {
            from.set_nodelay(true)?;
            let from = from.try_clone()?;
            let to = to.try_clone()?;
            let link = Arc::clone(&link);
            from.set_read_timeout(Some(TICK))?;
            thread::Builder::new().name("proxy".to_owned()).spawn(move || {
                // After an error, too, both sockets must be shut down.
                let _ = carry(&link, &from, &to);
                if !link.orphaned.load(Ordering::SeqCst) {
                    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
                }
            })?;
        }
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|(_, client, _)| client.take_error().is_ok() && client.peer_addr().is_ok());
        links.push((link, client, broker));
        drop(links);
        // From here on the faults reach this connection.
        self.accepted.fetch_add(1, Ordering::SeqCst);
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        waiting.into_iter().for_each(Waker::wake);
        Ok(())
    }
}

fn carry(link: &Link, mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        if link.frozen.load(Ordering::SeqCst) {
            thread::park_timeout(TICK);
            // Fails if the connection was cut meanwhile.
            from.peer_addr()?;
            continue;
        }
        let slow = link.slow.load(Ordering::SeqCst);
        let room = if slow { 64 } else { buffer.len() };
        let count = match from.read(&mut buffer[..room]) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => continue,
            Err(error) => return Err(error),
        };
        let left = link.left.load(Ordering::SeqCst);
        if left > 0 {
            let more = left.saturating_sub(count as u64);
            link.left.store(more.max(1), Ordering::SeqCst);
            if more == 0 {
                // Forwards the last bytes, so that the cut is within a frame.
                to.write_all(&buffer[..(left as usize).min(count)])?;
                return Ok(());
            }
        }
        if !link.hole.load(Ordering::SeqCst) {
            to.write_all(&buffer[..count])?;
        }
        if slow {
            thread::park_timeout(TICK);
        }
    }
}
