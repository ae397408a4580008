//! `cargo xtask rabbitmq cluster`: a broker of three nodes, for tests that kill one of them.
//!
//! Their files lie under `target/rabbitmq-cluster`, or `target/rabbitmq-4-cluster` for RabbitMQ 4.0. The nodes share a
//! port mapper and a cookie, and each has the list of their names.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use super::node::{self, Node};
use super::{
    Release, START_TIMEOUT, await_answer, clear, files, install, kill_node, on_free_ports, port_mapper, resume_in,
    server,
};
use crate::process;
use crate::shell::{self, Result};

const NODES: usize = 3;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Start all nodes; prints the name, the address and the rabbitmqctl script of each
    Start,
    /// Kill all nodes
    Stop,
    /// Kill one node and keep its data
    Kill {
        #[arg(value_name = "NODE", value_parser = clap::value_parser!(u8).range(1..=NODES as i64))]
        number: u8,
    },
    /// Start a killed node on its ports and its data
    Resume {
        #[arg(value_name = "NODE", value_parser = clap::value_parser!(u8).range(1..=NODES as i64))]
        number: u8,
    },
}

pub(super) fn run(command: &Command, release: Release) -> Result {
    match *command {
        Command::Start => start(release),
        Command::Stop => stop(release),
        Command::Kill { number } => {
            let node = Node::load(&folder(release, number.into()));
            kill_node(&node.ok_or("the cluster does not run; start it with `cargo xtask rabbitmq cluster start`")?)
        }
        Command::Resume { number } => resume_in(&folder(release, number.into())),
    }
}

fn folder(release: Release, number: usize) -> PathBuf {
    release.cluster_folder().join(number.to_string())
}

/// Starts all nodes. Prints the name, the AMQP address and the `rabbitmqctl` script of each.
fn start(release: Release) -> Result {
    stop(release)?;
    for node in on_free_ports(|| launch(release), || stop(release))? {
        println!("{} 127.0.0.1:{} {}", node.name, node.ports.amqp, node.folder.join("ctl").display());
    }
    Ok(())
}

fn launch(release: Release) -> Result<Vec<Node>> {
    let begun = Instant::now();
    let scripts = install::scripts(release)?;
    let nodes = (1..=NODES).map(|number| Node::new(&folder(release, number), release, &scripts));
    let mut nodes = nodes.collect::<Result<Vec<_>>>()?;
    let epmd = nodes[0].ports.epmd;
    let names: Vec<String> = nodes.iter().map(|node| node.name.clone()).collect();
    for node in &mut nodes {
        node.ports.epmd = epmd;
        files::write(node)?;
        let settings = node.folder.join("rabbitmq.conf");
        let mut text = shell::read(&settings)?;
        text += "cluster_formation.peer_discovery_backend = classic_config\n";
        for (number, name) in (1..).zip(&names) {
            text += &format!("cluster_formation.classic_config.nodes.{number} = {name}\n");
        }
        shell::write(&settings, &text)?;
        let cookie = folder(release, 1).join("home/.erlang.cookie");
        let own = node.folder.join("home/.erlang.cookie");
        if cookie != own {
            fs::remove_file(&own)?;
            fs::copy(&cookie, &own)?;
        }
    }
    let mut epmd = port_mapper(&nodes[0])?;
    let mut servers = nodes.iter_mut().map(server).collect::<Result<Vec<_>>>()?;
    for (node, server) in nodes.iter().zip(&mut servers) {
        await_answer(node, [&mut epmd, server], begun + START_TIMEOUT)?;
    }
    let output = std::process::Command::new(nodes[0].folder.join("ctl")).args(["await_online_nodes", "3"]).output()?;
    if !output.status.success() {
        return Err(format!("the nodes did not form a cluster: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(nodes)
}

/// Kills all nodes: their data is no longer needed.
fn stop(release: Release) -> Result {
    for number in (1..=NODES).rev() {
        let folder = folder(release, number);
        for pid in process::find(&node::server_mark(&folder)) {
            process::kill(pid, &node::server_mark(&folder))?;
        }
        clear(&folder)?;
    }
    Ok(())
}
