//! Streams of answers: many replies to one call, ended by a marker.
//!
//! Owns both ends of a stream and its credit. In come the answers of a method; out they go to one caller, at most as
//! many untaken ones as the caller has granted. Neither end outlives the other: each checks that the other is there.

use std::any::Any;
use std::fmt;
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_lite::Stream;
use futures_util::{StreamExt, stream};
use hopmq::{Connection, Delivery, ErrorKind, Message, Properties};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::client::{Call, Client, failed, read};
use super::error::{Fault, RpcError};
use super::link::{Cancel, Link, REPLY_TO};
use super::server::{panicked, reply_result};
use super::table::correlation_id;
use super::wire::{CREDIT, PROBE, WINDOW, kind};
use crate::alarms::{Alarms, Sleep};
use crate::codec::Codec;
use crate::flow::{Payload, Verdict, headers};
use crate::incoming::Incoming;

/// The answers to one call: a stream of results. Dropping it tells the server to stop.
///
/// The server sends at most 64 answers ahead of those that are taken. If the server ends without a last word, the
/// stream ends with [`RpcError::OutcomeUnknown`] within ten seconds.
pub struct Answers<C, T, E> {
    client: Client,
    call: Call,
    method: &'static str,
    server: Option<Cancel>,
    /// How many answers were taken since the server was granted more.
    taken: usize,
    sending: Option<Sending>,
    watch: Watch,
    types: PhantomData<fn(C) -> (T, E)>,
}

type Sending = Pin<Box<dyn Future<Output = hopmq::Result<()>> + Send>>;

impl<C: Codec, T: DeserializeOwned, E: DeserializeOwned> Answers<C, T, E> {
    pub(super) fn begin(client: Client, call: Call, method: &'static str, open: Message) -> Result<Self, RpcError<E>> {
        let properties = open.properties();
        if open.header(headers::FAULT).is_some() {
            return Err(match read::<C, T, E>(method, &open) {
                Err(error) => error,
                Ok(_) => RpcError::Decode(format!("'{method}' answered with a fault that has no class")),
            });
        }
        let (Some(kind::OPEN), Some(to), Some(id)) =
            (properties.kind(), properties.reply_to(), properties.message_id())
        else {
            return Err(RpcError::Decode(format!("'{method}' does not answer with a stream")));
        };
        let server = Cancel { to: to.to_owned(), id: id.to_owned() };
        let watch = Watch::new(client.connection(), client.alarms(), &server.to);
        Ok(Self { client, call, method, server: Some(server), taken: 0, sending: None, watch, types: PhantomData })
    }

    fn read(&mut self, message: &Message) -> Option<Result<T, RpcError<E>>> {
        self.watch.heard(self.client.alarms());
        let fault = message.header(headers::FAULT).is_some();
        if message.properties().kind() == Some(kind::END) {
            self.server = None;
            return fault.then(|| read::<C, T, E>(self.method, message));
        }
        self.taken += 1;
        Some(read::<C, T, E>(self.method, message))
    }

    /// Grants the server as many answers as were taken, once they are half of what it may send ahead.
    fn poll_grant(&mut self, task: &mut Context<'_>) {
        if self.sending.is_none() && self.taken >= WINDOW / 2 {
            let Some(server) = &self.server else { return };
            let (channel, to, id) = (self.call.link.channel().clone(), server.to.clone(), server.id.clone());
            let more = i64::try_from(self.taken).unwrap_or(i64::MAX);
            self.taken = 0;
            self.sending = Some(Box::pin(async move {
                let publish = channel.publish("", &to, &[]).correlation_id(&id).kind(kind::CREDIT);
                publish.header(CREDIT, more).send().await
            }));
        }
        if let Some(sending) = &mut self.sending
            && sending.as_mut().poll(task).is_ready()
        {
            // An error of the channel ends the inbox as well.
            self.sending = None;
        }
    }
}

