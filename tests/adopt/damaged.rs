//! Tables that hold what no service should have written, and exports that other programs wrote.

use super::*;

/// Tables without any constraint, with these types of numbers and of times.
fn loose(number: &str, time: &str) -> String {
    format!(
        "CREATE TABLE public.user_points (user_id text, balance {number}, total_recharged {number}, total_consumed {number},
             total_expired {number}, created_at {time});
         CREATE TABLE public.point_batches (id text, user_id text, amount {number}, remaining {number}, expired_at {time}, source text,
             created_at {time}, price text, currency text);
         CREATE TABLE public.point_transactions (id text, user_id text, type text, amount {number}, balance_before {number},
             balance_after {number}, source_type text, source_id text, batch_id text, duration {number}, description text,
             created_at {time});"
    )
}

impl Move {
    /// The balances of the ledger by the names that the users have there.
    fn balances_by_name(&self) -> BTreeMap<String, i64> {
        let sql =
            "SELECT old_user, a.balance FROM pointsd.accounts AS a JOIN pointsd.adopted_accounts AS o USING (user_id)
                   WHERE a.balance <> 0";
        let rows = wait(async { self.ledger.client().await.query(sql, &[]).await.unwrap() });
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }
}

fn named<const N: usize>(balances: [(&str, i64); N]) -> BTreeMap<String, i64> {
    balances.map(|(name, balance)| (name.to_owned(), balance)).into()
}

#[test]
fn batches_whose_ids_name_nothing_open_under_ids_of_their_own() {
    let moving = Move::with(&loose("bigint", "timestamptz"));
    moving.run_there(
        "INSERT INTO public.user_points VALUES ('same', 50), ('none', 50), ('empty', 7), ('long', 8), ('taken', 9);
         INSERT INTO public.point_batches (id, user_id, amount, remaining, expired_at, source) VALUES
             ('1', 'same', 25, 25, '2999-01-01Z', 'gift'), ('1', 'same', 25, 25, '2999-01-01Z', 'gift'),
             (NULL, 'none', 25, 20, '2999-01-01Z', 'gift'), (NULL, 'none', 30, 30, '2999-01-02Z', 'gift'),
             ('', 'empty', 7, 7, '2999-01-01Z', 'gift'), (repeat('x', 300), 'long', 8, 8, '2999-01-01Z', 'gift'),
             ('without-batch', 'taken', 4, 4, '2999-01-01Z', 'gift')",
    );
    let plan = moving.plan();
    assert_eq!(class(&plan, "batch_id_twice")["rows"], 4);
    let applied = moving.apply();
    assert_eq!((&applied["different"], &applied["posted"]), (&json!(0), &json!(8)));
    assert_eq!(moving.balances_by_name(), named([("same", 50), ("none", 50), ("empty", 7), ("long", 8), ("taken", 9)]));
}

#[test]
fn a_batch_that_ends_between_plan_and_apply_opens_as_planned_and_expires_here() {
    let moving = Move::with(TABLES);
    moving.run_there(
        "INSERT INTO public.user_points (user_id, balance) VALUES ('00000000-0000-4000-8000-000000000001', 10);
         INSERT INTO public.point_batches (user_id, amount, remaining, expired_at, source)
         VALUES ('00000000-0000-4000-8000-000000000001', 10, 10, clock_timestamp() + interval '2 seconds', 'gift')",
    );
    let plan = moving.plan();
    assert_eq!(plan["totals"]["classes"], json!([]), "the batch is not due when the tables are read");
    let is_due = "SELECT expires_at <= clock_timestamp() FROM pointsd.adopted_batches";
    let is_due =
        || wait(async { moving.ledger.client().await.query_one(is_due, &[]).await.unwrap().get::<_, bool>(0) });
    eventually("the batch ends", || is_due().then_some(()));
    let applied = moving.apply();
    assert_eq!((&applied["different"], &applied["opened"]), (&json!(0), &json!(10)));
    assert_eq!(
        moving.one("SELECT count(*) FROM pointsd.batches WHERE expires_at < clock_timestamp() + interval '10 minutes'"),
        1
    );
}

#[test]
fn a_clock_there_that_is_ahead_dates_no_opening_in_the_future() {
    let moving = Move::with(TABLES);
    moving.run_there(
        "INSERT INTO public.user_points (user_id, balance) VALUES ('00000000-0000-4000-8000-000000000001', -10);
         INSERT INTO public.point_transactions (user_id, type, amount, balance_before, balance_after, source_type, source_id, created_at)
         VALUES ('00000000-0000-4000-8000-000000000001', 'consume', 10, 0, -10, 'script', 't', now() + interval '1 hour');
         CREATE SCHEMA ahead;
         CREATE FUNCTION ahead.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ SELECT pg_catalog.now() + interval '1 hour' $$;",
    );
    let name = moving.old.config().get_dbname().unwrap().to_owned();
    moving.run_there(&format!("ALTER DATABASE {name} SET search_path = ahead, pg_catalog, public"));
    let plan = moving.plan();
    let read_at: DateTime<Utc> = plan["read_at"].as_str().unwrap().parse().unwrap();
    let ahead = "SELECT $1 > now() + interval '50 minutes'";
    assert!(wait(async {
        moving.ledger.client().await.query_one(ahead, &[&read_at]).await.unwrap().get::<_, bool>(0)
    }));
    assert_eq!(moving.apply()["different"], 0);
}

