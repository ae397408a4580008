//! Random input, and the simplest possible encoder.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use amq_protocol::types::{AMQPType, AMQPValue, DecimalValue};
use amq_protocol_codegen::{AMQPArgument, AMQPClass, AMQPMethod, AMQPValueArgument, AMQProtocolDefinition};
use hopmq_proto::{FieldArray, FieldTable, Value};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::strategy::Union;

pub(crate) fn specification() -> &'static [AMQPClass] {
    static SPECIFICATION: OnceLock<Vec<AMQPClass>> = OnceLock::new();
    SPECIFICATION.get_or_init(|| AMQProtocolDefinition::load(None).classes)
}

/// An owned value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Tree {
    Void,
    Bool(bool),
    I8(i8),
    U8(u8),
    I16(i16),
    U16(u16),
    I32(i32),
    U32(u32),
    I64(i64),
    F32(f32),
    F64(f64),
    Decimal(u8, u32),
    Str(Vec<u8>),
    Bytes(Vec<u8>),
    Timestamp(u64),
    Array(Vec<Tree>),
    Table(BTreeMap<String, Tree>),
}

pub(crate) fn short_string() -> impl Strategy<Value = String> {
    prop_oneof![8 => "[a-z.#*]{0,12}", 1 => ".{0,40}", 1 => "[a-z]{255}"]
}

fn any_value() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        Just(Tree::Void),
        any::<bool>().prop_map(Tree::Bool),
        any::<i8>().prop_map(Tree::I8),
        any::<u8>().prop_map(Tree::U8),
        any::<i16>().prop_map(Tree::I16),
        any::<u16>().prop_map(Tree::U16),
        any::<i32>().prop_map(Tree::I32),
        any::<u32>().prop_map(Tree::U32),
        any::<i64>().prop_map(Tree::I64),
        any::<f32>().prop_map(Tree::F32),
        any::<f64>().prop_map(Tree::F64),
        any::<(u8, u32)>().prop_map(|(scale, value)| Tree::Decimal(scale, value)),
        vec(any::<u8>(), 0..300).prop_map(Tree::Str),
        vec(any::<u8>(), 0..20).prop_map(Tree::Bytes),
        any::<u64>().prop_map(Tree::Timestamp),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Tree::Array),
            btree_map(short_string(), inner, 0..5).prop_map(Tree::Table),
        ]
    })
}

pub(crate) fn any_table() -> impl Strategy<Value = Tree> {
    btree_map(short_string(), any_value(), 0..6).prop_map(Tree::Table)
}

impl Tree {
    /// Appends the value with its type tag.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let (tag, bytes) = match self {
            Self::Void => (b'V', vec![]),
            Self::Bool(value) => (b't', vec![u8::from(*value)]),
            Self::I8(n) => (b'b', n.to_be_bytes().to_vec()),
            Self::U8(n) => (b'B', vec![*n]),
            Self::I16(n) => (b's', n.to_be_bytes().to_vec()),
            Self::U16(n) => (b'u', n.to_be_bytes().to_vec()),
            Self::I32(n) => (b'I', n.to_be_bytes().to_vec()),
            Self::U32(n) => (b'i', n.to_be_bytes().to_vec()),
            Self::I64(n) => (b'l', n.to_be_bytes().to_vec()),
            Self::F32(n) => (b'f', n.to_be_bytes().to_vec()),
            Self::F64(n) => (b'd', n.to_be_bytes().to_vec()),
            Self::Decimal(scale, n) => (b'D', [&[*scale][..], &n.to_be_bytes()].concat()),
            Self::Timestamp(n) => (b'T', n.to_be_bytes().to_vec()),
            Self::Str(bytes) => (b'S', long(bytes)),
            Self::Bytes(bytes) => (b'x', long(bytes)),
            Self::Array(values) => {
                let mut body = Vec::new();
                values.iter().for_each(|value| value.encode(&mut body));
                (b'A', long(&body))
            }
            Self::Table(entries) => {
                let mut body = Vec::new();
                for (key, value) in entries {
                    body.extend_from_slice(&short(key));
                    value.encode(&mut body);
                }
                (b'F', long(&body))
            }
        };
        out.push(tag);
        out.extend_from_slice(&bytes);
    }

    /// Converts to the table of this crate.
    pub(crate) fn ours(&self) -> FieldTable {
        let Self::Table(entries) = self else { panic!("not a table: {self:?}") };
        let mut table = FieldTable::new();
        for (key, value) in entries {
            table.insert(key, "before");
            value.give(|value| {
                table.insert(key, value);
            });
        }
        table
    }

    fn give(&self, take: impl FnOnce(Value<'_>)) {
        match self {
            Self::Void => take(Value::Void),
            Self::Bool(value) => take(Value::from(*value)),
            Self::I8(n) => take(Value::from(*n)),
            Self::U8(n) => take(Value::from(*n)),
            Self::I16(n) => take(Value::from(*n)),
            Self::U16(n) => take(Value::from(*n)),
            Self::I32(n) => take(Value::from(*n)),
            Self::U32(n) => take(Value::from(*n)),
            Self::I64(n) => take(Value::from(*n)),
            Self::F32(n) => take(Value::from(*n)),
            Self::F64(n) => take(Value::from(*n)),
            Self::Decimal(scale, value) => take(Value::Decimal { scale: *scale, value: *value }),
            Self::Str(bytes) => take(Value::Str(bytes)),
            Self::Bytes(bytes) => take(Value::Bytes(bytes)),
            Self::Timestamp(seconds) => take(Value::Timestamp(*seconds)),
            Self::Array(values) => {
                let mut array = FieldArray::new();
                for value in values {
                    let take: &mut dyn FnMut(Value<'_>) = &mut |value| {
                        array.push(value);
                    };
                    value.give(take);
                }
                take(Value::from(&array));
            }
            Self::Table(_) => take(Value::from(&self.ours())),
        }
    }

    pub(crate) fn from_table(table: FieldTable<&[u8]>) -> Self {
        Self::Table(table.iter().map(|(key, value)| (key.to_string(), Self::from_value(value))).collect())
    }

    fn from_value(value: Value<'_>) -> Self {
        match value {
            Value::Void => Self::Void,
            Value::Bool(value) => Self::Bool(value),
            Value::I8(n) => Self::I8(n),
            Value::U8(n) => Self::U8(n),
            Value::I16(n) => Self::I16(n),
            Value::U16(n) => Self::U16(n),
            Value::I32(n) => Self::I32(n),
            Value::U32(n) => Self::U32(n),
            Value::I64(n) => Self::I64(n),
            Value::F32(n) => Self::F32(n),
            Value::F64(n) => Self::F64(n),
            Value::Decimal { scale, value } => Self::Decimal(scale, value),
            Value::Str(bytes) => Self::Str(bytes.to_vec()),
            Value::Bytes(bytes) => Self::Bytes(bytes.to_vec()),
            Value::Timestamp(seconds) => Self::Timestamp(seconds),
            Value::Array(array) => Self::Array(array.iter().map(Self::from_value).collect()),
            Value::Table(table) => Self::from_table(table),
        }
    }

    /// Converts to the value of `amq-protocol`.
    pub(crate) fn theirs(&self) -> AMQPValue {
        match self {
            Self::Void => AMQPValue::Void,
            Self::Bool(value) => AMQPValue::Boolean(*value),
            Self::I8(n) => AMQPValue::ShortShortInt(*n),
            Self::U8(n) => AMQPValue::ShortShortUInt(*n),
            Self::I16(n) => AMQPValue::ShortInt(*n),
            Self::U16(n) => AMQPValue::ShortUInt(*n),
            Self::I32(n) => AMQPValue::LongInt(*n),
            Self::U32(n) => AMQPValue::LongUInt(*n),
            Self::I64(n) => AMQPValue::LongLongInt(*n),
            Self::F32(n) => AMQPValue::Float(*n),
            Self::F64(n) => AMQPValue::Double(*n),
            Self::Decimal(scale, value) => AMQPValue::DecimalValue(DecimalValue { scale: *scale, value: *value }),
            Self::Str(bytes) => AMQPValue::LongString(bytes.clone().into()),
            Self::Bytes(bytes) => AMQPValue::ByteArray(bytes.clone().into()),
            Self::Timestamp(seconds) => AMQPValue::Timestamp(*seconds),
            Self::Array(values) => AMQPValue::FieldArray(values.iter().map(Self::theirs).collect::<Vec<_>>().into()),
            Self::Table(entries) => {
                let entries: BTreeMap<_, _> =
                    entries.iter().map(|(key, value)| (key.as_str().into(), value.theirs())).collect();
                AMQPValue::FieldTable(entries.into())
            }
        }
    }
}

