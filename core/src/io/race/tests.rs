use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};

use super::*;

/// A network on a virtual clock, which counts milliseconds.
#[derive(Default)]
struct Virtual {
    now: AtomicU64,
    /// When each address answers, after the connection was begun, and how. Others never answer.
    answers: HashMap<SocketAddr, (u64, bool)>,
    begun: Mutex<Vec<(u64, SocketAddr)>>,
    open: Mutex<Vec<SocketAddr>>,
}

/// A connection, being made or made.
struct Connection<'n>(&'n Virtual, SocketAddr);

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        self.0.open.lock().unwrap().retain(|open| *open != self.1);
    }
}

impl Virtual {
    fn now(&self) -> u64 {
        self.now.load(Ordering::SeqCst)
    }

    async fn until(&self, time: u64) {
        poll_fn(|_| if self.now() >= time { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// Runs a future, and advances the clock where the future waits.
    fn run<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        for _ in 0..100_000 {
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return output;
            }
            self.now.fetch_add(1, Ordering::SeqCst);
        }
        panic!("nothing connects");
    }
}

impl<'n> Network for &'n Virtual {
    type Socket = Connection<'n>;

    async fn unblock<T: Send + 'static>(
        &self,
        function: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        function()
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<Connection<'n>> {
        let now = self.now();
        self.begun.lock().unwrap().push((now, address));
        self.open.lock().unwrap().push(address);
        let connection = Connection(self, address);
        match self.answers.get(&address) {
            None => std::future::pending().await,
            Some((after, works)) => {
                self.until(now + after).await;
                if *works { Ok(connection) } else { Err(io::ErrorKind::ConnectionRefused.into()) }
            }
        }
    }

    async fn sleep(&self, time: Duration) {
        self.until(self.now() + time.as_millis() as u64).await;
    }
}

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 5672))
}

fn host() -> Address {
    Address { host: "rabbit".to_owned(), port: 5672 }
}

/// A resolver of a name with the addresses 1 to `count`.
fn resolver(count: u8) -> Resolver {
    Resolver::new(move |_, _| Ok((1..=count).map(address).collect()))
}

const TIMEOUT: Duration = Duration::from_secs(10);

#[test]
fn a_hanging_address_delays_the_next_one_by_a_quarter_of_a_second() {
    let network = Virtual { answers: HashMap::from([(address(2), (5, true))]), ..Virtual::default() };
    let addresses = Mutex::default();
    let connection = network.run(connect(&&network, &host(), &addresses, &resolver(3), TIMEOUT)).ok().unwrap();
    assert_eq!((connection.1, network.now()), (address(2), 255));
    assert_eq!(*network.open.lock().unwrap(), [address(2)], "the loser is dropped");
    // The third was not begun, and the first may be slow only.
    assert_eq!(lock(&addresses).take_left(), [address(3), address(1)]);
}

#[test]
fn a_refused_address_is_followed_by_the_next_one_at_once() {
    let answers = HashMap::from([(address(1), (1, false)), (address(2), (1, true))]);
    let network = Virtual { answers, ..Virtual::default() };
    let addresses = Mutex::default();
    let connection = network.run(connect(&&network, &host(), &addresses, &resolver(2), TIMEOUT)).ok().unwrap();
    assert_eq!((connection.1, network.now()), (address(2), 2));
    assert_eq!(lock(&addresses).left(), 0, "a refused address does not remain");
}

#[test]
fn the_first_address_that_connects_wins_even_if_it_was_begun_first() {
    let answers = HashMap::from([(address(1), (300, true)), (address(2), (200, true))]);
    let network = Virtual { answers, ..Virtual::default() };
    let connection = network.run(connect(&&network, &host(), &Mutex::default(), &resolver(2), TIMEOUT)).ok().unwrap();
    assert_eq!((connection.1, network.now()), (address(1), 300));
}

#[test]
fn with_a_short_timeout_every_address_is_begun_in_time() {
    let network = Virtual { answers: HashMap::from([(address(9), (0, true))]), ..Virtual::default() };
    let timeout = Duration::from_millis(100);
    network.run(connect(&&network, &host(), &Mutex::default(), &resolver(9), timeout)).ok().unwrap();
    assert!(network.now() < 100, "{}", network.now());
}

#[test]
fn the_next_attempt_uses_the_addresses_that_remain_and_a_later_one_begins_with_another() {
    let answers = (1..=3).map(|last| (address(last), (1, true))).collect();
    let network = Virtual { answers, ..Virtual::default() };
    let addresses = Mutex::default();
    let attempt = || network.run(connect(&&network, &host(), &addresses, &resolver(3), TIMEOUT)).ok().unwrap().1;
    assert_eq!([attempt(), attempt(), attempt()], [1, 2, 3].map(address));
    assert_eq!(lock(&addresses).left(), 0);
    lock(&addresses).restart();
    assert_eq!([attempt(), attempt()], [1, 2].map(address));
    lock(&addresses).restart();
    assert_eq!(attempt(), address(3), "it was not used for longest");
}

#[test]
fn an_error_names_each_address_that_failed() {
    let answers = [1, 2].map(|last| (address(last), (1, false)));
    let network = Virtual { answers: HashMap::from(answers), ..Virtual::default() };
    let run = |count| network.run(connect(&&network, &host(), &Mutex::default(), &resolver(count), TIMEOUT)).err();
    let texts = [0, 1, 2].map(|count| run(count).unwrap().to_string());
    assert_eq!(texts[0], "rabbit:5672 can't be reached: the host name has no address");
    assert!(texts[1].contains("is a broker running there"), "{}", texts[1]);
    assert!(texts[2].contains("10.0.0.1: connection refused; 10.0.0.2: connection refused"), "{}", texts[2]);
}
