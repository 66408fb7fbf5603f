//! A report is kept once, with its files and its mails, and deleted with them.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use deadpool_postgres::Object;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use pointsd::config::Config;
use pointsd::database::Database;
use pointsd::document::{Bar, Cell, Chart, Column, Document, Fact, Form, Kind, Section, Table, Tone};
use pointsd::language::Language;
use pointsd::reports::{self, StoreOutcome};
use serde_json::{Value, json};

use crate::program::{Done, Folder, Running, call, eventually, on, run, wait, without_umask};
use crate::support::{TestDatabase, at};

const SLOT: &str = "2026-11-22T04:45:00Z";

/// A database, a state folder, and a configuration that mails arrears to two people as files.
struct Place {
    database: TestDatabase,
    folder: Folder,
    file: String,
}

const MAIL: &str = "mail:\n  mode: directory\n  from: points@example.com\n  to:\n    arrears: [finance@example.com, boss@example.com]\n";

impl Place {
    fn new(more: &str) -> Place {
        let (database, folder) = (wait(TestDatabase::new()), Folder::new());
        let text = format!("state_dir: .\nbusiness: {{time_zone: Europe/Paris}}\n{more}");
        let file = folder.file("pointsd.yaml", text);
        Place { database, folder, file }
    }

    fn config(&self) -> Config {
        Config::load(Some(Path::new(&self.file)), Some(self.database.url())).unwrap()
    }

    fn call(&self, arguments: &[&str]) -> Done {
        let mut command = on(&self.database.url(), arguments);
        command.args(["--config", &self.file]);
        run(command)
    }

    /// Keeps documents, each in a transaction of its own that commits.
    fn keep(&self, documents: &[Document]) -> Vec<StoreOutcome> {
        let config = self.config();
        self.with_client(async |mut client| {
            let mut kept = Vec::new();
            for document in documents {
                reports::write_files(&client, document, &config).await.unwrap();
                let transaction = client.transaction().await.unwrap();
                kept.push(reports::store_document(&transaction, document, &config).await.unwrap());
                transaction.commit().await.unwrap();
            }
            kept
        })
    }

    fn with_client<T>(&self, work: impl AsyncFnOnce(Object) -> T) -> T {
        wait(async {
            let database: Database = self.database.database().await;
            let answer = work(database.connection().await.unwrap()).await;
            database.close().await.unwrap();
            answer
        })
    }

    fn count(&self, table: &str) -> i64 {
        self.with_client(async |client| {
            client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap().get(0)
        })
    }

    fn execute(&self, sql: &str) {
        self.with_client(async |client| client.batch_execute(sql).await.unwrap());
    }

    /// The names of the files of a report, in order.
    fn files(&self, report: &str, slot: &str) -> Vec<String> {
        names_in(&reports::folder_of(&self.config(), report, at(slot)))
    }
}

