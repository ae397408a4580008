//! A connection: the handshake, the answers, and the number of published and acknowledged messages.

use std::io::{self, Read};
use std::sync::Arc;
use std::thread;

use bench_wire::{BODY, FRAME_MAX, Fields, Frames, HEAD, HEADER, Head, METHOD, PROTOCOL_HEADER};

use crate::flood::{self, Control, Order};
use crate::link::Output;

/// The largest read, in bytes.
const READ: usize = 256 << 10;
const CHANNEL_MAX: u16 = 2047;

pub struct Session {
    output: Arc<Output>,
    replies: Frames,
    channels: Vec<Channel>,
    /// The ids of the channels with messages to confirm.
    unconfirmed: Vec<u16>,
    published: u64,
    /// A body frame larger than the buffer: its channel, its size, the bytes still to come.
    partial: Option<(u16, usize, usize)>,
    echo: Option<Echo>,
    /// The largest frame that the client accepts, in bytes.
    frame_max: usize,
    state: State,
}

#[derive(PartialEq)]
enum State {
    ExpectProtocolHeader,
    Open,
    Ended,
}

#[derive(Default)]
struct Channel {
    confirming: bool,
    published: u64,
    confirmed: u64,
    /// The rest of the body being published, in bytes.
    body_left: usize,
    acked: u64,
    /// The prefetch count; 0 means no limit.
    window: u64,
    flood: Option<Flood>,
}

struct Flood {
    consumer_tag: String,
    control: Arc<Control>,
}

/// A consumer that receives the messages published on its connection.
struct Echo {
    channel: u16,
    consumer_tag: String,
    delivered: u64,
}

impl Session {
    pub fn new(output: Arc<Output>) -> Self {
        Self {
            output,
            replies: Frames::default(),
            channels: Vec::new(),
            unconfirmed: Vec::new(),
            published: 0,
            partial: None,
            echo: None,
            frame_max: FRAME_MAX,
            state: State::ExpectProtocolHeader,
        }
    }

    pub fn run(mut self, mut input: impl Read) -> io::Result<()> {
        let mut buffer = vec![0; READ + FRAME_MAX];
        let mut filled = 0;
        while self.state != State::Ended {
            let n = input.read(&mut buffer[filled..])?;
            if n == 0 {
                break;
            }
            filled += n;
            let used = self.handle(&buffer[..filled])?;
            buffer.copy_within(used..filled, 0);
            filled -= used;
            self.flush()?;
        }
        // The client must close first: some clients report the end of the stream as a failure, even after close-ok.
        while self.state == State::Ended && input.read(&mut buffer)? > 0 {}
        Ok(())
    }

    /// Handles the complete frames in `bytes`, and returns their length.
    fn handle(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.state == State::ExpectProtocolHeader {
            if bytes.len() < 8 {
                return Ok(0);
            }
            if &bytes[..8] != PROTOCOL_HEADER {
                return Err(io::Error::other("the client did not send the header of AMQP 0-9-1"));
            }
            self.start();
            self.state = State::Open;
            return Ok(8);
        }
        let mut at = self.resume_partial(bytes.len());
        while let Some(head) = Head::parse(&bytes[at..]) {
            if head.total() > FRAME_MAX || head.channel > CHANNEL_MAX {
                return Err(io::Error::other("the client sent a frame beyond the negotiated limits"));
            }
            let left = bytes.len() - at;
            if left < head.total() {
                if head.kind == BODY && self.echo.is_none() {
                    self.partial = Some((head.channel, head.size, head.total() - left));
                    at = bytes.len();
                }
                break;
            }
            self.frame(head, &bytes[at..at + head.total()])?;
            at += head.total();
        }
        Ok(at)
    }

    fn resume_partial(&mut self, available: usize) -> usize {
        let Some((channel, size, left)) = &mut self.partial else { return 0 };
        let (channel, size, n) = (*channel, *size, available.min(*left));
        *left -= n;
        if *left == 0 {
            self.partial = None;
            self.body(channel, size);
        }
        n
    }