impl<C: Codec, T: DeserializeOwned, E: DeserializeOwned> Stream for Answers<C, T, E> {
    type Item = Result<T, RpcError<E>>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.server.is_none() {
            return Poll::Ready(None);
        }
        this.poll_grant(task);
        match this.call.poll_next(task) {
            Poll::Ready(Ok(message)) => Poll::Ready(this.read(&message)),
            Poll::Ready(Err(end)) => {
                this.server = None;
                Poll::Ready(Some(Err(RpcError::of_method(failed("", end)))))
            }
            Poll::Pending if this.watch.poll_gone(task).is_ready() => {
                this.server = None;
                let error = hopmq::Error::new(ErrorKind::OutcomeUnknown, "the server of the stream is gone");
                Poll::Ready(Some(Err(RpcError::OutcomeUnknown(error))))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<C, T, E> Drop for Answers<C, T, E> {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            self.call.link.cancel(server);
        }
    }
}

impl<C, T, E> Unpin for Answers<C, T, E> {}

impl<C, T, E> fmt::Debug for Answers<C, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answers").field("method", &self.method).finish_non_exhaustive()
    }
}

/// Checks now and then that the other end of a stream is there, as RabbitMQ's guide on direct reply-to advises: by a
/// declaration of the name that leads to it, on a channel that the broker closes if it is gone.
struct Watch {
    connection: Connection,
    name: Arc<str>,
    sleep: Sleep,
    asking: Option<Pin<Box<dyn Future<Output = bool> + Send>>>,
}

impl Watch {
    fn new(connection: &Connection, alarms: &Alarms, name: &str) -> Self {
        Self { connection: connection.clone(), name: name.into(), sleep: alarms.sleep(PROBE), asking: None }
    }

    /// Notes that the other end is there.
    fn heard(&mut self, alarms: &Alarms) {
        // The sleep that is set is let run: it costs less than a new one for each message.
        if self.sleep.deadline() <= alarms.now() {
            self.sleep = alarms.sleep(PROBE);
        }
    }

    /// Ready if the other end is gone.
    fn poll_gone(&mut self, task: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(asking) = &mut self.asking {
                match asking.as_mut().poll(task) {
                    Poll::Ready(true) => self.asking = None,
                    Poll::Ready(false) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
            if Pin::new(&mut self.sleep).poll(task).is_pending() {
                return Poll::Pending;
            }
            self.sleep = self.sleep.again(PROBE);
            let (connection, name) = (self.connection.clone(), Arc::clone(&self.name));
            self.asking = Some(Box::pin(async move { is_there(&connection, &name).await }));
        }
    }
}

/// Whether a name leads to a consumer of direct replies. If that can't be found out, the loss of the link says more.
async fn is_there(connection: &Connection, name: &str) -> bool {
    let asked = async {
        let channel = connection.channel().await?;
        channel.queue(name).declare_passive().await?;
        channel.close().await
    };
    asked.await.err().and_then(|error| error.code()) != Some(404)
}

/// A call that is answered with a stream: created by [`open_stream`].
#[derive(Debug)]
pub struct Opening {
    client: Client,
    delivery: Option<Delivery>,
    caller: Caller,
    credit: usize,
}

/// Takes a call that is answered with a stream.
///
/// # Errors
/// The reply that says that the call asks for no stream.
pub fn open_stream(incoming: &mut Incoming) -> Result<Opening, Verdict> {
    let asked = incoming.message().properties();
    let credit = incoming.header(CREDIT).and_then(|credit| usize::try_from(credit.as_i64()?).ok());
    let (Some(reply_to), Some(credit)) = (asked.reply_to(), credit) else {
        let text = format!("the method answers with a stream, and the call has no header {CREDIT:?}");
        return Err(super::server::fault(Fault::DECODE, text));
    };
    let caller = Caller { to: reply_to.to_owned(), id: asked.correlation_id().unwrap_or_default().to_owned() };
    let client = incoming.context().rpc().clone();
    Ok(Opening { client, delivery: incoming.take(), caller, credit })
}

impl Opening {
    /// Answers the call with a stream.
    ///
    /// The call is acked when the stream begins, so that a stream is never begun twice.
    pub async fn serve<C: Codec, T: Serialize, E: Serialize, A: Stream<Item = Result<T, E>>>(
        self,
        answers: impl FnOnce() -> A,
    ) -> Verdict {
        if let Some(delivery) = self.delivery
            && let Err(error) = delivery.ack()
        {
            tracing::debug!(%error, "the call of a stream could not be acked");
            return Verdict::Taken;
        }
        match self.client.link().await {
            Ok(link) => {
                let answers = pin!(written::<C, T, E, A>(answers));
                Serving::new(&self.client, link, self.caller, self.credit).run(answers).await;
            }
            Err(error) => tracing::warn!(%error, "a stream could not be begun"),
        }
        Verdict::Taken
    }
}

#[derive(Debug)]
struct Caller {
    to: String,
    id: String,
}

/// The server's end of a stream.
struct Serving {
    inbox: Call,
    caller: Caller,
    credit: usize,
    watch: Watch,
    alarms: Alarms,
    ended: bool,
}

impl Serving {
    fn new(client: &Client, link: Arc<Link>, caller: Caller, credit: usize) -> Self {
        let watch = Watch::new(client.connection(), client.alarms(), &caller.to);
        let inbox = Call::open(link, WINDOW + 2);
        Self { inbox, caller, credit, watch, alarms: client.alarms().clone(), ended: false }
    }

