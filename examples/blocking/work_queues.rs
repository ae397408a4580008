//! Work queues: tasks that take time, shared among workers.
//!
//! ```sh
//! cargo run --example blocking_work_queues
//! ```
//!
//! Each dot of a task stands for a tenth of a second of work. A worker gets its next task when it has acknowledged the
//! last one; if a worker dies, its task goes to another. RabbitMQ's second tutorial: <https://www.rabbitmq.com/tutorials>.

use std::thread;
use std::time::Duration;

use hopmq_blocking::{Connection, Result};

const QUEUE: &str = "blocking-tasks";
const TASKS: [&str; 6] = ["wash the dishes...", "feed the cat.", "sweep..", "water the plants.", "cook....", "rest."];

fn main() -> Result<()> {
    let url = std::env::var("AMQP_URL").unwrap_or("amqp://localhost".into());
    let connection = Connection::open(&url)?;
    let channel = connection.channel()?;

    // A durable queue survives a restart of the broker, and so do persistent messages in it.
    let queue = channel.queue(QUEUE).durable().declare()?;
    for task in TASKS {
        queue.publish(task).persistent().confirm()?;
    }
    println!("{} tasks queued", TASKS.len());

    // Handles are cheap to clone and may be used from any thread: both workers share this connection.
    let workers = ["Ada", "Ben"].map(|name| {
        let connection = connection.clone();
        thread::spawn(move || work(name, connection))
    });
    for worker in workers {
        match worker.join() {
            Ok(result) => result?,
            Err(_) => println!("a worker panicked: its task goes to another worker"),
        }
    }

    queue.delete().delete()?;
    connection.close()
}

/// Works until no task has come for a second.
fn work(name: &str, connection: Connection) -> Result<()> {
    // Channels are cheap: open one for each independent activity.
    let channel = connection.channel()?;

    // One task at a time, so that no worker holds tasks while another is idle.
    let mut tasks = channel.consume(QUEUE).prefetch(1).start()?;
    for delivery in tasks.iter_within(Duration::from_secs(1)) {
        let delivery = delivery?;
        let task = delivery.text();
        println!("{name}: {task}");
        // The work may take long: a thread of the connection sends the heartbeats meanwhile.
        let dots = task.matches('.').count() as u32;
        thread::sleep(dots * Duration::from_millis(100));
        delivery.ack()?;
    }
    println!("{name} has no more tasks");
    Ok(())
}
