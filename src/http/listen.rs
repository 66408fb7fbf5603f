//! Sockets: TCP, TLS and Unix; how many connections, how slow they may be, and how they end.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use tracing::{debug, error, warn};

use super::{LONGEST_DRAIN, Peer, Server};
use crate::config::{Listen, TlsFiles};
use crate::errors;

/// Connections at a time. One more is told to come back later.
const CONNECTIONS: usize = 2_000;

/// Open files that the process asks for: its connections, and the rest.
const OPEN_FILES: u64 = 4_096;

/// How long the head of a call may take, and how long a connection may be idle.
const LONGEST_HEAD: Duration = Duration::from_secs(30);

/// How long the TLS handshake may take.
const LONGEST_HANDSHAKE: Duration = Duration::from_secs(10);

/// How long the rest of a call may take when the daemon stops.
const LONGEST_REST: Duration = Duration::from_secs(2);

/// How long an answer may stand still because the client reads none of it.
const LONGEST_STILL: Duration = Duration::from_secs(60);

/// The buffer of a connection, in bytes, which bounds the head of a call.
const BUFFER: usize = 64 << 10;

/// The pause after a connection that could not be accepted, such as when no file may be opened.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// The answer to a connection above the limit.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// A socket that is listened on.
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// The file of a Unix socket, which is removed with it.
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

enum Accepted {
    Tcp(TcpStream, Peer),
    Unix(UnixStream),
}

impl Listener {
    pub(super) async fn bind(listen: &Listen) -> io::Result<Listener> {
        match listen {
            Listen::Tcp(address) => Ok(Listener::Tcp(TcpListener::bind(address).await?)),
            Listen::Unix(path) => {
                remove_left_behind(path).await?;
                let listener = UnixListener::bind(path)?;
                let file = SocketFile(path.clone());
                // Its group may call; the folder's rights decide which others reach it.
                let rights = std::os::unix::fs::PermissionsExt::from_mode(0o660);
                std::fs::set_permissions(path, rights)?;
                Ok(Listener::Unix(listener, file))
            }
        }
    }

    /// Where it listens: with port 0 the system chose one.
    pub(super) fn address(&self) -> String {
        match self {
            Listener::Tcp(listener) => {
                listener.local_addr().map_or_else(|_| String::new(), |address| address.to_string())
            }
            Listener::Unix(_, file) => format!("unix:{}", file.0.display()),
        }
    }

    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Accepted::Tcp(stream, Peer::Address(address.ip())))
            }
            Listener::Unix(listener, _) => Ok(Accepted::Unix(listener.accept().await?.0)),
        }
    }

    /// Serves until the daemon stops, and then until the calls under way are answered.
    pub(super) async fn serve(self, server: Server, tls: Option<Arc<ServerConfig>>) {
        allow_open_files();
        let connections = Connections {
            router: server.router(),
            places: Arc::new(Semaphore::new(CONNECTIONS)),
            graceful: GracefulShutdown::new(),
            stop: server.stop().clone(),
        };
        let mut acceptor = tls.map(TlsAcceptor::from);
        let mut config = server.0.config.clone();
        loop {
            let accepted = tokio::select! {
                () = server.stop().cancelled() => break,
                Ok(()) = config.changed() => {
                    renew(&mut acceptor, &config.borrow_and_update().http.tls);
                    continue;
                }
                accepted = self.accept() => accepted,
            };
            match accepted {
                Ok(accepted) => connections.take(accepted, acceptor.as_ref()),
                Err(error) => {
                    warn!(%error, "a connection could not be accepted: {error}");
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
            }
        }
        drop(self);
        if tokio::time::timeout(LONGEST_DRAIN, connections.graceful.shutdown()).await.is_err() {
            warn!("calls over HTTP are cut off: they took longer than {} s", LONGEST_DRAIN.as_secs());
        }
    }
}

struct Connections {
    router: axum::Router,
    places: Arc<Semaphore>,
    graceful: GracefulShutdown,
    stop: CancellationToken,
}

