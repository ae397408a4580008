//! Sockets and alarms on the system's event queue.

use std::net::TcpListener;
use std::thread;

use futures_lite::{AsyncReadExt, AsyncWriteExt, future};

use super::*;

fn pair() -> (Reactor, Socket<TcpStream>, std::net::TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a port");
    let address = listener.local_addr().expect("it is bound");
    let mut reactor = Reactor::new().expect("an event queue");
    let handle = reactor.handle();
    let socket = reactor.block_on(handle.connect_tcp(address)).expect("the listener accepts");
    let (peer, _) = listener.accept().expect("it is connected");
    (reactor, socket, peer)
}

#[test]
fn the_end_is_read_after_the_last_bytes() {
    let (mut reactor, mut socket, mut peer) = pair();
    peer.write_all(b"last words").expect("there is room");
    drop(peer);
    let mut bytes = [0; 64];
    assert_eq!(reactor.block_on(socket.read(&mut bytes)).expect("bytes arrive"), 10);
    assert_eq!(reactor.block_on(socket.read(&mut bytes)).expect("the end arrives"), 0);
}

#[test]
fn a_full_socket_is_written_again_once_it_drains() {
    const SIZE: usize = 32 << 20;
    let (mut reactor, mut socket, mut peer) = pair();
    let drained = thread::spawn(move || io::copy(&mut peer, &mut io::sink()).expect("it is read to its end"));
    reactor
        .block_on(async {
            socket.write_all(&vec![7; SIZE]).await?;
            socket.close().await
        })
        .expect("it is written");
    assert_eq!(drained.join().expect("it ends"), SIZE as u64);
}

#[test]
fn another_thread_wakes_the_reactor() {
    let mut reactor = Reactor::new().expect("an event queue");
    for round in 0..1000 {
        let (sender, receiver) = handover();
        let thread = thread::spawn(move || sender(round));
        assert_eq!(reactor.block_on(receiver), round);
        thread.join().expect("it ends");
    }
}

#[test]
fn an_alarm_set_by_another_thread_ends_the_wait() {
    let mut reactor = Reactor::new().expect("an event queue");
    let handle = reactor.handle();
    let (sender, receiver) = std::sync::mpsc::channel::<Waker>();
    let other = thread::spawn(move || {
        let waker = receiver.recv().expect("the future is polled");
        let mut timer = ReactorTimer::new(&handle);
        // If this thread was paused in between, the deadline is over before the reactor can wait for it.
        let clock = timer.clock();
        let soon = || clock.now() + Duration::from_millis(20);
        while timer.poll_until(soon(), &mut Context::from_waker(&waker)).is_ready() {}
        timer
    });
    let mut polls = 0;
    reactor.block_on(poll_fn(|context| {
        polls += 1;
        if polls == 1 {
            sender.send(context.waker().clone()).expect("the thread lives");
            return Poll::Pending;
        }
        Poll::Ready(())
    }));
    drop(other.join().expect("it ends"));
}

/// Creates a value that one thread sets and a future awaits.
fn handover() -> (impl FnOnce(u32) + Send, impl Future<Output = u32>) {
    let slot = Arc::new(Mutex::new((None, None::<Waker>)));
    let theirs = Arc::clone(&slot);
    let give = move |value| {
        let mut slot = theirs.lock().expect("no holder panics");
        slot.0 = Some(value);
        if let Some(waker) = slot.1.take() {
            waker.wake();
        }
    };
    let take = poll_fn(move |context| {
        let mut slot = slot.lock().expect("no holder panics");
        slot.1 = Some(context.waker().clone());
        slot.0.take().map_or(Poll::Pending, Poll::Ready)
    });
    (give, take)
}

#[test]
fn alarms_fire_when_due_and_are_removed_when_dropped() {
    let mut reactor = Reactor::new().expect("an event queue");
    let handle = reactor.handle();
    let sleep = |time| {
        let handle = &handle;
        async move {
            let start = Instant::now();
            handle.wait(time).await;
            assert!(start.elapsed() >= time);
        }
    };
    let [a, b, c] = [30, 10, 20].map(Duration::from_millis).map(sleep);
    reactor.block_on(future::zip(a, future::zip(b, c)));
    assert_eq!(handle.table().alarms.len(), 0);
    let mut timer = ReactorTimer::new(&handle);
    let late = Time::from_epoch(Duration::from_secs(1000));
    reactor.block_on(poll_fn(|context| {
        assert!(timer.poll_until(late, context).is_pending());
        Poll::Ready(())
    }));
    assert_eq!(handle.table().alarms.len(), 1);
    drop(timer);
    assert_eq!(handle.table().alarms.len(), 0);
}

#[test]
fn connecting_without_a_listener_fails() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a port");
    let address = listener.local_addr().expect("it is bound");
    drop(listener);
    let mut reactor = Reactor::new().expect("an event queue");
    let handle = reactor.handle();
    let refused = reactor.block_on(handle.connect_tcp(address)).err().expect("no listener is left");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(handle.table().sources.iter().flatten().count(), 0);
}
