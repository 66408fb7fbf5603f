//! Every command under the role that `db grant` makes for it, on a database where other roles own lookalikes of the server's
//! functions; and what each role may not do.

use crate::program::{Folder, Running, call, eventually, on, post, requests_in, run, wait};
use crate::support::{TestDatabase, clean_up, connect, user};
use nix::sys::signal::Signal;
use tokio_postgres::error::SqlState;

/// A role of each kind, with exactly its rights, and the URL of a session under it.
struct Roles {
    database: TestDatabase,
    owner: String,
    names: [String; 3],
}

impl Roles {
    fn new() -> Roles {
        let database = wait(TestDatabase::new());
        let owner = database.url();
        // Roles belong to the whole server, where other tests run.
        let names = ["daemon", "app", "reader"].map(|kind| format!("{kind}_{}", uuid::Uuid::new_v4().simple()));
        let create = names.iter().map(|name| format!("CREATE ROLE {name} LOGIN;")).collect::<String>();
        sql(&database, &create);
        let [daemon, app, reader] = &names;
        let grant = ["db", "grant", "--daemon", daemon, "--application", app, "--reader", reader];
        call(&owner, &grant).expect(0);
        Roles { database, owner, names }
    }

    fn url(&self, role: usize) -> String {
        let (_, rest) = self.owner.split_once('@').unwrap();
        format!("postgres://{}@{rest}", self.names[role])
    }

    /// Checks that a role has no right to a statement.
    #[track_caller]
    fn denies(&self, role: usize, sql: &str) {
        let found = self.refused(role, sql);
        assert_eq!(found, Some(SqlState::INSUFFICIENT_PRIVILEGE), "{}: {sql}", self.names[role]);
    }

    /// The SQLSTATE of a statement under a role.
    fn refused(&self, role: usize, sql: &str) -> Option<SqlState> {
        let sql = format!("SET ROLE {}; {sql}", self.names[role]);
        wait(async {
            self.database.client().await.batch_execute(&sql).await.err().and_then(|error| error.code().cloned())
        })
    }
}

impl Drop for Roles {
    fn drop(&mut self) {
        let (config, names) = (self.database.config(), self.names.clone());
        clean_up(move || {
            wait(async {
                let client = connect(&config).await;
                for name in names {
                    client.batch_execute(&format!("DROP OWNED BY {name}; DROP ROLE {name}")).await.unwrap();
                }
            });
        });
    }
}

fn sql(database: &TestDatabase, sql: &str) {
    wait(async { database.client().await.batch_execute(sql).await.unwrap() });
}

const POSTINGS: &str = r#"{"op":"recharge","user":"USER","points":100,"source":"gift","order_id":1,"at":"2026-01-01T00:00:00Z"}
{"op":"recharge","user":"USER","points":50,"source":"gift","order_id":2,"at":"2026-01-01T00:00:00Z","expires_at":"2026-01-02T00:00:00Z"}
{"op":"consume","user":"USER","points":30,"source_type":"tts","source_id":"1","at":"2026-01-03T00:00:00Z"}
{"op":"consume","user":"USER","points":20,"source_type":"tts","source_id":"2","at":"2026-01-01T12:00:00Z"}
{"op":"refund","user":"USER","source_type":"tts","source_id":"1"}
{"op":"void","user":"USER","points":1,"source":"gift","order_id":1}
{"op":"hold","user":"USER","points":5,"source_type":"tts","source_id":"3","until":"2036-01-01T00:00:00Z"}
{"op":"release","user":"USER","source_type":"tts","source_id":"3"}
"#;

