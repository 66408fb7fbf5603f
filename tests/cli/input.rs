//! The input of `post`: good lines, bad lines, endless lines, slow lines.

use std::io::Write;

use serde_json::json;

use super::database;
use crate::program::{Done, Folder, Running, call, feed, on, post, wait};

const USER: &str = "11111111-1111-4111-8111-111111111111";
const MOST_MEMORY: u64 = 64 << 20;

/// A line that posts, with a source id of its own.
fn good(nth: impl std::fmt::Display) -> String {
    format!(r#"{{"op":"consume","user":"{USER}","points":1,"source_type":"tts","source_id":"good {nth}"}}"#)
}

/// A consume, but for one of its fields: `"points":1` replaced by something else, for example.
fn with(field: &str, instead: &str) -> Vec<u8> {
    let line = good("line");
    assert_eq!(line.matches(field).count(), 1, "{field}");
    line.replace(field, instead).into_bytes()
}

/// A posting with these fields beside op and user.
fn op(op: &str, fields: &str) -> Vec<u8> {
    format!("{{\"op\":\"{op}\",\"user\":\"{USER}\"{fields}}}").into_bytes()
}

/// A recharge with these fields beside op, user and points.
fn recharge(fields: &str) -> Vec<u8> {
    format!(r#"{{"op":"recharge","user":"{USER}","points":1{fields}}}"#).into_bytes()
}

#[test]
fn each_bad_line_is_refused_with_its_reason_and_its_neighbours_post() {
    let many = |what: &str, times: usize| what.repeat(times);
    let lines: Vec<(Vec<u8>, &str)> = vec![
        (b"nonsense".to_vec(), "the line is no JSON object, which starts with {"),
        (b"42".to_vec(), "the line is no JSON object, which starts with {"),
        (b"null".to_vec(), "the line is no JSON object, which starts with {"),
        (b"\"text\"".to_vec(), "the line is no JSON object, which starts with {"),
        (b"[]".to_vec(), "the line is no JSON object, which starts with {"),
        // Its fields in order, as one might think: no object either.
        (
            format!(r#"["consume","{USER}",1,null,"tts","t",null,null,null,null,null,null]"#).into_bytes(),
            "the line is no JSON object, which starts with {",
        ),
        (many("[", 100_000).into_bytes(), "the line is no JSON object, which starts with {"),
        (many("{\"op\":", 100_000).into_bytes(), "op: "),
        (b"{".to_vec(), "the line is cut off: its JSON does not end"),
        (good("cut").as_bytes()[..good("cut").len() - 1].to_vec(), "the line is cut off: its JSON does not end"),
        (good("cut").as_bytes()[..good("cut").len() - 3].to_vec(), "the line is cut off: its JSON does not end"),
        (good("cut").as_bytes()[..30].to_vec(), "the line is cut off: its JSON does not end"),
        (format!("{} {}", good("two"), good("on one line")).into_bytes(), "trailing characters"),
        (format!("{},", good("comma")).into_bytes(), "trailing characters"),
        (b"{}".to_vec(), "missing field `op`"),
        (
            with("consume", "gift"),
            "op: unknown variant `gift`, expected one of `recharge`, `consume`, `refund`, `void`, `hold`, `release`",
        ),
        (with("\"op\":\"consume\",", ""), "missing field `op`"),
        (with(&format!("\"user\":\"{USER}\","), ""), "missing field `user`"),
        (with("\"points\":1,", ""), "points is missing, a consume needs it"),
        (with("\"source_type\":\"tts\",", ""), "source_type is missing, a consume needs it"),
        (with(",\"source_id\":\"good line\"", ""), "source_id is missing, a consume needs it"),
        (with("\"points\":1", "\"points\":1,\"colour\":\"red\""), "unknown field `colour`"),
        (with("\"points\":1", "\"points\":1,\"points\":1"), "duplicate field `points`"),
        (with("\"points\":1", "\"points\":1,\"Points\":1"), "unknown field `Points`"),
        (with(USER, "nobody"), "user: `nobody` is no UUID, such as"),
        (with(USER, ""), "user: `` is no UUID"),
        (with(&format!("\"{USER}\""), "7"), "user: invalid type: integer `7`"),
        (
            with("\"points\":1", "\"points\":9223372036854775808"),
            "points: invalid value: integer `9223372036854775808`",
        ),
        (with("\"points\":1", "\"points\":1.5"), "points: invalid type: floating point `1.5`"),
        (with("\"points\":1", "\"points\":1.0"), "points: invalid type: floating point `1.0`"),
        (with("\"points\":1", "\"points\":1e2"), "points: invalid type: floating point `100.0`"),
        (with("\"points\":1", "\"points\":1e999"), "points: number out of range"),
        (with("\"points\":1", "\"points\":\"1\""), "points: invalid type: string \"1\""),
        (with("\"points\":1", "\"points\":null"), "points is missing, a consume needs it"),
        (with("\"points\":1", "\"points\":true"), "points: invalid type: boolean `true`"),
        (with("\"points\":1", "\"points\":NaN"), "points: expected value"),
        (with("good line", "\\u0000"), "source_id holds a NUL character"),
        (with("good line", "\0"), "source_id: control character"),
        (with("good line", "\u{1}"), "source_id: control character"),
        (with("good line", "\\ud800"), "source_id: "),
        (with("good line", ""), "source_id is empty"),
        (with("\"good line\"", "5"), "source_id: invalid type: integer `5`"),
        (with("good line", &many("x", 256)), "source_id is longer than 255 characters"),
        (with("tts", ""), "source_type is empty"),
        (with("tts", &many("x", 65)), "source_type is longer than 64 characters"),
        (with("\"points\":1", "\"points\":1,\"key\":\"\""), "key is empty"),
        (with("\"points\":1", "\"points\":1,\"source\":\"gift\""), "source does not belong to a consume"),
        (with("\"points\":1", "\"points\":1,\"order_id\":1"), "order_id does not belong to a consume"),
        (with("\"points\":1", "\"points\":1,\"paid\":1"), "paid does not belong to a consume"),
        (recharge(r#","source":"card","key":"k","paid":1"#), "currency is missing: paid needs it"),
        (
            recharge(r#","source":"card","key":"k","currency":"CNY""#),
            "paid is missing: without it a currency says nothing",
        ),
        (recharge(r#","source":"card","key":"k","paid":1.5,"currency":"CNY""#), "paid: invalid type"),
        (
            recharge(r#","source":"card","key":"k","paid":1,"currency":"cny""#),
            "currency: `cny` is no currency of ISO 4217",
        ),
        (
            recharge(r#","source":"gift","key":"k","paid":1,"currency":"CNY""#),
            "paid does not belong to a recharge from the promotional source `gift`",
        ),
        (
            with("\"points\":1", "\"points\":1,\"expires_at\":\"2100-01-01T00:00:00Z\""),
            "expires_at does not belong to a consume",
        ),
        (with("\"points\":1", "\"points\":1,\"at\":\"yesterday\""), "at: `yesterday` is not a time; write RFC 3339"),
        (with("\"points\":1", "\"points\":1,\"at\":\"2026-02-30T00:00:00Z\""), "at: `2026-02-30T00:00:00Z` is not a"),
        (with("\"points\":1", "\"points\":1,\"at\":\"2026-02-01T00:00:00\""), "at: `2026-02-01T00:00:00` is not a"),
        (with("\"points\":1", "\"points\":1,\"at\":1767225600"), "at: invalid type: integer"),
        (with("\"points\":1", "\"points\":1,\"at\":\"1969-12-31T23:59:59Z\""), "at is outside the years 1970 to 9999"),
        (with("\"points\":1", "\"points\":1,\"duration\":-1"), "duration: \"-1\" is no number of seconds"),
        (with("\"points\":1", "\"points\":1,\"duration\":\"long\""), "duration: \"long\" is no number of seconds"),
        (op("refund", ""), "source_type is missing, a refund needs it"),
        (op("refund", ",\"source_type\":\"tts\""), "source_id is missing, a refund needs it"),
        (op("refund", ",\"source_type\":\"tts\",\"of\":\"k\""), "a refund has either of, or source_type and source_id"),
        (op("refund", ",\"of\":\"\""), "of is empty"),
        (op("refund", ",\"of\":\"k\",\"source\":\"gift\""), "source does not belong to a refund; it has a source_type"),
        (op("refund", ",\"of\":\"k\",\"beyond\":\"used\""), "beyond does not belong to a refund"),
        (op("void", ""), "source is missing, a void needs it"),
        (op("void", ",\"source\":\"gift\""), "order_id is missing; a void of a recharge without an order has of"),
        (op("void", ",\"order_id\":1,\"of\":\"k\""), "a void has either of, or source and order_id"),
        (op("void", ",\"of\":\"k\",\"beyond\":\"all\""), "beyond is neither used nor remaining"),
        (op("void", ",\"of\":\"k\",\"source_id\":\"1\""), "source_id does not belong to a void; it has an order_id"),
        (op("hold", ",\"source_type\":\"tts\",\"source_id\":\"t\""), "until is missing, a hold needs it"),
        (
            op("hold", ",\"source_type\":\"tts\",\"source_id\":\"t\",\"until\":\"2100-01-01T00:00:00Z\""),
            "points is missing, a hold needs it",
        ),
        (op("hold", ",\"until\":\"infinity\""), "until: `infinity` is not a time"),
        (op("release", ",\"of\":\"k\",\"points\":1"), "points does not belong to a release: it ends the whole hold"),
        (op("release", ",\"of\":\"k\",\"key\":\"k\""), "key does not belong to a release; it has the hold's key in of"),
        (with("\"points\":1", "\"points\":1,\"of\":\"k\""), "of does not belong to a consume"),
        (with("\"points\":1", "\"points\":1,\"until\":\"2100-01-01T00:00:00Z\""), "until does not belong to a consume"),
        (recharge(",\"source\":\"gift\""), "a recharge needs an order_id or a key"),
        (recharge(",\"key\":\"k\""), "source is missing, a recharge needs it"),
        (recharge(",\"source\":\"gift\",\"order_id\":1.5"), "order_id: invalid type: floating point `1.5`"),
        (recharge(",\"source\":\"gift\",\"order_id\":\"1\""), "order_id: invalid type: string \"1\""),
        (recharge(",\"source\":\"gift\",\"order_id\":1,\"duration\":1"), "duration does not belong to a recharge"),
        (
            recharge(",\"source\":\"gift\",\"order_id\":1,\"source_id\":\"t\""),
            "source_id does not belong to a recharge",
        ),
        (recharge(",\"source\":\"gift\",\"order_id\":1,\"expires_at\":\"\""), "expires_at: `` is not a time"),
        (
            [good("x").as_bytes().split_at(20).0, b"\xff", good("x").as_bytes().split_at(20).1].concat(),
            "byte 21 is not valid UTF-8",
        ),
        (b"\xff\xfe{\0}\0".to_vec(), "byte 1 is not valid UTF-8"), // UTF-16
        (format!("\u{feff}{}", good("mark")).into_bytes(), "the line is no JSON object"), // a mark in mid-file
        (with("\"points\":1", &format!("\"points\":1,\"{}\":1", many("é", 50_000))), "ééééé"),
        (vec![b'x'; 2 << 20], "the line is longer than 1048576 bytes"),
    ];
    // Each between two good ones, and the last one without an end.
    let mut input = Vec::new();
    for (nth, (line, _)) in lines.iter().enumerate() {
        input.extend(good(nth).into_bytes());
        input.push(b'\n');
        input.extend(line);
        input.push(b'\n');
    }
    input.extend(good("last").into_bytes());

    let (_database, url) = database();
    let replies = post(&url, &input).expect(3).jsons();
    assert_eq!(replies.len(), 2 * lines.len() + 1);
    for (nth, reply) in replies.iter().enumerate() {
        assert_eq!(reply["line"], nth + 1, "{reply}");
        if nth % 2 == 0 {
            assert_eq!((&reply["status"], &reply["seq"]), (&json!("posted"), &json!(nth / 2 + 1)), "{reply}");
            continue;
        }
        let (line, says) = &lines[nth / 2];
        let line = String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned();
        assert_eq!((&reply["status"], &reply["code"]), (&json!("rejected"), &json!("malformed")), "{line}: {reply}");
        let message = reply["message"].as_str().unwrap();
        assert!(message.contains(says), "{line} should say {says:?}: {message}");
        assert!(message.chars().count() <= 301, "{message}");
        // Two names from inside the program, which would not help a reader.
        assert!(!message.contains("Fields") && !message.contains("line 1"), "{message}");
    }
    let account = call(&url, &["balance", USER, "--json"]).expect(0).json();
    assert_eq!(account["total_consumed"], lines.len() + 1, "{account}");
}

#[test]
fn unusual_lines_that_are_right_are_posted() {
    let (_database, url) = database();
    let at = "\"at\":\"2026-01-01T08:00:00.1234567+08:00\"";
    let lines: Vec<String> = vec![
        format!("\u{feff}{}", good("after a mark")),
        String::new(),
        format!("{}\r", good("before a carriage return")),
        " \t\r".to_owned(),
        format!("  {}  ", good("in spaces")),
        good("spaces").replace(':', " : ").replace(',', " , "),
        good("\u{1f600} 积分 \\u00e9\\n"),
        good("decimal").replace("\"points\":1", "\"points\":1,\"duration\":0.10000000000000000000000001"),
        good("text").replace("\"points\":1", "\"points\":1,\"duration\":\"12.50\""),
        good("null").replace("\"points\":1", "\"points\":1,\"at\":null,\"key\":null,\"duration\":null"),
        good("zone").replace("\"points\":1", &format!("\"points\":1,{at}")),
        good("braces").replace(USER, &format!("{{{USER}}}")),
        String::new(),
        good("without an end"),
    ];
    let replies = post(&url, lines.join("\n")).expect(0).jsons();
    let numbers: Vec<_> = replies.iter().map(|reply| reply["line"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [1, 3, 5, 6, 7, 8, 9, 10, 11, 12, 14], "empty lines count and have no reply");
    assert_eq!(replies[4]["source_id"], "good \u{1f600} 积分 \u{e9}\n");
    assert_eq!(replies[5]["duration"].to_string(), "0.1", "a float cannot hold more, and serde_json reads one here");
    assert_eq!(replies[6]["duration"].to_string(), "12.5");
    assert_eq!(replies[8]["at"], "2026-01-01T00:00:00.123456Z");
    // The same input replays with the same texts: the first reply is kept.
    let again = post(&url, lines.join("\n")).expect(0).jsons();
    for (first, mut again) in replies.into_iter().zip(again) {
        assert_eq!(again["status"], "replayed");
        again["status"] = json!("posted");
        assert_eq!(again, first);
    }
}

#[test]
fn no_lines_are_no_mistake_and_one_is_a_file() {
    let (_database, url) = database();
    let folder = Folder::new();
    for text in ["", "\n", "\n\r\n  \n", "\u{feff}"] {
        assert_eq!(post(&url, text).expect(0).stdout, "", "{text:?}");
        let file = folder.file("lines.ndjson", text);
        let done = call(&url, &["post", &file]).expect(0);
        assert!(done.stdout.starts_with("0 lines in "), "{done:#?}");
    }
    for (text, status) in [(good("one"), "posted"), (good("one") + "\n", "replayed")] {
        let file = folder.file("lines.ndjson", text);
        let replies = call(&url, &["post", &file, "--json"]).expect(0).jsons();
        assert_eq!((replies.len(), &replies[0]["status"]), (1, &json!(status)));
    }
    let header = folder.file("lines.csv", "op,user,points\n");
    assert_eq!(call(&url, &["post", "--csv", &header, "--json"]).expect(0).stdout, "");
}

fn post_csv(url: &str, text: impl AsRef<[u8]>) -> Done {
    feed(on(url, &["post", "-", "--csv", "--json"]), text)
}

#[test]
fn csv_headers() {
    let (_database, url) = database();
    for (header, says) in [
        (&b""[..], "the input is empty; the first line names the columns, such as op,user,points"),
        (b"\n \r\r\n", "the input is empty"),
        (b"op,user,points,colour\n", "`colour` is no column; there are op, user, points, source,"),
        (b"op,user,points,source_\n", "`source_` is no column"),
        (b"op,user,points,OP\n", "`op` stands there twice"),
        (b"op,user,points,source, source\n", "`source` stands there twice"),
        (b"op,points,source\n", "`user` is missing"),
        (b",,,\n", "`op` is missing"),
        (b"op;user,points\n", "`user,points` is no column"),
        (b"op user points\n", "`op user points` is no column"),
        (b"op,user,\"points\n", "a quote is not closed; a header is one line"),
        (b"op,user,points\xff\n", "byte 15 is not valid UTF-8; if the input has another encoding, name it, such as"),
        (b"o\0p\0,\0u\0s\0e\0r\0\n\0", "say --encoding utf-16le"),
        (b"{\"op\":\"consume\"}\n", "is no column"),
        (&[b'x'; 2 << 20], "it is longer than a line may be"),
    ] {
        let done = post_csv(&url, header).expect(2);
        let start = if says.contains("empty") { "\"line " } else { "\"line 1, the CSV header: " };
        assert!(done.stderr.contains(start), "{}", done.stderr);
        assert!(done.stderr.contains(says), "{says:?}: {}", done.stderr);
        assert_eq!(done.stdout, "");
    }
}

#[test]
fn each_bad_record_is_refused_with_its_reason_and_its_neighbours_post() {
    let header = "\u{feff}op,user,points,source_type,source_id,source, order_id ,duration,at,description\r\n";
    let good = |nth: usize| format!("consume,{USER},1,tts,good {nth},,,,,");
    let records: Vec<(Vec<u8>, &str)> = vec![
        (
            format!("consume,{USER},1,tts,\"a\"b,,,,,").into_bytes(),
            "text follows a closing quote; write a quote within",
        ),
        (format!("consume,{USER},1,tts,few").into_bytes(), "it has 5 fields, the header 10"),
        (format!("consume,{USER},1,tts,many,,,,,,x").into_bytes(), "it has 11 fields, the header 10"),
        (format!("consume,{USER},,tts,t,,,,,").into_bytes(), "points is missing, a consume needs it"),
        (format!(",{USER},1,tts,t,,,,,").into_bytes(), "op is empty"),
        (b"consume,,1,tts,t,,,,,".to_vec(), "user is empty"),
        (
            format!("Consume,{USER},1,tts,t,,,,,").into_bytes(),
            "op: `Consume` is none of recharge, consume, refund, void, hold, release",
        ),
        (b"consume,nobody,1,tts,t,,,,,".to_vec(), "user: `nobody` is no UUID, such as"),
        (format!("consume,{USER},1.5,tts,t,,,,,").into_bytes(), "points: `1.5` is not a whole number"),
        (format!("consume,{USER},1e3,tts,t,,,,,").into_bytes(), "points: `1e3` is not a whole number"),
        (format!("consume,{USER}, 1,tts,t,,,,,").into_bytes(), "points: ` 1` is not a whole number"),
        (
            format!("consume,{USER},9223372036854775808,tts,t,,,,,").into_bytes(),
            "points: `9223372036854775808` is not a whole number",
        ),
        (format!("consume,{USER},1,tts,t\0,,,,,").into_bytes(), "source_id holds a NUL character"),
        ([format!("consume,{USER},1,tts,").as_bytes(), b"\xff,,,,,"].concat(), "byte 52 is not valid UTF-8"),
        (format!("consume,{USER},1,tts,,,,,,").into_bytes(), "source_id is missing, a consume needs it"),
        (format!("consume,{USER},1,,t,,,,,").into_bytes(), "source_type is missing, a consume needs it"),
        (format!("consume,{USER},1,tts,t,gift,,,,").into_bytes(), "source does not belong to a consume"),
        (format!("consume,{USER},1,tts,t,,,-1,,").into_bytes(), "duration: \"-1\" is no number of seconds"),
        (format!("consume,{USER},1,tts,t,,,,never,").into_bytes(), "at: `never` is not a time; write RFC 3339"),
        (
            format!("consume,{USER},1,tts,t,,,,2026-11-28 10:00,").into_bytes(),
            "at: `2026-11-28 10:00` is not a time, because its zone is missing; write RFC 3339, such as",
        ),
        (format!("consume,{USER},1,tts,t,,,,2026/11/28,").into_bytes(), "`2026/11/28` is not a time, because its zone"),
        (format!("recharge,{USER},1,,,gift,,,,").into_bytes(), "a recharge needs an order_id or a key"),
        (format!("recharge,{USER},1,,,gift,x,,,").into_bytes(), "order_id: `x` is not a whole number"),
        (format!("recharge,{USER},1,,,,7,,,").into_bytes(), "source is missing, a recharge needs it"),
        (vec![b'"'; 2 << 20], "the line is longer than 1048576 bytes"),
    ];
    let mut input = header.as_bytes().to_vec();
    for (nth, (record, _)) in records.iter().enumerate() {
        input.extend(format!("{}\r\n", good(nth)).into_bytes());
        input.extend(record);
        input.push(b'\n');
    }
    let extra =
        format!("\nconsume,{USER},1,tts,\"a \"\"quoted\"\", one\",,,12.50,2026-01-01T00:00:00Z,\"two, words\"\r\n");
    input.extend(extra.into_bytes());
    // As good as the others, or the beginning of a longer one?
    input.extend(good(1_000).into_bytes());

    let (_database, url) = database();
    let mut replies = post_csv(&url, &input).expect(3).jsons();
    let cut_off = replies.pop().unwrap();
    assert_eq!((&cut_off["code"], &cut_off["line"]), (&json!("malformed"), &json!(2 * records.len() + 4)));
    assert!(cut_off["message"].as_str().unwrap().starts_with("no line end follows"), "{cut_off}");
    let last = replies.pop().unwrap();
    assert_eq!(replies.len(), 2 * records.len());
    for (nth, reply) in replies.iter().enumerate() {
        assert_eq!(reply["line"], nth + 2, "the header is line 1: {reply}");
        if nth % 2 == 0 {
            assert_eq!(reply["source_id"], format!("good {}", nth / 2), "{reply}");
            continue;
        }
        let (record, says) = &records[nth / 2];
        let record = String::from_utf8_lossy(&record[..record.len().min(200)]).into_owned();
        assert_eq!((&reply["status"], &reply["code"]), (&json!("rejected"), &json!("malformed")), "{record}: {reply}");
        let message = reply["message"].as_str().unwrap();
        assert!(message.contains(says), "{record} should say {says:?}: {message}");
    }
    // After an empty line, which counts.
    assert_eq!(last["line"], 2 * records.len() + 3);
    assert_eq!(
        [&last["source_id"], &last["duration"], &last["description"], &last["at"]],
        [&json!("a \"quoted\", one"), &json!(12.5), &json!("two, words"), &json!("2026-01-01T00:00:00Z")]
    );
}

/// The lines that were refused, and those that were posted with their description, or the order or task where they have none.
fn outcomes(done: &Done) -> (Vec<u64>, Vec<(u64, String)>) {
    let (refused, posted): (Vec<_>, Vec<_>) = done.jsons().into_iter().partition(|reply| reply["status"] == "rejected");
    let number = |reply: &serde_json::Value| reply["line"].as_u64().unwrap();
    let text = |reply: &serde_json::Value| {
        reply["description"].as_str().or_else(|| reply["source_id"].as_str()).unwrap().to_owned()
    };
    (refused.iter().map(number).collect(), posted.iter().map(|reply| (number(reply), text(reply))).collect())
}

/// A record of a recharge with this description.
fn record(order: usize, description: &str) -> String {
    format!("recharge,{USER},5,gift,{order},{description}")
}

const HEADER: &str = "op,user,points,source,order_id,description";

fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
    format!("\u{feff}{text}").encode_utf16().flat_map(bytes).collect()
}

#[test]
fn files_of_spreadsheets_are_taken() {
    let (_database, url) = database();
    let folder = Folder::new();
    let file = |lines: &[&str], end: &str| lines.iter().map(|line| format!("{line}{end}")).collect::<String>();
    let (a, b, tabbed) = (record(1, "积分"), record(2, "b"), record(3, "é\u{1f600}").replace(',', "\t"));
    let header_tabbed = HEADER.replace(',', "\t");
    let semicolons = |text: &str| text.replace(',', ";");
    let text = file(&[&header_tabbed, &tabbed], "\r\n");
    let quoted = format!("{HEADER}\r\n{}\r\n{b}\r\n", record(4, &format!("\"x, \"\"y\"\"\r\n{b}\n\rz\"")));
    let json = format!(
        "{{\"op\":\"consume\",\r\"user\":\"{USER}\",\r\"points\":1,\"source_type\":\"tts\",\"source_id\":\"é\"}}"
    );
    let blank_columns =
        [&format!("{HEADER},,"), &format!("{a},,"), ",,,,,,,", " , ", &format!("{b},,,,"), &record(5, "c")];
    for (name, bytes, args, expected) in [
        // A lone carriage return ends a record.
        (
            "mixed_cr.csv",
            include_bytes!("cases/mixed_cr.csv").to_vec(),
            &[][..],
            &[(2, "a"), (3, "b"), (4, "c"), (5, "d")][..],
        ),
        ("EXCEL.CSV", include_bytes!("cases/excel_semicolon.csv").to_vec(), &[], &[(2, "Müller"), (3, "a; b")]),
        ("header.csv", include_bytes!("cases/header_case.csv").to_vec(), &[], &[(2, "7006")]),
        ("blank_rows.csv", include_bytes!("cases/trailing_blank_rows.csv").to_vec(), &[], &[(2, "x")]),
        ("gbk.csv", include_bytes!("cases/gbk.csv").to_vec(), &["--encoding", "GBK"], &[(2, "充值送积分")]),
        ("a.csv", utf16(&text, u16::to_le_bytes), &[], &[(2, "é\u{1f600}")]),
        ("a.txt", utf16(&text, u16::to_be_bytes), &["--csv", "--encoding", "gbk"], &[(2, "é\u{1f600}")]),
        ("a.tsv", text.clone().into_bytes(), &["--delimiter", "tab"], &[(2, "é\u{1f600}")]),
        ("utf8.csv", format!("\u{feff}{HEADER}\n{a}\n").into_bytes(), &["--encoding", "gbk"], &[(2, "积分")]),
        ("sep.csv", format!("sep=;\r\n{}", semicolons(&file(&[HEADER, &b], "\r\n"))).into_bytes(), &[], &[(3, "b")]),
        (
            "sep2.csv",
            format!("SEP=^^^\n\n{}", file(&[HEADER, &b], "\n").replace(',', "^")).into_bytes(),
            &[],
            &[(4, "b")],
        ),
        (
            "quoted.csv",
            format!("\"op\";user;\"points\";source;order_id;description\n{}\n", semicolons(&b)).into_bytes(),
            &["--delimiter", ";"],
            &[(2, "b")],
        ),
        // The lines of the quoted text are no records, and they count.
        ("lines.csv", quoted.into_bytes(), &[], &[(2, &format!("x, \"y\"\n{b}\n\nz")), (6, "b")]),
        ("columns.csv", file(&blank_columns, "\r\n").into_bytes(), &[], &[(2, "积分"), (5, "b"), (6, "c")]),
        // Within JSON a carriage return is white space.
        ("cr.ndjson", format!("{json}\r\r\n").into_bytes(), &[], &[(1, "é")]),
        ("utf16.ndjson", utf16(&format!("{json}\r\n"), u16::to_le_bytes), &[], &[(1, "é")]),
    ] {
        let file = folder.file(name, bytes);
        let found = outcomes(&call(&url, &[&["post", &file, "--json"], args].concat()).expect(0));
        let expected = expected.iter().map(|(line, text)| (*line, (*text).to_owned())).collect();
        assert_eq!(found, (vec![], expected), "{name}");
    }
    // A file of an old Mac. The rows that are known under their order replay.
    let records: Vec<String> = (1..=1_000).map(|order| record(order, "x")).collect();
    let text = format!("{HEADER}\r{}\r", records.join("\r"));
    let replies = post_csv(&url, text).expect(0).jsons();
    assert_eq!(
        replies.iter().map(|reply| reply["line"].as_u64().unwrap()).collect::<Vec<_>>(),
        (2..=1_001).collect::<Vec<_>>()
    );
}

#[test]
fn what_a_spreadsheet_spoiled_is_refused_with_the_remedy() {
    let (_database, url) = database();
    let folder = Folder::new();
    let gbk = folder.file("gbk.csv", include_bytes!("cases/gbk.csv"));
    let done = call(&url, &["post", &gbk]).expect(3);
    assert!(done.stdout.starts_with("line 2: rejected (malformed): byte 60 is not valid UTF-8; "), "{}", done.stdout);
    assert!(done.stdout.contains("--encoding gbk"), "{}", done.stdout);
    for (args, says) in [
        (&["post", &gbk, "--encoding", "utf-99"][..], "there is no such encoding; there are gbk, "),
        (&["post", &gbk, "--delimiter", "ab"], "write one character such as ; or the word tab"),
        (&["post", &gbk, "--delimiter", "x"], "write one character such as ;"),
        (&["post", "-", "--delimiter", ";"], "--delimiter is for CSV; add --csv"),
        (&["enqueue", "-", "--delimiter", ";"], "--delimiter is for CSV; add --csv"),
    ] {
        let done = call(&url, args).expect(2);
        assert!(done.stderr.contains(says), "{args:?}: {}", done.stderr);
    }
    // A byte that is none of the encoding spoils its own line.
    let mut bytes = format!("{HEADER}\n{}\n", record(1, "a")).into_bytes();
    bytes.extend(record(2, "b ").into_bytes());
    bytes.extend(b"\xd6\xff\n");
    bytes.extend(format!("{}\n{},x\n", record(3, "c"), record(4, "d")).into_bytes());
    let done = feed(on(&url, &["post", "-", "--csv", "--json", "--encoding", "gbk"]), bytes).expect(3);
    assert_eq!(outcomes(&done), (vec![3, 5], vec![(2, "a".to_owned()), (4, "c".to_owned())]));
    assert!(done.stdout.contains("character 58 is not valid GBK; is --encoding right?"), "{}", done.stdout);
    assert!(done.stdout.contains("it has 7 fields, the header 6"), "{}", done.stdout);
    let unnamed = format!("{HEADER},\n{},x\n", record(5, "e"));
    let done = post_csv(&url, unnamed).expect(3);
    assert!(done.stdout.contains("field 7 has a value, but the header names no such column"), "{}", done.stdout);
}

/// A line that may stand within quoted text is never posted, whatever it looks like.
#[test]
fn each_line_of_a_broken_quote_is_refused() {
    let (_database, url) = database();
    let good = |order| record(order, "x");
    let file = |lines: &[String]| format!("{HEADER}\n{}\n", lines.join("\n"));
    let refused = |text: String| {
        let done = post_csv(&url, text).expect(3);
        let said: Vec<String> =
            done.jsons().iter().filter_map(|reply| Some(reply["message"].as_str()?.to_owned())).collect();
        let (refused, posted) = outcomes(&done);
        (refused, posted.into_iter().map(|(line, _)| line).collect::<Vec<_>>(), said)
    };
    // The next quote closes the first, and text follows.
    let lines = [good(1), record(2, "\"5 inch"), good(3), record(4, "\"a, b\""), good(5)];
    let (lines, posted, said) = refused(file(&lines));
    assert_eq!((lines, posted), (vec![3, 4, 5], vec![2, 6]));
    assert!(said.iter().all(|said| said.starts_with("text follows a closing quote")), "{said:?}");
    // None follows: first within the lines of one record, then for longer than that.
    let (lines, posted, said) = refused(file(&[good(1), record(2, "\"x"), good(3)]));
    assert_eq!((lines, posted), (vec![3, 4], vec![2]));
    assert!(
        said.iter().all(|said| said == "the quoted text that line 3 opens does not end; close the quote"),
        "{said:?}"
    );
    let many: Vec<String> = (1..=3_000).map(|order| if order == 2 { record(2, "\"x") } else { good(order) }).collect();
    let (lines, posted, said) = refused(file(&many) + "\"\n" + &good(1) + "\n");
    assert_eq!((lines, posted), ((3..=3_002).collect(), vec![2, 3_003]));
    assert_eq!(said[1_500], "it belongs to the quoted text that line 3 opens");
    // A line that is too long opens a quote at its end.
    let long = record(2, &format!("{},\"", "y".repeat(2 << 20)));
    let (lines, posted, _) = refused(file(&[good(1), long, good(3), "\"".to_owned(), good(4)]));
    assert_eq!((lines, posted), (vec![3, 4, 5], vec![2, 6]));
}

#[test]
fn a_slow_producer_of_csv_has_each_reply_before_it_writes_the_next_line() {
    let (_database, url) = database();
    let mut running = Running::start(on(&url, &["post", "-", "--csv", "--json"]));
    running.write(&format!("{HEADER}\r"));
    for (line, end) in [(2, "\n"), (3, "\r\n"), (4, "\r"), (5, "\n"), (6, "\r\n")] {
        running.write(&(record(line, "x") + end));
        assert!(running.next_line().unwrap().starts_with(&format!("{{\"line\":{line},\"status\":\"posted\"")));
    }
    // A record whose quoted text is not whole yet holds up none before it.
    running.write(&format!("{}\n{}\n", record(7, "x"), record(8, "\"one")));
    assert!(running.next_line().unwrap().starts_with("{\"line\":7,"));
    running.write("two\"\n");
    assert!(running.next_line().unwrap().contains("\"description\":\"one\\ntwo\""));
    assert_eq!(running.finish().expect(0).stdout, "");
}

#[test]
fn a_line_of_a_hundred_megabytes_is_refused_in_little_memory() {
    for format in [&["post", "-", "--json"][..], &["post", "-", "--csv", "--json"]] {
        let csv = format.contains(&"--csv");
        let (_database, url) = database();
        let mut running = Running::start(on(&url, format));
        let mut line = 0;
        let good = |nth: u32| match csv {
            true => format!("consume,{USER},1,tts,good {nth}\n"),
            false => good(nth) + "\n",
        };
        if csv {
            running.write("op,user,points,source_type,source_id\n");
            line += 1;
        }
        // An object that never ends, then one that is all one text; each followed by a line that posts.
        for (start, nth) in [("{\"op\":[", 1), (if csv { "x\"" } else { "\"" }, 2)] {
            running.write(start);
            let mut stdin = running.stdin.take().unwrap();
            for _ in 0..100 {
                stdin.write_all(&[b'7'; 1 << 20]).unwrap();
            }
            running.stdin = Some(stdin);
            running.write("\n");
            running.write(&good(nth));
            let reply: serde_json::Value = serde_json::from_str(&running.next_line().unwrap()).unwrap();
            line += 1;
            assert_eq!((&reply["line"], &reply["code"]), (&json!(line), &json!("malformed")));
            assert_eq!(reply["message"], "the line is longer than 1048576 bytes");
            let reply: serde_json::Value = serde_json::from_str(&running.next_line().unwrap()).unwrap();
            line += 1;
            assert_eq!((&reply["line"], &reply["seq"]), (&json!(line), &json!(nth)), "{reply}");
        }
        let peak = running.peak_memory();
        assert!(peak < MOST_MEMORY, "{format:?} took {} MiB", peak >> 20);
        running.finish().expect(3);
    }
}

#[test]
fn many_bad_lines_are_refused_in_little_memory() {
    const LINES: usize = 150_000;
    let (_database, url) = database();
    let mut running = Running::start(on(&url, &["post", "-", "--json"]));
    let mut stdin = running.stdin.take().unwrap();
    // The input stays open until the memory was looked at.
    let feeder = std::thread::spawn(move || {
        for _ in 0..LINES / 1_000 {
            stdin.write_all("{\"op\":\"consume\",\"points\":\n".repeat(1_000).as_bytes())?;
        }
        Ok::<_, std::io::Error>(stdin)
    });
    for nth in 1..=LINES {
        let reply = running.next_line().unwrap();
        let start = format!("{{\"line\":{nth},\"status\":\"rejected\",\"code\":\"malformed\",");
        assert!(reply.starts_with(&start), "{nth}: {reply}");
    }
    let stdin = feeder.join().unwrap().unwrap();
    let peak = running.peak_memory();
    assert!(peak < MOST_MEMORY, "it took {} MiB", peak >> 20);
    drop(stdin);
    running.finish().expect(3);
    assert_eq!(call(&url, &["export", "accounts", "--json"]).expect(0).stdout, "", "nothing was posted");
}

#[test]
fn long_descriptions_do_not_add_up_in_memory() {
    // The longest lines that post, four bytes a character.
    const LINES: usize = 20_000;
    let description = "\u{1f600}".repeat(1_000);
    let (_database, url) = database();
    let mut running = Running::start(on(&url, &["post", "-", "--json"]));
    let mut stdin = running.stdin.take().unwrap();
    let feeder = std::thread::spawn(move || {
        for nth in 0..LINES {
            let line = good(nth);
            writeln!(stdin, "{},\"description\":\"{description}\"}}", &line[..line.len() - 1])?;
        }
        Ok::<_, std::io::Error>(stdin)
    });
    for nth in 1..=LINES {
        let reply = running.next_line().unwrap();
        assert!(reply.starts_with(&format!("{{\"line\":{nth},\"status\":\"posted\",")), "{nth}: {reply}");
    }
    let stdin = feeder.join().unwrap().unwrap();
    let peak = running.peak_memory();
    // It takes 50 MB, on a busy machine up to 70, and 140 where no bytes end a group.
    assert!(peak < 3 * MOST_MEMORY / 2, "it took {} MiB", peak >> 20);
    drop(stdin);
    running.finish().expect(0);
}

#[test]
fn long_replies_do_not_add_up_in_memory() {
    const ACCOUNTS: usize = 8;
    // Of each account, of a point each; one consume draws them all.
    const BATCHES: usize = 1_000;
    const LINES: usize = 6_000;
    let (_database, url) = database();
    let posting = |op: &str, nth: usize, fields: String| {
        let user = nth % ACCOUNTS + 1;
        format!(r#"{{"op":"{op}","user":"{user:032}",{fields}}}"#) + "\n"
    };
    let recharge = |nth| posting("recharge", nth, format!(r#""points":1,"source":"gift","order_id":{nth}"#));
    post(&url, (0..ACCOUNTS * BATCHES).map(recharge).collect::<String>()).expect(0);
    let line = move |nth| {
        let fields = format!(r#""points":{BATCHES},"source_type":"tts","source_id":"all""#);
        posting("consume", nth, fields)
    };
    let first = post(&url, (0..ACCOUNTS).map(line).collect::<String>()).expect(0).stdout;
    assert_eq!(first.matches("\"batch\":1000,").count(), ACCOUNTS, "{first:.500}");
    // The lines of an account are posted together, and no reply can be written before the last account has its turn.
    let mut running = Running::start(on(&url, &["post", "-", "--json"]));
    let mut stdin = running.stdin.take().unwrap();
    let feeder = std::thread::spawn(move || {
        stdin.write_all((0..LINES).map(line).collect::<String>().as_bytes())?;
        Ok::<_, std::io::Error>(stdin)
    });
    for nth in 1..=LINES {
        let reply = running.next_line().unwrap();
        assert!(reply.starts_with(&format!("{{\"line\":{nth},\"status\":\"replayed\",")), "{nth}: {reply:.100}");
    }
    let stdin = feeder.join().unwrap().unwrap();
    let peak = running.peak_memory();
    // The replies together have 170 MB, 33 of which may wait.
    assert!(peak < 3 * MOST_MEMORY / 2, "it took {} MiB", peak >> 20);
    drop(stdin);
    running.finish().expect(0);
}

#[test]
fn a_slow_producer_has_each_reply_before_it_writes_the_next_line() {
    let (_database, url) = database();
    let mut running = Running::start(on(&url, &["post", "-", "--json"]));
    for nth in 1..=50 {
        running.write(&(good(nth) + "\n"));
        let reply: serde_json::Value = serde_json::from_str(&running.next_line().unwrap()).unwrap();
        assert_eq!((&reply["line"], &reply["seq"]), (&json!(nth), &json!(nth)));
    }
    // A line in two pieces is one line.
    let line = good(51) + "\n";
    let (start, end) = line.split_at(40);
    running.write(&(good("half") + "\n" + start));
    assert!(running.next_line().unwrap().starts_with("{\"line\":51,\"status\":\"posted\""));
    running.write(end);
    assert!(running.next_line().unwrap().starts_with("{\"line\":52,\"status\":\"posted\""));
    assert_eq!(running.finish().expect(0).stdout, "");
}

#[test]
fn a_producer_that_writes_ahead_has_all_its_replies() {
    let (database, url) = database();
    wait(async {
        call(&url, &["recharge", USER, "1", "--source", "gift"]).expect(0);
        let client = database.client().await;
        client.batch_execute("BEGIN; SELECT FROM pointsd.accounts FOR UPDATE").await.unwrap();
        let mut running = Running::start(on(&url, &["post", "-", "--json"]));
        running.write(&(good(1) + "\n"));
        let waits = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'transactionid'";
        let other = database.client().await;
        while other.query_opt(waits, &[]).await.unwrap().is_none() {}
        // While line 1 waits for the account's lock, the others come one by one, and then nothing more.
        for nth in 2..=30 {
            running.write(&(good(nth) + "\n"));
            // Not a wait: the lines arrive one by one, and the test holds also if they arrive together.
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        client.batch_execute("COMMIT").await.unwrap();
        for nth in 1..=30 {
            let reply = running.next_line().unwrap();
            assert!(reply.starts_with(&format!("{{\"line\":{nth},\"status\":\"posted\",")), "{nth}: {reply}");
        }
        running.finish().expect(0);
    });
}

#[test]
fn replies_come_in_the_order_of_the_lines() {
    const LINES: u128 = 9_000;
    let (_database, url) = database();
    // Over many accounts and so over all lanes; some lines refused by the ledger, some before.
    let lines: String = (0..LINES)
        .map(|nth| {
            let user = uuid::Uuid::from_u128(nth % 97);
            match nth % 50 {
                7 => "broken\n".to_owned(),
                8 => good(nth).replace(USER, &user.to_string()).replace("\"points\":1", "\"points\":0") + "\n",
                9 => "\n".to_owned(),
                _ => good(nth).replace(USER, &user.to_string()) + "\n",
            }
        })
        .collect();
    let folder = Folder::new();
    let file = folder.file("lines.ndjson", &lines);
    for (done, status) in [(call(&url, &["post", &file, "--json"]), "posted"), (post(&url, &lines), "replayed")] {
        let mut replies = done.expect(3).jsons().into_iter();
        for nth in (0..LINES).filter(|nth| nth % 50 != 9) {
            let reply = replies.next().unwrap();
            assert_eq!(reply["line"].as_u64().map(u128::from), Some(nth + 1));
            match nth % 50 {
                7 => assert_eq!(reply["code"], "malformed", "{reply}"),
                8 => assert_eq!(reply["code"], "invalid_points", "{reply}"),
                _ => {
                    assert_eq!(reply["status"], status, "{reply}");
                    assert_eq!(reply["source_id"], format!("good {nth}"), "{reply}");
                    assert_eq!(reply["user"], uuid::Uuid::from_u128(nth % 97).to_string(), "{reply}");
                }
            }
        }
        assert!(replies.next().is_none());
    }
}

#[test]
fn a_csv_file_has_all_operations() {
    let (_database, url) = database();
    let text = format!(
        "op,user,points,source,source_type,source_id,of,beyond,key,until,expires_at,at\n\
         recharge,{USER},100,gift,,,,,a,,2026-02-01T00:00:00Z,2026-01-01T00:00:00Z\n\
         hold,{USER},60,,tts,t1,,,,2026-01-03T00:00:00Z,,2026-01-02T00:00:00Z\n\
         hold,{USER},10,,tts,t2,,,h,2026-01-03T00:00:00Z,,2026-01-02T00:00:00Z\n\
         hold,{USER},50,,tts,t3,,,,2026-01-03T00:00:00Z,,2026-01-02T00:00:00Z\n\
         release,{USER},,,,,h,,,,,2026-01-02T00:00:00Z\n\
         consume,{USER},70,,tts,t1,,,,,,2026-01-04T00:00:00Z\n\
         refund,{USER},,,tts,t1,,,,,,2026-01-04T00:00:00Z\n\
         void,{USER},10,,,,a,remaining,,,,2026-01-05T00:00:00Z\n\
         void,{USER},,,,,a,all,,,,2026-01-05T00:00:00Z\n"
    );
    let replies = post_csv(&url, &text).expect(3).jsons();
    let found: Vec<_> =
        replies.iter().map(|reply| (reply["status"].as_str().unwrap(), reply["code"].as_str())).collect();
    let (posted, held, released) = (("posted", None), ("held", None), ("released", None));
    let refused = |code| ("rejected", Some(code));
    let expected =
        [posted, held, held, refused("insufficient"), released, posted, posted, posted, refused("malformed")];
    assert_eq!(found, expected);
    // The consume captured the hold, so it is dated back to it.
    assert_eq!((&replies[5]["at"], &replies[6]["amount"]), (&json!("2026-01-02T00:00:00Z"), &json!(70)));
    let (_other, url) = database();
    let summary = feed(on(&url, &["post", "-", "--csv"]), text).expect(3).stdout;
    let lines: Vec<_> = summary.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for line in ["posted 4", "held 2", "released 1", "replayed 0", "rejected: insufficient 1", "rejected: malformed 1"]
    {
        assert!(lines.iter().any(|shown| shown == line), "no line {line}: {summary}");
    }
}

/// A price comes in by the command line, as NDJSON, as CSV and as a request, and goes out with the entry and the batch.
#[test]
fn a_price_in_every_way() {
    let (_database, url) = database();
    let user = ["--source", "card", "--paid", "1999", "--currency", "CNY", "--key", "a"];
    let told = call(&url, &[&["recharge", USER, "7"], &user[..]].concat()).expect(0).stdout;
    assert!(told.contains("price    19.99 CNY\n"), "{told}");
    call(&url, &["recharge", USER, "7", "--source", "card", "--paid", "1999"]).expect(2);
    let line = |key: &str| json!({"op": "recharge", "user": USER, "points": 3, "source": "card", "key": key, "paid": 500, "currency": "JPY"});
    let posted = feed(on(&url, &["post", "-", "--json"]), format!("{}\n", line("b"))).expect(0).json();
    assert_eq!((&posted["paid"], &posted["currency"]), (&json!(500), &json!("JPY")));
    let csv = format!(
        "op,user,points,source,key,paid,currency\nrecharge,{USER},1,card,c,0,KWD\nrecharge,{USER},1,card,d,,\n"
    );
    feed(on(&url, &["post", "-", "--csv"]), csv).expect(0);
    feed(on(&url, &["enqueue", "-"]), format!("{}\n", line("e"))).expect(0);
    let request = call(&url, &["requests", "--json"]).expect(0).json()["requests"][0].clone();
    assert_eq!((&request["paid"], &request["currency"]), (&json!(500), &json!("JPY")));
    let voided = call(&url, &["void", USER, "3", "--of", "a", "--json"]).expect(0).json();
    // 3 of 7 points; what the batch released has its place with each allocation.
    assert_eq!((&voided["paid"], &voided["allocations"][0]["paid"]), (&json!(856), &json!(856)), "{voided}");
    let batches = call(&url, &["export", "batches", "--csv"]).expect(0).stdout;
    let ends: Vec<String> =
        batches.lines().skip(1).map(|line| line.split(',').skip(8).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(ends, ["1999 CNY", "500 JPY", "0 KWD", " "]);
    let entries = call(&url, &["export", "entries", "--csv"]).expect(0).stdout;
    assert!(entries.lines().last().unwrap().ends_with(",,856,CNY,1:856"), "{entries}");
}
