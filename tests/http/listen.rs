//! Sockets, TLS, tokens; slow and broken clients; the end of the daemon.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::Arc;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use super::{Site, agent, answer, exchange};
use crate::program::{PATIENCE, call, eventually, run, until_waits_for_a_lock, wait};
use crate::support::user;

#[test]
fn only_a_valid_token_of_the_scope_is_let_in() {
    let site = Site::start();
    let postings = format!("http://{}/v1/postings", site.address);
    let with = |token: &str| answer(agent().post(&postings).header("authorization", token).send("{}"));
    let none = answer(agent().post(&postings).send("{}"));
    none.problem(401, "no_token");
    assert_eq!(none.headers["www-authenticate"], "Bearer");
    with("Basic dTpw").problem(401, "no_token");
    with(&format!("bearer {}", site.token)).problem(400, "malformed");
    for wrong in ["x", "pointsd_1_x", "pointsd_999_x", "pointsd_x_y", &site.token[..site.token.len() - 1]] {
        with(&format!("Bearer {wrong}")).problem(401, "wrong_token");
    }
    let reader = call(&site.url, &["token", "create", "reader", "--scope", "read", "--json"]).expect(0).json();
    let reader = format!("Bearer {}", reader["token"].as_str().unwrap());
    with(&reader).problem(403, "scope");
    call(&site.url, &["token", "create", "reader", "--scope", "read"]).expect(2);

    // Another number with the same secret is another token.
    let (_, secret) = site.token.rsplit_once('_').unwrap();
    with(&format!("Bearer pointsd_2_{secret}")).problem(401, "wrong_token");
    call(&site.url, &["token", "revoke", "reader"]).expect(0);
    crate::program::eventually("the token is revoked", || (with(&reader).status == 401).then_some(()));
    let tokens = call(&site.url, &["token", "list", "--json"]).expect(0).jsons();
    assert!(tokens[0]["last_used_at"].is_string() && tokens[0]["revoked_at"].is_null(), "{tokens:?}");
    assert!(tokens[1]["last_used_at"].is_string() && tokens[1]["revoked_at"].is_string(), "{tokens:?}");

    // Guesses are answered slowly; a valid token is let in all the same.
    let guesses: Vec<u16> = (0..30).map(|_| with("Bearer pointsd_1_x").status).collect();
    assert!(guesses.contains(&429), "{guesses:?}");
    with(&format!("Bearer {}", site.token)).problem(400, "malformed");
}

