//! The blocking API of HopMQ, measured with a thread for each task.

use std::collections::VecDeque;
use std::process::ExitCode;

use bench_harness::{Ack, Args, BlockingChannel, BlockingClient, Result, run_blocking};
use hopmq_blocking::Connection;
use hopmq_blocking::tls::Tls;

pub fn main() -> ExitCode {
    bench_harness::main("hopmq-blocking", run_blocking::<Peer>)
}

struct Peer(Connection);

struct PeerChannel(hopmq_blocking::Channel);

impl BlockingClient for Peer {
    type Channel = PeerChannel;

    fn connect(args: &Args) -> Result<Self> {
        let mut builder = Connection::builder().uri(&args.url);
        if let Some(ca) = &args.ca {
            builder = builder.tls(Tls::new().root_file(ca));
        }
        Ok(Self(builder.open()?))
    }

    fn channel(&mut self) -> Result<PeerChannel> {
        Ok(PeerChannel(self.0.channel()?))
    }

    fn close(self) -> Result<()> {
        Ok(self.0.close()?)
    }
}

impl BlockingChannel for PeerChannel {
    fn share(&self) -> Option<Self> {
        Some(Self(self.0.clone()))
    }

    /// Does nothing: the first confirmed publish selects confirms.
    fn confirm_select(&mut self) -> Result<()> {
        Ok(())
    }

    fn publish(&mut self, queue: &str, body: &[u8]) -> Result<()> {
        Ok(self.0.publish("", queue, body).send()?)
    }

    fn publish_windowed(&mut self, queue: &str, body: &[u8], count: u64, window: usize) -> Result<()> {
        let mut waiting = VecDeque::with_capacity(window);
        for _ in 0..count {
            if waiting.len() == window
                && let Some(oldest) = waiting.pop_front()
            {
                hopmq_blocking::Confirm::wait(oldest)?;
            }
            waiting.push_back(self.0.publish("", queue, body).confirm_later()?);
        }
        for confirm in waiting {
            confirm.wait()?;
        }
        Ok(())
    }

    fn declare(&mut self, queue: &str) -> Result<u32> {
        Ok(self.0.queue(queue).declare_passive()?.message_count())
    }

    fn prefetch(&mut self, count: u16) -> Result<()> {
        Ok(self.0.prefetch(count)?)
    }

    fn consume(&mut self, queue: &str, ack: Ack, count: u64, mut each: impl FnMut() -> bool) -> Result<()> {
        let consume = self.0.consume(queue);
        let mut consumer = if ack == Ack::Never { consume.no_ack() } else { consume }.start()?;
        for n in 1..=count {
            let delivery = consumer.next().ok_or("the consumer ended")??;
            match ack.due(n, count) {
                None => {}
                Some(false) => {
                    delivery.ack()?;
                }
                Some(true) => {
                    delivery.ack_multiple()?;
                }
            }
            if !each() {
                std::mem::forget(consumer);
                break;
            }
        }
        Ok(())
    }
}
