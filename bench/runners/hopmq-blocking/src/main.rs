//! The blocking API of HopMQ, measured with a thread for each task.

use std::collections::VecDeque;
use std::iter;
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
        if let Some(limit) = args.spin {
            builder = builder.spin(limit);
        }
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

    fn publish_prepared(&mut self, queue: &str, body: &[u8], count: u64) -> Result<()> {
        let publisher = self.0.publisher("", queue);
        for _ in 0..count {
            publisher.publish(body).send()?;
        }
        Ok(())
    }

    fn publish_many(&mut self, queue: &str, body: &[u8], count: u64, batch: usize) -> Result<()> {
        let publisher = self.0.publisher("", queue);
        let mut left = count as usize;
        while left > 0 {
            let many = batch.min(left);
            publisher.publish_many(iter::repeat_n(body, many)).send()?;
            left -= many;
        }
        Ok(())
    }

    fn publish_many_confirm(
        &mut self,
        queue: &str,
        body: &[u8],
        count: u64,
        (batch, calls): (usize, usize),
    ) -> Result<()> {
        let publisher = self.0.publisher("", queue);
        let mut waiting = VecDeque::with_capacity(calls);
        let mut left = count as usize;
        while left > 0 {
            if waiting.len() == calls
                && let Some(oldest) = waiting.pop_front()
            {
                hopmq_blocking::Confirms::wait(oldest)?;
            }
            let many = batch.min(left);
            waiting.push_back(publisher.publish_many(iter::repeat_n(body, many)).confirm_later()?);
            left -= many;
        }
        for confirms in waiting {
            confirms.wait()?;
        }
        Ok(())
    }

    fn consume_batches(&mut self, queue: &str, count: u64, batch: usize) -> Result<()> {
        let mut batches = self.0.consume(queue).start()?.batches().max_count(batch);
        let mut left = count;
        while left > 0 {
            let batch = batches.next().ok_or("the consumer ended")??;
            left = left.saturating_sub(batch.len() as u64);
            batch.ack_all()?;
        }
        Ok(())
    }

    fn publish_windowed(&mut self, queue: &str, body: &[u8], count: u64, window: usize) -> Result<()> {
        let publisher = self.0.publisher("", queue);
        let mut waiting = VecDeque::with_capacity(window);
        for _ in 0..count {
            if waiting.len() == window
                && let Some(oldest) = waiting.pop_front()
            {
                hopmq_blocking::Confirm::wait(oldest)?;
            }
            waiting.push_back(publisher.publish(body).confirm_later()?);
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
