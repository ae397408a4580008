//! A peer that does almost nothing, so that a benchmark measures the client. It discards publishes, confirms them in
//! batches, answers every request at once, and floods consumers.
//!
//! ```text
//! bench-counterpart [--tls FOLDER]      FOLDER holds server.pem and server.key
//! ```
//! It listens on a free loopback port, prints `listening 127.0.0.1:PORT`, and ends when its standard input does, so
//! that it never outlives the program that started it. The name of a queue says what its consumer receives:
//! - `flood-SIZE-COUNT`: COUNT messages of SIZE bytes, as fast as TCP takes them, within the prefetch if one is set;
//! - `echo…`: the messages that are published on the same connection from then on;
//! - any other name: nothing.
//!
//! The message count in `queue.declare-ok` is the number of messages published and acknowledged on the connection so
//! far, so that a client can prove that all its messages arrived.

mod flood;
mod link;
mod session;

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

const MOST_CONNECTIONS: usize = 4096;

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let tls = match (args.next().as_deref(), args.next()) {
        (None, _) => None,
        (Some("--tls"), Some(folder)) => Some(Arc::new(link::server_config(&PathBuf::from(folder))?)),
        _ => return Err(io::Error::other("usage: bench-counterpart [--tls FOLDER]")),
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("listening {}", listener.local_addr()?);
    io::stdout().flush()?;
    thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });

    let open = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let stream = stream?;
        if open.fetch_add(1, Ordering::Relaxed) >= MOST_CONNECTIONS {
            open.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let tls = tls.clone();
        let open = open.clone();
        thread::Builder::new().stack_size(128 << 10).spawn(move || {
            if let Err(error) = serve(stream, tls)
                && std::env::var_os("COUNTERPART_LOG").is_some()
            {
                eprintln!("counterpart: {error}");
            }
            open.fetch_sub(1, Ordering::Relaxed);
        })?;
    }
    Ok(())
}

fn serve(stream: TcpStream, tls: Option<Arc<rustls::ServerConfig>>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (input, output) = match tls {
        None => link::plain(stream)?,
        Some(config) => link::encrypted(stream, config)?,
    };
    session::Session::new(output).run(input)
}
