//! Connections.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::StreamExt;
use futures_lite::future::or;
use hopmq::{Connection, Error, ErrorKind, Event, Recovery, Result};
use js_sys::{Array, Function, Promise, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use super::channel::RawChannel;
use super::credentials::JsCredentials;
use super::{done, promise, table, thrown};

/// The numeric options, in the order of `wasm/npm/src/connection.ts`. NaN keeps the core's default.
struct NumericOptions(Vec<f64>);

impl NumericOptions {
    fn get(&self, index: usize) -> Option<f64> {
        self.0.get(index).copied().filter(|number| !number.is_nan())
    }

    fn time(&self, index: usize) -> Option<Duration> {
        self.get(index).map(milliseconds)
    }

    fn is_on(&self, index: usize) -> bool {
        self.get(index) != Some(0.0)
    }
}

const RECONNECT: usize = 0;
const TOPOLOGY: usize = 1;
const MIN_DELAY: usize = 2;
const MAX_DELAY: usize = 3;
const RETRIES: usize = 4;
const HEARTBEAT: usize = 5;
const FRAME_MAX: usize = 6;
const CHANNEL_MAX: usize = 7;
const HIGH_WATER_MARK: usize = 8;
const MAX_MESSAGE_SIZE: usize = 9;
const CONNECT_TIMEOUT: usize = 10;
const REQUEST_TIMEOUT: usize = 11;
const CONFIRM_TIMEOUT: usize = 12;
const CLOSE_TIMEOUT: usize = 13;
const MESSAGE_IDS: usize = 14;
/// Milliseconds of [`hopmq::Builder::wait_for_broker`].
const WAIT_FOR_BROKER: usize = 15;
/// Four random numbers of 32 bits: the standard library has no randomness on this platform.
const RANDOM: usize = 16;

/// A connection that the event loop drives.
#[wasm_bindgen]
pub struct RawConnection {
    connection: Connection,
    /// The WebSocket of the current link.
    socket: Rc<RefCell<Option<web_sys::WebSocket>>>,
}

/// Connects. `options` are [`NumericOptions`]; `credentials` is called at each connect: see [`JsCredentials`]. Once
/// `aborted` resolves, the attempt ends and the promise rejects.
#[wasm_bindgen]
pub fn open(
    url: String,
    protocols: Vec<String>,
    vhost: Option<String>,
    properties: Vec<u8>,
    options: Vec<f64>,
    credentials: Function,
    aborted: Option<Promise>,
) -> Result<Promise, JsValue> {
    let mut builder = builder(&NumericOptions(options), JsCredentials::new(credentials));
    for (key, value) in table(properties)?.iter() {
        builder = builder.client_property(key, value);
    }
    if let Some(vhost) = vhost {
        builder = builder.vhost(&vhost);
    }
    let socket = Rc::new(RefCell::new(None));
    let latest = Rc::clone(&socket);
    let connector = move || {
        let url = url.clone();
        let protocols = protocols.clone();
        let latest = Rc::clone(&latest);
        async move {
            let transport = crate::WebSocket::connect(&url, &protocols).await?;
            *latest.borrow_mut() = Some(transport.browser().clone());
            Ok(transport)
        }
    };
    let connecting = async move {
        let (connection, driver) = builder.connect_with(connector, crate::BrowserTimer::new()).await?;
        wasm_bindgen_futures::spawn_local(driver);
        Ok(RawConnection { connection, socket })
    };
    Ok(promise(or(connecting, failed_when(aborted)), RawConnection::into))
}

/// Fails once `aborted` resolves.
async fn failed_when<T>(aborted: Option<Promise>) -> Result<T> {
    match aborted {
        Some(aborted) => drop(JsFuture::from(aborted).await),
        None => std::future::pending().await,
    }
    Err(Error::new(ErrorKind::Closed, "connecting was aborted"))
}

fn recovery(options: &NumericOptions) -> Recovery {
    let random = (RANDOM..RANDOM + 4).fold(0, |bits, index| bits << 32 | options.get(index).unwrap_or(0.0) as u128);
    let delay = |index| options.time(index).unwrap_or_default();
    let mut recovery = if options.is_on(RECONNECT) { Recovery::new() } else { Recovery::off() };
    // Without a random seed, all pages would retry at the same moments.
    recovery =
        recovery.topology(options.is_on(TOPOLOGY)).delays(delay(MIN_DELAY), delay(MAX_DELAY)).seed(random as u64);
    if let Some(count) = options.get(RETRIES) {
        recovery = recovery.attempts(count as u32);
    }
    if options.is_on(MESSAGE_IDS) { recovery.message_ids_by(random) } else { recovery }
}

pub(super) fn milliseconds(count: f64) -> Duration {
    let longest = if count > 0.0 { Duration::MAX } else { Duration::ZERO };
    Duration::try_from_secs_f64(count / 1000.0).unwrap_or(longest)
}

fn builder(options: &NumericOptions, credentials: JsCredentials) -> hopmq::Builder {
    let mut builder = Connection::builder().credentials_from(credentials).recovery(recovery(options));
    if let Some(seconds) = options.get(HEARTBEAT) {
        builder = builder.heartbeat(milliseconds(seconds * 1000.0));
    }
    if let Some(bytes) = options.get(FRAME_MAX) {
        builder = builder.frame_max(bytes as u32);
    }
    if let Some(channels) = options.get(CHANNEL_MAX) {
        builder = builder.channel_max(channels as u16);
    }
    if let Some(bytes) = options.get(HIGH_WATER_MARK) {
        builder = builder.high_water_mark(bytes as usize);
    }
    if let Some(bytes) = options.get(MAX_MESSAGE_SIZE) {
        builder = builder.max_message_size(bytes as u64);
    }
    if let Some(time) = options.time(CONNECT_TIMEOUT) {
        builder = builder.connect_timeout(time);
    }
    if let Some(time) = options.time(REQUEST_TIMEOUT) {
        builder = builder.request_timeout(time);
    }
    if let Some(time) = options.time(CONFIRM_TIMEOUT) {
        builder = builder.confirm_timeout(time);
    }
    if let Some(time) = options.time(CLOSE_TIMEOUT) {
        builder = builder.close_timeout(time);
    }
    if let Some(time) = options.time(WAIT_FOR_BROKER) {
        builder = builder.wait_for_broker(time);
    }
    builder
}

#[wasm_bindgen]
impl RawConnection {
    /// Opens a channel. `settled` receives the outcomes of its publishes: see [`super::publish_outcomes`].
    pub fn channel(&self, settled: Function) -> Promise {
        promise(self.connection.channel(), |channel| RawChannel::new(channel, settled).into())
    }

    /// Returns the number of bytes that the browser has not sent yet.
    #[wasm_bindgen(getter, js_name = bufferedAmount)]
    pub fn buffered_amount(&self) -> u32 {
        self.socket.borrow().as_ref().map_or(0, web_sys::WebSocket::buffered_amount)
    }

    pub fn close(&self) -> Promise {
        let connection = self.connection.clone();
        done(async move { connection.close().await })
    }

    /// Resolves with the reason when the connection has ended. Until then, calls `listener` with each event:
    /// `("blocked", reason)`, `("unblocked")`, `("channel-closed", channel)`, `("lost", error)`,
    /// `("retrying", attempt, delay in milliseconds, error)`, `("not-restored", entity, error)`, `("recovered")`.
    pub fn watch(&self, listener: Function) -> Promise {
        let mut events = self.connection.events();
        promise(
            async move {
                while let Some(event) = events.next().await {
                    let none = JsValue::UNDEFINED;
                    let arguments = match event {
                        Event::Blocked { reason } => Array::of2(&"blocked".into(), &reason.into()),
                        Event::Unblocked => Array::of1(&"unblocked".into()),
                        Event::ChannelClosed { channel, .. } => Array::of2(&"channel-closed".into(), &channel.into()),
                        Event::Lost { error } => Array::of2(&"lost".into(), &thrown(&error)),
                        Event::Retrying { attempt, delay, error } => {
                            let delay = delay.as_secs_f64() * 1000.0;
                            Array::of4(&"retrying".into(), &attempt.into(), &delay.into(), &thrown(&error))
                        }
                        Event::NotRestored { entity, error } => {
                            Array::of3(&"not-restored".into(), &entity.into(), &thrown(&error))
                        }
                        Event::Recovered { .. } => Array::of1(&"recovered".into()),
                        Event::Closed { error } => return Ok(thrown(&error)),
                        _ => continue,
                    };
                    // TypeScript reports what a listener throws.
                    let _ = listener.apply(&none, &arguments);
                }
                Ok(JsValue::UNDEFINED)
            },
            |reason| reason,
        )
    }

    #[wasm_bindgen(js_name = updateSecret)]
    pub fn update_secret(&self, secret: &str, reason: &str) -> Promise {
        done(self.connection.update_secret(secret, reason))
    }

    /// Returns `[frame_max, channel_max, heartbeat in seconds, server properties]`.
    pub fn agreed(&self) -> Array {
        let properties = self.connection.server_properties();
        Array::of4(
            &self.connection.frame_max().into(),
            &self.connection.channel_max().into(),
            &self.connection.heartbeat().as_secs_f64().into(),
            &Uint8Array::from(properties.as_bytes()),
        )
    }

    /// Returns published, confirmed, nacked, delivered, acked, rejected, bytes sent, bytes received.
    pub fn counters(&self) -> Vec<f64> {
        let stats = self.connection.stats();
        let counters = [
            stats.published,
            stats.confirmed,
            stats.nacked,
            stats.delivered,
            stats.acked,
            stats.rejected,
            stats.bytes_sent,
            stats.bytes_received,
        ];
        counters.iter().map(|&count| count as f64).collect()
    }
}