#[test]
fn values_that_are_no_values_are_counted_and_all_others_are_exact() {
    // A real has 24 bits: these whole numbers fit, and their text would not.
    let moving = Move::with(&loose("real", "timestamptz"));
    moving.run_there("INSERT INTO public.user_points VALUES ('a', 1234567), ('b', 16777216), ('c', 0.5)");
    let plan = moving.plan();
    assert_eq!(
        (&plan["totals"]["points"], &class(&plan, "account_unreadable")["rows"]),
        (&json!(18_011_783), &json!(1))
    );

    let moving = Move::with(&loose("text", "text"));
    moving.run_there(
        "INSERT INTO public.user_points VALUES ('a', '50', '0', '0', '0', '0000-00-00 00:00:00'), ('b', ' 60 ', NULL, NULL, '', '2026-02-30'),
             ('c', '-5', '0', '5', '0', ''), ('d', '1,000', '0', '0', '0', '2026-01-01 10:00:00');
         INSERT INTO public.point_batches VALUES
             ('1', 'a', '50', '20', '2999-12-31 10:00:00.5+08', 'gift', '0001-01-01', '', ''),
             ('2', 'a', '50', '30', '', 'gift', '1850-06-01', NULL, NULL),
             ('3', 'b', '50', '10', '0000-00-00', 'gift', '2026-01-01', NULL, NULL),
             ('4', 'b', '50', '20', '2999/1/31 9:30', 'wxpay', 'yesterday', '19.99', 'CNY'),
             ('5', 'b', '50', '30', '294276-12-31 23:59:59', 'wxpay', '2026-02-29', '100', NULL),
             ('6', 'b', '50', '9', '31/12/2999', 'gift', NULL, '-1', 'CNY'),
             ('7', 'b', '50', '10', 'infinity', NULL, '2024-02-29T23:59:59Z', '700', 'CNY');
         INSERT INTO public.point_transactions VALUES
             ('1', 'c', 'consume', '5', '0', '-5', 'script', 't1', NULL, NULL, NULL, '0001-01-01'),
             ('2', 'c', 'spend', '5', '0', '-5', 'script', 't2', NULL, NULL, NULL, '2026-01-01'),
             ('3', 'c', NULL, '5', '0', '-5', 'script', 't2', NULL, NULL, NULL, '2026-01-01')",
    );
    let plan = moving.plan_with("{batches: {paid: price, currency: currency}, decisions: {sources: {'': alipay}}}");
    for (name, rows, points) in [
        ("account_unreadable", 1, 0),
        // Ends that are no time; a missing one is never.
        ("batch_unreadable", 2, 19),
        ("price_unreadable", 3, 59),
        ("transaction_unreadable", 1, 5),
        ("transaction_of_other_type", 2, 10),
        ("debt_without_date", 1, 5),
    ] {
        let class = class(&plan, name);
        assert_eq!((&class["rows"], &class["points"]), (&json!(rows), &json!(points)), "{name}: {plan}");
    }
    moving.apply();
    assert_eq!(moving.balances_by_name(), named([("a", 50), ("b", 60), ("c", -5)]));
    let ends = "SELECT count(*) FROM pointsd.batches
                WHERE (remaining, expires_at) IN ((20, '2999-12-31 02:00:00.5Z'), (30, '9999-12-31 23:59:59.999999Z'),
                                                  (20, '2999-01-31 09:30:00Z'), (10, '9999-12-31 23:59:59.999999Z'))";
    assert_eq!(moving.one(ends), 5);
    assert_eq!(moving.one("SELECT sum(paid)::bigint FROM pointsd.batches WHERE source = 'alipay'"), 140);
}

#[test]
fn names_of_users_are_cut_for_the_page_and_harmless() {
    let moving = Move::with(&loose("bigint", "timestamptz"));
    moving.run_there(
        "INSERT INTO public.user_points VALUES (repeat('龙', 50000), 5), ('<script>alert(1)</script>', 4), (E'\\x1b[31m\\u202E=1+1', 3)",
    );
    let plan = moving.plan();
    let examples = class(&plan, "balance_above_batches")["examples"].as_array().unwrap();
    assert_eq!(examples[0]["old_user"].as_str().unwrap().chars().count(), 100);
    let page = fs::read_to_string(moving.folder.path().join("plan/plan.html")).unwrap();
    for harmful in ["<script", "\u{1b}", "\u{202e}"] {
        assert!(!page.contains(harmful), "{harmful:?}");
    }
    moving.apply();
    assert_eq!(moving.one("SELECT sum(balance)::bigint FROM pointsd.accounts"), 12);
}

