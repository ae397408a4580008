//! Three nodes of RabbitMQ that are one broker: started by `cargo xtask rabbitmq cluster`, and gone when it is dropped.

use std::process::Command;

use crate::{Failure, Outcome};

/// The cluster.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    name: String,
    host: String,
    ctl: String,
}

impl Cluster {
    /// Starts it.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn start() -> Outcome<Self> {
        // Whatever comes of it, it is to be stopped.
        let mut cluster = Self { nodes: Vec::new() };
        let told = xtask(&["start"])?;
        for line in told.lines() {
            if let [name, host, ctl] = line.split(' ').collect::<Vec<_>>()[..]
                && name.starts_with("hopmq-")
            {
                cluster.nodes.push(Node { name: name.to_owned(), host: host.to_owned(), ctl: ctl.to_owned() });
            }
        }
        if cluster.nodes.len() == 3 { Ok(cluster) } else { Err(Failure::new(format!("three nodes, not {told}"))) }
    }

    /// `host:port` of each node.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().map(|node| node.host.as_str())
    }

    /// Which node leads a quorum queue.
    ///
    /// # Errors
    /// If nobody knows.
    pub fn leader(&self, queue: &str) -> Outcome<usize> {
        let output = Command::new(&self.nodes[0].ctl).args(["--quiet", "list_queues", "name", "leader"]).output()?;
        let list = String::from_utf8_lossy(&output.stdout);
        let leader = list.lines().filter_map(|line| line.split_once('\t')).find(|(name, _)| *name == queue);
        let found = self.nodes.iter().position(|node| leader.is_some_and(|(_, leader)| leader == node.name));
        found.ok_or_else(|| Failure::new(format!("nobody leads {queue}: {list}")))
    }

    /// Ends a node as `kill -9` does.
    ///
    /// # Errors
    /// If it can't be done.
    pub fn kill(&self, node: usize) -> Outcome {
        xtask(&["kill", &(node + 1).to_string()]).map(drop)
    }

    /// Starts it again, over its data.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn resume(&self, node: usize) -> Outcome {
        xtask(&["resume", &(node + 1).to_string()]).map(drop)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(failure) = xtask(&["stop"]) {
            eprintln!("the cluster does not stop: {failure}");
        }
    }
}

fn xtask(words: &[&str]) -> Outcome<String> {
    let program =
        std::env::var("HOPMQ_XTASK").map_err(|_| Failure::new("HOPMQ_XTASK is not set: run `cargo xtask test`"))?;
    let output = Command::new(program).args(["rabbitmq", "cluster"]).args(words).output()?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(Failure::new(format!("rabbitmq cluster {words:?}: {}", String::from_utf8_lossy(&output.stderr)))),
    }
}