impl Connections {
    fn take(&self, accepted: Accepted, acceptor: Option<&TlsAcceptor>) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            // Written without waiting: a stream that is new has room for it. Under TLS it is only closed.
            let _ = match &accepted {
                Accepted::Tcp(stream, _) if acceptor.is_none() => stream.try_write(FULL),
                Accepted::Tcp(..) => Ok(0),
                Accepted::Unix(stream) => stream.try_write(FULL),
            };
            return;
        };
        let (router, acceptor) = (self.router.clone(), acceptor.cloned());
        let end = (self.graceful.watcher(), self.stop.clone());
        tokio::spawn(async move {
            match (accepted, acceptor) {
                (Accepted::Unix(stream), _) => serve(stream, Peer::Socket, router, end).await,
                (Accepted::Tcp(stream, peer), None) => serve(stream, peer, router, end).await,
                (Accepted::Tcp(stream, peer), Some(acceptor)) => {
                    match tokio::time::timeout(LONGEST_HANDSHAKE, acceptor.accept(stream)).await {
                        Ok(Ok(stream)) => serve(stream, peer, router, end).await,
                        Ok(Err(error)) => debug!(%error, "a TLS handshake failed"),
                        Err(_) => debug!("a TLS handshake took too long"),
                    }
                }
            }
            drop(place);
        });
    }
}

/// Serves the calls of one connection until it ends.
async fn serve(
    stream: impl AsyncRead + AsyncWrite + Send + 'static,
    peer: Peer,
    router: axum::Router,
    (watcher, stop): (Watcher, CancellationToken),
) {
    let service = router.map_request(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        request
    });
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(LONGEST_STILL));
    let too_late = Box::pin(async move {
        stop.cancelled_owned().await;
        tokio::time::sleep(LONGEST_REST).await;
    });
    let stream = Stopping { stream: Box::pin(stream), too_late, is_late: false };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(LONGEST_HEAD)
        .max_buf_size(BUFFER)
        // A client may close its side once its call is sent.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    if let Err(error) = watcher.watch(connection).await {
        debug!(%error, "a connection ended early");
    }
}

/// A connection that ends for its reader a little after the daemon was told to stop. A call that was read whole is still
/// answered.
struct Stopping<S> {
    stream: Pin<Box<S>>,
    too_late: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_late: bool,
}

impl<S: AsyncRead> AsyncRead for Stopping<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Stopping { stream, too_late, is_late } = self.get_mut();
        let read = stream.as_mut().poll_read(context, bytes);
        if read.is_pending() {
            *is_late = *is_late || too_late.as_mut().poll(context).is_ready();
        }
        if read.is_pending() && *is_late { Poll::Ready(Ok(())) } else { read }
    }
}

impl<S: AsyncWrite> AsyncWrite for Stopping<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream.as_mut().poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream.as_mut().poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_shutdown(context)
    }
}

/// Removes the file of a socket that no process listens on any more.
async fn remove_left_behind(path: &Path) -> io::Result<()> {
    let is_socket = std::fs::symlink_metadata(path)
        .is_ok_and(|metadata| std::os::unix::fs::FileTypeExt::is_socket(&metadata.file_type()));
    if !is_socket {
        return Ok(());
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        _ => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens on it")),
    }
}

/// Lets the process have as many open files as it may need, if the system allows it.
fn allow_open_files() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    let wanted = OPEN_FILES.min(hard);
    if soft < wanted
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)
    {
        warn!(%error, "the limit of open files stays at {soft}, so few connections can be served");
    }
}

/// The TLS settings from the PEM files.
///
/// # Errors
/// A file that cannot be read or used, by name.
pub(super) fn tls(files: &TlsFiles) -> anyhow::Result<Arc<ServerConfig>> {
    let chain = CertificateDer::pem_file_iter(&files.certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain =
        chain.with_context(|| format!("http.tls.certificate: {} cannot be read", files.certificate.display()))?;
    anyhow::ensure!(!chain.is_empty(), "http.tls.certificate: {} holds no certificate", files.certificate.display());
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .with_context(|| format!("http.tls.key: {} cannot be read", files.key.display()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .context("http.tls: the certificate and the key cannot be used together")?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Takes the certificate of a configuration that was loaded again. One that cannot be used is told, and the old one stays.
fn renew(acceptor: &mut Option<TlsAcceptor>, files: &Option<TlsFiles>) {
    let (Some(current), Some(files)) = (acceptor, files) else { return };
    match tls(files) {
        Ok(config) => *current = TlsAcceptor::from(config),
        Err(error) => {
            let reason = errors::chain(error.as_ref());
            error!("the certificate stays as it was: {reason}");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use axum::routing::get;
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_no_answer_loses_its_connection() {
        let (mut client, stream) = tokio::io::duplex(1 << 10);
        let router = axum::Router::new().route("/", get(async || "x".repeat(1 << 20)));
        let graceful = GracefulShutdown::new();
        let serving = serve(stream, Peer::Socket, router, (graceful.watcher(), CancellationToken::new()));
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        tokio::time::timeout(2 * LONGEST_STILL, serving).await.expect("the connection goes on");
    }
}
