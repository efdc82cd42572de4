//! The one port: accepting connections, bounding what each may cost, and ending in order.
//!
//! hyper is driven directly because a limit on the time a header may take needs a timer that `axum::serve` does not set.

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use tower_http::timeout::TimeoutBody;

/// How long a connection may take to send one request's header; an idle connection is closed after it too.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long open requests may take to end when the server stops.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Most connections at once.
const CONNECTIONS: usize = 4096;
/// Most connections of one address none of whose requests was answered with success yet: enough for a browser, few for
/// somebody who only wants to hold them.
const STRANGERS_OF_ADDRESS: usize = 32;
/// Most connections of one address in all: many people, runners or a proxy may share it. A proxy on this machine is not
/// counted.
const CONNECTIONS_OF_ADDRESS: usize = 512;
/// How long a request's body may say nothing while it is waited for.
const BODY_IDLE: Duration = Duration::from_secs(10);
/// Most bytes of a request's header, and most fields in it.
const HEADER_BYTES: usize = 16 << 10;
const HEADER_FIELDS: usize = 64;

/// The address of whoever opened the connection, in each request's extensions.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// Serves `router` on `listener` until `shutdown`, then lets open requests end for [`DRAIN_TIMEOUT`].
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    let graceful = GracefulShutdown::new();
    let places = Places::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                // A connection too many is closed at once; the client sees that and comes again.
                if let Some(place) = places.take(peer.ip()) {
                    tokio::spawn(connection(stream, peer, router.clone(), graceful.watcher(), place));
                }
            }
            // Out of descriptors, most likely: waiting is all that helps.
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests did not end within {} s and were cut off", DRAIN_TIMEOUT.as_secs());
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, router: Router, watcher: Watcher, place: Place) {
    let place = Arc::new(place);
    // Small answers should not wait for the client's acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(|body| Body::new(TimeoutBody::new(BODY_IDLE, body)));
        request.extensions_mut().insert(Peer(peer));
        let (answer, place) = (router.clone().oneshot(request), Arc::clone(&place));
        async move {
            let answer = answer.await;
            if answer.as_ref().is_ok_and(|answer| answer.status().is_success() || answer.status().is_redirection()) {
                place.prove();
            }
            answer
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES.max(8192))
        .max_headers(HEADER_FIELDS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEADER_BYTES as u32)
        .max_concurrent_streams(256)
        .keep_alive_interval(Duration::from_secs(60))
        .keep_alive_timeout(HEADER_TIMEOUT);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::trace!(%error, %peer, "a connection ended badly");
    }
}

/// How many more connections there may be.
#[derive(Clone)]
struct Places {
    all: Arc<Semaphore>,
    by_address: Arc<Mutex<HashMap<IpAddr, Taken>>>,
}

/// The places one address has.
#[derive(Debug, Default)]
struct Taken {
    strangers: usize,
    proven: usize,
}

/// One connection's place; given back when dropped.
struct Place {
    _permit: OwnedSemaphorePermit,
    places: Places,
    address: IpAddr,
    proven: AtomicBool,
}

impl Place {
    /// A request of this connection was answered with success.
    fn prove(&self) {
        if !self.proven.swap(true, Ordering::Relaxed)
            && let Some(taken) = self.places.lock().get_mut(&self.address)
        {
            taken.strangers -= 1;
            taken.proven += 1;
        }
    }
}

impl Places {
    fn new() -> Self {
        Self { all: Arc::new(Semaphore::new(CONNECTIONS)), by_address: Arc::default() }
    }

    fn take(&self, address: IpAddr) -> Option<Place> {
        let permit = Arc::clone(&self.all).try_acquire_owned().ok()?;
        let mut by_address = self.lock();
        let taken = by_address.entry(address).or_default();
        let too_many =
            taken.strangers >= STRANGERS_OF_ADDRESS || taken.strangers + taken.proven >= CONNECTIONS_OF_ADDRESS;
        if too_many && !address.is_loopback() {
            return None;
        }
        taken.strangers += 1;
        drop(by_address);
        Some(Place { _permit: permit, places: self.clone(), address, proven: AtomicBool::new(false) })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Taken>> {
        self.by_address.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_address = self.places.lock();
        if let Some(taken) = by_address.get_mut(&self.address) {
            match self.proven.load(Ordering::Relaxed) {
                true => taken.proven -= 1,
                false => taken.strangers -= 1,
            }
            if taken.strangers + taken.proven == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_few_places_until_it_was_answered_and_never_all_of_them() {
        let (places, far, here) = (Places::new(), IpAddr::from([192, 0, 2, 1]), IpAddr::from([127, 0, 0, 1]));
        let mut held: Vec<Place> = (0..STRANGERS_OF_ADDRESS).map(|_| places.take(far).unwrap()).collect();
        assert!(places.take(far).is_none(), "strangers hold few");
        assert!(places.take(IpAddr::from([192, 0, 2, 2])).is_some(), "others are not held up");
        held.iter().for_each(Place::prove);
        held.iter().for_each(Place::prove);
        while let Some(place) = places.take(far) {
            place.prove();
            held.push(place);
        }
        assert_eq!(held.len(), CONNECTIONS_OF_ADDRESS);
        held.pop();
        assert!(places.take(far).is_some(), "a place that is given back is free");
        drop(held);
        assert!(places.lock().is_empty(), "nothing is remembered of who is gone");
        assert!((0..1000).map(|_| places.take(here)).all(|place| place.is_some()));
    }
}
