//! Accepts connections and serves HTTP/1.1 with upgrades to WebSockets.
//!
//! A connection counts among the [`Sockets`] until it is a WebSocket. When no file can be opened, the one in reserve is
//! given up for the next connection, which gets an answer but no WebSocket.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use super::sockets::{Bound, Place, Sockets};
use crate::admission::files::{self, Reserve};
use crate::context::Context;

/// The largest head of a request, in bytes.
const HEAD_MAX: usize = 16 << 10;
/// How long a connection may live that does not become a WebSocket.
const LIFETIME: Duration = Duration::from_secs(60);
/// How long to wait after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Marks the request of a connection for which the last file was given up.
#[derive(Clone, Copy, Debug)]
pub(super) struct OutOfFiles;

/// Serves `router` on `listener` until the future is dropped. Accepted connections continue afterwards.
pub(crate) async fn serve(context: &Arc<Context>, listener: TcpListener, router: Router) {
    let limits = &context.config.limits;
    let sockets = Sockets::new(files::sockets_max(limits.pending_logins), limits.pending_logins_per_address);
    let head_timeout = limits.login_timeout.0;
    let mut reserve = Reserve::new();
    let mut is_out_of_files = false;
    loop {
        let (socket, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn_of(context, &error);
                if files::are_exhausted(&error) && reserve.give_up() {
                    is_out_of_files = true;
                    continue;
                }
                // The oldest socket has had time enough for its request.
                sockets.close_oldest();
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let address = (!context.trusted_proxies.trusts(peer.ip())).then(|| peer.ip());
        let (place, closed) = sockets.admit(address);
        if let Some(bound) = closed {
            report(context, bound, peer);
        }
        let marks = (ConnectInfo(peer), is_out_of_files.then_some(OutOfFiles));
        tokio::spawn(serve_socket(socket, marks, router.clone(), head_timeout, place));
        reserve.refill();
        is_out_of_files = false;
    }
}

/// Serves one connection until it ends, becomes a WebSocket, or has to make place for another.
async fn serve_socket(
    socket: TcpStream,
    (peer, out_of_files): (ConnectInfo<SocketAddr>, Option<OutOfFiles>),
    router: Router,
    head_timeout: Duration,
    mut place: Place,
) {
    let _ = socket.set_nodelay(true);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        if let Some(mark) = out_of_files {
            request.extensions_mut().insert(mark);
        }
        hyper::service::Service::call(&TowerToHyperService::new(router.clone()), request)
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .keep_alive(out_of_files.is_none())
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    let mut serving = pin!(serving);
    let served = tokio::select! {
        served = &mut serving => served,
        () = place.lost() => return,
        () = sleep(LIFETIME) => {
            serving.as_mut().graceful_shutdown();
            let Ok(served) = timeout(head_timeout, serving).await else { return };
            served
        }
    };
    if let Err(error) = served {
        debug!(peer = %peer.0, %error, "an HTTP connection failed");
    }
}

fn warn_of(context: &Context, error: &io::Error) {
    // The usual cause is a lack of file descriptors.
    if let Some(left_out) = context.log_limit.line("accept", Instant::now()) {
        warn!(%error, left_out, "cannot accept a connection");
    }
}

fn report(context: &Context, bound: Bound, peer: SocketAddr) {
    let (reason, setting) = match bound {
        Bound::Total => ("sockets", "limits.pending_logins"),
        Bound::Address => ("address_sockets", "limits.pending_logins_per_address"),
    };
    context.metrics.refused(reason);
    let address = peer.ip();
    if let Some(left_out) = context.log_limit.line(reason, Instant::now()) {
        info!(%address, reason, left_out, "closed the oldest socket without a WebSocket: {setting} is reached");
    }
}
