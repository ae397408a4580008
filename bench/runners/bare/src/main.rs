//! The lower bound: a loop that only exchanges the same bytes.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bench_harness::{Args, Latencies, Meter, Outcome, Pace, Result, Workload, heap_bytes, unsupported};
use bench_wire::{FRAME_MAX, Fields, Frames, HEAD, Head, METHOD, PROTOCOL_HEADER};

pub fn main() -> ExitCode {
    bench_harness::main("bare", run)
}

fn run(args: &Args) -> Result<Outcome> {
    if args.tasks > 1 || args.channels > 1 {
        return unsupported("the bare loop has one task and one channel");
    }
    match args.workload {
        Workload::Publish | Workload::PublishPrepared | Workload::PublishMany => publish(args),
        Workload::PublishConnections => publish_connections(args),
        Workload::PublishConfirm | Workload::PublishManyConfirm => publish_confirm(args),
        Workload::ConsumeAckEach
        | Workload::ConsumeAckMultiple
        | Workload::ConsumeBatches
        | Workload::ConsumeNoAck
        | Workload::Handle => consume(args),
        Workload::Rpc => rpc(args),
        Workload::Latency => latency(args),
        Workload::Connect => connect(args),
        Workload::IdleConnections => idle(args),
        Workload::Prepare => prepare(args),
        Workload::SlowConsumer => unsupported("the bare loop has no buffer to measure"),
    }
}

/// A connection with a read buffer.
struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Wire {
    fn open(args: &Args) -> Result<Self> {
        let (credentials, address, vhost) = split(&args.url)?;
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let mut wire = Self { stream, buffer: vec![0; 4 * FRAME_MAX], start: 0, end: 0 };
        wire.stream.write_all(PROTOCOL_HEADER)?;
        wire.expect(10, 10)?;
        let mut out = Frames::default();
        out.method(0, 10, 11, |f| {
            f.u32(0).short("PLAIN").long(format!("\0{}", credentials.replacen(':', "\0", 1)).as_bytes()).short("en_US");
        });
        wire.stream.write_all(&out.0)?;
        wire.expect(10, 30)?;
        let mut out = Frames::default();
        out.method(0, 10, 31, |f| {
            f.u16(2047).u32(FRAME_MAX as u32).u16(0);
        });
        out.method(0, 10, 40, |f| {
            f.short(&vhost).short("").u8(0);
        });
        wire.stream.write_all(&out.0)?;
        wire.expect(10, 41)?;
        let mut out = Frames::default();
        out.method(1, 20, 10, |f| {
            f.short("");
        });
        wire.stream.write_all(&out.0)?;
        wire.expect(20, 11)?;
        Ok(wire)
    }

    fn close(mut self) -> Result<()> {
        let mut out = Frames::default();
        out.method(0, 10, 50, |f| {
            f.u16(200).short("").u32(0);
        });
        self.stream.write_all(&out.0)?;
        self.expect(10, 51).map(drop)
    }

    /// Calls `each` for every complete frame in the buffer, after one read if there is none.
    fn frames(&mut self, mut each: impl FnMut(Head, &[u8])) -> Result<()> {
        if self.start == self.end || !self.has_frame() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            let n = self.stream.read(&mut self.buffer[self.end..])?;
            if n == 0 {
                return Err("the peer closed the connection".into());
            }
            self.end += n;
        }
        while self.has_frame() {
            let frame = &self.buffer[self.start..self.end];
            let head = Head::parse(frame).ok_or("the buffer holds an incomplete frame")?;
            each(head, &frame[HEAD..HEAD + head.size]);
            self.start += head.total();
        }
        Ok(())
    }

    fn has_frame(&self) -> bool {
        let unread = &self.buffer[self.start..self.end];
        Head::parse(unread).is_some_and(|head| head.total() <= unread.len())
    }

    /// Returns the arguments of the next method, which must be this one. Skips content, deliveries and confirms.
    fn expect(&mut self, class: u16, method: u16) -> Result<Vec<u8>> {
        loop {
            while !self.has_frame() {
                self.fill_buffer()?;
            }
            let frame = &self.buffer[self.start..self.end];
            let head = Head::parse(frame).ok_or("the buffer holds an incomplete frame")?;
            let payload = frame[HEAD..HEAD + head.size].to_vec();
            self.start += head.total();
            let mut fields = Fields(&payload);
            match (head.kind, fields.u16(), fields.u16()) {
                (METHOD, c, m) if (c, m) == (class, method) => return Ok(payload[4..].to_vec()),
                (METHOD, 60, 60 | 80) => {}
                (METHOD, c, m) => return Err(format!("expected the method {class}.{method}, received {c}.{m}").into()),
                _ => {}
            }
        }
    }

    fn fill_buffer(&mut self) -> Result<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let n = self.stream.read(&mut self.buffer[self.end..])?;
        self.end += n;
        if n == 0 { Err("the peer closed the connection".into()) } else { Ok(()) }
    }

    /// Declares the queue passively, and returns its message count.
    fn declare(&mut self, queue: &str) -> Result<u32> {
        let mut out = Frames::default();
        out.method(1, 50, 10, |f| {
            f.u16(0).short(queue).u8(1).u32(0);
        });
        self.stream.write_all(&out.0)?;
        let reply = self.expect(50, 11)?;
        let mut fields = Fields(&reply);
        fields.short();
        Ok(fields.u32())
    }

    fn confirm_select(&mut self) -> Result<()> {
        let mut out = Frames::default();
        out.method(1, 85, 10, |f| {
            f.u8(0);
        });
        self.stream.write_all(&out.0)?;
        self.expect(85, 11).map(drop)
    }
}

