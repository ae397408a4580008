//! Frames as lines of text, so that a scenario is compared with all that the broker said.

use std::time::{SystemTime, UNIX_EPOCH};

use hopmq_proto::method::{Method, MethodId};
use hopmq_proto::{FieldTable, Value};

use super::{Frame, Message};

/// The line of a frame: the method's name, then what it carries.
pub(super) fn line(frame: &Frame) -> String {
    match frame {
        Frame::Method(payload) => method(&Method::decode(payload).expect("it was decoded before")),
        Frame::Message(message) => content(message),
        Frame::Heartbeat => "heartbeat".to_owned(),
        Frame::End => "end".to_owned(),
    }
}

fn method(method: &Method<'_>) -> String {
    let name = method.id().name();
    match method {
        Method::ConnectionStart(start) => {
            let (version, mechanisms) = ((start.version_major, start.version_minor), text(start.mechanisms));
            format!("{name} {}.{} {mechanisms}", version.0, version.1)
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
    let (method, body) = (message.method(), message.text());
    let name = method.id().name();
    match method {
        Method::BasicDeliver(deliver) => {
            let (consumer, tag) = (deliver.consumer_tag, deliver.delivery_tag);
            let (exchange, key) = (deliver.exchange, deliver.routing_key);
            format!("{name} {consumer} {tag}{} {exchange}/{key}: {body}", flag(" redelivered", deliver.redelivered))
        }
        Method::BasicGetOk(get) => {
            let (tag, left) = (get.delivery_tag, get.message_count);
            let again = flag(" redelivered", get.redelivered);
            format!("{name} {tag}{again} {}/{}: {body} (+{left})", get.exchange, get.routing_key)
        }
        Method::BasicReturn(back) => {
            format!("{name} {} {} {}/{}: {body}", back.reply_code, back.reply_text, back.exchange, back.routing_key)
        }
        other => format!("{other:?}"),
    }
}

/// Why something was closed, and for which method if the broker blames one.
fn reason(name: &str, code: u16, text: &str, class: u16, method: u16) -> String {
    let blamed = MethodId { class, method };
    let blamed = if class == 0 && method == 0 { String::new() } else { format!(" ({blamed})") };
    format!("{name} {code} {text}{blamed}")
}

fn flag(text: &'static str, is_set: bool) -> &'static str {
    if is_set { text } else { "" }
}

/// A value with the letter of its type, a string in quotes; `now` for a timestamp of the last minute.
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

/// A table: its entries in their order.
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
