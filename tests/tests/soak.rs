//! A long run under faults: memory and file descriptors must not grow.
//!
//! `HOPMQ_SOAK_SECONDS` sets how long; `cargo xtask soak` takes half an hour.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::StreamExt;
use hopmq::{Connection, Recovery};
use hopmq_tests::ledger::Ledger;
use hopmq_tests::proxy::Proxy;
use hopmq_tests::traffic::within;
use hopmq_tests::{Outcome, broker, run_for};

/// Returns this process's memory in kilobytes and its file descriptors; `None` on systems without `/proc`.
fn usage() -> Option<(u64, usize)> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let memory = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some((memory, std::fs::read_dir("/proc/self/fd").ok()?.count()))
}

/// Unconfirmed messages, at most.
const WINDOW: usize = 100;
/// Time between two lines of progress.
const REPORT: Duration = Duration::from_secs(5 * 60);
/// Messages between two faults.
const ROUND: u64 = 500;

#[test]
fn memory_and_descriptors_stay_flat_under_faults() {
    let time = std::env::var("HOPMQ_SOAK_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let time = Duration::from_secs(time.unwrap_or(15));
    let deadline = time + Duration::from_secs(120);
    run_for(deadline, "soak::memory_and_descriptors_stay_flat_under_faults", false, move |harness| {
        smol::block_on(soak(&harness.name("queue"), time))
    });
}

async fn soak(name: &str, time: Duration) -> Outcome {
    let proxy = Proxy::new(broker().address())?;
    let recovery = Recovery::new().delays(Duration::from_millis(10), Duration::from_millis(100));
    let builder = Connection::builder().uri(&broker().amqp).host(&proxy.address()).recovery(recovery);
    let connection = builder.open().await?;
    let channel = connection.channel().await?;
    let queue = channel.queue(name).durable().declare().await?;
    let replies = channel.queue("").exclusive().declare().await?;
    replies.bind("amq.topic", name).await?;
    let mut consumer = queue.consume().prefetch(50).await?;
    let ledger = Arc::new(Ledger::default());
    let consumed = Arc::clone(&ledger);
    let consuming = smol::spawn(async move {
        while let Some(delivery) = consumer.try_next().await? {
            consumed.consumed(delivery.text().parse()?);
            delivery.ack()?;
        }
        Outcome::Ok(())
    });
    let begin = Instant::now();
    let mut faults = 0_u64;
    let mut first = None;
    let mut window = VecDeque::with_capacity(WINDOW);
    let mut reports = 1;
    while begin.elapsed() < time {
        for _ in 0..ROUND {
            if window.len() == WINDOW
                && let Some((id, confirm)) = window.pop_front()
            {
                let confirm: hopmq::Confirm = confirm;
                confirm.await?;
                ledger.confirmed(id);
            }
            let id = ledger.publish();
            window.push_back((id, queue.publish(id.to_string()).persistent().confirm_later().await?));
        }
        faults += 1;
        if faults.is_multiple_of(2) {
            proxy.cut();
        } else {
            proxy.reset();
        }
        if begin.elapsed() > REPORT * reports {
            let (memory, files) = usage().unwrap_or_default();
            let balance = ledger.balance();
            let minutes = begin.elapsed().as_secs() / 60;
            println!("{minutes} minutes, {faults} faults: {balance}; memory {memory} kB, descriptors {files}");
            reports += 1;
        }
        // By then the allocator and the tables have reached their sizes.
        if begin.elapsed() > time / 4 && first.is_none() {
            first = usage().map(|(memory, files)| (memory, ledger.size() as u64 / 1024, files));
        }
    }
    for (id, confirm) in window {
        confirm.await?;
        ledger.confirmed(id);
    }
    let settled = ledger.until(|balance| balance.lost == 0);
    let balance = within(Duration::from_secs(60), "all confirmed messages are consumed", settled).await?;
    println!("{faults} faults in {:.0?}: {balance}", begin.elapsed());
    if let Some((memory, entries, files)) = first
        && let Some((memory_now, files_now)) = usage()
    {
        let entries_now = ledger.size() as u64 / 1024;
        println!("memory {memory} kB, then {memory_now} kB, of which the ledger has {entries}, then {entries_now}");
        println!("descriptors {files}, then {files_now}");
        // A table that doubles holds its old half until it is copied, and the system may not take that back.
        let entries = entries_now + entries_now / 2 - entries;
        assert!(memory_now < memory + memory / 5 + entries + 4096, "memory grew from {memory} kB to {memory_now} kB");
        assert!(files_now <= files + 8, "descriptors grew from {files} to {files_now}");
    }
    connection.shutdown(Duration::from_secs(10)).await?;
    consuming.await
}
