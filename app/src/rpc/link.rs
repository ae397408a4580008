//! The one channel and consumer that all calls of a client share.
//!
//! Owns the channel, its direct reply-to consumer, and the stream of returned calls. In come deliveries; out go
//! messages in the inboxes of the [`table`](super::table). The connection's wakes do that work, for all calls at once:
//! so nothing is spawned, and a future that is not polled holds up no other. It must never know a method or a codec.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};

use futures_lite::Stream;
use hopmq::{Channel, Connection, Consumer, ErrorKind, Event, Message};

use super::table::{Table, id_of};
use super::wire::kind;

/// The pseudo-queue that replies come from.
pub(super) const REPLY_TO: &str = "amq.rabbitmq.reply-to";
/// How many calls to streams that were given up may wait to be told so.
const MOST_CANCELS: usize = 1024;

/// The channel of a client, until the broker closes it.
pub(super) struct Link {
    channel: Channel,
    /// Locked by the one that serves.
    io: Mutex<Io>,
    table: Mutex<Table>,
    cancels: Mutex<Vec<Cancel>>,
    /// How many wakes have not been served; who makes it more than zero serves them.
    wakes: AtomicUsize,
    ended: AtomicBool,
    bell: Waker,
}

struct Io {
    replies: Option<Consumer>,
    returns: hopmq::Returns,
    events: hopmq::Events,
    arrived: Vec<Message>,
}

/// Tells the server of a stream that its answers are no longer taken.
pub(super) struct Cancel {
    /// The name that leads to the server's channel.
    pub(super) to: String,
    /// The server's inbox.
    pub(super) id: String,
}

/// Serves a link when it is woken.
struct Bell(Weak<Link>);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(link) = self.0.upgrade() {
            link.serve();
        }
    }
}

impl Link {
    pub(super) async fn open(connection: &Connection) -> hopmq::Result<Arc<Self>> {
        let events = connection.events();
        let channel = connection.channel().await?;
        let replies = channel.consume(REPLY_TO).no_ack().await?;
        let returns = channel.returns();
        let io = Io { replies: Some(replies), returns, events, arrived: Vec::new() };
        let link = Arc::new_cyclic(|link| Self {
            channel,
            io: Mutex::new(io),
            table: Mutex::default(),
            cancels: Mutex::default(),
            wakes: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            bell: Arc::new(Bell(Weak::clone(link))).into(),
        });
        link.serve();
        Ok(link)
    }

    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Returns whether calls can be made on this link.
    pub(super) fn is_open(&self) -> bool {
        !self.ended.load(Ordering::Acquire) && self.channel.is_open()
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }

    /// Takes what has arrived, and wakes those who wait for it.
    pub(super) fn serve(&self) {
        if self.wakes.fetch_add(1, Ordering::AcqRel) > 0 {
            return;
        }
        let mut io = lock(&self.io);
        loop {
            let seen = self.wakes.load(Ordering::Acquire);
            let mut due = Vec::new();
            self.take(&mut io, &mut due);
            due.into_iter().for_each(Waker::wake);
            if self.wakes.compare_exchange(seen, 0, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return;
            }
        }
    }

    fn take(&self, io: &mut Io, due: &mut Vec<Waker>) {
        let mut task = Context::from_waker(&self.bell);
        let mut ended = None;
        while let Some(replies) = &mut io.replies {
            match Pin::new(replies).poll_next(&mut task) {
                Poll::Ready(Some(Ok(delivery))) => io.arrived.push(delivery.split().0),
                Poll::Ready(end) => {
                    let cancelled = || hopmq::Error::new(ErrorKind::ConsumerCancelled, "the consumer was cancelled");
                    ended = Some(end.and_then(Result::err).unwrap_or_else(cancelled));
                    self.ended.store(true, Ordering::Release);
                    io.replies = None;
                }
                Poll::Pending => break,
            }
        }
        let mut late = Vec::new();
        let mut table = self.table();
        for message in io.arrived.drain(..) {
            late.extend(table.put(id_of(&message), message, due));
        }
        while let Poll::Ready(Some(returned)) = Pin::new(&mut io.returns).poll_next(&mut task) {
            table.returned(id_of(&returned), due);
        }
        while let Poll::Ready(Some(event)) = Pin::new(&mut io.events).poll_next(&mut task) {
            if let Event::Lost { error } | Event::Closed { error } = event {
                table.lost(&error, due);
            }
        }
        if let Some(error) = ended {
            table.lost(&error, due);
        }
        drop(table);
        let mut cancels = std::mem::take(&mut *lock(&self.cancels));
        cancels.extend(late.iter().filter_map(Cancel::of_late));
        cancels.retain(|cancel| !self.send_cancel(cancel, &mut task));
        if !cancels.is_empty() {
            let mut waiting = lock(&self.cancels);
            waiting.append(&mut cancels);
            waiting.truncate(MOST_CANCELS);
        }
    }

    /// Tells a server that the answers of its stream are no longer taken, now or when there is room.
    pub(super) fn cancel(&self, cancel: Cancel) {
        lock(&self.cancels).push(cancel);
        self.serve();
    }

    /// Returns whether there is nothing left to do.
    fn send_cancel(&self, cancel: &Cancel, task: &mut Context<'_>) -> bool {
        let publish = self.channel.publish("", &cancel.to, &[]).correlation_id(&cancel.id).kind(kind::CANCEL);
        pin!(publish.send()).poll(task).is_ready()
    }
}

impl Cancel {
    /// A late answer of a stream says where its server is.
    fn of_late(message: &Message) -> Option<Self> {
        let properties = message.properties();
        let (to, id) = (properties.reply_to()?.to_owned(), properties.message_id()?.to_owned());
        (properties.kind() != Some(kind::END)).then_some(Self { to, id })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