    #[inline]
    fn frame(&mut self, head: Head, bytes: &[u8]) -> io::Result<()> {
        match head.kind {
            METHOD => {
                let mut fields = Fields(&bytes[HEAD..HEAD + head.size]);
                let id = bytes[HEAD..].first_chunk::<4>().copied().unwrap_or_default();
                match id {
                    [0, 60, 0, 40] => {}
                    [0, 60, 0, 80 | 120] => self.acknowledge(head.channel, &mut fields),
                    _ => return self.request(head.channel, &mut fields),
                }
            }
            HEADER => {
                let size = bytes[HEAD + 4..].first_chunk::<8>().map_or(0, |b| u64::from_be_bytes(*b)) as usize;
                self.echo_begin(bytes);
                self.channel(head.channel).body_left = size;
                if size == 0 {
                    self.published(head.channel);
                }
            }
            BODY => {
                self.echo_part(bytes);
                self.body(head.channel, head.size);
            }
            _ => {}
        }
        Ok(())
    }

    #[inline]
    fn channel(&mut self, id: u16) -> &mut Channel {
        let index = usize::from(id);
        if index >= self.channels.len() {
            self.channels.resize_with(index + 1, Channel::default);
        }
        &mut self.channels[index]
    }

    #[inline]
    fn body(&mut self, channel: u16, size: usize) {
        let state = self.channel(channel);
        state.body_left = state.body_left.saturating_sub(size);
        if state.body_left == 0 {
            self.published(channel);
        }
    }

    #[inline]
    fn published(&mut self, channel: u16) {
        self.published += 1;
        let state = self.channel(channel);
        if state.confirming {
            state.published += 1;
            if state.published == state.confirmed + 1 {
                self.unconfirmed.push(channel);
            }
        }
    }

    /// Writes the answers, with one confirm for each channel and read.
    fn flush(&mut self) -> io::Result<()> {
        for channel in std::mem::take(&mut self.unconfirmed) {
            let state = &mut self.channels[usize::from(channel)];
            state.confirmed = state.published;
            let tag = state.confirmed;
            self.replies.method(channel, 60, 80, |f| {
                f.u64(tag).u8(1);
            });
        }
        for flood in self.channels.iter().filter_map(|state| state.flood.as_ref()) {
            flood.control.wake();
        }
        if !self.replies.0.is_empty() {
            self.output.send(&self.replies.0)?;
            self.replies.0.clear();
        }
        Ok(())
    }

    fn acknowledge(&mut self, channel: u16, fields: &mut Fields<'_>) {
        fields.u32();
        let (tag, multiple) = (fields.u64(), fields.u8() & 1 == 1);
        let state = self.channel(channel);
        state.acked = if multiple { state.acked.max(tag) } else { state.acked + 1 };
        if let Some(flood) = &state.flood {
            flood.control.acked(state.acked);
        }
    }

    fn start(&mut self) {
        let capabilities = [
            "publisher_confirms",
            "basic.nack",
            "consumer_cancel_notify",
            "connection.blocked",
            "exchange_exchange_bindings",
        ];
        let mut inner = Frames::default();
        for name in capabilities {
            inner.short(name).u8(b't').u8(1);
        }
        let mut properties = Frames::default();
        properties.short("product").u8(b'S').long(b"counterpart");
        properties.short("capabilities").u8(b'F').long(&inner.0);
        self.replies.method(0, 10, 10, |f| {
            f.u8(0).u8(9).long(&properties.0).long(b"PLAIN AMQPLAIN").long(b"en_US");
        });
    }