fn names_in(folder: &Path) -> Vec<String> {
    let Ok(files) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub fn document(slot: &str) -> Document {
    let user = Column { title: "User".to_owned(), kind: Kind::Identifier };
    let owed = Column { title: "Owed".to_owned(), kind: Kind::Number };
    let table = |name: &str, rows_in_all| Table {
        name: name.to_owned(),
        title: "Who owes most".to_owned(),
        note: String::new(),
        columns: vec![user.clone(), owed.clone()],
        rows: vec![vec![Cell::Text("6a0f".to_owned()), Cell::Number(120)]],
        label: String::new(),
        sums: Vec::new(),
        rows_in_all,
        whole_file: String::new(),
        totals: vec![None, Some(120)],
        rows_in_body: 10,
        attached_columns: 0,
        if_empty: String::new(),
    };
    let chart = Chart {
        name: "by-age".to_owned(),
        title: "By age".to_owned(),
        description: "Most are young.".to_owned(),
        form: Form::Bars,
        bars: vec![Bar { label: "0-7".to_owned(), value: 120 }],
    };
    Document {
        report: "arrears".to_owned(),
        language: Language::English,
        business: "Example Studio".to_owned(),
        title: "Arrears".to_owned(),
        slot: at(slot),
        run: 17,
        as_of: at(slot),
        period: None,
        time_zone: "Europe/Paris".to_owned(),
        tone: Tone::Attention,
        tone_rule: String::new(),
        headline: "1 account owes 120 points".to_owned(),
        facts: vec![Fact { label: "Owed".to_owned(), value: Cell::Number(120) }],
        sections: vec![
            Section::Table(table("worst", 1)),
            Section::Table(table("all", 1_000_000)),
            Section::Chart(chart),
        ],
    }
}

#[test]
fn a_document_is_kept_once_with_its_files_and_its_mails() {
    let place = Place::new(MAIL);
    let first = document(SLOT);
    let kept = place.keep(std::slice::from_ref(&first))[0];
    assert!(kept.new && kept.mails == 2, "{kept:?}");
    // The folder is named by local time.
    let folder = place.folder.path().join("reports/2026-11-22/arrears-054500");
    assert_eq!(names_in(&folder), ["by-age.png", "report.html", "report.txt", "report.xlsx", "worst.csv"]);
    let page = fs::read_to_string(folder.join("report.html")).unwrap();
    assert!(page.contains("data:image/png;base64,iVBORw0KGg"), "{page}");

    // The slot runs again with another result: the report that was stored first stays.
    let again = Document { headline: "2 accounts owe 240 points".to_owned(), run: 18, ..first.clone() };
    assert_eq!(place.keep(&[again])[0], StoreOutcome { document: kept.document, new: false, mails: 0 });
    assert_eq!(fs::read_to_string(folder.join("report.html")).unwrap(), page);
    assert_eq!((place.count("pointsd.documents"), place.count("pointsd.outbox")), (1, 2));
    let read = place.with_client(async |client| reports::load(&client, kept.document).await.unwrap());
    assert_eq!(read, Some(first));
}

#[test]
fn what_does_not_commit_was_never_there_and_is_made_again() {
    let place = Place::new(MAIL);
    let config = place.config();
    place.with_client(async |mut client| {
        reports::write_files(&client, &document(SLOT), &config).await.unwrap();
        let transaction = client.transaction().await.unwrap();
        reports::store_document(&transaction, &document(SLOT), &config).await.unwrap();
        transaction.rollback().await.unwrap();
    });
    assert_eq!((place.count("pointsd.documents"), place.count("pointsd.outbox")), (0, 0));
    let other = Document { headline: "No accounts in arrears".to_owned(), ..document(SLOT) };
    assert_eq!(place.keep(&[other])[0].mails, 2);
    let text = fs::read_to_string(place.folder.path().join("reports/2026-11-22/arrears-054500/report.txt")).unwrap();
    assert!(text.contains("No accounts in arrears"), "{text}");
}

#[test]
fn two_at_once_keep_one() {
    let place = Place::new(MAIL);
    let config = place.config();
    let kept = wait(async {
        let database = place.database.database().await;
        let (mut one, mut other) = (database.connection().await.unwrap(), database.connection().await.unwrap());
        let first = one.transaction().await.unwrap();
        let first_kept = reports::store_document(&first, &document(SLOT), &config).await.unwrap();
        let second = other.transaction().await.unwrap();
        // It has seen no document, and waits at its insert for the first one's end.
        let document = document(SLOT);
        let (second_kept, ()) = tokio::join!(reports::store_document(&second, &document, &config), async {
            let waits = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
            let client = place.database.client().await;
            while client.query(waits, &[]).await.unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
            first.commit().await.unwrap();
        });
        second.commit().await.unwrap();
        (first_kept, second_kept.unwrap())
    });
    assert_eq!(kept.1, StoreOutcome { document: kept.0.document, new: false, mails: 0 });
    assert_eq!((place.count("pointsd.documents"), place.count("pointsd.outbox")), (1, 2));
}

#[test]
fn a_disk_that_fails_costs_the_files_alone() {
    let place = Place::new(MAIL);
    // Where the folder should be there is a file.
    place.folder.file("reports", "in the way");
    assert_eq!(place.keep(&[document(SLOT)])[0].mails, 2);
    assert_eq!(place.count("pointsd.documents"), 1);
    let shown = place.call(&["reports", "show", "1"]).expect(0).stdout;
    assert!(shown.contains("1 account owes 120 points"), "{shown}");
}

/// A disk hangs for longer than a transaction may: the report is made, and no rows stay locked meanwhile.
#[test]
fn no_transaction_is_open_while_files_are_written() {
    let place = Place::new(&format!("{MAIL}jobs: {{takeover_seconds: 1}}\nreports: {{templates: .}}\n"));
    // The reader of a pipe waits for a writer.
    let pipe = place.folder.path().join("report.html.jinja");
    mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    let mut command = on(&place.database.url(), &["run", "arrears", "--at", SLOT]);
    command.args(["--config", &place.file]);
    let running = Running::start(command);
    let mut how = fs::OpenOptions::new();
    how.write(true).custom_flags(OFlag::O_NONBLOCK.bits());
    let mut template = eventually("the reader of the template", || how.open(&pipe).ok());
    let open = place.with_client(async |client| {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'";
        client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0)
    });
    assert_eq!(open, 0, "a transaction waits for the disk");
    fs::remove_file(&pipe).unwrap();
    template.write_all(b"{{ headline }}").unwrap();
    drop(template);
    running.finish().expect(0);
    assert_eq!((place.count("pointsd.documents"), place.count("pointsd.outbox")), (1, 2));
    assert!(place.files("arrears", SLOT).contains(&"report.xlsx".to_owned()), "{:?}", place.files("arrears", SLOT));
}

