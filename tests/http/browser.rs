//! The status page in a real browser: Chromium, driven by WebDriver. axe-core looks for what keeps people out.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::agent;
use super::pages::sample;
use crate::program::{call, eventually};

/// Fetched by script/setup.
const AXE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/axe-core/node_modules/axe-core/axe.min.js");

const ENTER: &str = "\u{e007}";
const TAB: &str = "\u{e004}";

/// A browser without a window, and the driver that it obeys.
pub struct Browser {
    driver: Child,
    session: String,
}

/// Starts chromedriver at a free port. None if it ends without one.
fn start_driver() -> Option<(Child, String)> {
    let mut command = Command::new("chromedriver");
    let mut driver = command
        .arg("--port=0")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("chromedriver: script/setup tests installs it");
    let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    let port = lines.find_map(|line| {
        line.ok()?
            .strip_prefix("ChromeDriver was started successfully on port ")
            .map(|port| port.trim_end_matches('.').to_owned())
    });
    let Some(port) = port else {
        driver.wait().unwrap();
        return None;
    };
    // Its pipe must not fill.
    std::thread::spawn(move || lines.for_each(drop));
    Some((driver, port))
}

impl Browser {
    pub fn start() -> Browser {
        // It takes a port of IPv6, and ends if another process has the same one of IPv4.
        let (driver, port) = (0..5).find_map(|_| start_driver()).expect("the port of chromedriver");
        let mut browser = Browser { driver, session: format!("http://127.0.0.1:{port}/session") };
        let args = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-proxy-server",
            "--lang=en",
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {"goog:chromeOptions": {"args": args}}}});
        let session = browser.send("", wanted);
        browser.session = format!("{}/{}", browser.session, session["sessionId"].as_str().unwrap());
        browser
    }

    fn send(&self, path: &str, body: Value) -> Value {
        let call = agent().post(format!("{}{path}", self.session)).header("content-type", "application/json");
        let mut answer = call.send(body.to_string()).unwrap();
        let text = answer.body_mut().with_config().limit(1 << 26).read_to_string().unwrap();
        let answer: Value = serde_json::from_str(&text).expect(&text);
        assert!(answer["value"]["error"].is_null(), "{path}: {answer}");
        answer["value"].clone()
    }

    fn devtools(&self, command: &str, params: Value) -> Value {
        self.send("/goog/cdp/execute", json!({"cmd": command, "params": params}))
    }

    pub fn open(&self, url: &str) {
        self.send("/url", json!({ "url": url }));
    }

    pub fn run(&self, script: &str) -> Value {
        self.send("/execute/sync", json!({"script": script, "args": []}))
    }

    fn wait_for(&self, what: &str, condition: &str) {
        eventually(what, || (self.run(&format!("return Boolean({condition})")) == true).then_some(()));
    }

    fn press(&self, keys: &str) {
        let mut actions = Vec::new();
        for key in keys.chars() {
            actions.push(json!({"type": "keyDown", "value": key.to_string()}));
            actions.push(json!({"type": "keyUp", "value": key.to_string()}));
        }
        self.send("/actions", json!({"actions": [{"type": "key", "id": "keyboard", "actions": actions}]}));
    }

    /// Presses the tabulator until the element that has the focus is this one, and shows that it has.
    fn tab_to(&self, condition: &str) {
        for _ in 0..60 {
            self.press(TAB);
            if self.run(&format!("const at = document.activeElement; return Boolean({condition})")) == true {
                let seen = "const style = getComputedStyle(document.activeElement);
                            return style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2";
                assert_eq!(self.run(seen), true, "the focus can be seen");
                return;
            }
        }
        panic!("the keyboard does not reach {condition}");
    }

    pub fn look(&self, width: u32, scheme: &str) {
        let size = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500});
        self.devtools("Emulation.setDeviceMetricsOverride", size);
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// Checks the page that is open at this width and in this scheme.
    fn check(&self, name: &str, width: u32, scheme: &str) {
        self.look(width, scheme);
        let wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
        assert_eq!(self.run(wide), 0, "{name} is wider than {width} px");
        let scrolls =
            "return [...document.querySelectorAll('.table')].filter((at) => at.scrollWidth > at.clientWidth).length";
        assert_eq!(self.run(scrolls), 0, "a table of {name} scrolls sideways at {width} px");
        self.picture(&format!("{name}-{width}-{scheme}"));
    }

    /// Keeps a picture of the page if the test run is asked to.
    pub fn picture(&self, name: &str) {
        if let Some(folder) = std::env::var_os("POINTSD_TEST_SCREENSHOTS") {
            let picture = self.devtools("Page.captureScreenshot", json!({"captureBeyondViewport": true}));
            let picture = base64(picture["data"].as_str().unwrap());
            std::fs::write(Path::new(&folder).join(format!("{name}.png")), picture).unwrap();
        }
    }

    /// What axe-core finds on the page as it is shown now.
    fn expect_accessible(&self, name: &str) {
        let script = "const done = arguments[0];
            axe.run({ resultTypes: ['violations'] }).then((found) => done(found.violations.map((one) =>
                [one.id, one.help, ...one.nodes.map((node) => node.html + ' ' + (node.any[0]?.message ?? ''))])),
                (error) => done(String(error)))";
        assert_eq!(self.send("/execute/async", json!({"args": [], "script": script})), json!([]), "{name}");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = agent().delete(&self.session).call();
        self.driver.kill().ok();
        self.driver.wait().ok();
    }
}

