//! `status`: one screen and one exit status for a daemon at work, for something to look at, and for none.

use nix::sys::signal::Signal;

use super::database;
use crate::program::{Folder, Running, call, eventually, on, wait};

#[test]
fn the_exit_status_tells_whether_all_is_well() {
    let (database, url) = database();
    let down = call(&url, &["status"]).expect(1);
    assert!(down.stdout.contains("Down: no daemon is at work. Start one"), "{}", down.stdout);

    let folder = Folder::new();
    let config = folder.file("pointsd.yaml", format!("state_dir: {}\n", folder.path().display()));
    let serving = Running::start(on(&url, &["serve", "--config", &config]));
    let fine = eventually("the daemon is seen", || {
        let shown = call(&url, &["status", "--json"]);
        shown.status.success().then(|| shown.json())
    });
    assert_eq!((&fine["state"], fine["look"].as_array().map(Vec::len)), (&"fine".into(), Some(0)));
    assert_eq!(fine["daemons"][0]["pid"], serving.pid());
    assert_eq!(fine["schema"], "0011_distribution");
    assert!(fine["daemons"][0]["status"].as_str().unwrap().contains("next: "), "{fine}");
    let screen = call(&url, &["status"]).expect(0).stdout;
    for part in
        ["requests      0 pending; 0 waiting", "arrears       0 points of 0 accounts", "All is well.\n", "never ran"]
    {
        assert!(screen.contains(part), "`{part}` is missing:\n{screen}");
    }

    let sql = "INSERT INTO pointsd.requests (op, user_id, points, source, order_id)
               VALUES ('recharge', gen_random_uuid(), 5, 'no_such_source', 1)";
    wait(async { database.client().await.batch_execute(sql).await.unwrap() });
    call(&url, &["jobs", "pause", "expiry"]).expect(0);
    let look = eventually("the request is refused", || {
        let shown = call(&url, &["status"]);
        shown.stdout.contains("1 requests refused in a day: pointsd requests --state refused").then_some(shown)
    });
    let screen = look.expect(3).stdout;
    assert!(screen.contains("expiry is paused by ") && screen.ends_with("something to look at.\n"), "{screen}");

    serving.signal(Signal::SIGTERM);
    serving.finish().expect(0);
    call(&url, &["status"]).expect(1);
}