    fn request(&mut self, channel: u16, fields: &mut Fields<'_>) -> io::Result<()> {
        let (class, method) = (fields.u16(), fields.u16());
        match (class, method) {
            (10, 11) => {
                self.replies.method(0, 10, 30, |f| {
                    f.u16(CHANNEL_MAX).u32(FRAME_MAX as u32).u16(0);
                });
            }
            (10, 31) => {
                fields.u16();
                self.frame_max = match fields.u32() as usize {
                    0 => FRAME_MAX,
                    wanted => wanted.clamp(4096, FRAME_MAX),
                };
            }
            (10, 40) => self.reply(0, 10, 41, &[0]),
            (10, 50) => {
                self.reply(0, 10, 51, &[]);
                self.state = State::Ended;
            }
            (20, 10) => self.reply(channel, 20, 11, &[0; 4]),
            (20, 20) => self.reply(channel, 20, 21, &[fields.u8()]),
            (20, 40) => {
                self.stop(channel, None);
                *self.channel(channel) = Channel::default();
                self.reply(channel, 20, 41, &[]);
            }
            (50, 10) => self.declare(channel, fields),
            (50, 30 | 40) => self.reply(channel, 50, method + 1, &[0; 4]),
            (60, 20) => return self.consume(channel, fields),
            (60, 30) => {
                let tag = fields.short();
                self.stop(channel, Some(tag));
                if fields.u8() & 1 == 0 {
                    self.replies.method(channel, 60, 31, |f| {
                        f.short(tag);
                    });
                }
            }
            (60, 70) => self.reply(channel, 60, 72, &[0]),
            (85, 10) => {
                self.channel(channel).confirming = true;
                if fields.u8() & 1 == 0 {
                    self.reply(channel, 85, 11, &[]);
                }
            }
            (60, 10) => {
                fields.u32();
                self.channel(channel).window = fields.u16().into();
                self.reply(channel, 60, 11, &[]);
            }
            // unbind-ok is 51, not 41.
            (40, 40) => self.reply(channel, 40, 51, &[]),
            (60, 110) | (40, 10 | 20 | 30) | (50, 20 | 50) | (90, 10 | 20 | 30) => {
                self.reply(channel, class, method + 1, &[]);
            }
            _ => {}
        }
        Ok(())
    }

    fn reply(&mut self, channel: u16, class: u16, method: u16, arguments: &[u8]) {
        self.replies.method(channel, class, method, |f| {
            f.bytes(arguments);
        });
    }

    fn declare(&mut self, channel: u16, fields: &mut Fields<'_>) {
        fields.u16();
        let name = fields.short();
        let no_wait = fields.u8() & 0b1_0000 != 0;
        let seen = self.published + self.channels.iter().map(|state| state.acked).sum::<u64>();
        if !no_wait {
            self.replies.method(channel, 50, 11, |f| {
                f.short(if name.is_empty() { "amq.gen-counterpart" } else { name }).u32(seen as u32).u32(0);
            });
        }
    }

    fn consume(&mut self, channel: u16, fields: &mut Fields<'_>) -> io::Result<()> {
        fields.u16();
        let (queue, mut tag, bits) = (fields.short(), fields.short().to_owned(), fields.u8());
        let no_ack = bits & 0b10 != 0;
        let no_wait = bits & 0b1000 != 0;
        if tag.is_empty() {
            tag = format!("ctag-{channel}");
        }
        if !no_wait {
            self.replies.method(channel, 60, 21, |f| {
                f.short(&tag);
            });
        }
        self.flush()?;
        if let Some((size, count)) = Order::parse(queue) {
            let window = if no_ack { 0 } else { self.channel(channel).window };
            let control = Arc::<Control>::default();
            let flood = Flood { consumer_tag: tag.clone(), control: control.clone() };
            self.stop(channel, None);
            self.channel(channel).flood = Some(flood);
            let queue = queue.to_owned();
            let frame_max = self.frame_max;
            let order = Order { channel, consumer_tag: tag, queue, size, count, frame_max, window };
            let output = self.output.clone();
            thread::Builder::new().stack_size(128 << 10).spawn(move || flood::run(&order, &output, &control))?;
        } else if queue.starts_with("echo") {
            self.echo = Some(Echo { channel, consumer_tag: tag, delivered: 0 });
        }
        Ok(())
    }

    /// Stops the flood of `channel`, or only that of `consumer_tag`.
    fn stop(&mut self, channel: u16, consumer_tag: Option<&str>) {
        let flood = &mut self.channel(channel).flood;
        if let Some(flood) = flood.take_if(|flood| consumer_tag.is_none_or(|tag| tag == flood.consumer_tag)) {
            flood.control.stop();
        }
    }

    fn echo_begin(&mut self, header: &[u8]) {
        let Some(echo) = &mut self.echo else { return };
        echo.delivered += 1;
        let tag = echo.delivered;
        self.replies.method(echo.channel, 60, 60, |f| {
            f.short(&echo.consumer_tag).u64(tag).u8(0).short("").short("echo");
        });
        self.echo_part(header);
    }

    fn echo_part(&mut self, frame: &[u8]) {
        let Some(echo) = &self.echo else { return };
        self.replies.u8(frame[0]).u16(echo.channel).bytes(&frame[3..]);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        for state in &mut self.channels {
            if let Some(flood) = &state.flood {
                flood.control.stop();
            }
        }
        self.output.close();
    }
}