fn base64(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

#[test]
fn every_page_is_for_every_reader_and_every_screen() {
    let (site, paths) = sample();
    let browser = Browser::start();
    let axe = std::fs::read_to_string(AXE).expect("axe-core: script/setup tests fetches it");
    let home = format!("http://{}", site.address);

    browser.open(&home);
    browser.run(&format!("{axe}; window.axe = axe"));
    for (width, scheme) in [(375, "light"), (1280, "dark")] {
        browser.check("login", width, scheme);
        browser.expect_accessible("the login");
    }

    // By keyboard alone: the login, then a pause.
    assert_eq!(browser.run("return document.activeElement.id"), "token");
    browser.press(&format!("{}{ENTER}", site.token));
    browser.wait_for("the overview", "document.querySelector('.verdict')");
    browser.tab_to("at.getAttribute('href') === '/jobs/prune'");
    browser.press(ENTER);
    browser.wait_for("the job", "location.pathname === '/jobs/prune'");
    browser.tab_to("at.getAttribute('href')?.startsWith('/order?action=pause')");
    browser.press(ENTER);
    browser.wait_for("the confirmation", "location.pathname === '/order'");
    browser.tab_to("at.matches('main button')");
    browser.press(ENTER);
    browser.wait_for("the outcome", "document.querySelector('.said')?.textContent === 'prune is paused.'");
    browser.open(&home);
    browser.press(&format!("{TAB}{ENTER}"));
    browser.wait_for("the content", "document.activeElement.id === 'main'");

    // The page is alive: another operator resumes the job.
    assert_eq!(browser.run("return document.querySelectorAll('.badge.paused').length"), 1);
    call(&site.url, &["jobs", "resume", "prune"]).expect(0);
    browser.wait_for("fresh content", "document.querySelectorAll('.badge.paused').length === 0");

    for (name, path) in &paths {
        browser.open(&format!("{home}{path}"));
        browser.run(&format!("{axe}; window.axe = axe"));
        // What is checked is about the width or the scheme, so two looks have it all. Pictures show all four.
        for (width, scheme) in [(375, "dark"), (1280, "light"), (375, "light"), (1280, "dark")] {
            let is_checked = matches!((width, scheme), (375, "dark") | (1280, "light"));
            if is_checked || std::env::var_os("POINTSD_TEST_SCREENSHOTS").is_some() {
                browser.check(name, width, scheme);
            }
            if is_checked {
                browser.expect_accessible(&format!("{name}, {width} px, {scheme}"));
            }
        }
        assert_eq!(browser.run("return document.querySelectorAll('h1').length"), 1, "{name}");
        assert_eq!(browser.run("return window.hostile ?? null"), Value::Null, "{name}");
    }
    // No style or script was refused, and none of the hostile texts did anything.
    let log = browser.send("/se/log", json!({"type": "browser"}));
    let complaints: Vec<&Value> = log
        .as_array()
        .unwrap()
        .iter()
        .filter(|line| !line["message"].as_str().unwrap().contains("/runs/999 "))
        .collect();
    assert!(complaints.is_empty(), "{complaints:?}");
}