#[test]
fn transactions_whose_ids_are_not_unique_are_refused_with_one_of_them() {
    let moving = Move::with(&loose("bigint", "timestamptz"));
    moving.run_there(
        "INSERT INTO public.point_transactions (id, user_id, type, amount, created_at)
         VALUES ('5', 'a', 'consume', 1, now()), ('5', 'a', 'consume', 2, now())",
    );
    let args = ["adopt", "plan", "--from", &moving.old.url(), "--output", &moving.path()];
    let refused = call(&moving.ledger.url(), &args).expect(2);
    assert!(refused.stderr.contains("two transactions have the same id"), "{}", refused.stderr);
    assert!(refused.stderr.contains("Key (id)=(5) is duplicated"), "{}", refused.stderr);
    moving.plan_with("transactions: {id: null}");
}

#[test]
fn transactions_of_any_shape_are_followed() {
    let moving = Move::with(&loose("bigint", "timestamptz"));
    moving.run_there(
        "INSERT INTO public.user_points VALUES ('a', 100, 0, 0, 0), ('b', 0, 0, 0, 0);
         INSERT INTO public.point_transactions (id, user_id, type, amount, source_type, source_id, created_at)
         VALUES ('-9223372036854775807', 'a', 'recharge', 100, 'wxpay', '007', now())",
    );
    moving.plan();
    moving.apply();
    // The order of old again; another order; two tasks without a name; one with a name that is too long; a year that no clock shows;
    // and a batch of which another account has one with the same id.
    moving.run_there(
        "INSERT INTO public.point_batches (id, user_id, expired_at) VALUES ('1', 'a', '2998-01-01Z'), ('1', 'b', '2997-01-01Z');
         INSERT INTO public.point_transactions (id, user_id, type, amount, source_type, source_id, batch_id, description, created_at) VALUES
             ('1', 'a', 'recharge', 100, 'wxpay', '007', NULL, NULL, now()),
             ('2', 'a', 'recharge', 10, 'wxpay', '7', '1', repeat('龙', 1001), now()),
             ('3', 'a', 'consume', 1, 'script', '', NULL, '', now()),
             ('4', 'a', 'consume', 1, 'script', '', NULL, NULL, now()),
             ('5', 'a', 'consume', 2, 'script', repeat('x', 300), NULL, NULL, now()),
             ('6', 'a', 'consume', 4, 'script', 't', NULL, NULL, '294276-12-31Z')",
    );
    let followed = run(moving.follow()).expect(3).json();
    assert_eq!(followed["followed"], json!({"posted": 4, "replayed": 1, "refused": {}, "skipped": 1}));
    assert_eq!(moving.balances_by_name(), named([("a", 106)]));
    assert_eq!(moving.one("SELECT count(*) FROM pointsd.batches WHERE expires_at = '2998-01-01Z'"), 1);
    let again = run(moving.follow()).expect(3).json();
    assert_eq!(again["followed"]["posted"], 0, "{again}");
}

#[test]
fn exports_of_other_programs_are_read_and_what_is_wrong_is_named_with_its_line() {
    let (moving, folder) = (Move::new(), Folder::new());
    let files = folder.path().display().to_string();
    let plan = |accounts: &str, mapping: &str| {
        folder.file("accounts.csv", accounts);
        let mapping = moving.folder.file("mapping.yaml", mapping);
        let args = ["adopt", "plan", "--from", &files, "--mapping", &mapping, "--output", &moving.path(), "--json"];
        call(&moving.ledger.url(), &args)
    };
    let alone = "{accounts: {recharged: null, consumed: null, expired: null}, batches: null, transactions: null}";
    let header = "user_id,balance,created_at\n";
    for text in [
        format!("\u{feff}{header}a,10,2026-01-01\n\nb,20,NULL\n\n"),
        format!("{header}a,10,\\N\n\\.,15,\nb,5,\n").replace('\n', "\r"),
        format!("{header}\"a\n\\.\n\"\"b\",10,2026-01-01 10:00\nb,20,\n").replace(',', ";").replace('\n', "\r\n"),
        format!("{header}a,30,0000-00-00 00:00:00\nc,,\n").replace(',', "\t"),
    ] {
        let plan = plan(&text, alone).expect(0).json();
        assert_eq!(plan["totals"]["net_before"], 30, "{text:?}");
    }
    for (text, words) in [
        (format!("{header}a,10,\nb,20\n"), "line: 3"),
        (format!("{header}a,10,,,\n"), "line: 2"),
        ("user_id,balance,balance\n".to_owned(), "specified more than once"),
    ] {
        let refused = plan(&text, alone).expect(2);
        assert!(refused.stderr.contains("accounts.csv cannot be loaded"), "{}", refused.stderr);
        assert!(refused.stderr.contains(words), "{}", refused.stderr);
    }
    let refused = plan(header, "accounts: {recharged: null, consumed: null, expired: null}").expect(2);
    assert!(refused.stderr.contains("batches.csv is missing"), "{}", refused.stderr);
    assert!(refused.stderr.contains("write `batches: null`"), "{}", refused.stderr);
    let args = ["adopt", "plan", "--from", "no/such/folder", "--output", &moving.path()];
    let refused = call(&moving.ledger.url(), &args).expect(2);
    assert!(refused.stderr.contains("there is no such folder, and it is no PostgreSQL URL"), "{}", refused.stderr);
}
