//! `cargo xtask rabbitmq cluster`: three nodes that are one broker, for tests that kill one of them.
//!
//! They lie under `target/rabbitmq-cluster`, share a port mapper and a cookie, and find each other by a list of names.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use super::node::{self, Node};
use super::{START, await_answer, clear, files, install, kill_node, on_free_ports, port_mapper, resume_in, server};
use crate::process;
use crate::shell::{self, Result};

const NODES: usize = 3;

pub(crate) fn run(words: &[&str]) -> Result {
    let member = |number: &str| match number.parse() {
        Ok(number @ 1..=NODES) => Ok(folder(number)),
        _ => Err(format!("the nodes are 1 to {NODES}, not {number}")),
    };
    match words {
        ["start"] => start(),
        ["stop"] => stop(),
        ["kill", number] => kill_node(&Node::load(&member(number)?).ok_or("there is no cluster")?),
        ["resume", number] => resume_in(&member(number)?),
        _ => Err("usage: cargo xtask rabbitmq cluster start | stop | kill N | resume N".into()),
    }
}

fn folder(number: usize) -> PathBuf {
    shell::root().join("target/rabbitmq-cluster").join(number.to_string())
}

/// Starts all, and prints for each its name, its port for AMQP, and what speaks to it.
fn start() -> Result {
    stop()?;
    for node in on_free_ports(launch, stop)? {
        println!("{} 127.0.0.1:{} {}", node.name, node.ports.amqp, node.folder.join("ctl").display());
    }
    Ok(())
}

fn launch() -> Result<Vec<Node>> {
    let begun = Instant::now();
    let scripts = install::scripts()?;
    let mut nodes = (1..=NODES).map(|number| Node::new(&folder(number))).collect::<Result<Vec<_>>>()?;
    let epmd = nodes[0].ports.epmd;
    let names: Vec<String> = nodes.iter().map(|node| node.name.clone()).collect();
    for node in &mut nodes {
        node.ports.epmd = epmd;
        files::write(node, &scripts)?;
        let settings = node.folder.join("rabbitmq.conf");
        let mut text = shell::read(&settings)?;
        text += "cluster_formation.peer_discovery_backend = classic_config\n";
        for (number, name) in (1..).zip(&names) {
            text += &format!("cluster_formation.classic_config.nodes.{number} = {name}\n");
        }
        shell::write(&settings, &text)?;
        let (cookie, own) = (folder(1).join("home/.erlang.cookie"), node.folder.join("home/.erlang.cookie"));
        if cookie != own {
            fs::remove_file(&own)?;
            fs::copy(&cookie, &own)?;
        }
    }
    let mut epmd = port_mapper(&nodes[0])?;
    let mut servers = nodes.iter_mut().map(|node| server(node, &scripts)).collect::<Result<Vec<_>>>()?;
    for (node, server) in nodes.iter().zip(&mut servers) {
        await_answer(node, [&mut epmd, server], begun + START)?;
    }
    let output = Command::new(nodes[0].folder.join("ctl")).args(["await_online_nodes", "3"]).output()?;
    if !output.status.success() {
        return Err(format!("the nodes find no cluster: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(nodes)
}

/// Ends all at once: nobody needs their data any more.
fn stop() -> Result {
    for number in (1..=NODES).rev() {
        let folder = folder(number);
        for pid in process::find(&node::server_mark(&folder)) {
            process::kill(pid, &node::server_mark(&folder))?;
        }
        clear(&folder)?;
    }
    Ok(())
}
