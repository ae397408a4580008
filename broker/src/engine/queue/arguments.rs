//! The arguments of queues and consumers: which queues have them, which values they take, and whether a repeated
//! declaration must repeat them (RabbitMQ's pages "Queues" and "Consumers").
//!
//! Owns the table that declarations, repeated declarations and `docs/queue-arguments.md` are made from. RabbitMQ takes
//! arguments that it does not know, and so does this table. It must never know what an argument does.

use hopmq_proto::{FieldTable, Value};

use crate::engine::profile::Profile::{self, RabbitMq3_13, RabbitMq4_0, RabbitMq4_3};
use crate::engine::values::type_name;

/// The type of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum QueueType {
    #[default]
    Classic,
    Quorum,
}

impl QueueType {
    /// Reads `x-queue-type`.
    pub(crate) fn of<B: AsRef<[u8]>>(arguments: &FieldTable<B>) -> Result<Self, Invalid> {
        const TYPE: &str = "x-queue-type";
        let Some(value) = arguments.as_ref_table().get(TYPE) else { return Ok(Self::Classic) };
        TYPES.check(value).map_err(|why| Invalid::Value(TYPE, why))?;
        match value {
            Value::Str(b"quorum") => Ok(Self::Quorum),
            Value::Str(b"stream") => Err(Invalid::Value(TYPE, "this broker has no streams".to_owned())),
            _ => Ok(Self::Classic),
        }
    }

    /// Returns RabbitMQ's name for the module that implements the type.
    pub(crate) fn module(self) -> &'static str {
        match self {
            Self::Classic => "rabbit_classic_queue",
            Self::Quorum => "rabbit_quorum_queue",
        }
    }
}

/// The values that an argument takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Range {
    /// Integers of any width, from the first to the second. RabbitMQ's word for a larger one is the third.
    Integer(i64, i64, &'static str),
    /// One of these integers. RabbitMQ calls it "queue version".
    Version(&'static [i64]),
    Flag,
    Text,
    /// The name of an exchange, whose type is refused with a text of its own.
    Exchange,
    /// One of these texts. RabbitMQ's word for another one follows; `'_'` in it stands for the value.
    OneOf(&'static [&'static str], &'static str),
    /// Every value. RabbitMQ ignores it.
    Any,
    /// None: the argument is a deprecated feature of this name, and ends the connection with 541.
    Withdrawn(&'static str),
}

/// Which queues have an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    Classic,
    Quorum,
    Both,
    /// Streams only, which this broker does not have.
    Streams,
}

/// Whether a repeated declaration must have the same value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repeat {
    Equal,
    Free,
}

/// An argument, in the releases from the first to the last.
#[derive(Clone, Copy, Debug)]
struct Row {
    name: &'static str,
    on: On,
    releases: [Profile; 2],
    range: Range,
    repeat: Repeat,
}

/// The longest time in milliseconds: ten years.
pub(crate) const LONGEST: i64 = 315_360_000_000;

const ALL: [Profile; 2] = [RabbitMq3_13, RabbitMq4_3];
const BEFORE_4_3: [Profile; 2] = [RabbitMq3_13, RabbitMq4_0];
const FROM_4_0: [Profile; 2] = [RabbitMq4_0, RabbitMq4_3];
const ONLY_3: [Profile; 2] = [RabbitMq3_13, RabbitMq3_13];
const ONLY_4_0: [Profile; 2] = [RabbitMq4_0, RabbitMq4_0];
const ONLY_4_3: [Profile; 2] = [RabbitMq4_3, RabbitMq4_3];

const TIME: Range = Range::Integer(0, LONGEST, "value_too_large");
const TIME_ABOVE_ZERO: Range = Range::Integer(1, LONGEST, "value_too_large");
const COUNT: Range = Range::Integer(0, i64::MAX, "");
const COUNT_ABOVE_ZERO: Range = Range::Integer(1, i64::MAX, "");
const INTEGER: Range = Range::Integer(i64::MIN, i64::MAX, "");
const TYPES: Range = Range::OneOf(&["classic", "quorum", "stream"], "\"unsupported queue type '_'\"");
const MODES: Range = Range::OneOf(&["default", "lazy"], "\"unsupported queue mode '_'\"");
const OVERFLOWS: Range = Range::OneOf(&["drop-head", "reject-publish", "reject-publish-dlx"], "invalid_overflow");
const STRATEGIES: Range = Range::OneOf(&["at-most-once", "at-least-once"], "invalid_dlx_strategy");
const LOCATORS: Range =
    Range::OneOf(&["client-local", "balanced", "least-leaders", "random"], "invalid_queue_locator_arg");
