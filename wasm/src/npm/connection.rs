//! The connection.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::StreamExt;
use hopmq::{Connection, Event, Recovery};
use js_sys::{Array, Function, Promise, Uint8Array};
use wasm_bindgen::prelude::*;

use super::channel::RawChannel;
use super::credentials::Asked;
use super::{done, promise, table, thrown};

#[wasm_bindgen]
extern "C" {
    /// What the core's `Builder` takes. What is missing keeps the core's default.
    pub type RawSettings;
    #[wasm_bindgen(method, getter)]
    fn vhost(this: &RawSettings) -> Option<String>;
    #[wasm_bindgen(method, getter)]
    fn reconnect(this: &RawSettings) -> bool;
    #[wasm_bindgen(method, getter)]
    fn topology(this: &RawSettings) -> bool;
    #[wasm_bindgen(method, getter, js_name = minMs)]
    fn min_ms(this: &RawSettings) -> f64;
    #[wasm_bindgen(method, getter, js_name = maxMs)]
    fn max_ms(this: &RawSettings) -> f64;
    #[wasm_bindgen(method, getter)]
    fn retries(this: &RawSettings) -> Option<u32>;
    #[wasm_bindgen(method, getter)]
    fn properties(this: &RawSettings) -> Vec<u8>;
    #[wasm_bindgen(method, getter)]
    fn heartbeat(this: &RawSettings) -> Option<f64>;
    #[wasm_bindgen(method, getter, js_name = frameMax)]
    fn frame_max(this: &RawSettings) -> Option<u32>;
    #[wasm_bindgen(method, getter, js_name = channelMax)]
    fn channel_max(this: &RawSettings) -> Option<u16>;
    #[wasm_bindgen(method, getter, js_name = connectTimeout)]
    fn connect_timeout(this: &RawSettings) -> Option<f64>;
    #[wasm_bindgen(method, getter, js_name = requestTimeout)]
    fn request_timeout(this: &RawSettings) -> Option<f64>;
    #[wasm_bindgen(method, getter, js_name = confirmTimeout)]
    fn confirm_timeout(this: &RawSettings) -> Option<f64>;
    #[wasm_bindgen(method, getter, js_name = closeTimeout)]
    fn close_timeout(this: &RawSettings) -> Option<f64>;
    #[wasm_bindgen(method, getter, js_name = highWaterMark)]
    fn high_water_mark(this: &RawSettings) -> Option<u32>;
    #[wasm_bindgen(method, getter, js_name = receiveLimit)]
    fn receive_limit(this: &RawSettings) -> Option<u32>;
    #[wasm_bindgen(method, getter, js_name = maxMessageSize)]
    fn max_message_size(this: &RawSettings) -> Option<f64>;
}

/// A connection, driven by the event loop.
#[wasm_bindgen]
pub struct RawConnection {
    connection: Connection,
    /// Its present link.
    socket: Rc<RefCell<Option<web_sys::WebSocket>>>,
}

/// Connects. `credentials` is asked at each connect: see [`Asked`].
#[wasm_bindgen]
pub fn open(
    url: String,
    protocols: Vec<String>,
    settings: &RawSettings,
    credentials: Function,
) -> Result<Promise, JsValue> {
    let builder = builder(settings, credentials)?;
    let socket = Rc::new(RefCell::new(None));
    let latest = Rc::clone(&socket);
    let connector = move || {
        let (url, protocols, latest) = (url.clone(), protocols.clone(), Rc::clone(&latest));
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
    Ok(promise(connecting, RawConnection::into))
}

fn recovery(settings: &RawSettings) -> Recovery {
    if !settings.reconnect() {
        return Recovery::off();
    }
    let recovery = Recovery::new().topology(settings.topology());
    let recovery = recovery.delays(milliseconds(settings.min_ms()), milliseconds(settings.max_ms()));
    match settings.retries() {
        Some(count) => recovery.attempts(count),
        None => recovery,
    }
}

pub(super) fn milliseconds(count: f64) -> Duration {
    Duration::try_from_secs_f64(count / 1000.0).unwrap_or(Duration::ZERO)
}

fn builder(settings: &RawSettings, credentials: Function) -> Result<hopmq::Builder, JsValue> {
    let mut builder = Connection::builder().credentials_from(Asked::new(credentials)).recovery(recovery(settings));
    for (key, value) in table(settings.properties())?.iter() {
        builder = builder.client_property(key, value);
    }
    if let Some(vhost) = settings.vhost() {
        builder = builder.vhost(&vhost);
    }
    if let Some(seconds) = settings.heartbeat() {
        builder = builder.heartbeat(milliseconds(seconds * 1000.0));
    }
    if let Some(bytes) = settings.frame_max() {
        builder = builder.frame_max(bytes);
    }
    if let Some(channels) = settings.channel_max() {
        builder = builder.channel_max(channels);
    }
    if let Some(bytes) = settings.high_water_mark() {
        builder = builder.high_water_mark(bytes as usize);
    }
    if let Some(bytes) = settings.receive_limit() {
        builder = builder.receive_limit(bytes as usize);
    }
    if let Some(bytes) = settings.max_message_size() {
        builder = builder.max_message_size(bytes as u64);
    }
    if let Some(time) = settings.connect_timeout() {
        builder = builder.connect_timeout(milliseconds(time));
    }
    if let Some(time) = settings.request_timeout() {
        builder = builder.request_timeout(milliseconds(time));
    }
    if let Some(time) = settings.confirm_timeout() {
        builder = builder.confirm_timeout(milliseconds(time));
    }
    if let Some(time) = settings.close_timeout() {
        builder = builder.close_timeout(milliseconds(time));
    }
    Ok(builder)
}

#[wasm_bindgen]
impl RawConnection {
    /// Opens a channel. `settled` is told what became of its publishes: see [`super::outcomes`].
    pub fn channel(&self, settled: Function) -> Promise {
        promise(self.connection.channel(), |channel| RawChannel::new(channel, settled).into())
    }

    /// Bytes that the browser has not sent yet.
    #[wasm_bindgen(getter, js_name = bufferedAmount)]
    pub fn buffered_amount(&self) -> u32 {
        self.socket.borrow().as_ref().map_or(0, web_sys::WebSocket::buffered_amount)
    }

    pub fn close(&self) -> Promise {
        let connection = self.connection.clone();
        done(async move { connection.close().await })
    }

    /// Resolves with the reason when the connection has ended. Calls `told` with what happens until then:
    /// `("blocked", reason)`, `("unblocked")`, `("channel-closed", channel)`, `("lost", error)`,
    /// `("retrying", attempt, delay in milliseconds, error)`, `("not-restored", entity, error)`, `("recovered")`.
    pub fn watch(&self, told: Function) -> Promise {
        let mut events = self.connection.events();
        promise(
            async move {
                while let Some(event) = events.next().await {
                    let none = JsValue::UNDEFINED;
                    let words = match event {
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
                    // What a listener throws is its own affair, and reported by TypeScript.
                    let _ = told.apply(&none, &words);
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

    /// `[frame_max, channel_max, heartbeat in seconds, server properties]`
    pub fn agreed(&self) -> Array {
        let properties = self.connection.server_properties();
        Array::of4(
            &self.connection.frame_max().into(),
            &self.connection.channel_max().into(),
            &self.connection.heartbeat().as_secs_f64().into(),
            &Uint8Array::from(properties.as_bytes()),
        )
    }

    /// Published, confirmed, nacked, delivered, acked, rejected, bytes out, bytes in.
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