/// `user:password`, `host:port` and the vhost of an AMQP URI.
fn split(url: &str) -> Result<(String, String, String)> {
    let rest = url.strip_prefix("amqp://").ok_or("the bare loop supports amqp:// only")?;
    let (credentials, rest) = rest.split_once('@').unwrap_or(("guest:guest", rest));
    let (address, vhost) = rest.split_once('/').unwrap_or((rest, ""));
    let address = if address.contains(':') { address.to_owned() } else { format!("{address}:5672") };
    let vhost = if vhost.is_empty() { "/".to_owned() } else { vhost.replace("%2f", "/").replace("%2F", "/") };
    Ok((credentials.to_owned(), address, vhost))
}

/// Encodes `n` publishes.
fn block(args: &Args, n: u64) -> Vec<u8> {
    let body = args.body();
    let mut out = Frames::default();
    for _ in 0..n {
        out.method(1, 60, 40, |f| {
            f.u16(0).short("").short(&args.queue).u8(0);
        });
        out.content(1, &body);
    }
    out.0
}

/// The number of publishes in a write of about 128 KiB.
fn per_write(args: &Args) -> u64 {
    ((128 << 10) / (args.size as u64 + 60)).max(1)
}

fn publish(args: &Args) -> Result<Outcome> {
    let mut wire = Wire::open(args)?;
    let before = wire.declare(&args.queue)?;
    let n = per_write(args).min(args.count);
    let whole = block(args, n);
    let rest = block(args, args.count % n);
    let meter = Meter::start()?;
    for _ in 0..args.count / n {
        wire.stream.write_all(&whole)?;
    }
    wire.stream.write_all(&rest)?;
    let seen = wire.declare(&args.queue)?;
    let outcome = meter.finish(args.count)?.seen(seen.saturating_sub(before));
    wire.close()?;
    Ok(outcome)
}

/// Writes a block to each connection in turn.
fn publish_connections(args: &Args) -> Result<Outcome> {
    let mut wires = (0..args.connections).map(|_| Wire::open(args)).collect::<Result<Vec<_>>>()?;
    let n = per_write(args).min(args.window as u64);
    let whole = block(args, n);
    let each = whole.len() / n as usize;
    let meter = Meter::start()?;
    let mut left = args.count;
    for at in (0..args.connections).cycle() {
        let now = n.min(left);
        wires[at].stream.write_all(&whole[..now as usize * each])?;
        left -= now;
        if left == 0 {
            break;
        }
    }
    let mut seen = 0;
    for wire in &mut wires {
        seen += wire.declare(&args.queue)?;
    }
    let outcome = meter.finish(args.count)?.seen(seen);
    wires.into_iter().try_for_each(Wire::close)?;
    Ok(outcome)
}

fn publish_confirm(args: &Args) -> Result<Outcome> {
    let mut wire = Wire::open(args)?;
    wire.confirm_select()?;
    let window = args.window as u64;
    let most = per_write(args).min(window).min(args.count);
    let whole = block(args, most);
    let each = whole.len() / most as usize;
    let (mut sent, mut confirmed) = (0, 0);
    let meter = Meter::start()?;
    while confirmed < args.count {
        let n = (window - (sent - confirmed)).min(most).min(args.count - sent);
        if n > 0 {
            wire.stream.write_all(&whole[..n as usize * each])?;
            sent += n;
        }
        if sent - confirmed == window || sent == args.count {
            confirmed = confirms(&mut wire, confirmed)?;
        }
    }
    let outcome = meter.finish(args.count)?.seen(confirmed);
    wire.close()?;
    Ok(outcome)
}

/// Deletes the queue, and declares it with `count` messages.
fn prepare(args: &Args) -> Result<Outcome> {
    let mut wire = Wire::open(args)?;
    let mut out = Frames::default();
    out.method(1, 50, 40, |f| {
        f.u16(0).short(&args.queue).u8(0);
    });
    // The queue is neither durable nor exclusive. The next `prepare` deletes it.
    out.method(1, 50, 10, |f| {
        f.u16(0).short(&args.queue).u8(0).u32(0);
    });
    wire.stream.write_all(&out.0)?;
    wire.expect(50, 41)?;
    wire.expect(50, 11)?;
    wire.close()?;
    if args.count > 0 { publish_confirm(args) } else { Meter::start()?.finish(0) }
}

