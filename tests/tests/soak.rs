//! A long time under random faults: what the program holds at the end is what it held at the beginning.
//!
//! `HOPMQ_SOAK_SECONDS` says how long; `cargo xtask soak` takes half an hour.

use std::time::{Duration, Instant};

use futures_lite::StreamExt;
use hopmq::{Connection, Recovery};
use hopmq_tests::ledger::Ledger;
use hopmq_tests::proxy::Proxy;
use hopmq_tests::{Outcome, broker, run};

/// What this process holds: kilobytes of memory, and file descriptors. `None` where the system doesn't say.
fn held() -> Option<(u64, usize)> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let memory = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some((memory, std::fs::read_dir("/proc/self/fd").ok()?.count()))
}

#[test]
fn memory_and_descriptors_stay_flat_under_faults() {
    run("soak::memory_and_descriptors_stay_flat_under_faults", false, |harness| {
        let name = harness.name("queue");
        let time = std::env::var("HOPMQ_SOAK_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
        // Many short turns, each of which the harness would wait for.
        smol::block_on(soak(&name, Duration::from_secs(time.unwrap_or(15))))
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
    let ledger = std::sync::Arc::new(Ledger::default());
    let books = std::sync::Arc::clone(&ledger);
    let consuming = smol::spawn(async move {
        while let Some(delivery) = consumer.try_next().await? {
            books.consumed(delivery.text().parse()?);
            delivery.ack()?;
        }
        Outcome::Ok(())
    });
    let (begin, mut id, mut links, mut first) = (Instant::now(), 0_u64, 0, None);
    while begin.elapsed() < time {
        for _ in 0..50 {
            queue.publish(id.to_string()).persistent().confirm().await?;
            ledger.confirmed(id);
            id += 1;
        }
        match id % 3 {
            0 => proxy.cut(),
            1 => proxy.reset(),
            _ => {}
        }
        links += 1;
        // The allocator and the tables have their size after a while.
        if begin.elapsed() > time / 4 && first.is_none() {
            first = held();
        }
    }
    while ledger.balance(id).lost > 0 {
        assert!(begin.elapsed() < time + Duration::from_secs(60), "{:?}", ledger.balance(id));
        smol::Timer::after(Duration::from_millis(20)).await;
    }
    println!("{id} messages over {links} rounds of faults: {:?}", ledger.balance(id));
    if let (Some((memory, files)), Some((memory_now, files_now))) = (first, held()) {
        println!("memory {memory} kB, then {memory_now} kB; descriptors {files}, then {files_now}");
        // The books themselves grow with every message.
        let books = id * 64 / 1024;
        assert!(memory_now < memory + memory / 5 + books + 4096, "{memory} kB became {memory_now} kB");
        assert!(files_now <= files + 8, "{files} descriptors became {files_now}");
    }
    connection.shutdown(Duration::from_secs(10)).await?;
    consuming.await
}
