//! The status page as any client gets it: sessions, forms, and what they refuse.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Answer, Site, answer};
use crate::program::{PATIENCE, call, eventually, wait};
use crate::support::user;

/// A text that does something where it is not escaped.
const HOSTILE: &str = "<script>window.hostile=1</script><img src=x onerror=window.hostile=1>";

/// A browser as far as cookies, forms and redirects go.
pub struct Visitor<'a> {
    site: &'a Site,
    cookies: BTreeMap<String, String>,
}

impl<'a> Visitor<'a> {
    pub fn new(site: &'a Site) -> Visitor<'a> {
        Visitor { site, cookies: BTreeMap::new() }
    }

    /// Logged in with this token.
    pub fn logged_in(site: &'a Site, token: &str) -> Visitor<'a> {
        let mut visitor = Visitor::new(site);
        let done = visitor.log_in(token, "/");
        assert_eq!(done.with("location"), (303, "/"), "{done:?}");
        visitor
    }

    pub fn log_in(&mut self, token: &str, next: &str) -> Answer {
        let sign = hidden(&self.get("/login").body, "csrf");
        self.post("/login", &[("csrf", &sign), ("token", token), ("next", next)])
    }

    pub fn get(&mut self, path: &str) -> Answer {
        self.call("GET", path, "", &[])
    }

    /// A page that must be there.
    #[track_caller]
    pub fn page(&mut self, path: &str) -> String {
        let page = self.get(path);
        assert_eq!(page.status, 200, "{path}: {page:?}");
        page.body
    }

    /// Sends a form as a page of this server does.
    pub fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let origin = format!("http://{}", self.site.address);
        self.call("POST", path, &form(fields), &[("origin", &origin)])
    }

    pub fn cookie_line(&self) -> String {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        cookies.join("; ")
    }

    pub fn call(&mut self, method: &str, path: &str, body: &str, headers: &[(&str, &str)]) -> Answer {
        let config =
            ureq::Agent::config_builder().http_status_as_error(false).proxy(None).timeout_global(Some(PATIENCE));
        let agent: ureq::Agent = config.max_redirects(0).max_redirects_will_error(false).build().into();
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.site.address))
            .header("accept", "text/html,application/xhtml+xml");
        if !self.cookies.is_empty() {
            request = request.header("cookie", self.cookie_line());
        }
        if method == "POST" {
            request = request.header("content-type", "application/x-www-form-urlencoded");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = match method {
            "POST" => answer(agent.run(request.body(body.to_owned()).unwrap())),
            _ => answer(agent.run(request.body(()).unwrap())),
        };
        for cookie in answer.headers.get_all("set-cookie") {
            let (pair, attributes) = cookie.to_str().unwrap().split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            match attributes.contains("Max-Age=0") {
                true => self.cookies.remove(name),
                false => self.cookies.insert(name.to_owned(), value.to_owned()),
            };
        }
        answer
    }
}

pub fn form(fields: &[(&str, &str)]) -> String {
    let encode = |text: &str| {
        text.bytes()
            .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
            .collect::<String>()
    };
    fields.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect::<Vec<_>>().join("&")
}

/// The value of a hidden field.
#[track_caller]
pub fn hidden(page: &str, name: &str) -> String {
    let begin = format!("name=\"{name}\" value=\"");
    let (_, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("no field {name}: {page}"));
    rest.split_once('"').unwrap().0.to_owned()
}