const LOCATORS_4: Range =
    Range::OneOf(&["client-local", "balanced", "least-leaders", "random", "min-masters"], "invalid_queue_locator_arg");
const MASTERS: Range = Range::OneOf(&["client-local", "min-masters", "random"], "invalid_queue_locator_arg");
const RETRIES: Range =
    Range::OneOf(&["disabled", "all", "failed", "returned"], "\"unsupported delayed retry type '_'\"");

/// Declarations; in RabbitMQ's order, in which it names the first fault.
#[rustfmt::skip]
const QUEUES: &[Row] = {
    use {On::*, Repeat::*};
    &[
        row("x-expires", Both, ALL, TIME_ABOVE_ZERO, Equal),
        row("x-message-ttl", Both, ALL, TIME, Equal),
        row("x-dead-letter-exchange", Both, ALL, Range::Exchange, Equal),
        row("x-dead-letter-routing-key", Both, ALL, Range::Text, Equal),
        row("x-dead-letter-strategy", Quorum, ALL, STRATEGIES, Equal),
        row("x-max-length", Both, ALL, COUNT, Equal),
        row("x-max-length-bytes", Both, ALL, COUNT, Equal),
        row("x-max-in-memory-length", Quorum, ALL, COUNT, Equal),
        row("x-max-in-memory-bytes", Quorum, ALL, COUNT, Equal),
        row("x-max-priority", Classic, ALL, Range::Integer(0, 255, "max_value_exceeded"), Equal),
        row("x-overflow", Both, ALL, OVERFLOWS, Equal),
        row("x-queue-mode", Classic, BEFORE_4_3, MODES, Equal),
        row("x-queue-mode", Classic, ONLY_4_3, Range::Any, Equal),
        row("x-queue-version", Classic, BEFORE_4_3, Range::Version(&[1, 2]), Equal),
        row("x-queue-version", Classic, ONLY_4_3, Range::Version(&[2]), Equal),
        row("x-single-active-consumer", Both, ALL, Range::Flag, Equal),
        row("x-queue-type", Both, ALL, TYPES, Equal),
        row("x-quorum-initial-group-size", Quorum, ALL, COUNT_ABOVE_ZERO, Equal),
        row("x-max-age", Streams, ALL, Range::Any, Equal),
        row("x-stream-max-segment-size-bytes", Streams, ALL, Range::Any, Equal),
        row("x-initial-cluster-size", Streams, ALL, Range::Any, Equal),
        row("x-queue-leader-locator", Quorum, ONLY_3, LOCATORS, Equal),
        row("x-queue-leader-locator", Both, FROM_4_0, LOCATORS_4, Equal),
        row("x-queue-master-locator", Classic, ONLY_3, MASTERS, Equal),
        row("x-queue-master-locator", Classic, ONLY_4_0, Range::Any, Equal),
        row("x-queue-master-locator", Classic, ONLY_4_3, Range::Withdrawn("queue_master_locator"), Equal),
        row("x-delivery-limit", Quorum, ALL, INTEGER, Equal),
        row("x-delayed-retry-type", Quorum, ONLY_4_3, RETRIES, Equal),
        row("x-delayed-retry-min", Quorum, ONLY_4_3, TIME_ABOVE_ZERO, Equal),
        row("x-delayed-retry-max", Quorum, ONLY_4_3, TIME_ABOVE_ZERO, Equal),
        row("x-delayed-retry-multiplier", Quorum, ONLY_4_3, TIME_ABOVE_ZERO, Equal),
        row("x-consumer-timeout", Both, ALL, TIME, Free),
    ]
};

/// Consumers.
#[rustfmt::skip]
const CONSUMERS: &[Row] = {
    use {On::*, Repeat::*};
    &[
        row("x-priority", Both, ALL, INTEGER, Free),
        row("x-cancel-on-ha-failover", Classic, ONLY_3, Range::Flag, Free),
        row("x-consumer-timeout", Both, ALL, TIME, Free),
        row("x-stream-offset", Streams, ALL, Range::Any, Free),
        row("x-stream-filter", Streams, ALL, Range::Any, Free),
        row("x-stream-match-unfiltered", Streams, ALL, Range::Any, Free),
    ]
};

