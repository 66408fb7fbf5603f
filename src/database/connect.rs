//! Opens sessions: tries the hosts of the URL in turn, each with the whole timeout, and begins with the one that worked last.
//!
//! The driver's own timeout ends when the socket is open. A frozen server accepts the socket and never answers, so this one is
//! for everything until the session is ready.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use deadpool_postgres::Connect;
use futures_util::future::{BoxFuture, pending};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, LoadBalanceHosts, SslMode, TargetSessionAttrs};
use tokio_postgres::{AsyncMessage, Client, Config, Connection, Error, Notification, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::timeline::{Newest, Seen, Timeline};

type Stream = <MakeRustlsConnect as tokio_postgres::tls::MakeTlsConnect<Socket>>::Stream;
type Served = (Client, JoinHandle<()>);

/// The hosts, and how to reach them. A clone shares which of them worked last, and what is known of their timelines.
#[derive(Clone)]
pub(super) struct Connector {
    hosts: Arc<RwLock<Arc<[Config]>>>,
    tls: MakeRustlsConnect,
    each: Duration,
    random: bool,
    /// The index of the host that worked last.
    last: Arc<AtomicUsize>,
    newest: Newest,
    /// The hosts that are old primaries, and what is wrong with each.
    old: Arc<RwLock<BTreeMap<usize, String>>>,
}

impl Connector {
    pub fn new(config: &Config, tls: MakeRustlsConnect) -> Connector {
        Connector {
            hosts: Arc::new(RwLock::new(single_hosts(config).into())),
            tls,
            each: config.get_connect_timeout().copied().unwrap_or(Duration::from_secs(10)),
            random: config.get_load_balance_hosts() == LoadBalanceHosts::Random,
            last: Arc::default(),
            newest: Newest::default(),
            old: Arc::default(),
        }
    }

    pub fn hosts(&self) -> Arc<[Config]> {
        // No code under this lock panics.
        Arc::clone(&self.hosts.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How to reach another server with the same login. Without TLS to this one, which may be on this machine, there is TLS to the other if
    /// it can; with a password always.
    pub fn elsewhere(&self, host: &str, port: u16) -> Config {
        let mut config = self.hosts().first().map(without_hosts).unwrap_or_default();
        if config.get_ssl_mode() == SslMode::Disable {
            config.ssl_mode(SslMode::Prefer);
        }
        config.host(host).port(port).connect_timeout(self.each);
        super::url::protect_password(&mut config);
        config
    }

    /// Takes another user and password for the sessions from now on.
    pub fn log_in_as(&self, login: &Config) {
        let renewed = |host: &Config| {
            let mut host = host.clone();
            if let Some(user) = login.get_user() {
                host.user(user);
            }
            if let Some(password) = login.get_password() {
                host.password(password);
            }
            super::url::protect_password(&mut host);
            host
        };
        let hosts = self.hosts().iter().map(renewed).collect();
        *self.hosts.write().unwrap_or_else(PoisonError::into_inner) = hosts;
    }

    /// How long it may take until every host was tried.
    pub fn longest(&self) -> Duration {
        self.each.saturating_mul(u32::try_from(self.hosts().len()).unwrap_or(u32::MAX))
    }

    /// What is wrong with a host that is an old primary, if there is one.
    pub fn old_primary(&self) -> Option<String> {
        self.old.read().unwrap_or_else(PoisonError::into_inner).values().next().cloned()
    }

    /// The host of this number, for people.
    pub fn describe(&self, index: usize) -> String {
        self.hosts().get(index).map(super::url::describe).unwrap_or_default()
    }

    /// A session with the first host that gives one, and the task that serves it. The session ends when another host becomes the
    /// primary. What arrives for LISTEN is sent to `notify`.
    ///
    /// # Errors
    /// Of the last host that answered. Where none did this waits without end: the caller's limit is [`Connector::longest`].
    pub async fn open(&self, notify: Option<mpsc::UnboundedSender<Notification>>) -> Result<Served, Error> {
        let mut promoted = self.newest.subscribe();
        loop {
            tokio::select! {
                biased;
                opened = self.try_hosts(notify.as_ref()) => return opened,
                // Another host became the primary. A frozen one may be waited for.
                _ = promoted.changed() => {}
            }
        }
    }

    async fn try_hosts(&self, notify: Option<&mpsc::UnboundedSender<Notification>>) -> Result<Served, Error> {
        let first = match self.random {
            true => usize::from(uuid::Uuid::new_v4().as_bytes()[0]),
            false => self.last.load(Ordering::Relaxed),
        };
        let hosts = self.hosts();
        let in_turn = (0..hosts.len()).map(|step| (first + step) % hosts.len());
        let mut failed = None;
        for index in in_turn {
            let Some(host) = hosts.get(index) else { continue };
            match tokio::time::timeout(self.each, self.open_host(index, host, notify)).await {
                Ok(Ok(session)) => {
                    self.last.store(index, Ordering::Relaxed);
                    return Ok(session);
                }
                Ok(Err(error)) => failed = Some(error),
                Err(_) => tracing::debug!("{} did not answer in time", super::url::describe(host)),
            }
        }
        match failed {
            Some(error) => Err(error),
            None => pending().await,
        }
    }

    async fn open_host(
        &self,
        index: usize,
        host: &Config,
        notify: Option<&mpsc::UnboundedSender<Notification>>,
    ) -> Result<Served, Error> {
        let (client, connection) = host.connect(self.tls.clone()).await?;
        let (tell, told) = oneshot::channel();
        let mut served = tokio::spawn(serve(connection, notify.cloned(), self.newest.clone(), told));
        let timeline = Timeline::read(&client).await?;
        if self.admit(index, timeline.as_ref()) {
            if let Some(timeline) = timeline {
                // It fails if the session is over already, which its next statement finds.
                let _ = tell.send(timeline);
            }
            return Ok((client, served));
        }
        served.abort();
        let _ = (&mut served).await;
        // Gives the driver's error for a session that is over.
        client.batch_execute("").await.map(|()| (client, served))
    }

    /// A session with this host, be it primary or standby, for the watch.
    pub async fn open_any(&self, index: usize) -> Result<Client, Error> {
        let hosts = self.hosts();
        let Some(host) = hosts.get(index) else { return pending().await };
        let (client, connection) =
            host.clone().target_session_attrs(TargetSessionAttrs::Any).connect(self.tls.clone()).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Whether this host is no old primary. It told the timeline that it writes, or none as a standby.
    pub fn admit(&self, index: usize, timeline: Option<&Timeline>) -> bool {
        let seen = timeline.map(|timeline| (timeline, self.newest.see(timeline)));
        let mut old = self.old.write().unwrap_or_else(PoisonError::into_inner);
        if let Some((timeline, Seen::Older(newest))) = seen {
            let problem = format!(
                "{} takes writes on {timeline}, though timeline {newest} has begun elsewhere: it is an old primary, and is not \
                 written to; stop it or make it a standby, or, if timeline {newest} was given up, see pointsd db restored, and \
                 start pointsd again",
                self.describe(index)
            );
            if old.get(&index) != Some(&problem) {
                tracing::warn!("{problem}");
                old.insert(index, problem);
            }
            return false;
        }
        old.remove(&index);
        match seen {
            Some((_, Seen::First)) => self.last.store(index, Ordering::Relaxed),
            Some((timeline, Seen::Newer)) => {
                self.last.store(index, Ordering::Relaxed);
                tracing::warn!("{} is the primary now, on {timeline}: older sessions end", self.describe(index));
            }
            _ => {}
        }
        true
    }
}

impl Connect for Connector {
    fn connect(&self, _: &Config) -> BoxFuture<'_, Result<Served, Error>> {
        Box::pin(self.open(None))
    }
}

/// Serves a session until it ends, or until a newer timeline has begun than the one it is `told`: its server is no primary any
/// more, and may be frozen.
async fn serve(
    mut connection: Connection<Socket, Stream>,
    notify: Option<mpsc::UnboundedSender<Notification>>,
    newest: Newest,
    told: oneshot::Receiver<Timeline>,
) {
    let served = async {
        while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
            match (message, &notify) {
                // The send fails if the receiver is gone. The connection must still be served.
                (Ok(AsyncMessage::Notification(notification)), Some(notify)) => drop(notify.send(notification)),
                (Ok(_), _) => {}
                (Err(error), _) => {
                    tracing::debug!(%error, "a connection was lost");
                    break;
                }
            }
        }
    };
    let outgrown = async {
        match told.await {
            Ok(timeline) => newest.outgrows(&timeline).await,
            Err(_) => pending().await,
        }
    };
    tokio::select! {
        () = served => {}
        () = outgrown => tracing::debug!("a session with an old primary was ended"),
    }
}

/// Fills in what the URL leaves open.
pub(super) fn complete(config: &mut Config, connect_timeout: Duration, with_ca: bool) -> Result<(), super::Error> {
    if config.get_application_name().is_none() {
        config.application_name("pointsd");
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(connect_timeout);
    }
    // A host that vanishes without a word must be noticed in the time of a failover, not after the system's two hours, which are
    // also the driver's default.
    if config.get_keepalives_idle() == Duration::from_secs(7_200) {
        config.keepalives_idle(Duration::from_secs(10));
    }
    if config.get_keepalives_interval().is_none() {
        config.keepalives_interval(Duration::from_secs(5));
    }
    if config.get_keepalives_retries().is_none() {
        config.keepalives_retries(3);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(Duration::from_secs(25));
    }
    let only_sockets =
        !config.get_hosts().is_empty() && (config.get_hosts().iter()).all(|host| matches!(host, Host::Unix(_)));
    if only_sockets {
        // There is no TLS on a socket of the same machine; libpq ignores sslmode there as well.
        config.ssl_mode(SslMode::Disable);
    } else if with_ca && config.get_ssl_mode() == SslMode::Disable {
        return Err(super::Error::CaFileWithoutTls);
    } else if with_ca {
        // With an authority in the settings, the connection must not fall back to plain text.
        config.ssl_mode(SslMode::Require);
    }
    Ok(())
}

/// The configuration of each host alone. The driver gives its hosts no way to be taken apart.
fn single_hosts(config: &Config) -> Vec<Config> {
    let (hosts, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    let count = hosts.len().max(addresses.len());
    let fits = |length: usize| length == 0 || length == count;
    if count < 2 || !fits(hosts.len()) || !fits(addresses.len()) || !(ports.len() == 1 || fits(ports.len())) {
        return vec![config.clone()]; // where the lists do not fit together, the driver says so
    }
    let single = |index: usize| {
        let mut single = without_hosts(config);
        match hosts.get(index) {
            Some(Host::Tcp(name)) => drop(single.host(name)),
            Some(Host::Unix(folder)) => drop(single.host_path(folder)),
            None => {}
        }
        if let Some(address) = addresses.get(index) {
            single.hostaddr(*address);
        }
        if let Some(port) = ports.get(index).or(ports.first()) {
            single.port(*port);
        }
        single
    };
    (0..count).map(single).collect()
}

/// Everything of a configuration but its hosts and ports.
fn without_hosts(config: &Config) -> Config {
    let mut copy = Config::new();
    copy.ssl_mode(config.get_ssl_mode())
        .ssl_negotiation(config.get_ssl_negotiation())
        .channel_binding(config.get_channel_binding())
        .target_session_attrs(config.get_target_session_attrs())
        .keepalives(config.get_keepalives())
        .keepalives_idle(config.get_keepalives_idle());
    if let Some(user) = config.get_user() {
        copy.user(user);
    }
    if let Some(password) = config.get_password() {
        copy.password(password);
    }
    if let Some(name) = config.get_dbname() {
        copy.dbname(name);
    }
    if let Some(options) = config.get_options() {
        copy.options(options);
    }
    if let Some(name) = config.get_application_name() {
        copy.application_name(name);
    }
    if let Some(limit) = config.get_connect_timeout() {
        copy.connect_timeout(*limit);
    }
    if let Some(limit) = config.get_tcp_user_timeout() {
        copy.tcp_user_timeout(*limit);
    }
    if let Some(interval) = config.get_keepalives_interval() {
        copy.keepalives_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        copy.keepalives_retries(retries);
    }
    copy
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::super::DatabaseUrl;
    use super::*;

    #[test]
    fn what_the_url_leaves_open_is_filled_in() {
        let complete_url = |url: &str, with_ca| {
            let mut config = DatabaseUrl::try_from(url.to_owned()).unwrap().into_config();
            complete(&mut config, Duration::from_secs(3), with_ca).map(|()| config)
        };
        let config = complete_url("postgres://h/d", false).unwrap();
        assert_eq!(config.get_application_name(), Some("pointsd"));
        assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(3)));
        assert_eq!(config.get_ssl_mode(), SslMode::Prefer);
        assert_eq!(config.get_keepalives_idle(), Duration::from_secs(10));

        let config = complete_url("postgres://h,i/d?application_name=x&connect_timeout=7&keepalives_idle=60", true);
        let config = config.unwrap();
        assert_eq!((config.get_keepalives_idle(), config.get_keepalives_retries()), (Duration::from_secs(60), Some(3)));
        assert_eq!(config.get_application_name(), Some("x"));
        assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(7)));
        assert_eq!(config.get_ssl_mode(), SslMode::Require, "a CA means verify");

        let config = complete_url("postgres:///d?host=/run/postgresql&sslmode=require", true).unwrap();
        assert_eq!(config.get_ssl_mode(), SslMode::Disable, "no TLS on sockets");

        let error = complete_url("postgres://h/d?sslmode=disable", true).err();
        assert!(error.unwrap().to_string().contains("contradict"));
    }

    #[test]
    fn a_password_goes_to_another_server_with_tls_only() {
        let mode = |url: &str, host: &str| {
            let mut config = DatabaseUrl::try_from(url.to_owned()).unwrap().into_config();
            complete(&mut config, Duration::from_secs(3), false).unwrap();
            let tls = super::super::tls::connector(config.get_ssl_mode(), None).unwrap();
            let there = Connector::new(&config, tls).elsewhere(host, 5433);
            assert_eq!((there.get_hosts(), there.get_ports()), (&[Host::Tcp(host.to_owned())][..], &[5433][..]));
            there.get_ssl_mode()
        };
        assert_eq!(mode("postgres://u:secret@localhost/d", "node"), SslMode::Require);
        assert_eq!(mode("postgres://u:secret@localhost/d?sslmode=disable", "node"), SslMode::Require);
        assert_eq!(mode("postgres://u:secret@/d?host=/run/postgresql", "node"), SslMode::Require);
        assert_eq!(mode("postgres://u:secret@localhost/d", "localhost"), SslMode::Prefer);
        assert_eq!(mode("postgres:///d?host=/run/postgresql", "node"), SslMode::Prefer);
    }

    #[test]
    fn each_host_of_a_url_becomes_a_configuration_of_its_own() {
        let config = |url: &str| DatabaseUrl::try_from(url.to_owned()).unwrap().into_config();
        let url =
            "postgres://u:secret@a:1,b:2/d?application_name=x&target_session_attrs=read-write&keepalives_retries=7";
        let singles = single_hosts(&config(url));
        let alone = |host: &str| config(&url.replace("a:1,b:2", host));
        assert_eq!(singles, [alone("a:1"), alone("b:2")]);
        assert_eq!(single_hosts(&alone("a:1")), [alone("a:1")]);
    }
}