/// Only root can give files away; any other user owns all of them.
fn give_away(path: &Path) {
    let nobody = nix::unistd::geteuid().is_root().then_some(65_534);
    lchown(path, nobody, nobody).unwrap();
}

/// Runs the job without the usual umask, and mails its report as files.
fn run_openly(place: &Place) -> Done {
    let command = on(&place.database.url(), &["run", "arrears", "--at", SLOT, "--config", &place.file]);
    run(without_umask(&command))
}

#[test]
fn files_are_for_the_owner_of_the_state_folder_alone() {
    let place = Place::new(MAIL);
    give_away(place.folder.path());
    // As an earlier program left it.
    let reports = place.folder.path().join("reports");
    fs::create_dir(&reports).unwrap();
    fs::set_permissions(&reports, fs::Permissions::from_mode(0o755)).unwrap();
    give_away(&reports);
    run_openly(&place).expect(0);
    let (mail, day) = (place.folder.path().join("mail"), reports.join("2026-11-22"));
    let report = day.join("arrears-054500");
    let mut files = 0;
    for folder in [&reports, &day, &report, &mail] {
        let found = fs::metadata(folder).unwrap();
        let ours = fs::metadata(place.folder.path()).unwrap();
        assert_eq!((found.mode() & 0o777, found.uid(), found.gid()), (0o700, ours.uid(), ours.gid()), "{folder:?}");
        for file in names_in(folder).iter().map(|name| folder.join(name)).filter(|path| path.is_file()) {
            let found = fs::metadata(&file).unwrap();
            assert_eq!((found.mode() & 0o777, found.uid(), found.gid()), (0o600, ours.uid(), ours.gid()), "{file:?}");
            files += 1;
        }
    }
    assert!(files >= 5, "{files}");
}

