use std::borrow::Cow;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures_util::lock::Mutex as AsyncMutex;
use hopmq::{Connection, Message, Properties, Timer};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{Fault, RpcError};
use super::link::{Link, REPLY_TO};
use super::streaming::Answers;
use super::table::{End, correlation_id};
use super::ticker::Ticker;
use super::wire::{CREDIT, WINDOW};
use crate::alarms::Alarms;
use crate::codec::{self, Codec};
use crate::extract::{Deadline, FromDelivery};
use crate::flow::{Payload, Verdict, headers};
use crate::incoming::Incoming;
use crate::wall::WallClock;

/// How long a call waits for its reply unless [`Client::within`] says otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The longest time that RabbitMQ takes as the expiration of a message: ten years.
const LONGEST: Duration = Duration::from_millis(315_360_000_000);

/// Calls the methods of services. All calls of a client and its clones share one channel and one consumer, and any
/// number of them may be in flight.
///
/// As an argument of a handler, it is a client on the app's connection whose calls end at the deadline of the message
/// that is handled; so is the client that `#[rpc]` generates.
///
/// Dropping the future of a call forgets the call; its late reply is counted and dropped. When the link to the broker
/// is lost, the calls in flight end with [`RpcError::OutcomeUnknown`], and the next calls wait for the new link.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
    timeout: Duration,
    deadline: Deadline,
}

struct Inner {
    connection: Connection,
    alarms: Alarms,
    _ticker: Option<Arc<Ticker>>,
    link: Mutex<Option<Arc<Link>>>,
    opening: AsyncMutex<()>,
    /// Late replies of earlier links.
    late: Mutex<u64>,
}

impl Client {
    /// Returns a client on a connection, on timers of async-io.
    ///
    /// # Errors
    /// If no channel can be opened.
    #[cfg(feature = "net")]
    pub async fn open(connection: &Connection) -> hopmq::Result<Self> {
        Self::open_with(connection, hopmq::IoTimer::new(), WallClock::default()).await
    }

    /// Returns a client on a connection, on a timer of any runtime and a wall clock.
    ///
    /// # Errors
    /// If no channel can be opened.
    pub async fn open_with(
        connection: &Connection,
        timer: impl Timer + Send + 'static,
        wall: WallClock,
    ) -> hopmq::Result<Self> {
        let ticker = Ticker::start(timer, wall);
        let alarms = ticker.alarms().clone();
        let client = Self::new(connection, &alarms, Some(ticker));
        client.link().await?;
        Ok(client)
    }

    /// Returns a client that an app's timer serves, and that opens its channel with the first call.
    pub(crate) fn of_app(connection: &Connection, alarms: &Alarms) -> Self {
        Self::new(connection, alarms, None)
    }

    fn new(connection: &Connection, alarms: &Alarms, ticker: Option<Arc<Ticker>>) -> Self {
        let inner = Inner {
            connection: connection.clone(),
            alarms: alarms.clone(),
            _ticker: ticker,
            link: Mutex::default(),
            opening: AsyncMutex::default(),
            late: Mutex::default(),
        };
        Self { inner: Arc::new(inner), timeout: TIMEOUT, deadline: Deadline::default() }
    }

    /// Sets how long a call waits for its reply; a call that asks for a stream, how long it waits for the server to
    /// begin. The default is 30 seconds.
    #[must_use]
    pub fn within(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.min(LONGEST);
        self
    }

    /// Sets a deadline for all calls, in addition to the timeout: that of a message that is handled.
    #[must_use]
    pub fn until(mut self, deadline: Deadline) -> Self {
        self.deadline = deadline;
        self
    }

    /// Returns the number of calls and streams in flight.
    pub fn in_flight(&self) -> usize {
        self.current().map_or(0, |link| link.table().len())
    }

    /// Returns how many replies came for calls that were given up.
    pub fn late_replies(&self) -> u64 {
        let earlier = *self.inner.late.lock().unwrap_or_else(PoisonError::into_inner);
        earlier + self.current().map_or(0, |link| link.table().late())
    }

    /// Calls a method, as the clients that `#[rpc]` generates do.
    ///
    /// # Errors
    /// See [`RpcError`].
    pub fn call<C: Codec, T: DeserializeOwned, E: DeserializeOwned>(
        &self,
        service: &'static str,
        method: &'static str,
        arguments: Written,
    ) -> impl Future<Output = Result<T, RpcError<E>>> + Send + use<C, T, E> {
        let (client, question) = (self.clone(), arguments.question(service, method, None));
        async move {
            let (_, reply) = client.ask(question).await.map_err(RpcError::of_method)?;
            read::<C, T, E>(method, &reply)
        }
    }