#[test]
fn every_command_works_under_its_role_and_finds_no_lookalike() {
    let roles = Roles::new();
    wait(roles.database.set_lookalikes());
    let (daemon, reader, folder) = (roles.url(0), roles.url(2), Folder::new());
    let me = user(1).to_string();
    let lines = POSTINGS.replace("USER", &me);
    post(&daemon, &lines).expect(0);
    let file = folder.file("more.ndjson", lines.replace("\"tts\"", "\"script\""));
    call(&daemon, &["enqueue", &file]).expect(0);

    let refused = r#"{"op":"recharge","user":"USER","points":1,"source":"no_such_source","order_id":9}"#;
    call(&daemon, &["enqueue", &folder.file("refused.ndjson", refused.replace("USER", &me))]).expect(0);
    let config = folder.file("pointsd.yaml", format!("state_dir: {}\n", folder.path().display()));
    let mut serve = on(&daemon, &["serve"]);
    serve.env("POINTSD_CONFIG", &config);
    let serving = Running::start(serve);
    eventually("the requests are finished", || {
        let counts = call(&reader, &["requests", "--json"]).expect(0).json()["counts"].clone();
        (counts["pending"] == 0).then_some(())
    });
    serving.signal(Signal::SIGTERM);
    let log = serving.finish().expect(0).stderr;
    assert!(log.contains(&format!("request 9 of {me} refused: ")) && log.contains("\"level\":\"WARN\""), "{log}");

    let with_state = |url: &str, args: &[&str]| {
        let mut command = on(url, args);
        command.env("POINTSD_CONFIG", &config);
        run(command)
    };
    let then = chrono::Utc::now() - chrono::TimeDelta::days(40);
    let (month, day) = (then.format("%Y-%m").to_string(), then.format("%Y-%m-%d").to_string());
    let statements = folder.path().join("statements").display().to_string();
    for args in [
        &["run", "expiry"][..],
        &["run", "arrears"],
        &["run", "reconciliation", "--full"],
        &["run", "reconciliation"],
        &["run", "prune"],
        &["jobs", "pause", "expiry"],
        &["jobs", "resume", "expiry"],
        &["recharge", &me, "5", "--source", "gift", "--order-id", "7"],
        &["consume", &me, "5", "--source-type", "tts", "--source-id", "9"],
        &["refund", &me, "--source-type", "tts", "--source-id", "9"],
        &["hold", &me, "1", "--source-type", "tts", "--source-id", "10", "--until", "2036-01-01T00:00:00Z"],
        &["release", &me, "--source-type", "tts", "--source-id", "10"],
        &["void", &me, "--source", "gift", "--order-id", "7"],
        &["repair", "plan"],
        &["token", "create", "api", "--scope", "post"],
        &["token", "revoke", "api"],
    ] {
        with_state(&daemon, args).expect(0);
    }
    sql(
        &roles.database,
        "ALTER TABLE pointsd.entries DISABLE TRIGGER entries_never_change;
         UPDATE pointsd.entries SET recorded_at = recorded_at - interval '40 days';
         ALTER TABLE pointsd.entries ENABLE ALWAYS TRIGGER entries_never_change",
    );
    for args in [
        &["run", "month_end"][..],
        &["period", "close", &month, "--by", "ann"],
        &["period", "reopen", &month, "--by", "ann", "--reason", "a late invoice"],
    ] {
        with_state(&daemon, args).expect(0);
    }
    for args in [
        &["balance", &me][..],
        &["balance", &me, "--as-of", "2026-01-01T00:00:00Z"],
        &["check", &me, "1"],
        &["holds", &me],
        &["export", "accounts"],
        &["export", "batches"],
        &["export", "entries"],
        &["export", "journal", "--period", &month],
        &["statement", &me],
        &["report", "period", &day, &day],
        &["period", "list"],
        &["arrears"],
        &["requests"],
        &["jobs"],
        &["runs"],
        &["reports"],
        &["db", "status"],
        &["repair", "plan"],
        &["token", "list"],
    ] {
        for url in [&daemon, &reader] {
            with_state(url, args).expect(0);
        }
    }
    with_state(&reader, &["statements", "--month", &month, "--output", &statements]).expect(0);
    let refused = call(&reader, &["recharge", &me, "5", "--source", "gift"]).expect(1);
    assert!(
        refused.stderr.contains("next: the schema's owner gives a role its rights with pointsd db grant"),
        "{}",
        refused.stderr
    );
    wait(roles.database.forget_lookalikes());
}

