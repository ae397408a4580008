//! A way to the broker that breaks on demand: a TCP proxy with faults.
//!
//! Owns a listener and two threads for each connection. It knows nothing of AMQP. A fault concerns the connections that
//! there are; those that come afterwards are served, unless the proxy is [down](Proxy::down).

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
    /// Who waits for more.
    waiting: Mutex<Vec<Waker>>,
    /// What the next connections may carry in each direction; 0 is without limit.
    allowance: AtomicU64,
}

/// One connection.
#[derive(Debug, Default)]
struct Link {
    /// Bytes vanish.
    hole: AtomicBool,
    /// Bytes stay where they are.
    frozen: AtomicBool,
    /// A few bytes at a time.
    slow: AtomicBool,
    /// Bytes that it may still carry in both directions; 0 is without limit.
    left: AtomicU64,
}

/// How often a thread looks whether something has changed.
const TICK: Duration = Duration::from_millis(5);

impl Proxy {
    /// A proxy of `upstream`, `host:port`, on a free port.
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

    /// Where it listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// How many connections it had so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Waits until it has had so many.
    ///
    /// # Errors
    /// None: it is there for whoever waits for this or a deadline.
    pub async fn until_accepted(&self, count: usize) -> Outcome {
        poll_fn(|context| {
            // The waker is left before the number is read, and the number is raised before the wakers are taken.
            self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(context.waker().clone());
            if self.accepted() >= count { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
        .await
    }

    /// Closes all connections.
    pub fn cut(&self) {
        for (_, client, broker) in self.take() {
            // One that is closed already is as good.
            let _ = (client.shutdown(Shutdown::Both), broker.shutdown(Shutdown::Both));
        }
    }

    /// Resets all connections towards the client: what is under way is lost.
    pub fn reset(&self) {
        for (_, client, broker) in self.take() {
            let _ = socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO));
            let _ = broker.shutdown(Shutdown::Both);
        }
    }

    /// Bytes of all connections vanish from now on, in both directions.
    pub fn black_hole(&self) {
        self.each(|link| link.hole.store(true, Ordering::SeqCst));
    }

    /// No byte moves on the connections that there are: both ends believe in them.
    pub fn half_open(&self) {
        self.each(|link| link.frozen.store(true, Ordering::SeqCst));
    }

    /// A few kilobytes a second.
    pub fn throttle(&self, slow: bool) {
        self.each(|link| link.slow.store(slow, Ordering::SeqCst));
    }

    /// The connections that come are cut when they have carried so many bytes; 0 is without limit.
    pub fn cut_after(&self, bytes: u64) {
        self.shared.allowance.store(bytes, Ordering::SeqCst);
    }

    /// Whether connections are closed as soon as they come.
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
                // A broker that is gone closes the connection.
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
            let (from, to, link) = (from.try_clone()?, to.try_clone()?, Arc::clone(&link));
            from.set_read_timeout(Some(TICK))?;
            thread::Builder::new().name("proxy".to_owned()).spawn(move || {
                // However it ends, both ends learn of it.
                let _ = carry(&link, &from, &to);
                let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
            })?;
        }
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|(_, client, _)| client.take_error().is_ok() && client.peer_addr().is_ok());
        links.push((link, client, broker));
        drop(links);
        // Whoever counts on it can break it now.
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
            // Somebody may have cut it meanwhile.
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
                // The last bytes go out: a message is cut in two.
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