#[test]
fn health_and_the_description_need_no_token_on_this_machine() {
    let site = Site::start();
    for path in ["/livez", "/readyz"] {
        let found = answer(agent().get(format!("http://{}{path}", site.address)).call());
        assert_eq!(found.status, 200, "{found:?}");
    }
    let described = || agent().get(format!("http://{}/v1/openapi.json", site.address));
    // A proxy calls from this machine, too.
    for header in ["x-forwarded-for", "forwarded"] {
        answer(described().header(header, "for=192.0.2.7").call()).problem(401, "no_token");
    }
    // A name that a hostile page had pointed at this machine.
    for (host, status) in
        [("evil.example", 401), ("evil.example:8650", 401), ("LocalHost:8650", 200), ("[::1]:8650", 200)]
    {
        let call = format!("GET /metrics HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        let told = exchange(site.connect(), call.as_bytes());
        assert!(told.starts_with(&format!("HTTP/1.1 {status} ")), "{host}: {told}");
    }
    let found = answer(described().call());
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
    if std::env::var_os("WRITE_OPENAPI").is_some() {
        std::fs::write(file, &found.body).unwrap();
    }
    let text = std::fs::read_to_string(file).unwrap();
    assert!(found.body == text, "docs/openapi.json is not what the daemon serves: run this test with WRITE_OPENAPI=1");
    // Generators make a function of each.
    let description = found.json();
    let calls = description["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap().values());
    let mut ids: Vec<&str> = calls.map(|call| call["operationId"].as_str().unwrap()).collect();
    ids.sort_unstable();
    assert!(ids.windows(2).all(|pair| pair[0] != pair[1]), "{ids:?}");
}

#[test]
fn a_unix_socket_and_ipv6_are_listened_on() {
    let mut site = Site::with("http: {listen: 'unix:FOLDER/http.sock'}\n");
    let path = site.folder.path().join("http.sock");
    let ask = || {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(b"GET /v1/openapi.json HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(ask().starts_with("HTTP/1.1 200 OK\r\n"));
    // A second daemon does not take it away, and one that is gone leaves nothing that hinders.
    let refused = run(site.command(&["serve"])).expect(1).stderr;
    assert!(
        refused.contains("http.sock cannot be listened on") && refused.contains("another process listens"),
        "{refused}"
    );
    site.signal(Signal::SIGKILL);
    site.killed();
    assert!(path.exists());
    site.serve();
    assert!(ask().starts_with("HTTP/1.1 200 OK\r\n"));
    site.signal(Signal::SIGTERM);
    site.stopped();
    assert!(!path.exists());

    let site = Site::with("http: {listen: '[::1]:0'}\n");
    assert!(site.address.starts_with("[::1]:"));
    assert_eq!(site.get("/readyz").status, 200);
}

#[test]
fn tls_serves_other_machines_and_takes_a_renewed_certificate() {
    let folder = crate::program::Folder::new();
    let write = |name: &str| {
        let made = rcgen::generate_simple_self_signed(["points.example".to_owned()]).unwrap();
        folder.file("key.pem", made.signing_key.serialize_pem());
        folder.file(name, made.cert.pem());
        std::fs::copy(folder.path().join(name), folder.path().join("cert.pem")).unwrap();
    };
    write("first.pem");
    let place = folder.path().display();
    // Every address of the machine.
    let config =
        format!("http: {{listen: '0.0.0.0:0', tls: {{certificate: {place}/cert.pem, key: {place}/key.pem}}}}\n");
    let mut site = Site::with(&config);
    site.address = site.address.replace("0.0.0.0", "127.0.0.1");
    let address = site.address.clone();
    let send = |trusted: &str, request: &str| {
        let mut roots = rustls::RootCertStore::empty();
        let pem = std::fs::read(folder.path().join(trusted)).unwrap();
        roots.add(rustls::pki_types::CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("points.example").unwrap();
        let client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut stream = rustls::StreamOwned::new(client, TcpStream::connect(&address).unwrap());
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    };
    let ask = |trusted: &str| send(trusted, "GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    assert!(ask("first.pem").unwrap().ends_with("ready\n"));
    // A login: each cookie of the pages is for TLS alone.
    let login = send("first.pem", "GET /login HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let (cookie, attributes) = login.split_once("set-cookie: ").unwrap().1.split_once(';').unwrap();
    assert!(attributes.lines().next().unwrap().ends_with("; Secure"), "{login}");
    let sign = cookie.split_once('=').unwrap().1;
    let form = super::pages::form(&[("csrf", sign), ("token", &site.token), ("next", "/")]);
    let login = format!(
        "POST /login HTTP/1.1\r\nhost: x\r\norigin: https://x\r\ncookie: {cookie}\r\nconnection: close\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
        form.len()
    );
    let login = send("first.pem", &login).unwrap();
    let session = login.split_once("set-cookie: __Host-pointsd_session=").unwrap().1.lines().next().unwrap();
    assert!(login.starts_with("HTTP/1.1 303") && session.ends_with("; Secure"), "{login}");
    // In the clear nothing is answered.
    assert_eq!(exchange(site.connect(), b"GET /readyz HTTP/1.1\r\n\r\n").find("HTTP"), None);
    write("second.pem");
    site.signal(Signal::SIGHUP);
    eventually("the certificate is renewed", || ask("second.pem").ok());
    assert!(ask("first.pem").is_err());
    // A bad one leaves the old one.
    folder.file("cert.pem", "");
    site.signal(Signal::SIGHUP);
    let told = site.logs("the certificate stays as it was");
    assert!(told["message"].as_str().unwrap().contains("holds no certificate"), "{told}");
    assert!(ask("second.pem").unwrap().ends_with("ready\n"));
}

#[test]
fn slow_and_broken_clients_hinder_no_other() {
    let site = Site::start();
    let posting =
        json!({ "op": "recharge", "user": user(1), "points": 1, "source": "gift", "order_id": 1 }).to_string();
    let head = site.head("POST", "/v1/postings");

    // Half a head, half a body, and a connection without a word stay open all the while.
    let mut stuck: Vec<TcpStream> = (0..300).map(|_| site.connect()).collect();
    for (nth, stream) in stuck.iter_mut().enumerate() {
        let part = match nth % 3 {
            0 => String::new(),
            1 => head[..40].to_owned(),
            _ => format!("{head}content-length: 500\r\n\r\n{posting}"),
        };
        stream.write_all(part.as_bytes()).unwrap();
    }
    assert_eq!(site.post("application/json", &posting).status, 200);

    // A client that closes its side gets its answer; one that leaves in the middle of its body posts nothing.
    let whole = format!("{head}content-length: {}\r\nconnection: close\r\n\r\n{posting}", posting.len());
    let stream = site.connect();
    (&stream).write_all(whole.as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    (&stream).read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("replayed"), "{answer}");
    let other = posting.replace("\"order_id\":1", "\"order_id\":2");
    // Whole JSON, but the head announces one byte more.
    let stream = site.connect();
    (&stream).write_all(format!("{head}content-length: {}\r\n\r\n{other}", other.len() + 1).as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    let _ = (&stream).read_to_string(&mut answer);
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");

    // No HTTP at all, a head without an end, and a body that is not as long as it says.
    for bytes in ["\x16\x03\x01\x02", "GET\r\n\r\n", &format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(70_000))] {
        let answer = exchange(site.connect(), bytes.as_bytes());
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    let chunked = format!("{head}transfer-encoding: chunked\r\nconnection: close\r\n\r\nzz\r\n");
    assert!(exchange(site.connect(), chunked.as_bytes()).starts_with("HTTP/1.1 400"));
    drop(stuck);
    let balance = call(&site.url, &["balance", &user(1).to_string(), "--json"]).expect(0).json();
    assert_eq!(balance["balance"], 1);
}

#[test]
fn bodies_that_come_slowly_take_no_room_from_others() {
    let site = Site::start();
    let posting = json!({ "op": "recharge", "user": user(1), "points": 1, "source": "gift", "order_id": 1 });
    let slow: Vec<TcpStream> = ["transfer-encoding: chunked\r\n\r\n1\r\n{\r\n", "content-length: 8388608\r\n\r\n{"]
        .iter()
        .cycle()
        .take(40)
        .map(|body| {
            let mut stream = site.connect();
            // The server says so once it reads the body.
            stream
                .write_all(format!("{}expect: 100-continue\r\n{body}", site.head("POST", "/v1/postings")).as_bytes())
                .unwrap();
            let mut told = [0; 12];
            stream.read_exact(&mut told).unwrap();
            assert_eq!(&told, b"HTTP/1.1 100");
            stream
        })
        .collect();
    assert_eq!(site.post("application/json", posting.to_string()).status, 200);
    drop(slow);
}

#[test]
fn a_connection_too_many_is_told_to_come_back() {
    // Each connection is a file of this process, too, and the usual soft limit is 1,024.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let site = Site::start();
    let mut held = Vec::new();
    let refused = loop {
        let stream = site.connect();
        assert!(held.len() < 2_500, "no limit was met");
        // A connection that is let in says nothing by itself.
        if held.len() >= 1_990 {
            stream.set_nonblocking(false).unwrap();
            stream.set_read_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
            let mut answer = String::new();
            let _ = (&stream).read_to_string(&mut answer);
            if !answer.is_empty() {
                break answer;
            }
        }
        held.push(stream);
    };
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("retry-after: 1\r\n"), "{refused}");
    held.truncate(100);
    eventually("there is room again", || {
        let answer = exchange(site.connect(), b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        answer.starts_with("HTTP/1.1 200").then_some(())
    });
}

#[test]
fn a_stop_loses_no_reply_that_was_committed() {
    let mut site = Site::start();
    let line = |nth: u32| {
        json!({ "op": "recharge", "user": user(nth % 7), "points": 1, "source": "gift", "order_id": nth }).to_string()
            + "\n"
    };
    // A stream whose client is still sending, and has read the replies so far.
    let stream = site.connect();
    let head =
        site.head("POST", "/v1/postings") + "content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n";
    (&stream).write_all(head.as_bytes()).unwrap();
    let mut answers = BufReader::new(&stream).lines().map(Result::unwrap);
    let mut next =
        || answers.find(|line| line.starts_with('{')).map(|line| serde_json::from_str::<Value>(&line).unwrap());
    for nth in 0..20 {
        let line = line(nth);
        (&stream).write_all(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes()).unwrap();
        assert_eq!(next().unwrap()["line"], nth + 1);
    }
    site.signal(Signal::SIGTERM);
    let last = next().unwrap();
    assert_eq!((&last["code"], &last["line"]), (&json!("stopping"), &json!(20)));
    site.stopped();
    let rows = call(&site.url, &["export", "entries", "--json"]).expect(0).jsons();
    assert_eq!(rows.len(), 20);
}

#[test]
fn a_stop_waits_for_a_run_that_a_call_began() {
    let mut site = Site::start();
    let line = json!({ "op": "recharge", "user": user(1), "points": 7, "source": "gift", "order_id": 1,
                       "at": "2026-01-01T00:00:00Z", "expires_at": "2026-01-02T00:00:00Z" });
    crate::program::post(&site.url, line.to_string()).expect(0);
    site.signal(Signal::SIGTERM);
    site.stopped();
    // The daemon tells systemd.
    let socket = site.folder.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = site.command(&["serve"]);
    command.env("NOTIFY_SOCKET", &socket);
    site.serve_as(command);
    let hear = |begin: &str| loop {
        let mut told = [0; 4096];
        let length = manager.recv(&mut told).unwrap_or_else(|error| panic!("{begin}: {error}"));
        if told[..length].starts_with(begin.as_bytes()) {
            break;
        }
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let holder = runtime.block_on(site.database.client());
    runtime.block_on(holder.batch_execute("BEGIN; SELECT FROM pointsd.accounts FOR UPDATE")).unwrap();
    assert_eq!(site.post_to("/v1/jobs/expiry/run", &[], "").status, 202);
    wait(async { until_waits_for_a_lock(&site.database.client().await).await });
    // Wakes the loop.
    site.signal(Signal::SIGHUP);
    hear("STATUS=expiry; next: ");
    site.signal(Signal::SIGTERM);
    hear("STOPPING=1\nSTATUS=stopping after the current chunk: expiry\n");
    hear("EXTEND_TIMEOUT_USEC=");
    runtime.block_on(holder.batch_execute("COMMIT")).unwrap();
    site.stopped();
    let row = "SELECT (SELECT count(*) FROM pointsd.runs WHERE state = 'running'), (SELECT total_expired FROM pointsd.accounts)";
    let row = wait(async { site.database.client().await.query_one(row, &[]).await.unwrap() });
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (0, 7), "the group in hand was finished");
}

#[test]
fn a_schedule_that_stands_still_holds_up_no_call() {
    let site = Site::start();
    let rename = |from: &str, to: &str| {
        let sql = format!("ALTER TABLE pointsd.{from} RENAME TO {to}");
        wait(async { site.database.client().await.batch_execute(&sql).await.unwrap() });
        // Wakes the loop.
        site.signal(Signal::SIGHUP);
    };
    rename("jobs", "jobs_elsewhere");
    let told =
        eventually("the schedule stands still", || Some(site.get("/readyz")).filter(|ready| ready.status == 503));
    assert!(told.body.starts_with("the schedule stands still"), "{told:?}");
    let posting = json!({ "op": "recharge", "user": user(1), "points": 1, "source": "gift", "order_id": 1 });
    assert_eq!(site.post("application/json", posting.to_string()).status, 200);
    assert_eq!(site.get(&format!("/v1/accounts/{}/balance", user(1))).json()["balance"], 1);
    rename("jobs_elsewhere", "jobs");
    eventually("the daemon is ready again", || (site.get("/readyz").status == 200).then_some(()));
}

#[test]
fn a_database_that_is_away_is_told_and_comes_back() {
    let site = Site::start();
    let posting =
        json!({ "op": "recharge", "user": user(1), "points": 1, "source": "gift", "order_id": 1 }).to_string();
    // The database takes no new session, and ends those that are there.
    let name = site.database_name();
    site.admin(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"));
    site.admin(&format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND pid <> pg_backend_pid()"
    ));
    eventually("the daemon is not ready", || (site.get("/readyz").status == 503).then_some(()));
    assert_eq!(site.get("/livez").status, 200);
    let away = site.post("application/json", &posting);
    away.problem(503, "database_away");
    assert_eq!(away.headers["retry-after"], "1");
    for path in ["/v1/jobs".to_owned(), format!("/v1/accounts/{}/balance", user(1))] {
        let away = site.get(&path);
        away.problem(503, "database_away");
        assert_eq!(away.headers["retry-after"], "1");
    }
    site.admin(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true"));
    eventually("the daemon is ready again", || (site.get("/readyz").status == 200).then_some(()));
    assert_eq!(site.post("application/json", &posting).status, 200);

    // The database takes no writes, as while it fails over.
    let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
    site.admin(&format!("ALTER DATABASE {name} SET default_transaction_read_only = on"));
    site.admin(&end);
    // A posting that is tried again until the call is over gets the code `timeout`.
    let refused = site.post("application/json", posting.replace(":1}", ":2}"));
    refused.problem(503, "database_away");
    let why = eventually("the daemon is not ready", || Some(site.get("/readyz")).filter(|found| found.status == 503));
    assert!(why.body.contains("the database takes no writes"), "{why:?}");
    site.post("application/json", &posting).problem(503, "database_away");
    assert_eq!(site.get(&format!("/v1/accounts/{}/balance", user(1))).status, 200);
    site.admin(&format!("ALTER DATABASE {name} RESET default_transaction_read_only"));
    eventually("the daemon is ready again", || (site.get("/readyz").status == 200).then_some(()));
    assert_eq!(site.post("application/json", &posting).status, 200);
}

#[test]
fn a_stop_waits_for_no_call_whose_rest_does_not_come() {
    let mut site = Site::with("http: {listen: '127.0.0.1:0'}\nlog: {level: debug}\n");
    let head = site.head("POST", "/v1/postings");
    let halves = [
        head.clone(),
        format!("{head}content-type: application/json\r\ncontent-length: 100\r\n\r\n{{"),
        site.head("POST", "/v1/jobs/expiry/pause") + "content-type: application/json\r\ncontent-length: 100\r\n\r\n{",
    ];
    let streams = halves.map(|half| {
        let mut stream = site.connect();
        stream.write_all(half.as_bytes()).unwrap();
        stream
    });
    // The server has read them all: it answers a later connection.
    assert_eq!(site.get("/livez").status, 200);
    site.signal(Signal::SIGTERM);
    let log = site.stopped().stderr;
    // The first one did not wait for the longest time of a head, the second one not for that of a call.
    assert!(log.contains("connection closed before message completed"), "{log}");
    let [_, posting, _] = streams.map(|stream| exchange(stream, b""));
    assert!(posting.contains("\"code\":\"stopping\""), "{posting}");
    assert!(!log.contains("calls over HTTP are cut off"), "{log}");
}