/// A daemon with something on each page, hostile texts among it, and the pages.
pub fn sample() -> (Site, Vec<(&'static str, String)>) {
    let site = Site::with(
        "http: {listen: '127.0.0.1:0'}\n\
         business: {name: 'Ink & <b>Paper</b>', time_zone: Asia/Shanghai}\n\
         mail:\n  mode: directory\n  from: 'Points <points@example.com>'\n  directory: FOLDER/mails\n  \
         to: {expiry: [ann@example.com], reconciliation: [ann@example.com], arrears: [ann@example.com]}\n",
    );
    let mut lines = String::new();
    for order in 1..=60 {
        let recharge = json!({"op": "recharge", "user": user(1), "points": 1_000 + order, "source": "gift", "order_id": order,
                              "description": HOSTILE, "at": "2026-01-01T00:00:00Z",
                              "expires_at": format!("2099-{:02}-01T00:00:00Z", order % 12 + 1)});
        lines.push_str(&format!("{recharge}\n"));
    }
    let hold = json!({"op": "hold", "user": user(1), "points": 50, "source_type": "tts", "source_id": HOSTILE, "until": "2099-01-01T00:00:00Z"});
    let debt = json!({"op": "consume", "user": user(2), "points": 70, "source_type": "tts", "source_id": "9", "description": HOSTILE});
    lines.push_str(&format!("{hold}\n{debt}\n"));
    let posted = site.post("application/x-ndjson", lines);
    assert!(
        posted.lines().iter().all(|reply| ["posted", "held"].contains(&reply["status"].as_str().unwrap())),
        "{posted:?}"
    );
    let queued = json!({"op": "consume", "user": user(1), "points": 3, "source_type": "tts", "source_id": "1", "description": HOSTILE});
    let refused = json!({"op": "recharge", "user": user(1), "points": 3, "source": "nowhere", "order_id": 1});
    crate::program::feed(site.command(&["enqueue", "-", "--json"]), format!("{queued}\n{refused}\n")).expect(0);
    for job in ["expiry", "reconciliation", "arrears", "month_end", "prune"] {
        crate::program::run(site.command(&["run", job])).expect(0);
    }
    let account = format!("/accounts/{}", user(1));
    let mut paths = vec![("account-older", format!("{account}?before=30")), ("account", account)];
    let fixed = [
        ("overview", "/"),
        ("overview-zh", "/?lang=zh-CN"),
        ("job", "/jobs/expiry?lang=en"),
        ("runs", "/runs"),
        ("run", "/runs/1"),
        ("reports", "/reports"),
        ("report", "/reports/1"),
        ("accounts", "/accounts?user=7"),
        ("requests", "/requests"),
        ("request", "/requests/2"),
        ("order", "/order?action=resend&subject=1"),
        ("orders", "/orders"),
        ("missing", "/runs/999"),
    ];
    paths.extend(fixed.map(|(name, path)| (name, path.to_owned())));
    (site, paths)
}

#[test]
fn hostile_texts_are_texts_on_every_page() {
    let (site, paths) = sample();
    let token =
        call(&site.url, &["token", "create", "<img src=x onerror=alert(1)>", "--scope", "read"]).expect(0).stdout;
    let mut visitor = Visitor::logged_in(&site, token.trim());
    let mut seen = 0;
    for (name, path) in &paths {
        let page = visitor.get(path);
        let expected = match *name {
            "order" => 403,
            "missing" => 404,
            _ => 200,
        };
        assert_eq!(page.status, expected, "{name}: {page:?}");
        for mark in ["<b>", "<img src=x", "window.hostile=1</script>", "style=", "onclick"] {
            assert!(!page.body.contains(mark), "{name} has {mark}: {page:?}");
        }
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        // One that may only read sees no action.
        assert!(*name == "order" || !page.body.contains("href=\"/order?"), "{name}");
        seen += page.body.matches("&lt;script&gt;window.hostile=1").count();
    }
    assert!(seen > 75, "{seen}");
    let month = chrono::Utc::now()
        .with_timezone(&"Asia/Shanghai".parse::<pointsd::Zone>().unwrap())
        .format("%Y-%m")
        .to_string();
    let mut statement = |form: &str| {
        let found = visitor.get(&format!("/accounts/{}/statement?month={month}&form={form}", user(1)));
        assert_eq!(found.status, 200, "{found:?}");
        found
    };
    let page = statement("html");
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("sandbox;") && !page.body.contains("<img src=x"), "{page:?}");
    assert!(statement("csv").headers["content-disposition"].to_str().unwrap().starts_with("attachment; "));
    assert_eq!(visitor.get(&format!("/accounts/{}/statement?month=13&form=csv", user(1))).status, 400);
    let document = visitor.get("/reports/1/document");
    let policy = document.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("sandbox;") && policy.contains("default-src 'none'"), "{policy}");
    assert!(document.body.contains("Ink &amp; &lt;b&gt;Paper"), "{document:?}");
    let chart = visitor
        .page("/reports/1")
        .split("src=\"/reports/1/charts/")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .to_owned();
    let config = ureq::Agent::config_builder().proxy(None).build();
    let mut picture = ureq::Agent::from(config)
        .get(format!("http://{}/reports/1/charts/{chart}", site.address))
        .header("cookie", visitor.cookie_line())
        .call()
        .unwrap();
    assert_eq!(picture.headers()["content-type"], "image/png");
    assert!(picture.body_mut().read_to_vec().unwrap().starts_with(b"\x89PNG"));
}