/// The owner of the state folder puts a link in the place of each folder and of each file.
#[test]
fn no_link_leads_a_report_or_a_mail_to_another_place() {
    let precious = Folder::new();
    let file = precious.file("file", "precious");
    let places = ["reports", "reports/2026-11-22", "reports/2026-11-22/arrears-054500", "mail"];
    let files = ["reports/2026-11-22/arrears-054500/report.html", "reports/2026-11-22/arrears-054500/report.txt"];
    for (nth, link) in places.iter().chain(&files).enumerate() {
        let place = Place::new(MAIL);
        let link = place.folder.path().join(link);
        let above: Vec<&Path> = link.ancestors().skip(1).take_while(|path| *path != place.folder.path()).collect();
        for folder in above.iter().rev() {
            fs::create_dir(folder).unwrap();
            give_away(folder);
        }
        give_away(place.folder.path());
        match nth {
            0..4 => symlink(precious.path(), &link).unwrap(),
            4 => symlink(&file, &link).unwrap(),
            _ => fs::hard_link(&file, &link).unwrap(),
        }
        if nth < 5 {
            give_away(&link);
        }
        // The report is made in any case; mails wait for their folder.
        let refused = nth < 4 && (nix::unistd::geteuid().is_root() || nth < 3);
        let done = run_openly(&place).expect(if refused && nth == 3 { 3 } else { 0 });
        assert_eq!(done.stderr.contains("link") || done.stderr.contains("no folder"), refused, "{link:?}: {done:?}");
        if nth != 3 || refused {
            assert_eq!(names_in(precious.path()), ["file"], "{link:?}");
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious", "{link:?}");
        let ours = nix::unistd::geteuid().as_raw();
        assert_eq!(fs::metadata(&file).unwrap().uid(), ours, "{link:?}");
        assert_eq!(fs::metadata(precious.path()).unwrap().mode() & 0o777, 0o755, "{link:?}");
        assert_eq!(place.count("pointsd.documents"), 1);
    }
}

#[test]
fn a_table_that_was_written_whole_stays_whole() {
    let place = Place::new("");
    let folder = reports::folder_of(&place.config(), "arrears", at(SLOT));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("all.csv"), "a million rows").unwrap();
    fs::write(folder.join("worst.csv"), "of an attempt that was killed").unwrap();
    place.keep(&[document(SLOT)]);
    assert_eq!(fs::read_to_string(folder.join("all.csv")).unwrap(), "a million rows");
    let worst = fs::read_to_string(folder.join("worst.csv")).unwrap();
    assert!(worst.contains("Owed"), "{worst}");
    assert!(place.files("arrears", SLOT).iter().all(|name| !name.ends_with(".unfinished")));
}

#[test]
fn reports_are_listed_with_how_their_mails_stand() {
    let place = Place::new(MAIL);
    assert!(place.call(&["reports"]).expect(0).stdout.starts_with("No report yet."));
    place.keep(&[
        document("2026-11-21T04:45:00Z"),
        Document { report: "expiry".to_owned(), tone: Tone::Bad, ..document(SLOT) },
        document(SLOT),
    ]);
    place.execute(
        "UPDATE pointsd.outbox SET state = 'sent', sent = '2026-11-21T04:46:00Z' WHERE document = 1;
         UPDATE pointsd.outbox SET state = 'parked', answer = '550 no such user' WHERE document = 3 AND recipient LIKE '%boss%';
         UPDATE pointsd.outbox SET written = '2026-11-22T04:45:10Z', answer = 'no connection'
         WHERE document = 3 AND recipient LIKE '%finance%'",
    );
    let listed = place.call(&["reports"]).expect(0).stdout;
    let lines: Vec<&str> = listed.lines().skip(2).map(str::trim).collect();
    assert_eq!(lines.len(), 3, "{listed}");
    let (arrears, expiry, earlier) = (lines[0], lines[1], lines[2]);
    assert!(arrears.starts_with("3") && arrears.contains("Sun 2026-11-22 05:45 CET"), "{listed}");
    assert!(arrears.contains("! 1 account owes 120 points"), "{listed}");
    assert!(
        arrears.ends_with("1 waits since Sun 2026-11-22 05:45:10 CET (no connection), 1 parked (550 no such user)"),
        "{listed}"
    );
    assert!(expiry.contains("!! 1 account") && expiry.ends_with("none"), "{listed}");
    assert!(earlier.ends_with("2 sent"), "{listed}");

    let newest = place.call(&["reports", "--report", "arrears", "--limit", "1", "--json"]).expect(0).json();
    assert_eq!((&newest["document"], &newest["slot"], &newest["tone"]), (&json!(3), &json!(SLOT), &json!("attention")));
    let mails: Vec<_> =
        newest["mails"].as_array().unwrap().iter().map(|mail| mail["state"].as_str().unwrap()).collect();
    assert_eq!(mails.len(), 2);
    assert!(mails.contains(&"waiting") && mails.contains(&"parked"), "{newest}");
    let wrong = place.call(&["reports", "--report", "arears"]).expect(2).stderr;
    assert_eq!(
        wrong,
        "pointsd: there is no report arears; there are expiry, reconciliation, arrears, month_end, adoption\n"
    );
}

