//! amiquip, measured. It is built without TLS, because it would need the system's library.

use std::process::ExitCode;

use amiquip::{Confirm, Connection, ConnectionTuning, ConsumerMessage, ConsumerOptions, Publish};
use bench_harness::{Ack, Args, BlockingChannel, BlockingClient, Result, run_blocking};
use crossbeam_channel::Receiver;

pub fn main() -> ExitCode {
    bench_harness::main("amiquip", run_blocking::<Peer>)
}

struct Peer(Connection);

struct PeerChannel {
    channel: amiquip::Channel,
    confirms: Option<Receiver<Confirm>>,
    published: u64,
    confirmed: u64,
}

impl BlockingClient for Peer {
    type Channel = PeerChannel;

    fn connect(args: &Args) -> Result<Self> {
        // Its documentation recommends more than the default of 16 for many small messages.
        let tuning = ConnectionTuning::default().mem_channel_bound(1024);
        Ok(Self(Connection::insecure_open_tuned(&args.url, tuning)?))
    }

    fn channel(&mut self) -> Result<PeerChannel> {
        Ok(PeerChannel { channel: self.0.open_channel(None)?, confirms: None, published: 0, confirmed: 0 })
    }

    fn close(self) -> Result<()> {
        Ok(self.0.close()?)
    }
}

impl PeerChannel {
    fn wait(&mut self, upto: u64) -> Result<()> {
        let confirms = self.confirms.as_ref().ok_or("confirm.select was not sent")?;
        while self.confirmed < upto {
            match confirms.recv()? {
                Confirm::Ack(ack) => self.confirmed = self.confirmed.max(ack.delivery_tag),
                Confirm::Nack(_) => return Err("nacked".into()),
            }
        }
        Ok(())
    }
}

impl BlockingChannel for PeerChannel {
    fn share(&self) -> Option<Self> {
        None
    }

    fn confirm_select(&mut self) -> Result<()> {
        self.confirms = Some(self.channel.listen_for_publisher_confirms()?);
        Ok(self.channel.enable_publisher_confirms()?)
    }

    fn publish(&mut self, queue: &str, body: &[u8]) -> Result<()> {
        Ok(self.channel.basic_publish("", Publish::new(body, queue))?)
    }

    fn publish_windowed(&mut self, queue: &str, body: &[u8], count: u64, window: usize) -> Result<()> {
        for _ in 0..count {
            self.publish(queue, body)?;
            self.published += 1;
            self.wait((self.published + 1).saturating_sub(window as u64))?;
        }
        self.wait(self.published)
    }

    fn declare(&mut self, queue: &str) -> Result<u32> {
        Ok(self.channel.queue_declare_passive(queue)?.declared_message_count().unwrap_or(0))
    }

    fn prefetch(&mut self, count: u16) -> Result<()> {
        Ok(self.channel.qos(0, count, false)?)
    }

    fn consume(&mut self, queue: &str, ack: Ack, count: u64, mut each: impl FnMut() -> bool) -> Result<()> {
        let options = ConsumerOptions { no_ack: ack == Ack::Never, ..ConsumerOptions::default() };
        let consumer = self.channel.basic_consume(queue, options)?;
        for n in 1..=count {
            let ConsumerMessage::Delivery(delivery) = consumer.receiver().recv()? else {
                return Err("the consumer ended".into());
            };
            match ack.due(n, count) {
                None => {}
                Some(false) => consumer.ack(delivery)?,
                Some(true) => consumer.ack_multiple(delivery)?,
            }
            if !each() {
                std::mem::forget(consumer);
                break;
            }
        }
        Ok(())
    }
}
