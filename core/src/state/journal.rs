//! Copies of the unconfirmed publishes of one channel, to publish them again on a new link.
//!
//! Owns one buffer that holds small messages one after another; a large body that the program passed by value is kept
//! without a copy, and so are a route and properties that many messages share. Confirmed messages are removed at the
//! front. So keeping a message costs a copy of its bytes, and removing a message costs nothing.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use hopmq_proto::{Body, Prepared, Properties, Route};

/// The journal. See the [module's documentation](self).
#[derive(Debug, Default)]
pub(crate) struct Journal {
    bytes: Vec<u8>,
    /// Where the first message begins.
    head: usize,
    /// How many bytes each message takes of `bytes`.
    sizes: VecDeque<u32>,
    /// Large bodies, with the number of their message since the journal began.
    large: VecDeque<(u64, Bytes)>,
    large_size: usize,
    /// From which message on, counted as in `large`, messages have this route and these properties; `None` means their
    /// own, which are in `bytes`.
    shared: VecDeque<(u64, Option<Arc<Prepared>>)>,
    /// Messages that were removed.
    gone: u64,
}

/// A body of at least this many bytes is kept as it is, if the program passed it by value.
const LARGE: usize = 4 * 1024;
/// The largest buffer that is kept when it is empty, in bytes.
const SPARE: usize = 1024 * 1024;
/// Bytes of bookkeeping for each message.
const OVERHEAD: usize = size_of::<u32>();

/// A message of the journal.
pub(crate) struct Kept<'a> {
    pub(crate) route: Route<'a>,
    pub(crate) properties: Properties<&'a [u8]>,
    pub(crate) body: Body<'a>,
}

impl Journal {
    /// Returns how many bytes the journal holds.
    #[inline]
    pub(crate) fn size(&self) -> usize {
        self.bytes.len() - self.head
            + self.large_size
            + self.sizes.len() * OVERHEAD
            + self.shared.len() * size_of::<(u64, Option<Arc<Prepared>>)>()
    }

    /// Keeps a message.
    #[inline]
    pub(crate) fn push(&mut self, route: Route<'_>, properties: Properties<&[u8]>, body: &Body<'_>) {
        if matches!(self.shared.back(), Some((_, Some(_)))) {
            self.shared.push_back((self.next(), None));
        }
        let start = self.bytes.len();
        let list = properties.as_bytes();
        let mandatory = u8::from(route.mandatory);
        let flags = properties.flags().to_be_bytes();
        // Names were checked: they have at most 255 bytes. A property list that is longer than a frame is refused
        // later.
        let exchange = route.exchange.as_bytes();
        let key = route.routing_key.as_bytes();
        let [l0, l1, l2, l3] = (list.len() as u32).to_be_bytes();
        let head = [mandatory, flags[0], flags[1], exchange.len() as u8, key.len() as u8, l0, l1, l2, l3];
        self.bytes.extend_from_slice(&head);
        self.bytes.extend_from_slice(exchange);
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(list);
        self.push_body(start, body);
    }

    /// Keeps a message with a route and properties that others share.
    #[inline]
    pub(crate) fn push_prepared(&mut self, message: &Arc<Prepared>, body: &Body<'_>) {
        if !matches!(self.shared.back(), Some((_, Some(known))) if Arc::ptr_eq(known, message)) {
            self.shared.push_back((self.next(), Some(Arc::clone(message))));
        }
        self.push_body(self.bytes.len(), body);
    }

    /// Keeps the body of the message that begins at `start`.
    #[inline]
    fn push_body(&mut self, start: usize, body: &Body<'_>) {
        match body {
            Body::Shared(body) if body.len() >= LARGE => {
                self.large_size += body.len();
                self.large.push_back((self.next(), body.clone()));
            }
            Body::Shared(body) => self.bytes.extend_from_slice(body),
            Body::Borrowed(body) => self.bytes.extend_from_slice(body),
        }
        self.sizes.push_back((self.bytes.len() - start) as u32);
    }

    /// Returns the number of the next message since the journal began.
    #[inline]
    fn next(&self) -> u64 {
        self.gone + self.sizes.len() as u64
    }

    /// Removes the last message, because it was not published.
    #[cold]
    pub(crate) fn pop_back(&mut self) {
        let Some(size) = self.sizes.pop_back() else { return };
        self.bytes.truncate(self.bytes.len() - size as usize);
        let number = self.next();
        if self.large.back().is_some_and(|(of, _)| *of == number)
            && let Some((_, body)) = self.large.pop_back()
        {
            self.large_size -= body.len();
        }
        if self.shared.back().is_some_and(|(from, _)| *from == number) {
            self.shared.pop_back();
        }
    }