/// Waits for confirms beyond the first `confirmed`, and returns the new number.
fn confirms(wire: &mut Wire, mut confirmed: u64) -> Result<u64> {
    let before = confirmed;
    let mut singles = 0;
    while confirmed + singles == before {
        wire.frames(|_, payload| {
            let mut fields = Fields(payload);
            if (fields.u16(), fields.u16()) == (60, 80) {
                let (tag, multiple) = (fields.u64(), fields.u8() & 1 == 1);
                if multiple {
                    // Confirms of single messages before it are included.
                    (confirmed, singles) = (confirmed.max(tag), 0);
                } else {
                    singles += 1;
                }
            }
        })?;
    }
    Ok(confirmed + singles)
}

fn consume(args: &Args) -> Result<Outcome> {
    let mut wire = Wire::open(args)?;
    let each = matches!(args.workload, Workload::ConsumeAckEach | Workload::Handle);
    let multiple = args.workload == Workload::ConsumeAckMultiple;
    // A batch is what one read brings.
    let batches = args.workload == Workload::ConsumeBatches;
    let acks_any = each || multiple || batches;
    let mut out = Frames::default();
    if args.prefetch > 0 {
        out.method(1, 60, 10, |f| {
            f.u32(0).u16(args.prefetch).u8(0);
        });
        wire.stream.write_all(&out.0)?;
        wire.expect(60, 11)?;
        out.0.clear();
    }
    out.method(1, 60, 20, |f| {
        f.u16(0).short(&args.queue).short("bare").u8(if acks_any { 0 } else { 2 }).u32(0);
    });
    let meter = Meter::start()?;
    wire.stream.write_all(&out.0)?;
    wire.expect(60, 21)?;
    let mut received = 0;
    let mut last = 0;
    let mut acks = Frames::default();
    while received < args.count {
        wire.frames(|head, payload| {
            if head.kind != METHOD || payload[..4] != [0, 60, 0, 60] {
                return;
            }
            received += 1;
            let mut fields = Fields(&payload[4..]);
            fields.short();
            let tag = fields.u64();
            last = tag;
            if each || multiple && (received % args.window as u64 == 0 || received == args.count) {
                acks.method(1, 60, 80, |f| {
                    f.u64(tag).u8(multiple.into());
                });
            }
        })?;
        if batches {
            acks.method(1, 60, 80, |f| {
                f.u64(last).u8(1);
            });
        }
        wire.stream.write_all(&acks.0)?;
        acks.0.clear();
    }
    let seen = wire.declare(&args.queue)?;
    let outcome = meter.finish(args.count)?;
    wire.close()?;
    Ok(if acks_any { outcome.seen(seen) } else { outcome.seen(received) })
}

fn rpc(args: &Args) -> Result<Outcome> {
    let mut wire = Wire::open(args)?;
    let meter = Meter::start()?;
    for _ in 0..args.count {
        wire.declare(&args.queue)?;
    }
    let outcome = meter.finish(args.count)?;
    wire.close()?;
    Ok(outcome)
}

fn latency(args: &Args) -> Result<Outcome> {
    let mut wire = Wire::open(args)?;
    wire.confirm_select()?;
    let one = block(args, 1);
    let mut latencies = Latencies::with_capacity(args.count);
    let mut pace = Pace::new(Duration::from_millis(1));
    let mut confirmed = 0;
    let meter = Meter::start()?;
    for _ in 0..args.count {
        let due = pace.wait();
        wire.stream.write_all(&one)?;
        confirmed = confirms(&mut wire, confirmed)?;
        latencies.since(due);
    }
    let outcome = meter.finish(args.count)?.seen(confirmed).latencies(latencies);
    wire.close()?;
    Ok(outcome)
}

fn connect(args: &Args) -> Result<Outcome> {
    let mut latencies = Latencies::with_capacity(args.count);
    let meter = Meter::start()?;
    for _ in 0..args.count {
        let start = Instant::now();
        let wire = Wire::open(args)?;
        latencies.since(start);
        wire.close()?;
    }
    Ok(meter.finish(args.count)?.latencies(latencies))
}

fn idle(args: &Args) -> Result<Outcome> {
    let before = heap_bytes();
    let meter = Meter::start()?;
    let all = (0..args.count).map(|_| Wire::open(args)).collect::<Result<VecDeque<_>>>()?;
    let outcome = meter.finish(args.count)?.heap_each(before, args.count);
    all.into_iter().try_for_each(Wire::close)?;
    Ok(outcome)
}