    /// Calls a method with arguments that are written already, and returns the reply as it arrived: a result, or a
    /// fault if it has the header [`headers::FAULT`]. For clients whose types are not Rust's.
    ///
    /// ```no_run
    /// # async fn ask(client: hopmq_app::rpc::Client) -> Result<(), hopmq_app::rpc::RpcError> {
    /// use hopmq_app::flow::{Payload, headers};
    ///
    /// let reply = client.call_raw("pricing", "quote", Payload::new("[\"margherita\", 2]", "application/json")).await?;
    /// println!("{} (a fault: {})", reply.text(), reply.header(headers::FAULT).is_some());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`RpcError`]. A fault is a reply here.
    pub fn call_raw<N: Into<Cow<'static, str>>>(
        &self,
        service: N,
        method: N,
        arguments: Payload,
    ) -> impl Future<Output = Result<Message, RpcError>> + Send + use<N> {
        let (client, service, method) = (self.clone(), service.into(), method.into());
        let question = Question { service, method, payload: arguments, credit: None };
        async move { client.ask(Ok(question)).await.map(|(_, reply)| reply) }
    }

    /// Calls a method that returns a stream of answers, as the clients that `#[rpc]` generates do.
    ///
    /// # Errors
    /// See [`RpcError`].
    pub fn stream<C: Codec, T: DeserializeOwned, E: DeserializeOwned>(
        &self,
        service: &'static str,
        method: &'static str,
        arguments: Written,
    ) -> impl Future<Output = Result<Answers<C, T, E>, RpcError<E>>> + Send + use<C, T, E> {
        let (client, question) = (self.clone(), arguments.question(service, method, Some(WINDOW)));
        async move {
            let (call, open) = client.ask(question).await.map_err(RpcError::of_method)?;
            Answers::begin(client, call, method, open)
        }
    }

    /// Sends a call and waits for the first reply, until the deadline.
    async fn ask(&self, question: Result<Question, RpcError>) -> Result<(Call, Message), RpcError> {
        let question = question?;
        let left = self.deadline.remaining().map_or(self.timeout, |left| left.min(self.timeout));
        if left.is_zero() {
            return Err(RpcError::Deadline { waited: left });
        }
        let service = question.service.clone();
        let mut asking = pin!(async {
            let call = self.send(question, left).await?;
            let first = call.next().await.map_err(|end| failed(&service, end))?;
            Ok((call, first))
        });
        let mut sleep = self.inner.alarms.sleep(left);
        poll_fn(|task| match asking.as_mut().poll(task) {
            Poll::Ready(done) => Poll::Ready(done),
            Poll::Pending => Pin::new(&mut sleep).poll(task).map(|()| Err(RpcError::Deadline { waited: left })),
        })
        .await
    }

    async fn send(&self, question: Question, left: Duration) -> Result<Call, RpcError> {
        let Question { service, method, payload, credit } = question;
        let link = self.link().await.map_err(RpcError::Connection)?;
        // The beginning and the end of a stream need no credit.
        let call = Call::open(link, credit.map_or(1, |credit| credit + 2));
        // In the order of the wire, so that each is appended.
        let mut properties = payload.describe(Properties::new());
        if let Some(now) = self.inner.alarms.wall().unix_millis() {
            let at = now.saturating_add(u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
            let at = self.deadline.unix_millis().map_or(at, |inherited| inherited.min(at));
            properties = properties.with_header(headers::DEADLINE, i64::try_from(at).unwrap_or(i64::MAX));
        }
        if let Some(credit) = credit {
            properties = properties.with_header(CREDIT, i64::try_from(credit).unwrap_or(i64::MAX));
        }
        let properties = properties
            .with_correlation_id(&correlation_id(call.id))
            .with_reply_to(REPLY_TO)
            .with_time_to_live(left)
            .with_kind(&method);
        let sent = {
            let publish = call.link.channel().publish("", &service, payload.body).properties(&properties).mandatory();
            call.sent(publish.send()).await
        };
        sent.map_err(RpcError::Connection)?;
        Ok(call)
    }

    /// Returns the link, and opens one if there is none, or the broker has closed its channel.
    pub(super) async fn link(&self) -> hopmq::Result<Arc<Link>> {
        if let Some(link) = self.current().filter(|link| link.is_open()) {
            return Ok(link);
        }
        let _one_at_a_time = self.inner.opening.lock().await;
        if let Some(link) = self.current().filter(|link| link.is_open()) {
            return Ok(link);
        }
        let link = Link::open(&self.inner.connection).await?;
        let mut current = self.inner.link.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(earlier) = current.replace(Arc::clone(&link)) {
            *self.inner.late.lock().unwrap_or_else(PoisonError::into_inner) += earlier.table().late();
        }
        Ok(link)
    }

    fn current(&self) -> Option<Arc<Link>> {
        self.inner.link.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn alarms(&self) -> &Alarms {
        &self.inner.alarms
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.inner.connection
    }
}

/// The client of the app, whose calls end at the deadline of the message.
impl<S> FromDelivery<S> for Client {
    fn from_delivery(incoming: &mut Incoming, state: &S) -> Result<Self, Verdict> {
        let deadline = Deadline::from_delivery(incoming, state)?;
        Ok(incoming.context().rpc().clone().until(deadline))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("in_flight", &self.in_flight()).field("timeout", &self.timeout).finish()
    }
}

/// An inbox for replies. Dropping it forgets the call.
pub(super) struct Call {
    pub(super) link: Arc<Link>,
    pub(super) id: u64,
}

impl Call {
    pub(super) fn open(link: Arc<Link>, limit: usize) -> Self {
        let id = link.table().open(limit);
        Self { link, id }
    }

    /// Awaits a publish whose replies come to this inbox.
    pub(super) async fn sent(&self, publish: impl Future<Output = hopmq::Result<()>>) -> hopmq::Result<()> {
        let mut publish = pin!(publish);
        poll_fn(|task| {
            let losses = self.link.table().losses();
            let polled = publish.as_mut().poll(task);
            if let Poll::Ready(Ok(())) = &polled {
                self.link.table().sent(self.id, losses);
            }
            polled
        })
        .await
    }

    /// Waits for the next message.
    pub(super) async fn next(&self) -> Result<Message, End> {
        poll_fn(|task| self.poll_next(task)).await
    }

    pub(super) fn poll_next(&self, task: &mut std::task::Context<'_>) -> Poll<Result<Message, End>> {
        self.link.table().poll(self.id, task)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.link.table().close(self.id);
    }
}

pub(super) fn failed(service: &str, end: End) -> RpcError {
    match end {
        End::Returned => RpcError::NoServer { service: service.to_owned() },
        End::Lost(error) => RpcError::OutcomeUnknown(error),
        End::Flooded => RpcError::Decode("the server sent more answers than it was allowed to".to_owned()),
    }
}

/// The arguments of a call, as they are sent.
#[derive(Debug)]
pub struct Written(Result<Payload, String>);

impl Written {
    /// Writes arguments: one as it is, several as a tuple, none as `()`.
    pub fn new<C: Codec, Q: Serialize>(arguments: &Q) -> Self {
        Self(C::write(arguments).map_err(|error| error.to_string()))
    }

    fn question(
        self,
        service: &'static str,
        method: &'static str,
        credit: Option<usize>,
    ) -> Result<Question, RpcError> {
        match self.0 {
            Ok(payload) => Ok(Question { service: service.into(), method: method.into(), payload, credit }),
            Err(error) => Err(RpcError::Decode(format!("can't write the arguments of '{method}': {error}"))),
        }
    }
}

/// A call to be sent.
struct Question {
    service: Cow<'static, str>,
    method: Cow<'static, str>,
    payload: Payload,
    /// How many answers of a stream the server may send ahead; `None` for a single reply.
    credit: Option<usize>,
}

/// Reads a reply: a result, an error of the method, or a fault.
pub(super) fn read<C: Codec, T: DeserializeOwned, E: DeserializeOwned>(
    method: &str,
    reply: &Message,
) -> Result<T, RpcError<E>> {
    let undecodable = |what: &str, error: String| RpcError::Decode(format!("can't read {what} of '{method}': {error}"));
    let fault = reply.header(headers::FAULT);
    let Some(class) = fault.and_then(|class| class.as_str().map(str::to_owned)) else {
        return value::<C, _>(reply).map_err(|error| undecodable("the result", error));
    };
    if class == Fault::FAILED {
        return Err(value::<C, _>(reply).map_or_else(|error| undecodable("the error", error), RpcError::Failed));
    }
    Err(RpcError::Fault(Fault { class, text: reply.text().into_owned() }))
}

/// Reads the body of a reply, decompressed if its content encoding says so.
fn value<C: Codec, T: DeserializeOwned>(reply: &Message) -> Result<T, String> {
    let encoding = reply.properties().content_encoding();
    let decoded = encoding.map(|encoding| codec::decode(encoding, reply.body(), codec::BODY_LIMIT)).transpose();
    let decoded = decoded.map_err(|failure| failure.text().to_owned())?.flatten();
    C::read(decoded.as_deref().unwrap_or_else(|| reply.body())).map_err(|error| error.to_string())
}
