//! One connection: the handshake, the answers, and the count of what was published and acknowledged.

use std::io::{self, Read};
use std::sync::Arc;
use std::thread;

use bench_wire::{BODY, FRAME_MAX, Fields, Frames, HEAD, HEADER, Head, METHOD, PROTOCOL_HEADER};

use crate::flood::{self, Control, Order};
use crate::link::Output;

/// What one read may bring, in bytes.
const READ: usize = 256 << 10;
const CHANNEL_MAX: u16 = 2047;

pub struct Session {
    output: Arc<Output>,
    replies: Frames,
    lanes: Vec<Lane>,
    /// Channels with something to confirm.
    dirty: Vec<u16>,
    published: u64,
    /// The rest of a body frame that the buffer did not hold: its channel, its size, what is to come.
    partial: Option<(u16, usize, usize)>,
    echo: Option<Echo>,
    /// The largest frame that the client takes, in bytes.
    frame_max: usize,
    state: State,
}

#[derive(PartialEq)]
enum State {
    ExpectProtocolHeader,
    Open,
    Ended,
}

/// A channel.
#[derive(Default)]
struct Lane {
    confirming: bool,
    published: u64,
    confirmed: u64,
    /// Of the message being published, in bytes.
    body_left: usize,
    acked: u64,
    /// The prefetch count; 0 is none.
    window: u64,
    flood: Option<Flood>,
}

struct Flood {
    consumer_tag: String,
    control: Arc<Control>,
}

/// Publishes go back to this consumer.
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
            lanes: Vec::new(),
            dirty: Vec::new(),
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
            let used = self.take(&buffer[..filled])?;
            buffer.copy_within(used..filled, 0);
            filled -= used;
            self.flush()?;
        }
        // the client is to close first: some take the end of the stream for a failure, even behind a close-ok
        while self.state == State::Ended && input.read(&mut buffer)? > 0 {}
        Ok(())
    }

    /// Handles what is whole in `bytes` and says how many of them that is.
    fn take(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.state == State::ExpectProtocolHeader {
            if bytes.len() < 8 {
                return Ok(0);
            }
            if &bytes[..8] != PROTOCOL_HEADER {
                return Err(io::Error::other("no AMQP 0-9-1 header"));
            }
            self.start();
            self.state = State::Open;
            return Ok(8);
        }
        let mut at = self.resume_partial(bytes.len());
        while let Some(head) = Head::parse(&bytes[at..]) {
            if head.total() > FRAME_MAX || head.channel > CHANNEL_MAX {
                return Err(io::Error::other("a frame beyond what was agreed"));
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
                self.lane(head.channel).body_left = size;
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
    fn lane(&mut self, channel: u16) -> &mut Lane {
        let channel = usize::from(channel);
        if channel >= self.lanes.len() {
            self.lanes.resize_with(channel + 1, Lane::default);
        }
        &mut self.lanes[channel]
    }

    #[inline]
    fn body(&mut self, channel: u16, size: usize) {
        let lane = self.lane(channel);
        lane.body_left = lane.body_left.saturating_sub(size);
        if lane.body_left == 0 {
            self.published(channel);
        }
    }

    #[inline]
    fn published(&mut self, channel: u16) {
        self.published += 1;
        let lane = self.lane(channel);
        if lane.confirming {
            lane.published += 1;
            if lane.published == lane.confirmed + 1 {
                self.dirty.push(channel);
            }
        }
    }

    /// Writes what has to be answered; confirms go out in batches, one per channel and read.
    fn flush(&mut self) -> io::Result<()> {
        for channel in std::mem::take(&mut self.dirty) {
            let lane = &mut self.lanes[usize::from(channel)];
            lane.confirmed = lane.published;
            let (tag, replies) = (lane.confirmed, &mut self.replies);
            replies.method(channel, 60, 80, |f| {
                f.u64(tag).u8(1);
            });
        }
        for flood in self.lanes.iter().filter_map(|lane| lane.flood.as_ref()) {
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
        let lane = self.lane(channel);
        lane.acked = if multiple { lane.acked.max(tag) } else { lane.acked + 1 };
        if let Some(flood) = &lane.flood {
            flood.control.acked(lane.acked);
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
                *self.lane(channel) = Lane::default();
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
                self.lane(channel).confirming = true;
                if fields.u8() & 1 == 0 {
                    self.reply(channel, 85, 11, &[]);
                }
            }
            (60, 10) => {
                fields.u32();
                self.lane(channel).window = fields.u16().into();
                self.reply(channel, 60, 11, &[]);
            }
            // unbind-ok is the odd one
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
        let seen = self.published + self.lanes.iter().map(|lane| lane.acked).sum::<u64>();
        if !no_wait {
            self.replies.method(channel, 50, 11, |f| {
                f.short(if name.is_empty() { "amq.gen-counterpart" } else { name }).u32(seen as u32).u32(0);
            });
        }
    }

    fn consume(&mut self, channel: u16, fields: &mut Fields<'_>) -> io::Result<()> {
        fields.u16();
        let (queue, mut tag, bits) = (fields.short(), fields.short().to_owned(), fields.u8());
        let (no_ack, no_wait) = (bits & 0b10 != 0, bits & 0b1000 != 0);
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
            let window = if no_ack { 0 } else { self.lane(channel).window };
            let control = Arc::<Control>::default();
            let flood = Flood { consumer_tag: tag.clone(), control: control.clone() };
            self.stop(channel, None);
            self.lane(channel).flood = Some(flood);
            let (queue, frame_max) = (queue.to_owned(), self.frame_max);
            let order = Order { channel, consumer_tag: tag, queue, size, count, frame_max, window };
            let output = self.output.clone();
            thread::Builder::new().stack_size(128 << 10).spawn(move || flood::run(&order, &output, &control))?;
        } else if queue.starts_with("echo") {
            self.echo = Some(Echo { channel, consumer_tag: tag, delivered: 0 });
        }
        Ok(())
    }

    /// Ends the flood of `channel`, or only that of one consumer.
    fn stop(&mut self, channel: u16, consumer_tag: Option<&str>) {
        let flood = &mut self.lane(channel).flood;
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
        for lane in &mut self.lanes {
            if let Some(flood) = &lane.flood {
                flood.control.stop();
            }
        }
        self.output.close();
    }
}