#[test]
fn a_report_is_shown_as_text_as_a_page_and_as_data() {
    let place = Place::new("");
    place.keep(&[document(SLOT)]);
    let text = place.call(&["reports", "show", "1"]).expect(0).stdout;
    assert!(text.contains("1 account owes 120 points") && !text.contains('<'), "{text}");
    let page = place.call(&["reports", "show", "1", "--html"]).expect(0).stdout;
    assert!(page.contains("1 account owes 120 points") && page.contains("data:image/png;base64,"), "{page}");
    let data: Document =
        serde_json::from_value(place.call(&["reports", "show", "1", "--json"]).expect(0).json()).unwrap();
    assert_eq!(data, document(SLOT));
    let wrong = place.call(&["reports", "show", "9"]).expect(2).stderr;
    let there = "pointsd: there is no report 9: the newest are 1 (arrears, Sun 2026-11-22 05:45 CET); `pointsd reports` lists them\n";
    assert_eq!(wrong, there);
}

#[test]
fn a_report_is_mailed_again() {
    let place = Place::new(MAIL);
    place.keep(&[document(SLOT)]);
    let sent =
        place.call(&["reports", "resend", "1", "--to", "Auditor <audit@example.com>", "--json"]).expect(0).json();
    // The two waiting mails leave in the same round; they were not requested.
    assert_eq!((&sent["written"], &sent["sent"], &sent["waiting"]), (&json!(1), &json!(1), &json!(0)), "{sent}");
    assert!(sent["mails"].as_array().unwrap().iter().all(|mail| mail["state"] == "sent"), "{sent}");
    let again = place.call(&["reports", "resend", "1"]).expect(0).stdout;
    assert!(again.starts_with("Report 1: ") && again.contains(" sent."), "{again}");
    let states = place.call(&["reports", "--json"]).expect(0).json();
    let mails = states["mails"].as_array().unwrap();
    assert!(mails.len() >= 5 && mails.iter().all(|mail| mail["state"] == "sent"), "{states}");
    assert!(mails.iter().any(|mail| mail["recipient"].as_str().unwrap().contains("audit@example.com")), "{states}");
}

#[test]
fn what_cannot_be_mailed_again_is_refused() {
    let place = Place::new("");
    let nothing = place.call(&["reports", "resend", "1"]).expect(2).stderr;
    assert_eq!(nothing, "pointsd: there is no report 1: none has been made yet\n");
    place.keep(&[document(SLOT)]);
    let nowhere = place.call(&["reports", "resend", "1"]).expect(2).stderr;
    assert!(nowhere.contains("mail.mode is none: set mail.mode, mail.from"), "{nowhere}");
    let wrong = place.call(&["reports", "resend", "1", "--to", "somebody"]).expect(2).stderr;
    assert!(wrong.contains("is no mail address"), "{wrong}");
    let nobody = Place::new("mail: {mode: directory, from: points@example.com}\n");
    nobody.keep(&[document(SLOT)]);
    let nobody_got_it = nobody.call(&["reports", "resend", "1"]).expect(2).stderr;
    assert!(nobody_got_it.contains("name one with --to, or set mail.to.arrears"), "{nobody_got_it}");
    assert_eq!(place.count("pointsd.outbox") + nobody.count("pointsd.outbox"), 0);
}