    async fn run(mut self, answers: Pin<&mut impl Stream<Item = Answer>>) {
        if self.send(kind::OPEN, Payload::default()).await.is_err() {
            return;
        }
        let mut answers = answers;
        loop {
            let next = poll_fn(|task| {
                if self.poll_gone(task).is_ready() {
                    return Poll::Ready(None);
                }
                if self.credit == 0 {
                    return Poll::Pending;
                }
                answers.as_mut().poll_next(task).map(Some)
            });
            let sent = match next.await {
                None => {
                    self.ended = true;
                    return;
                }
                Some(Some(Answer::Item(payload))) => {
                    self.credit -= 1;
                    self.send(kind::ITEM, payload).await
                }
                Some(Some(Answer::Panic(payload))) => self.send(kind::END, payload).await,
                Some(None) => self.send(kind::END, Payload::default()).await,
            };
            if sent.is_err() || self.ended {
                return;
            }
        }
    }

    async fn send(&mut self, kind: &str, payload: Payload) -> hopmq::Result<()> {
        let properties = self.properties(kind, &payload);
        self.ended = kind == kind::END;
        let publish = self.inbox.link.channel().publish("", &self.caller.to, payload.body);
        self.inbox.sent(publish.properties(&properties).send()).await
    }

    fn properties(&self, kind: &str, payload: &Payload) -> Properties {
        let properties = Properties::new()
            .with_correlation_id(&self.caller.id)
            .with_kind(kind)
            .with_reply_to(REPLY_TO)
            .with_message_id(&correlation_id(self.inbox.id));
        let properties = payload.describe(properties);
        match &payload.fault {
            Some(class) => properties.with_header(headers::FAULT, &**class),
            None => properties,
        }
    }

    /// Takes credit. Ready if the answers are no longer taken.
    fn poll_gone(&mut self, task: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.inbox.poll_next(task) {
                Poll::Ready(Ok(message)) if message.properties().kind() == Some(kind::CREDIT) => {
                    self.watch.heard(&self.alarms);
                    let more = message.header(CREDIT).and_then(|credit| usize::try_from(credit.as_i64()?).ok());
                    self.credit = self.credit.saturating_add(more.unwrap_or(0));
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return self.watch.poll_gone(task),
            }
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        // The app is stopped in the middle of the stream. Without room for this message, the caller finds out itself.
        let text = "the server was stopped before the stream ended";
        let stopped = Payload { body: text.into(), fault: Some(Fault::STOPPED.into()), ..Payload::default() };
        let properties = self.properties(kind::END, &stopped);
        let channel = self.inbox.link.channel();
        let sent = channel.publish("", &self.caller.to, stopped.body).properties(&properties).send();
        let _ = pin!(sent).poll(&mut Context::from_waker(std::task::Waker::noop()));
    }
}

enum Answer {
    Item(Payload),
    /// The method panicked: no answer follows.
    Panic(Payload),
}

/// Writes the answers of a method, and turns its panics into answers.
fn written<C: Codec, T: Serialize, E: Serialize, A: Stream<Item = Result<T, E>>>(
    method: impl FnOnce() -> A,
) -> impl Stream<Item = Answer> {
    let panicked = |panic: Box<dyn Any + Send>| Answer::Panic(payload(panicked(&*panic)));
    let (answers, failed) = match catch_unwind(AssertUnwindSafe(method)) {
        Ok(answers) => (Some(answers), None),
        Err(panic) => (None, Some(panicked(panic))),
    };
    let answers = stream::iter(answers).flatten().map(|answer| Answer::Item(payload(reply_result::<C, T, E>(&answer))));
    let answers = AssertUnwindSafe(answers).catch_unwind();
    stream::iter(failed).chain(answers.map(move |answer| answer.unwrap_or_else(panicked)))
}

fn payload(verdict: Verdict) -> Payload {
    match verdict {
        Verdict::Reply(payload) => payload,
        _ => Payload::default(),
    }
}
