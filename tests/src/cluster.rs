//! A RabbitMQ cluster of three nodes, started and stopped by `cargo xtask rabbitmq cluster`.

use std::process::Command;

use crate::{Failure, Outcome};

/// A running cluster. Dropping this stops it.
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
    /// Starts a cluster.
    ///
    /// # Errors
    /// If the nodes do not start.
    pub fn start() -> Outcome<Self> {
        // Dropping `cluster` stops the nodes, also after an error below.
        let mut cluster = Self { nodes: Vec::new() };
        let output = xtask(&["start"])?;
        for line in output.lines() {
            if let [name, host, ctl] = line.split(' ').collect::<Vec<_>>()[..]
                && name.starts_with("hopmq-")
            {
                cluster.nodes.push(Node { name: name.to_owned(), host: host.to_owned(), ctl: ctl.to_owned() });
            }
        }
        if cluster.nodes.len() == 3 {
            Ok(cluster)
        } else {
            Err(Failure::new(format!("expected three nodes, got {output}")))
        }
    }

    /// Returns `host:port` of each node.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().map(|node| node.host.as_str())
    }

    /// Returns the index of the node that leads a quorum queue.
    ///
    /// # Errors
    /// If the queue has no leader, or `rabbitmqctl` fails.
    pub fn leader(&self, queue: &str) -> Outcome<usize> {
        let output = Command::new(&self.nodes[0].ctl).args(["--quiet", "list_queues", "name", "leader"]).output()?;
        let list = String::from_utf8_lossy(&output.stdout);
        let leader = list.lines().filter_map(|line| line.split_once('\t')).find(|(name, _)| *name == queue);
        let found = self.nodes.iter().position(|node| leader.is_some_and(|(_, leader)| leader == node.name));
        found.ok_or_else(|| Failure::new(format!("{queue} has no leader: {list}")))
    }

    /// Kills a node as `kill -9` does.
    ///
    /// # Errors
    /// If the command fails.
    pub fn kill(&self, node: usize) -> Outcome {
        xtask(&["kill", &(node + 1).to_string()]).map(drop)
    }

    /// Restarts a killed node with its data.
    ///
    /// # Errors
    /// If the node does not start.
    pub fn resume(&self, node: usize) -> Outcome {
        xtask(&["resume", &(node + 1).to_string()]).map(drop)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(failure) = xtask(&["stop"]) {
            eprintln!("cannot stop the cluster: {failure}");
        }
    }
}

fn xtask(arguments: &[&str]) -> Outcome<String> {
    let program =
        std::env::var("HOPMQ_XTASK").map_err(|_| Failure::new("HOPMQ_XTASK is not set; run `cargo xtask test`"))?;
    let output = Command::new(program).args(["rabbitmq", "cluster"]).args(arguments).output()?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => {
            Err(Failure::new(format!("rabbitmq cluster {arguments:?}: {}", String::from_utf8_lossy(&output.stderr))))
        }
    }
}