#[test]
fn old_reports_are_deleted_with_their_mails_and_files() {
    let place = Place::new(&format!("{MAIL}retention: {{reports_days: 365}}\n"));
    let slots = ["2025-01-01T04:45:00Z", "2025-01-02T04:45:00Z", "2025-01-03T04:45:00Z", "2026-11-22T04:45:00Z"];
    place.keep(&slots.map(document));
    fs::create_dir(place.folder.path().join("precious")).unwrap();
    let elsewhere = place.folder.path().join("reports/../precious");
    let all_of_them = place.folder.path().join("reports");
    let of_another_day = place.folder.path().join("reports/2025-01-03/notes");
    fs::create_dir(&of_another_day).unwrap();
    place.execute(&format!(
        "UPDATE pointsd.documents SET made = slot;
         UPDATE pointsd.outbox SET state = 'sent', sent = slot WHERE document <> 2;
         -- Some whose files are not where files of reports are, or not here.
         INSERT INTO pointsd.documents (report, slot, run, made, tone, headline, content, host, folder)
         SELECT 'expiry', slot, run, made, tone, headline, content, host, '{folder}' FROM pointsd.documents WHERE document = 1
         UNION ALL
         SELECT 'reconciliation', slot, run, made, tone, headline, content, host, '{all}' FROM pointsd.documents WHERE document = 1
         UNION ALL
         SELECT 'expiry', slot, run, made, tone, headline, content, 'elsewhere', '{other}' FROM pointsd.documents WHERE document = 3
         UNION ALL
         SELECT of, slot, run, made, tone, headline, content, 'elsewhere', '' FROM pointsd.documents,
                unnest('{{expiry,reconciliation}}'::text[]) AS of WHERE document = 4;
         INSERT INTO pointsd.findings (rule, expected, found, since, since_run, seen_run, resolved_at, resolved_run) VALUES
             ('chain', '1', '2', '2025-01-01', 1, 1, '2025-01-02', 2),
             ('chain', '1', '2', '2025-01-01', 1, 1, '2026-11-01', 2),
             ('chain', '1', '2', '2025-01-01', 1, 1, NULL, NULL)",
        folder = elsewhere.display(),
        all = all_of_them.display(),
        other = of_another_day.display(),
    ));
    let unfinished =
        [".report.csv.0123abcd.unfinished", ".report.csv.4567abcd.unfinished"].map(|name| of_another_day.join(name));
    unfinished.iter().for_each(|path| fs::write(path, "").unwrap());
    let long_ago = std::time::SystemTime::from(at("2026-11-21T00:00:00Z"));
    fs::File::options().write(true).open(&unfinished[0]).unwrap().set_modified(long_ago).unwrap();
    let prune = ["run", "prune", "--at", "2026-11-23T00:00:00Z", "--json"];
    let would = place.call(&[&prune[..], &["--dry-run"]].concat()).expect(0).json();
    let both = |done: &Value| (done["reports"].as_u64(), done["findings"].as_u64());
    assert_eq!(both(&would), (Some(5), Some(1)), "{would}");
    assert_eq!((place.count("pointsd.documents"), place.files("arrears", slots[0]).len()), (9, 5));

    let done = place.call(&prune).expect(0).json();
    assert_eq!(both(&done), (Some(5), Some(1)), "{done}");
    // The second one's mails are still to be sent, the last one is young.
    assert_eq!((place.count("pointsd.documents"), place.count("pointsd.outbox")), (4, 4));
    assert_eq!(place.count("pointsd.findings"), 2);
    let left: Vec<usize> = slots.iter().map(|slot| place.files("arrears", slot).len()).collect();
    assert_eq!(left, [0, 5, 0, 5]);
    assert_eq!(names_in(&place.folder.path().join("reports")), ["2025-01-02", "2025-01-03", "2026-11-22"]);
    assert!(elsewhere.exists() && of_another_day.exists());
    assert_eq!(unfinished.map(|path| path.exists()), [false, true], "what a killed writer left");
    let again = place.call(&prune).expect(0).json();
    assert_eq!(both(&again), (Some(0), Some(0)), "{again}");
    // The last report of each job stays, however old it is.
    place.execute("UPDATE pointsd.documents SET made = '2000-01-01T00:00:00Z'");
    let later = place.call(&["run", "prune", "--at", "2026-11-24T00:00:00Z", "--json"]).expect(0).json();
    assert_eq!(later["reports"], 0, "{later}");
}

#[test]
fn a_folder_is_named_by_the_local_date_and_time_of_its_slot() {
    let place = Place::new("");
    let folder = |slot| reports::folder_of(&place.config(), "expiry", at(slot));
    let expected = |name: &str| -> PathBuf { place.folder.path().join("reports").join(name) };
    assert_eq!(folder("2026-11-21T23:30:00Z"), expected("2026-11-22/expiry-003000"));
    assert_eq!(folder("2026-07-01T00:00:05Z"), expected("2026-07-01/expiry-020005"));
    // The clock is put back at three: it shows half past two twice.
    assert_eq!(folder("2026-10-25T00:30:00Z"), expected("2026-10-25/expiry-023000"));
    assert_eq!(folder("2026-10-25T01:30:00Z"), expected("2026-10-25/expiry-023000+0100"));
    // The help names the command.
    assert!(call(&place.database.url(), &["reports", "--help"]).expect(0).stdout.contains("resend"));
}
