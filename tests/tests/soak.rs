//! A long time under random faults: what the program holds at the end is what it held at the beginning.
//!
//! `HOPMQ_SOAK_SECONDS` says how long; `cargo xtask soak` takes half an hour.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::StreamExt;
use hopmq::{Connection, Recovery};
use hopmq_tests::ledger::Ledger;
use hopmq_tests::proxy::Proxy;
use hopmq_tests::traffic::within;
use hopmq_tests::{Outcome, broker, run_for};

/// What this process holds: kilobytes of memory, and file descriptors. `None` where the system doesn't say.
fn held() -> Option<(u64, usize)> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let memory = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some((memory, std::fs::read_dir("/proc/self/fd").ok()?.count()))
}

/// Messages that wait for their confirms.
const WINDOW: usize = 100;
/// Each few of them, it tells how far it is.
const MINUTE: Duration = Duration::from_secs(60);
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
    let books = Arc::clone(&ledger);
    let consuming = smol::spawn(async move {
        while let Some(delivery) = consumer.try_next().await? {
            books.consumed(delivery.text().parse()?);
            delivery.ack()?;
        }
        Outcome::Ok(())
    });
    let (begin, mut faults, mut first) = (Instant::now(), 0_u64, None);
    let mut window = VecDeque::with_capacity(WINDOW);
    let mut told = 1;
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
        if faults % 2 == 0 {
            proxy.cut();
        } else {
            proxy.reset();
        }
        if begin.elapsed() > MINUTE * 5 * told {
            let (memory, files) = held().unwrap_or_default();
            let (minutes, balance) = (5 * told, ledger.balance());
            println!("{minutes} minutes, {faults} faults: {balance}; memory {memory} kB, descriptors {files}");
            told += 1;
        }
        // The allocator and the tables have their size after a while.
        if begin.elapsed() > time / 4 && first.is_none() {
            first = held().map(|(memory, files)| (memory, ledger.size() as u64 / 1024, files));
        }
    }
    for (id, confirm) in window {
        confirm.await?;
        ledger.confirmed(id);
    }
    let settled = ledger.until(|balance| balance.lost == 0);
    let balance = within(Duration::from_secs(60), "all that was confirmed is consumed", settled).await?;
    println!("{faults} faults in {:.0?}: {balance}", begin.elapsed());
    if let (Some((memory, books, files)), Some((memory_now, files_now))) = (first, held()) {
        let books_now = ledger.size() as u64 / 1024;
        println!(
            "memory {memory} kB, then {memory_now} kB, of which the test's own books have {books}, then {books_now}"
        );
        println!("descriptors {files}, then {files_now}");
        // A table that doubles holds its old half until it is copied, and the system may leave that with us.
        let books = books_now + books_now / 2 - books;
        assert!(memory_now < memory + memory / 5 + books + 4096, "{memory} kB became {memory_now} kB");
        assert!(files_now <= files + 8, "{files} descriptors became {files_now}");
    }
    connection.shutdown(Duration::from_secs(10)).await?;
    consuming.await
}
