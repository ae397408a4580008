//! Frames as lines of text, so that a scenario can compare all that the broker sent.

use std::time::{SystemTime, UNIX_EPOCH};

use hopmq_proto::method::{Method, MethodId, basic};
use hopmq_proto::{FieldTable, Value};

use super::{Frame, Message};

/// Returns the line of a frame: the method's name, then its fields.
pub(super) fn line(frame: &Frame) -> String {
    match frame {
        Frame::Method(payload) => method(&Method::decode(payload).expect("the method was decoded before")),
        Frame::Message(message) => content(message),
        Frame::Heartbeat => "heartbeat".to_owned(),
        Frame::End => "end".to_owned(),
    }
}

fn method(method: &Method<'_>) -> String {
    let name = method.id().name();
    match method {
        Method::ConnectionStart(start) => {
            format!("{name} {}.{} {}", start.version_major, start.version_minor, text(start.mechanisms))
        }
        Method::ConnectionTune(tune) => {
            format!("{name} channels={} frame={} heartbeat={}", tune.channel_max, tune.frame_max, tune.heartbeat)
        }
        Method::ConnectionClose(close) => {
            reason(name, close.reply_code, close.reply_text, close.class_id, close.method_id)
        }
        Method::ChannelClose(close) => {
            reason(name, close.reply_code, close.reply_text, close.class_id, close.method_id)
        }
        Method::ConnectionBlocked(blocked) => format!("{name} {}", blocked.reason),
        Method::ChannelFlowOk(flow) => format!("{name} {}", flow.active),
        Method::QueueDeclareOk(declare) => {
            format!("{name} {} messages={} consumers={}", declare.queue, declare.message_count, declare.consumer_count)
        }
        Method::QueuePurgeOk(purge) => format!("{name} {}", purge.message_count),
        Method::QueueDeleteOk(delete) => format!("{name} {}", delete.message_count),
        Method::BasicConsumeOk(consume) => format!("{name} {}", consume.consumer_tag),
        Method::BasicCancelOk(cancel) => format!("{name} {}", cancel.consumer_tag),
        Method::BasicCancel(cancel) => format!("{name} {}", cancel.consumer_tag),
        Method::BasicAck(ack) => format!("{name} {}{}", ack.delivery_tag, flag(" multiple", ack.multiple)),
        Method::BasicNack(nack) => format!("{name} {}{}", nack.delivery_tag, flag(" multiple", nack.multiple)),
        _ => name.to_owned(),
    }
}

fn content(message: &Message) -> String {
    let method = message.method();
    let body = message.text();
    let name = method.id().name();
    match method {
        Method::BasicDeliver(deliver) => {
            let basic::Deliver { consumer_tag, delivery_tag, redelivered, exchange, routing_key } = deliver;
            let redelivered = flag(" redelivered", redelivered);
            format!("{name} {consumer_tag} {delivery_tag}{redelivered} {exchange}/{routing_key}: {body}")
        }
        Method::BasicGetOk(get) => {
            let basic::GetOk { delivery_tag, redelivered, exchange, routing_key, message_count } = get;
            let redelivered = flag(" redelivered", redelivered);
            format!("{name} {delivery_tag}{redelivered} {exchange}/{routing_key}: {body} (+{message_count})")
        }
        Method::BasicReturn(back) => {
            format!("{name} {} {} {}/{}: {body}", back.reply_code, back.reply_text, back.exchange, back.routing_key)
        }
        other => format!("{other:?}"),
    }
}

/// Returns the reason of a close, and the method that the broker names as its cause, if any.
fn reason(name: &str, code: u16, text: &str, class: u16, method: u16) -> String {
    let cause = MethodId { class, method };
    let cause = if class == 0 && method == 0 { String::new() } else { format!(" ({cause})") };
    format!("{name} {code} {text}{cause}")
}

fn flag(text: &'static str, is_set: bool) -> &'static str {
    if is_set { text } else { "" }
}

/// Returns a value with the letter of its type, a string in quotes, and `now` for a timestamp within a minute of now.
///
/// ```
/// use hopmq_tests::peer::shown;
///
/// assert_eq!(shown(&5.into()), "I 5");
/// assert_eq!(shown(&"text".into()), "'text'");
/// ```
pub fn shown(value: &Value<'_>) -> String {
    match value {
        Value::Void => "V".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::I8(n) => format!("b {n}"),
        Value::U8(n) => format!("B {n}"),
        Value::I16(n) => format!("s {n}"),
        Value::U16(n) => format!("u {n}"),
        Value::I32(n) => format!("I {n}"),
        Value::U32(n) => format!("i {n}"),
        Value::I64(n) => format!("l {n}"),
        Value::F32(n) => format!("f {n}"),
        Value::F64(n) => format!("d {n}"),
        Value::Decimal { scale, value } => format!("D {value}e-{scale}"),
        Value::Str(bytes) => format!("'{}'", text(bytes)),
        Value::Bytes(bytes) => format!("x {bytes:?}"),
        Value::Timestamp(seconds) if is_now(*seconds) => "now".to_owned(),
        Value::Timestamp(seconds) => format!("T {seconds}"),
        Value::Array(array) => format!("[{}]", array.iter().map(|value| shown(&value)).collect::<Vec<_>>().join(", ")),
        Value::Table(table) => shown_table(table),
    }
}

/// Returns the entries of a table, in order.
pub fn shown_table<B: AsRef<[u8]>>(table: &FieldTable<B>) -> String {
    let table = table.as_ref_table();
    let entries: Vec<_> = table.iter().map(|(key, value)| format!("{key}: {}", shown(&value))).collect();
    format!("{{{}}}", entries.join(", "))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn is_now(seconds: u64) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    now.abs_diff(seconds) < 60
}