#[test]
fn what_another_service_posted_is_known_under_each_role() {
    let roles = Roles::new();
    let (daemon, reader, folder) = (roles.url(0), roles.url(2), Folder::new());
    let me = user(1).to_string();
    let rows = format!(
        "INSERT INTO public.user_points (user_id, balance, total_consumed) VALUES ('{me}', 90, 10);
         INSERT INTO public.point_transactions (user_id, type, amount, balance_before, balance_after, source_type, source_id, created_at)
         VALUES ('{me}', 'consume', 10, 100, 90, 'tts', 'old', '2026-05-02Z')"
    );
    sql(&roles.database, &format!("{}; {rows}", crate::adopt::TABLES));
    let plan = folder.path().join("plan").display().to_string();
    call(&roles.owner, &["adopt", "plan", "--output", &plan]).expect(0);
    // Rights were given before; a plan makes no table and takes no right away.
    call(&roles.owner, &["adopt", "apply", &plan]).expect(0);

    let consume = |task: &str| {
        format!(r#"{{"op":"consume","user":"{me}","points":10,"source_type":"tts","source_id":"{task}"}}"#)
    };
    let replies = post(&daemon, [consume("old"), consume("new")].join("\n")).expect(0).jsons();
    assert_eq!((&replies[0]["status"], &replies[1]["status"]), (&"replayed".into(), &"posted".into()));
    let queued = format!("SELECT pointsd.enqueue('consume', '{me}', 10, source_type => 'tts', source_id => 'old')");
    assert_eq!(roles.refused(1, &queued), None);
    let held = format!("SELECT pointsd.hold('{me}', 1, 'tts', 'old', until => now() + interval '1 hour')");
    assert_eq!(roles.refused(1, &held), None);
    let serving = Running::start(on(&daemon, &["serve"]));
    eventually("the request replays", || (requests_in(&reader, "replayed") == 1).then_some(()));
    serving.signal(Signal::SIGTERM);
    serving.finish().expect(0);
    for url in [&daemon, &reader] {
        assert_eq!(call(url, &["balance", &me, "--json"]).expect(0).json()["before"]["consumed"], 10);
        let may = ["statement", &me, "--from", "2026-05-01", "--to", "2026-05-31", "--json"];
        assert_eq!(call(url, &may).expect(0).json()["adopted"]["count"], 1);
    }
}

#[test]
fn a_role_may_do_nothing_else() {
    let roles = Roles::new();
    post(&roles.owner, POSTINGS.replace("USER", &user(1).to_string())).expect(0);
    let entry =
        "INSERT INTO pointsd.entries (user_id, seq, amount, balance_before, balance_after, at, drawing_rule, type,
        source_type, description, allocated_batches, allocated_points";
    for sql in [
        "UPDATE pointsd.entries SET amount = amount".to_owned(),
        "DELETE FROM pointsd.entries".to_owned(),
        "TRUNCATE pointsd.entries".to_owned(),
        format!(
            "{entry}, correction) SELECT gen_random_uuid(), 1, 0, 0, 0, now(), 1, 'adjust', 'x', 'x', '{{}}', '{{}}', '{{}}'"
        ),
        "UPDATE pointsd.accounts SET total_adjusted = 1".to_owned(),
        "UPDATE pointsd.batches SET amount = 1".to_owned(),
        "DELETE FROM pointsd.accounts".to_owned(),
        "DELETE FROM pointsd.batches".to_owned(),
        "CREATE TABLE pointsd.mine ()".to_owned(),
        "ALTER TABLE pointsd.entries DISABLE TRIGGER ALL".to_owned(),
        "INSERT INTO pointsd.migrations SELECT 9, 'x', 'x', now()".to_owned(),
        "DROP SCHEMA pointsd CASCADE".to_owned(),
        "UPDATE pointsd.tokens SET scopes = '{operate}'".to_owned(),
        "UPDATE pointsd.tokens SET hash = hash".to_owned(),
        "DELETE FROM pointsd.tokens".to_owned(),
        "UPDATE pointsd.audit SET by = 'another'".to_owned(),
    ] {
        (0..3).for_each(|role| roles.denies(role, &sql));
    }
    for sql in [
        "SELECT FROM pointsd.entries",
        "SELECT FROM pointsd.accounts",
        "SELECT FROM pointsd.holds",
        "SELECT FROM pointsd.outbox",
    ] {
        roles.denies(1, sql);
    }
    for sql in ["UPDATE pointsd.requests SET points = 1", "DELETE FROM pointsd.requests"] {
        (1..3).for_each(|role| roles.denies(role, sql));
    }
    roles.denies(2, "INSERT INTO pointsd.requests (op, user_id, points) VALUES ('consume', gen_random_uuid(), 1)");
    roles.denies(2, "SELECT pointsd.hold(gen_random_uuid(), 1, 'tts', 'x', now())");
}

#[test]
fn a_repair_needs_the_owner() {
    let roles = Roles::new();
    post(&roles.owner, POSTINGS.replace("USER", &user(1).to_string())).expect(0);
    sql(&roles.database, "UPDATE pointsd.accounts SET last_batch = last_batch + 1");
    let folder = Folder::new();
    let plan = folder.path().join("plan.json").display().to_string();
    let config = folder.file("pointsd.yaml", format!("state_dir: {}\n", folder.path().display()));
    let reconcile = |url: &str| {
        let mut command = on(url, &["run", "reconciliation", "--full"]);
        command.env("POINTSD_CONFIG", &config);
        run(command)
    };
    reconcile(&roles.url(0)).expect(3);
    call(&roles.url(0), &["repair", "plan", "--output", &plan]).expect(0);
    let denied = call(&roles.url(0), &["repair", "apply", &plan, "--reason", "test"]).expect(1);
    assert!(denied.stderr.contains("migrations and repairs need the owner"), "{}", denied.stderr);
    call(&roles.owner, &["repair", "apply", &plan, "--reason", "test"]).expect(0);
}

#[test]
fn granting_again_takes_back_what_was_given_by_hand() {
    let roles = Roles::new();
    sql(&roles.database, &format!("GRANT SELECT ON pointsd.entries TO {}", roles.names[1]));
    assert_eq!(roles.refused(1, "SELECT FROM pointsd.entries"), None);
    let printed = call(&roles.owner, &["db", "grant", "--application", &roles.names[1], "--dry-run"]).expect(0);
    assert!(printed.stdout.contains(&format!("GRANT SELECT ON pointsd.requests TO {};", roles.names[1])));
    assert_eq!(roles.refused(1, "SELECT FROM pointsd.entries"), None, "a dry run changes nothing");
    call(&roles.owner, &["db", "grant", "--application", &roles.names[1]]).expect(0);
    roles.denies(1, "SELECT FROM pointsd.entries");
}

#[test]
fn rights_that_a_role_has_otherwise_stay_and_are_told() {
    let roles = Roles::new();
    let group = format!("group_{}", uuid::Uuid::new_v4().simple());
    let elsewhere = format!(
        "CREATE ROLE {group}; GRANT {group}, pg_write_all_data TO {app}; GRANT UPDATE (balance), DELETE ON pointsd.accounts TO {group};
         GRANT INSERT ON pointsd.entries TO PUBLIC; GRANT EXECUTE ON FUNCTION pointsd.release TO PUBLIC",
        app = roles.names[1]
    );
    sql(&roles.database, &elsewhere);
    let grant = ["db", "grant", "--application", &roles.names[1]];
    let and = |more: &str| call(&roles.owner, &[&grant[..], &[more]].concat()).expect(0);
    let says = "has INSERT on TABLE pointsd.entries through PUBLIC all the same; next: REVOKE INSERT ON TABLE pointsd.entries FROM PUBLIC;";
    for told in [and("--dry-run"), call(&roles.owner, &grant).expect(0)] {
        assert!(told.stderr.contains(says), "{}", told.stderr);
    }
    let told = and("--json").json();
    let revoke: Vec<&str> =
        told["kept"].as_array().unwrap().iter().map(|kept| kept["revoke"].as_str().unwrap()).collect();
    let of_group = format!("REVOKE DELETE ON TABLE pointsd.accounts FROM {group};");
    let of_column = format!("REVOKE UPDATE (balance) ON TABLE pointsd.accounts FROM {group};");
    let of_all = format!("REVOKE pg_write_all_data FROM {};", roles.names[1]);
    assert_eq!(revoke.len(), 5, "{revoke:?}");
    assert!([of_group, of_column, of_all].iter().all(|revoke_it| revoke.contains(&revoke_it.as_str())), "{revoke:?}");
    sql(&roles.database, &revoke.concat());
    assert_eq!(and("--json").json()["kept"], serde_json::json!([]));
    sql(&roles.database, &format!("DROP OWNED BY {group}; DROP ROLE {group}"));
}

#[test]
fn a_role_that_is_not_there_is_granted_nothing() {
    let (_database, url) = super::database();
    let unknown = call(&url, &["db", "grant", "--reader", "no_such_role"]).expect(1);
    assert!(unknown.stderr.contains("there is no role no_such_role: create it first"), "{}", unknown.stderr);
}

#[test]
fn a_role_that_would_have_more_than_its_part_is_granted_nothing() {
    let roles = Roles::new();
    let [daemon, application, reader] = &roles.names;
    let twice = call(&roles.owner, &["db", "grant", "--daemon", daemon, "--reader", daemon]).expect(2);
    assert!(twice.stderr.contains(&format!("the role {daemon} is named twice")), "{}", twice.stderr);

    // A member of the owner may do everything, also by way of another role.
    let owner = format!("owner_{}", uuid::Uuid::new_v4().simple());
    let to_owner = format!(
        "CREATE ROLE {owner}; ALTER SCHEMA pointsd OWNER TO {owner};
         GRANT {owner} TO {application}; GRANT {application} TO {reader}"
    );
    sql(&roles.database, &to_owner);
    for role in [application, reader, &owner] {
        let refused = call(&roles.owner, &["db", "grant", "--daemon", daemon, "--reader", role]).expect(1);
        let says = format!("the role {role} is a superuser, the schema's owner or a member of it");
        assert!(refused.stderr.contains(&says), "{}", refused.stderr);
    }
    assert_eq!(roles.refused(0, "INSERT INTO pointsd.requests DEFAULT VALUES"), Some(SqlState::NOT_NULL_VIOLATION));
    sql(
        &roles.database,
        &format!("ALTER SCHEMA pointsd OWNER TO CURRENT_USER; DROP OWNED BY {owner}; DROP ROLE {owner}"),
    );
}
