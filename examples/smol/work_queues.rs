//! Work queues: tasks that take time, shared among workers.
//!
//! ```sh
//! cargo run --example smol_work_queues
//! ```
//!
//! Each dot of a task stands for a tenth of a second of work. A worker gets its next task when it has acknowledged the
//! last one; if a worker dies, its task goes to another. RabbitMQ's second tutorial: <https://www.rabbitmq.com/tutorials>.

use std::time::Duration;

use smol::channel::Sender;
use smol::stream::StreamExt;

const QUEUE: &str = "smol-tasks";
const TASKS: [&str; 6] = ["wash the dishes...", "feed the cat.", "sweep..", "water the plants.", "cook....", "rest."];

fn main() -> hopmq::Result<()> {
    let url = std::env::var("AMQP_URL").unwrap_or("amqp://localhost".into());
    smol::block_on(async {
        let connection = hopmq::Connection::open(&url).await?;
        let channel = connection.channel().await?;

        // A durable queue survives a restart of the broker, and so do persistent messages in it.
        let queue = channel.queue(QUEUE).durable().declare().await?;
        for task in TASKS {
            queue.publish(task).persistent().confirm().await?;
        }
        println!("{} tasks queued", TASKS.len());

        let (done, reports) = smol::channel::bounded(1);
        let workers = ["Ada", "Ben"].map(|name| smol::spawn(work(name, connection.clone(), done.clone())));
        for _ in TASKS {
            if let Ok(report) = reports.recv().await {
                println!("{report}");
            }
        }

        // Cancelling a smol task drops its consumer, which cancels it at the broker. Undelivered messages would go back
        // to the queue.
        for worker in workers {
            if let Some(result) = worker.cancel().await {
                result?;
            }
        }
        queue.delete().await?;
        connection.close().await
    })
}

async fn work(name: &str, connection: hopmq::Connection, done: Sender<String>) -> hopmq::Result<()> {
    // Channels are cheap: open one for each independent activity.
    let channel = connection.channel().await?;

    // One task at a time, so that no worker holds tasks while another is idle.
    let mut tasks = channel.consume(QUEUE).prefetch(1).await?;
    while let Some(delivery) = tasks.try_next().await? {
        let task = delivery.text().into_owned();
        let dots = task.matches('.').count() as u32;
        smol::Timer::after(dots * Duration::from_millis(100)).await;
        delivery.ack()?;
        // The receiver may be gone; the report is not needed then.
        done.send(format!("{name}: {task}")).await.ok();
    }
    Ok(())
}