fn short(text: &str) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// Random payloads of all methods.
pub(crate) fn payloads() -> impl Strategy<Value = Vec<u8>> {
    let methods = specification().iter().flat_map(|class| class.methods.iter().map(move |method| (class, method)));
    Union::new(methods.map(|(class, method)| payload(class, method)))
}

fn payload(class: &AMQPClass, method: &AMQPMethod) -> BoxedStrategy<Vec<u8>> {
    let id = Just([class.id.to_be_bytes(), method.id.to_be_bytes()].concat()).boxed();
    let arguments = method.arguments.iter().map(|argument| match argument {
        AMQPArgument::Value(value) if value.force_default => Just(default(value)).boxed(),
        AMQPArgument::Value(value) => argument_of(value.amqp_type),
        AMQPArgument::Flags(flags) => {
            let free = flags.flags.iter().enumerate().filter(|(_, flag)| !flag.force_default);
            let mask: u8 = free.map(|(n, _)| 1 << n).sum();
            any::<u8>().prop_map(move |bits| vec![bits & mask]).boxed()
        }
    });
    let parts: Vec<_> = std::iter::once(id).chain(arguments).collect();
    parts.prop_map(|parts| parts.concat()).boxed()
}

fn default(value: &AMQPValueArgument) -> Vec<u8> {
    match value.amqp_type {
        AMQPType::ShortString => vec![0],
        AMQPType::LongUInt | AMQPType::LongString => vec![0; 4],
        AMQPType::ShortUInt => vec![0, u8::from(value.default_value == Some(AMQPValue::ShortUInt(1)))],
        other => panic!("unexpected type of a reserved argument: {other:?}"),
    }
}

fn argument_of(ty: AMQPType) -> BoxedStrategy<Vec<u8>> {
    match ty {
        AMQPType::ShortShortUInt => any::<u8>().prop_map(|n| vec![n]).boxed(),
        AMQPType::ShortUInt => any::<u16>().prop_map(|n| n.to_be_bytes().to_vec()).boxed(),
        AMQPType::LongUInt => any::<u32>().prop_map(|n| n.to_be_bytes().to_vec()).boxed(),
        AMQPType::LongLongUInt => any::<u64>().prop_map(|n| n.to_be_bytes().to_vec()).boxed(),
        AMQPType::ShortString => short_string().prop_map(|text| short(&text)).boxed(),
        AMQPType::LongString => vec(any::<u8>(), 0..40).prop_map(|bytes| long(&bytes)).boxed(),
        AMQPType::FieldTable => any_table()
            .prop_map(|tree| {
                let mut bytes = Vec::new();
                tree.encode(&mut bytes);
                bytes.split_off(1)
            })
            .boxed(),
        other => panic!("unexpected type of an argument: {other:?}"),
    }
}