#[test]
fn an_order_is_confirmed_carried_out_and_recorded() {
    let (site, _) = sample();
    let mut visitor = Visitor::logged_in(&site, &site.token);
    let mut order = |action: &str, subject: &str, label: &str| {
        let confirm = visitor.page(&format!("/order?action={action}&subject={subject}"));
        assert!(confirm.contains(label), "{confirm}");
        let fields = [
            ("csrf", hidden(&confirm, "csrf")),
            ("action", hidden(&confirm, "action")),
            ("subject", hidden(&confirm, "subject")),
        ];
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let forged = visitor.post("/order", &fields[1..]);
        assert_eq!(forged.status, 403, "{forged:?}");
        let done = visitor.post("/order", &fields);
        assert_eq!(done.status, 303, "{done:?}");
        let page = visitor.page(done.headers["location"].to_str().unwrap());
        let (_, said) = page.split_once("role=\"status\">").unwrap_or_else(|| panic!("{page}"));
        said.split_once('<').unwrap().0.to_owned()
    };
    assert_eq!(order("pause", "expiry", "All daemons skip the slots of expiry"), "expiry is paused.");
    assert_eq!(order("resume", "expiry", "runs at its next slot"), "expiry is resumed.");
    assert_eq!(order("run", "prune", "prune runs once"), "prune runs now.");
    assert_eq!(order("retry", "2", "Request 2 is pending again"), "Request 2 is pending again.");
    assert_eq!(order("retry", "1", "Request 1 is pending again"), "Nothing was changed: it is done.");
    assert_eq!(order("resend", "1", "They get it a second time"), "Report 1 is being mailed again.");
    assert_eq!(order("cancel", "1", "Run 1 ends"), "Nothing was changed: there is no such run, or it is over already.");
    // The heartbeat of its holder is fresh for an hour.
    let held =
        "INSERT INTO pointsd.runs (job, slot, trigger, state, attempt, fence, host, pid, started, heartbeat, progress)
                VALUES ('arrears', now(), 'manual', 'running', 1, 999, 'other', 1, now(), now() + interval '1 hour',
                        '{\"done\": 500, \"total\": 2000}') RETURNING run";
    let run: i64 = wait(async { site.database.client().await.query_one(held, &[]).await.unwrap().get(0) });
    let mut watcher = Visitor::logged_in(&site, &site.token);
    let page = watcher.page(&format!("/runs/{run}"));
    assert!(page.contains("<progress value=\"500\" max=\"2000\"") && page.contains("25 %: 500 of 2,000"), "{page}");
    let said = order("cancel", &run.to_string(), "ends after its current transaction");
    assert_eq!(said, format!("Run {run} is cancelled."));
    let page = watcher.page(&format!("/runs/{run}"));
    assert!(
        page.contains("badge cancelled") && page.contains("cancelled by test") && !page.contains("<progress"),
        "{page}"
    );
    let to =
        site.post_to("/v1/reports/1/resend", &[("content-type", "application/json")], r#"{"to":["bob@example.com"]}"#);
    assert_eq!(to.status, 202, "{to:?}");
    let record = visitor.page("/orders");
    assert!(record.contains(">1 mail to bob@example.com</td>"), "{record}");
    for (action, subject) in [("Pause", "expiry"), ("Run now", "prune"), ("Put back", "2"), ("Mail again", "1")] {
        let row = format!(
            "<td data-label=\"Token\">test</td><td data-label=\"Order\">{action}</td><td data-label=\"Subject\">{subject}</td>"
        );
        assert!(record.contains(&row), "{row}: {record}");
    }
    eventually("the end of the run", || {
        let runs = visitor.page("/runs?job=prune&state=succeeded");
        (runs.matches("by hand").count() == 2).then_some(())
    });
    let reader = call(&site.url, &["token", "create", "reader", "--scope", "read"]).expect(0).stdout;
    let mut reader = Visitor::logged_in(&site, reader.trim());
    let csrf = hidden(&reader.page("/"), "csrf");
    let refused = reader.post("/order", &[("csrf", &csrf), ("action", "pause"), ("subject", "expiry")]);
    assert_eq!(refused.status, 403, "{refused:?}");
    assert!(!call(&site.url, &["jobs"]).expect(0).stdout.contains("paused"));
}

#[test]
fn pages_name_sources_and_ends_for_people_and_outlive_a_report_that_they_cannot_read() {
    let site = Site::with(
        "http: {listen: '127.0.0.1:0'}\nledger: {sources: {gift: {expires: never, label: {en: Welcome gift, zh-CN: 迎新礼}}}}\n",
    );
    let gift = json!({"op": "recharge", "user": user(1), "points": 5, "source": "gift", "order_id": 1});
    assert_eq!(site.post("application/json", gift.to_string()).status, 200);
    let mut visitor = Visitor::logged_in(&site, &site.token);
    let account = visitor.page(&format!("/accounts/{}", user(1)));
    assert!(account.contains(">Welcome gift</td>") && account.contains(">never</td>"), "{account}");
    assert!(!account.contains("9999") && !account.contains("10000"), "{account}");
    let account = visitor.page(&format!("/accounts/{}?lang=zh-CN", user(1)));
    assert!(account.contains(">迎新礼</td>") && account.contains(">永不过期</td>"), "{account}");
    crate::program::run(site.command(&["run", "arrears"])).expect(0);
    crate::program::run(site.command(&["run", "expiry"])).expect(0);
    let spoilt = "UPDATE pointsd.documents SET content = '{}' WHERE report = 'arrears'";
    wait(async { site.database.client().await.batch_execute(spoilt).await.unwrap() });
    let overview = visitor.page("/?lang=en");
    assert!(overview.contains("This report was made by another version"), "{overview}");
    assert!(overview.contains("/charts/"), "the other report is shown: {overview}");
}

#[test]
fn a_page_that_did_not_change_is_not_sent_again() {
    let site = Site::start();
    let mut visitor = Visitor::logged_in(&site, &site.token);
    let page = visitor.get("/jobs/prune");
    let tag = page.headers["etag"].to_str().unwrap().to_owned();
    let again = visitor.call("GET", "/jobs/prune", "", &[("if-none-match", &tag)]);
    assert_eq!((again.status, again.body.as_str()), (304, ""));
    call(&site.url, &["jobs", "pause", "prune"]).expect(0);
    let changed = visitor.call("GET", "/jobs/prune", "", &[("if-none-match", &tag)]);
    assert_eq!(changed.status, 200);
    assert!(changed.body.contains("Paused by"));
}

#[test]
fn a_session_begins_with_a_token_and_ends_with_it() {
    let site = Site::start();
    let mut visitor = Visitor::new(&site);
    let first = visitor.get("/reports?report=expiry");
    assert_eq!(first.with("location"), (303, "/login?next=/reports%3Freport%3Dexpiry"), "{first:?}");

    let login = visitor.get("/login");
    let policy = login.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'self';") && !policy.contains("unsafe"), "{policy}");
    assert!(!login.body.contains("style=") && !login.body.contains("<style") && !login.body.contains("onclick"));
    let wrong = visitor.log_in(&format!("{}x", site.token), "/");
    assert_eq!(wrong.status, 401);
    assert!(wrong.body.contains("This token is not valid"), "{wrong:?}");
    let poster = call(&site.url, &["token", "create", "poster", "--scope", "post"]).expect(0).stdout;
    assert_eq!(visitor.log_in(poster.trim(), "/").status, 403);
    assert_eq!(visitor.get("/").status, 303, "no session has begun yet");

    for (next, to) in [
        ("/runs?job=expiry", "/runs?job=expiry"),
        ("//evil.example", "/"),
        ("https://evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/\r\nset-cookie: a=b", "/"),
    ] {
        let done = visitor.log_in(&site.token, next);
        assert_eq!(done.with("location"), (303, to), "{next:?}: {done:?}");
        let cookie = done.headers["set-cookie"].to_str().unwrap();
        assert!(
            cookie.starts_with("pointsd_session=") && cookie.contains("; Path=/; HttpOnly; SameSite=Strict"),
            "{cookie}"
        );
    }
    // Behind a proxy that ends TLS, the cookie is for TLS alone, and no other host of the domain can set it.
    let sign = hidden(&visitor.page("/login"), "csrf");
    let (body, own) =
        (form(&[("csrf", &sign), ("token", &site.token), ("next", "/")]), format!("http://{}", site.address));
    let by_tls = visitor.call("POST", "/login", &body, &[("origin", &own), ("x-forwarded-proto", "https")]);
    let (_, cookie) = by_tls.with("set-cookie");
    assert!(cookie.starts_with("__Host-pointsd_session=") && cookie.ends_with("; Secure"), "{cookie}");
    let page = visitor.page("/");
    assert_eq!(visitor.get("/no-such-page").status, 404);
    assert_eq!(visitor.get("/runs/7x").status, 400);

    let mut other = Visitor::logged_in(&site, &site.token);
    let done = visitor.post("/logout", &[("csrf", &hidden(&page, "csrf"))]);
    assert_eq!(done.with("location"), (303, "/login"));
    assert_eq!(visitor.get("/").status, 303);
    assert_eq!(other.get("/").status, 200, "each session ends alone");

    call(&site.url, &["token", "revoke", "test"]).expect(0);
    eventually("the end of the session", || (other.get("/").status == 303).then_some(()));
}

#[test]
fn a_form_of_another_site_is_refused() {
    let site = Site::start();
    let mut visitor = Visitor::logged_in(&site, &site.token);
    let own = format!("http://{}", site.address);
    let csrf = hidden(&visitor.page("/"), "csrf");
    let other = hidden(&Visitor::logged_in(&site, &site.token).page("/"), "csrf");
    let right = form(&[("csrf", &csrf)]);
    let refused: [(&str, &[(&str, &str)]); 7] = [
        (&right, &[]),
        (&right, &[("origin", "http://evil.example")]),
        (&right, &[("origin", "null")]),
        (&right, &[("origin", &own), ("sec-fetch-site", "cross-site")]),
        (&right, &[("origin", &own), ("sec-fetch-site", "same-site")]),
        (&form(&[("csrf", &other)]), &[("origin", &own)]),
        ("", &[("origin", &own)]),
    ];
    for (body, headers) in refused {
        let answer = visitor.call("POST", "/logout", body, headers);
        assert_eq!(answer.status, 403, "{body} {headers:?}");
        assert!(answer.body.contains("did not come from a page of the same login"), "{answer:?}");
    }
    assert_eq!(visitor.get("/").status, 200, "the session goes on");
    let token = site.token.clone();
    for fields in [&[("token", token.as_str()), ("csrf", "")][..], &[("token", token.as_str())]] {
        let answer = visitor.call("POST", "/login", &form(fields), &[("origin", &own)]);
        assert_eq!(answer.status, 403, "a login without the sign of its form: {answer:?}");
        assert!(answer.body.contains("did not come from a page of the same login"), "{answer:?}");
    }
    assert_eq!(
        visitor.call("POST", "/logout", &right, &[("origin", &own), ("sec-fetch-site", "same-origin")]).status,
        303
    );
}

#[test]
fn the_reader_chooses_the_language() {
    let site = Site::with("http: {listen: '127.0.0.1:0'}\nbusiness: {language: zh-CN, name: '<b>点数</b>'}\n");
    let mut visitor = Visitor::new(&site);
    let page = visitor.page("/login");
    assert!(
        page.contains("<html lang=\"zh-CN\">") && page.contains("登录") && page.contains("&lt;b&gt;点数"),
        "{page}"
    );
    let english = visitor.call("GET", "/login", "", &[("accept-language", "fr, en-GB;q=0.8, zh;q=0.5")]);
    assert!(english.body.contains("<html lang=\"en\">"));
    assert!(visitor.page("/login?lang=en").contains("Log in"));
    assert!(visitor.page("/login").contains("Log in"), "the choice is remembered");
    let lost = visitor.get("//evil.example");
    assert!(lost.status == 404 && lost.body.contains("href=\"/evil.example?lang=en\""), "{lost:?}");
    let style = page.split("href=\"/assets/").nth(2).and_then(|rest| rest.split('"').next()).unwrap();
    let style = visitor.get(&format!("/assets/{style}"));
    assert_eq!(style.with("cache-control"), (200, "public, max-age=31536000, immutable"));
}