    /// Removes the first message.
    #[inline]
    pub(crate) fn pop_front(&mut self) {
        let Some(size) = self.sizes.pop_front() else { return };
        self.head += size as usize;
        if self.large.front().is_some_and(|(number, _)| *number == self.gone)
            && let Some((_, body)) = self.large.pop_front()
        {
            self.large_size -= body.len();
        }
        self.gone += 1;
        if self.shared.get(1).is_some_and(|(from, _)| *from <= self.gone) {
            self.shared.pop_front();
        }
        if self.head == self.bytes.len() {
            self.head = 0;
            self.bytes.clear();
            if self.bytes.capacity() > SPARE {
                self.bytes = Vec::new();
            }
        } else if self.head > self.bytes.len() / 2 && self.head > SPARE / 8 {
            self.bytes.drain(..self.head);
            self.head = 0;
        }
    }

    /// Returns the messages in the order of publishing.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Kept<'_>> {
        let mut rest = &self.bytes[self.head..];
        let mut large = self.large.iter().peekable();
        let mut shared = self.shared.iter().peekable();
        let mut prepared = None;
        (self.gone..).zip(&self.sizes).map(move |(number, size)| {
            let (message, after) = rest.split_at(*size as usize);
            rest = after;
            let body = large.next_if(|(of, _)| *of == number).map(|(_, body)| body.clone());
            while let Some((_, message)) = shared.next_if(|(from, _)| *from <= number) {
                prepared = message.as_deref();
            }
            match prepared {
                None => read(message, body),
                Some(prepared) => Kept {
                    route: prepared.route(),
                    properties: prepared.properties(),
                    body: body.map_or(Body::Borrowed(message), Body::Shared),
                },
            }
        })
    }
}

fn read(message: &[u8], large: Option<Bytes>) -> Kept<'_> {
    let (head, rest) = message.split_at(9);
    let (exchange, rest) = rest.split_at(usize::from(head[3]));
    let (key, rest) = rest.split_at(usize::from(head[4]));
    let (list, body) = rest.split_at(u32::from_be_bytes([head[5], head[6], head[7], head[8]]) as usize);
    let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
    Kept {
        route: Route { exchange: text(exchange), routing_key: text(key), mandatory: head[0] != 0 },
        properties: Properties::from_parts(u16::from_be_bytes([head[1], head[2]]), list),
        body: large.map_or(Body::Borrowed(body), Body::Shared),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number that a message takes its route and properties from. Each third run of eight messages shares them.
    fn source(number: usize) -> usize {
        if (number / 8).is_multiple_of(3) { number / 8 } else { number }
    }

    fn push(journal: &mut Journal, number: usize) {
        let source = source(number);
        let exchange = format!("e{source}");
        let key = "k".repeat(source % 200);
        let route = Route { exchange: &exchange, routing_key: &key, mandatory: source.is_multiple_of(2) };
        let properties = Properties::new().with_message_id(&source.to_string());
        let body = vec![number as u8; (number * 37) % 9000];
        let body = if number.is_multiple_of(3) { Body::Borrowed(&body) } else { Body::from(body.clone()) };
        if source == number {
            return journal.push(route, properties.as_ref_properties(), &body);
        }
        let same = journal.shared.back().and_then(|(_, known)| known.clone());
        let same = same.filter(|known| known.route().exchange == exchange);
        let prepared = || Arc::new(Prepared::new(route, properties.as_ref_properties()).expect("it can be encoded"));
        journal.push_prepared(&same.unwrap_or_else(prepared), &body);
    }

    #[test]
    fn kept_messages_are_returned_unchanged_and_in_order() {
        let mut journal = Journal::default();
        let mut first = 0;
        let mut next = 0;
        for round in 0..2000 {
            for _ in 0..round % 4 {
                push(&mut journal, next);
                next += 1;
            }
            if round % 5 == 0 {
                push(&mut journal, 4321);
                journal.pop_back();
            }
            for _ in 0..usize::min(round % 3 + round % 2, next - first) {
                journal.pop_front();
                first += 1;
            }
            if round % 100 == 0 {
                let mut expected = Journal::default();
                (first..next).for_each(|number| push(&mut expected, number));
                assert_eq!(journal.bytes.len() - journal.head, expected.bytes.len());
                assert!(journal.shared.len() <= 2 + (next - first) / 4, "{} of {}", journal.shared.len(), next - first);
                assert_eq!(journal.iter().count(), next - first);
                for (number, kept) in (first..).zip(journal.iter()) {
                    let source = source(number);
                    assert_eq!(kept.route.exchange, format!("e{source}"));
                    assert_eq!(kept.route.routing_key.len(), source % 200);
                    assert_eq!(kept.route.mandatory, source.is_multiple_of(2));
                    assert_eq!(kept.properties.message_id(), Some(&*source.to_string()));
                    let body = match &kept.body {
                        Body::Borrowed(body) => body,
                        Body::Shared(body) => &body[..],
                    };
                    assert_eq!(body, vec![number as u8; (number * 37) % 9000]);
                }
            }
        }
        while first < next {
            journal.pop_front();
            first += 1;
        }
        assert_eq!((journal.bytes.len(), journal.head, journal.large.len()), (0, 0, 0));
        assert!(journal.shared.len() <= 1);
    }
}