const fn row(name: &'static str, on: On, releases: [Profile; 2], range: Range, repeat: Repeat) -> Row {
    Row { name, on, releases, range, repeat }
}

/// Why an argument or a property is invalid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Invalid {
    /// An argument has an invalid value. The text is RabbitMQ's, in Erlang syntax.
    Value(&'static str, String),
    /// An argument has an invalid type.
    Type(&'static str, &'static str),
    /// Queues of this type do not support an argument.
    Unsupported(&'static str, QueueType),
    /// Quorum queues do not support a property.
    Property(&'static str),
    /// The argument is a deprecated feature of this name.
    Withdrawn(&'static str),
}

impl Invalid {
    /// Returns the text for the client.
    pub(crate) fn text(&self, queue: &str, vhost: &str) -> String {
        let resource = format_args!("queue '{queue}' in vhost '{vhost}'");
        match self {
            Self::Value(argument, why) => format!("invalid arg '{argument}' for {resource}: {why}"),
            Self::Type(argument, kind) => format!("invalid type '{kind}' for arg '{argument}' in {resource}"),
            Self::Unsupported(argument, of) => {
                format!("invalid arg '{argument}' for {resource} of queue type {}", of.module())
            }
            Self::Property(property) => format!("invalid property '{property}' for {resource}"),
            Self::Withdrawn(feature) => format!(
                "Feature `{feature}` is deprecated.\nBy default, this feature is not permitted anymore.\nThe feature \
                 will be removed from a future major RabbitMQ version, regardless of the configuration; actual version \
                 to be determined."
            ),
        }
    }
}

impl Row {
    fn is_in(&self, profile: Profile) -> bool {
        (self.releases[0]..=self.releases[1]).contains(&profile)
    }

    fn is_for(&self, queue: QueueType) -> bool {
        match self.on {
            On::Both => true,
            On::Classic => queue == QueueType::Classic,
            On::Quorum => queue == QueueType::Quorum,
            On::Streams => false,
        }
    }

    fn check(&self, value: Value<'_>) -> Result<(), Invalid> {
        match self.range {
            Range::Exchange if !matches!(value, Value::Str(_)) => Err(Invalid::Type(self.name, type_name(value))),
            Range::Withdrawn(feature) => Err(Invalid::Withdrawn(feature)),
            range => range.check(value).map_err(|why| Invalid::Value(self.name, why)),
        }
    }
}

impl Range {
    /// Returns RabbitMQ's reason if a value is not in the range.
    fn check(self, value: Value<'_>) -> Result<(), String> {
        match self {
            Self::Any | Self::Withdrawn(_) => Ok(()),
            Self::Flag => match value {
                Value::Bool(_) => Ok(()),
                _ => Err(unacceptable(value)),
            },
            Self::Integer(least, most, above) => {
                let number = integer(value)?;
                match number {
                    0 if least > 0 => Err("{value_zero,0}".to_owned()),
                    _ if number < least => Err(format!("{{value_negative,{number}}}")),
                    _ if number > most => Err(format!("{{{above},{number}}}")),
                    _ => Ok(()),
                }
            }
            Self::Version(known) => {
                let number = integer(value)?;
                match number {
                    ..0 => Err(format!("{{value_negative,{number}}}")),
                    _ if known.contains(&number) => Ok(()),
                    _ => Err(format!("\"unsupported queue version '{number}'\"")),
                }
            }
            Self::Text | Self::Exchange => text(value).map(|_| ()),
            Self::OneOf(known, other) => match text(value)? {
                text if known.contains(&text) => Ok(()),
                text => Err(other.replace("'_'", &format!("'{text}'"))),
            },
        }
    }
}

fn integer(value: Value<'_>) -> Result<i64, String> {
    value.as_i64().ok_or_else(|| format!("\"expected integer, got {}\"", type_name(value)))
}

fn text(value: Value<'_>) -> Result<&str, String> {
    match value {
        Value::Str(bytes) => std::str::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned()),
        _ => Err(unacceptable(value)),
    }
}

fn unacceptable(value: Value<'_>) -> String {
    format!("{{unacceptable_type,{}}}", type_name(value))
}

/// Checks the arguments of a new queue.
pub(super) fn check_queue(arguments: &FieldTable, queue: QueueType, profile: Profile) -> Result<(), Invalid> {
    check(QUEUES, arguments.as_ref_table(), queue, profile)
}

/// Checks the arguments of a new consumer.
pub(crate) fn check_consumer(arguments: FieldTable<&[u8]>, queue: QueueType, profile: Profile) -> Result<(), Invalid> {
    check(CONSUMERS, arguments, queue, profile)
}

/// The arguments that the queue has are checked before those that it does not have, as in RabbitMQ.
fn check(rows: &[Row], arguments: FieldTable<&[u8]>, queue: QueueType, profile: Profile) -> Result<(), Invalid> {
    let given = || rows.iter().filter(|row| row.is_in(profile) && arguments.contains_key(row.name));
    for row in given().filter(|row| row.is_for(queue)) {
        row.check(arguments.get(row.name).unwrap_or(Value::Void))?;
    }
    match given().find(|row| !row.is_for(queue)) {
        Some(row) => Err(Invalid::Unsupported(row.name, queue)),
        None => Ok(()),
    }
}

/// Returns the names of the arguments that must be equal in a repeated declaration.
pub(crate) fn compared(queue: QueueType, profile: Profile) -> impl Iterator<Item = &'static str> {
    let rows = QUEUES.iter().filter(move |row| row.is_in(profile) && row.is_for(queue));
    rows.filter(|row| row.repeat == Repeat::Equal).map(|row| row.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Row {
        /// Returns the row of the page.
        fn line(&self) -> String {
            let on = match self.on {
                On::Classic => "classic",
                On::Quorum => "quorum",
                On::Both => "classic, quorum",
                On::Streams => "none: streams only",
            };
            let [first, last] = self.releases;
            let releases = match (first, last) {
                _ if self.releases == ALL => "all".to_owned(),
                _ if first == last => first.to_string(),
                _ => format!("{first} to {last}"),
            };
            let list = |texts: &[&str]| texts.iter().map(|text| format!("`{text}`")).collect::<Vec<_>>().join(", ");
            let range = match self.range {
                _ if self.on == On::Streams => "none".to_owned(),
                Range::Integer(i64::MIN, i64::MAX, _) => "an integer".to_owned(),
                Range::Integer(least, i64::MAX, _) => format!("an integer of at least {least}"),
                Range::Integer(least, most, _) => format!("an integer from {least} to {most}"),
                Range::Version(known) => known.iter().map(i64::to_string).collect::<Vec<_>>().join(" or "),
                Range::Flag => "a boolean".to_owned(),
                Range::Text => "a text".to_owned(),
                Range::Exchange => "the name of an exchange".to_owned(),
                Range::OneOf(known, _) => list(known).replace(", `stream`", ""),
                Range::Any => "anything; ignored".to_owned(),
                Range::Withdrawn(_) => "none: 541".to_owned(),
            };
            let repeat = match (self.on, self.repeat) {
                (On::Streams, _) => "",
                (_, Repeat::Equal) => "equal",
                (_, Repeat::Free) => "anything",
            };
            format!("| `{}` | {on} | {releases} | {range} | {repeat} |", self.name).replace("|  |", "| |")
        }
    }

    fn page() -> String {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/queue-arguments.md");
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn the_page_has_the_rows_of_the_tables() {
        let page = page();
        let found: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
        let consumers = CONSUMERS.iter().map(|row| row.line().rsplit_once(" | ").unwrap().0.to_owned() + " |");
        let expected: Vec<String> = QUEUES.iter().map(Row::line).chain(consumers).collect();
        assert!(found == expected, "docs/queue-arguments.md must have these rows:\n{}", expected.join("\n"));
    }

    #[test]
    fn no_release_has_two_rows_for_one_argument_of_one_queue() {
        for profile in Profile::ALL {
            for queue in [QueueType::Classic, QueueType::Quorum] {
                for rows in [QUEUES, CONSUMERS] {
                    let all = rows.iter().filter(|row| row.is_in(profile) && row.is_for(queue));
                    let mut names: Vec<&str> = all.map(|row| row.name).collect();
                    let count = names.len();
                    names.sort_unstable();
                    names.dedup();
                    assert_eq!(names.len(), count, "{profile} {queue:?}");
                }
            }
        }
    }
}
