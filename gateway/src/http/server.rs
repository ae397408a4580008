//! Accepts connections and serves HTTP/1.1 with upgrades to WebSockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tracing::{debug, warn};

use crate::context::Context;

/// Sockets beyond `limits.connections`, for plain requests and pending upgrades.
const SPARE_SOCKETS: usize = 512;
/// The largest head of a request, in bytes.
const HEAD_MAX: usize = 16 << 10;

/// Serves `router` on `listener` until the future is dropped. Accepted connections continue afterwards.
pub(crate) async fn serve(context: &Arc<Context>, listener: TcpListener, router: Router) {
    let sockets = Arc::new(Semaphore::new(context.config.limits.connections.saturating_add(SPARE_SOCKETS)));
    let head_timeout = context.config.limits.login_timeout.0;
    loop {
        let Ok(permit) = Arc::clone(&sockets).acquire_owned().await else { return };
        let (socket, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // The usual cause is a lack of file descriptors, so other connections must close first.
                warn!(%error, "cannot accept a connection");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let _ = socket.set_nodelay(true);
        let router = router.clone();
        tokio::spawn(async move {
            let service = service_fn(move |mut request: hyper::Request<Incoming>| {
                request.extensions_mut().insert(ConnectInfo::<SocketAddr>(peer));
                hyper::service::Service::call(&TowerToHyperService::new(router.clone()), request)
            });
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(head_timeout)
                .max_buf_size(HEAD_MAX)
                .serve_connection(TokioIo::new(socket), service)
                .with_upgrades()
                .await;
            if let Err(error) = served {
                debug!(%peer, %error, "an HTTP connection failed");
            }
            drop(permit);
        });
    }
}
