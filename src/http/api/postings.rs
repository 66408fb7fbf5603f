//! `POST /v1/postings`: one posting, an array of them, or a stream of lines.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::{Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::Utc;
use futures_util::{StreamExt, stream};
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::super::auth::MayPost;
use super::super::{BODY_UNIT, Problem, STREAMS, Server};
use super::input::bad_params;
use crate::access::Holder;
use crate::bulk::{self, Encoding, Form, Format, LineReply, ReplyJson, Summary};
use crate::fields::PostingFields;
use crate::ledger::{KeyHolder, Posting, Refusal, Reply};

/// The largest JSON body, in bytes. Streams have no limit.
const LARGEST_BODY: usize = 8 << 20;

/// Postings in an array at most.
const LONGEST_ARRAY: usize = 10_000;

/// How much of a larger body is read, in bytes, and for how long.
const MOST_DISCARDED: usize = 8 * LARGEST_BODY;
const LONGEST_DISCARD: std::time::Duration = std::time::Duration::from_secs(5);

/// How long a body or a stream may stand still.
const LONGEST_PAUSE: std::time::Duration = std::time::Duration::from_secs(60);

/// What to do after a stream that ended early.
const SEND_AGAIN: &str = "Send the same lines again: posted ones replay";

/// Frames of a stream that are received ahead; each has some ten kilobytes.
const FRAMES_AHEAD: usize = 64;

/// Pieces of replies that wait for the client to read them; each is some 64 KiB long.
const PIECES_WAITING: usize = 2;

/// Which replies a stream is to have.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
enum Replies {
    /// A line for each line. Read them while you send: a stream whose replies are not read stands still.
    #[default]
    All,
    /// A line for each rejected line, and a last one with the counts: for a client that reads only after it has sent everything.
    Rejected,
}

/// How a call wants to be answered.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Options {
    /// Of a stream: `all`, or `rejected` and a last line with the counts.
    #[serde(default)]
    #[param(inline)]
    replies: Replies,
}

/// Posts one posting, an array of them, or a stream of lines.
///
/// A posting that was sent before, under the same key, is answered as it was then, with the status `replayed`.
///
/// - `application/json` with an object: one posting. `Idempotency-Key` is its key where it has none.
/// - `application/json` with an array of at most 10,000: the replies come as an array, each with its own status.
/// - `application/x-ndjson`: a posting a line, without limit; a reply a line comes while the call is still being sent.
/// - `text/csv`: the same with a header of field names; `charset` names the encoding.
///
/// A stream that ends early ends with a line that is a problem. Send it again from its start: posted lines replay.
#[utoipa::path(
    post, path = "/v1/postings", tag = "postings", operation_id = "post_postings",
    params(Options, ("Idempotency-Key" = Option<String>, Header, description = "The key of a single posting that has none")),
    request_body(content(
        (Postings = "application/json"),
        (String = "application/x-ndjson"),
        (String = "text/csv"),
    )),
    responses(
        (status = 200, description = "Posted now or before; of an array or a stream a reply for each", content(
            (Answers = "application/json"), (String = "application/x-ndjson"))),
        (status = 400, description = "Malformed", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "No token, or a wrong one", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The token has not the scope", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The key belongs to another posting; `stored` is what has it", body = Problem,
            content_type = "application/problem+json"),
        (status = 413, description = "Too large for one call", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Another media type", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Refused by the rules of the ledger; `code` says which", body = Problem,
            content_type = "application/problem+json"),
        (status = 429, description = "Too many wrong tokens", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Overloaded, or the database is away; send it again after Retry-After seconds", body = Problem,
            content_type = "application/problem+json"),
    ),
    security(("token" = ["post"]))
)]
pub(super) async fn post(
    State(server): State<Server>,
    MayPost(holder): MayPost,
    request: Request,
) -> Result<Response, Problem> {
    let (Parts { uri, headers, .. }, body) = request.into_parts();
    let Query::<Options>(options) = Query::try_from_uri(&uri).map_err(|error| bad_params(&error))?;
    let content_type =
        headers.get(header::CONTENT_TYPE).map_or("application/json", |value| value.to_str().unwrap_or_default());
    let (media, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    let media = media.trim().to_ascii_lowercase();
    let key = idempotency_key(&headers)?;
    let format = match media.as_str() {
        "application/json" => return json(&server, &headers, key, body).await,
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Format::Ndjson,
        "text/csv" => Format::Csv { delimiter: None },
        _ => {
            let detail = "send application/json, application/x-ndjson or text/csv";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type", detail));
        }
    };
    if key.is_some() {
        let detail = "Idempotency-Key is for a single posting; give each line a key of its own";
        return Err(Problem::bad_request(detail));
    }
    let form = Form { encoding: encoding(parameters)?, ..Form::from(format) };
    lines(&server, holder, form, options.replies, body)
}

/// A posting, or an array of them.
#[derive(utoipa::ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "it only describes what `json` reads by hand, so that one bad posting spoils no other")]
pub(super) enum Postings {
    One(Box<PostingFields>),
    Several(Vec<PostingFields>),
}

/// The reply to a posting, or the replies to an array.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(untagged)]
pub(super) enum Answers<'a> {
    One(ReplyJson<'a>),
    Several(Vec<ReplyJson<'a>>),
}

/// The key that the call names for its posting.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    match std::str::from_utf8(value.as_bytes()) {
        Ok(key) if !key.is_empty() => Ok(Some(key.to_owned())),
        _ => Err(Problem::bad_request("Idempotency-Key is empty or no UTF-8")),
    }
}

/// The encoding of CSV, from the parameters of the media type.
fn encoding(parameters: &str) -> Result<Option<&'static Encoding>, Problem> {
    let named = parameters.split(';').filter_map(|parameter| parameter.split_once('='));
    let charset = named.filter(|(name, _)| name.trim().eq_ignore_ascii_case("charset")).map(|(_, value)| value).next();
    let Some(charset) = charset.map(|value| value.trim().trim_matches('"')) else { return Ok(None) };
    let found = Encoding::for_label_no_replacement(charset.as_bytes());
    found.map(Some).ok_or_else(|| Problem::bad_request(format!("there is no encoding {charset}; send UTF-8")))
}

/// Posts what a JSON body has.
async fn json(server: &Server, headers: &HeaderMap, key: Option<String>, body: Body) -> Result<Response, Problem> {
    let (body, _room) = read(server, headers, body).await?;
    if body.trim_ascii_start().starts_with(b"[") {
        if key.is_some() {
            let detail = "Idempotency-Key is for a single posting; give each posting of the array a key of its own";
            return Err(Problem::bad_request(detail));
        }
        return several(server, &body).await;
    }
    let posting = bulk::parse_json(&body, key, Utc::now).map_err(Problem::bad_request)?;
    let user = posting.user;
    let reply = server.poster()?.post(posting).await.map_err(|error| Problem::from(&*error))?;
    match &reply {
        Reply::Rejected(refusal) => Err(refused(refusal).with("user", user)),
        _ => Ok(Json(Answers::One(ReplyJson::new(None, Some(user), &reply))).into_response()),
    }
}

fn refused(refusal: &Refusal) -> Problem {
    let status = match refusal {
        Refusal::Malformed(_) => StatusCode::BAD_REQUEST,
        Refusal::KeyConflict { .. } => StatusCode::CONFLICT,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    };
    let problem = Problem::new(status, refusal.code(), refusal.to_string());
    match refusal {
        Refusal::KeyConflict { holder: KeyHolder::Entry { seq, kind, amount, source_type }, .. } => problem.with(
            "stored",
            serde_json::json!({ "seq": seq, "type": kind, "amount": amount, "source_type": source_type }),
        ),
        Refusal::KeyConflict { holder: KeyHolder::AnotherService { kind, amount, .. }, .. } => {
            problem.with("stored", serde_json::json!({ "seq": 0, "type": kind, "amount": amount }))
        }
        Refusal::KeyConflict { holder: KeyHolder::Hold { points, state }, .. } => {
            problem.with("stored", serde_json::json!({ "type": "hold", "points": points, "state": state }))
        }
        _ => problem,
    }
}

/// The items of an array. Those too many are counted only: millions of tiny ones need more memory than their text.
#[derive(Default)]
struct Items<'a> {
    first: Vec<&'a RawValue>,
    count: usize,
}

impl<'de> Deserialize<'de> for Items<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Items<'de>, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Items<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Items<'de>, A::Error> {
                let mut items = Items::default();
                while items.count < LONGEST_ARRAY
                    && let Some(item) = array.next_element()?
                {
                    items.first.push(item);
                    items.count += 1;
                }
                while array.next_element::<IgnoredAny>()?.is_some() {
                    items.count += 1;
                }
                Ok(items)
            }
        }

        deserializer.deserialize_seq(Reader)
    }
}

/// Posts an array. A malformed posting is rejected, and the others are posted.
async fn several(server: &Server, body: &[u8]) -> Result<Response, Problem> {
    let Items { first: items, count } = serde_json::from_slice(body)
        .map_err(|error| Problem::bad_request(format!("the body is no JSON array of postings: {error}")))?;
    if count > LONGEST_ARRAY {
        let detail = format!("the array has {count} postings; send at most {LONGEST_ARRAY}, or a stream of lines");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail));
    }
    let parsed: Vec<Result<Posting, String>> =
        items.iter().map(|item| bulk::parse_json(item.get().as_bytes(), None, Utc::now)).collect();
    let postings: Vec<Posting> = parsed.iter().filter_map(|posting| posting.as_ref().ok().cloned()).collect();
    let feed = server.poster()?.feed();
    let pending = feed.hand_over(postings).await.map_err(|error| Problem::from(&*error))?;
    let mut replies = pending.replies().await.map_err(|error| Problem::from(&*error))?.into_iter();
    let answers: Vec<(Option<Uuid>, Reply)> = parsed
        .into_iter()
        .filter_map(|posting| match posting {
            Ok(posting) => replies.next().map(|reply| (Some(posting.user), reply)),
            Err(why) => Some((None, Reply::Rejected(Refusal::Malformed(why)))),
        })
        .collect();
    let lines = answers.iter().zip(1..).map(|((user, reply), line)| ReplyJson::new(Some(line), *user, reply));
    Ok(Json(Answers::Several(lines.collect())).into_response())
}

/// Reads a body. Room in memory is taken as its bytes come, so that a slow client keeps none from others.
async fn read(server: &Server, headers: &HeaderMap, body: Body) -> Result<(Vec<u8>, OwnedSemaphorePermit), Problem> {
    let too_large = || {
        let detail =
            format!("the body is larger than {LARGEST_BODY} bytes; send a stream of lines, which has no limit");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
    };
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    let mut frames = body.into_data_stream();
    if length.is_some_and(|length| length > LARGEST_BODY) {
        discard(frames).await;
        return Err(too_large());
    }
    let mut room = server.room(1)?;
    let mut bytes = Vec::new();
    while let Some(frame) = frames.next().await {
        let frame = frame.map_err(|_| match server.is_stopping() {
            true => Problem::unavailable("stopping", "the daemon is stopping; send the call again"),
            false => Problem::bad_request("the body was cut off"),
        })?;
        let length = bytes.len() + frame.len();
        if length > LARGEST_BODY {
            drop((bytes, room));
            discard(frames).await;
            return Err(too_large());
        }
        let more = length.div_ceil(BODY_UNIT).saturating_sub(room.num_permits());
        if more > 0 {
            room.merge(server.room(more)?);
        }
        bytes.extend_from_slice(&frame);
    }
    Ok((bytes, room))
}

/// Reads some of a body that is too large: most clients read no answer before they have sent all.
async fn discard(mut frames: BodyDataStream) {
    let mut left = MOST_DISCARDED;
    let reading = async {
        while let Some(Ok(frame)) = frames.next().await
            && left > frame.len()
        {
            left -= frame.len();
        }
    };
    let _ = tokio::time::timeout(LONGEST_DISCARD, reading).await;
}

/// Posts a stream of lines, and answers while it is read.
fn lines(server: &Server, holder: Holder, form: Form, wanted: Replies, body: Body) -> Result<Response, Problem> {
    let poster = server.poster()?;
    let place = Arc::clone(&server.0.streams).try_acquire_owned();
    let place =
        place.map_err(|_| Problem::unavailable("overloaded", "too many streams are under way; send it again later"))?;
    // A stream alone sorts as many lines as a file. Several share them, because the lines and replies of each are held in memory.
    let under_way = STREAMS.saturating_sub(server.0.streams.available_permits()).max(1);
    let form = Form { sorted: form.sorted / under_way, ..form };
    let (sender, pieces) = mpsc::channel::<Bytes>(PIECES_WAITING);
    // Without it the task that reads would wait for a client that sends no more, and with it the connection.
    let ended = CancellationToken::new();
    let input = Input::start(body, ended.clone());
    let (server, stop) = (server.clone(), server.stop().child_token());
    let posting = tokio::spawn(async move {
        let _place = place;
        let _ended = ended.drop_guard();
        let write = |reply: LineReply, out: &mut Vec<u8>| {
            if wanted == Replies::All || reply.reply.refusal().is_some() {
                write_line(out, &ReplyJson::new(Some(reply.line), reply.user, &reply.reply));
            }
        };
        let on_replies = |piece| send(sender.clone(), piece);
        let posted = bulk::post(input, form, &poster, Utc::now, &stop, write, on_replies);
        let watch = async {
            server.until_invalid(&holder).await;
            stop.cancel();
            // The lines under way are still answered.
            std::future::pending::<Infallible>().await
        };
        let posted = tokio::select! {
            posted = posted => posted,
            never = watch => match never {},
        };
        let mut last = Vec::new();
        match posted {
            Ok(summary) if summary.stopped => {
                write_line(&mut last, &stopped(&server, &holder).with("line", summary.last_line));
            }
            Ok(summary) if wanted == Replies::Rejected => write_line(&mut last, &Counts::from(summary)),
            Ok(_) => {}
            Err(bulk::Error::Output { source, .. }) => return Err(source),
            Err(error) => write_line(&mut last, &early_end(&error)),
        }
        send(sender, last).await
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body_of(pieces, posting)).into_response())
}

/// The pieces of replies as a body. It breaks off if the task that sends them failed: one that ends is taken for whole.
fn body_of(pieces: mpsc::Receiver<Bytes>, sending: JoinHandle<io::Result<()>>) -> Body {
    let pieces = stream::unfold(pieces, async |mut pieces| Some((Ok(pieces.recv().await?), pieces)));
    let end = stream::once(sending)
        .filter_map(async |sent| sent.map_err(io::Error::other).and_then(|sent| sent).err().map(Err));
    Body::from_stream(pieces.chain(end))
}

/// Why a stream was stopped.
fn stopped(server: &Server, holder: &Holder) -> Problem {
    if server.stop().is_cancelled() {
        return Problem::unavailable("stopping", format!("the daemon is stopping. {SEND_AGAIN}"));
    }
    let detail = format!("the token {} has ended or was revoked: take another one. {SEND_AGAIN}", holder.name);
    Problem::new(StatusCode::UNAUTHORIZED, "wrong_token", detail)
}

/// Sends a piece of replies once the client has read those before.
async fn send(sender: mpsc::Sender<Bytes>, piece: Vec<u8>) -> io::Result<()> {
    if piece.is_empty() {
        return Ok(());
    }
    match tokio::time::timeout(LONGEST_PAUSE, sender.send(piece.into())).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(io::ErrorKind::BrokenPipe.into()),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the replies were not read")),
    }
}

/// The body of a stream. A read returns all that has come, so that as many lines as possible share a group.
struct Input {
    frames: mpsc::Receiver<io::Result<Bytes>>,
    frame: Bytes,
    failed: Option<io::Error>,
}

impl Input {
    /// Receives the body until `ended`, or until nothing comes for too long.
    fn start(body: Body, ended: CancellationToken) -> Input {
        let (sender, frames) = mpsc::channel(FRAMES_AHEAD);
        let mut body = body.into_data_stream();
        let receive = async move {
            loop {
                let frame = match tokio::time::timeout(LONGEST_PAUSE, body.next()).await {
                    Ok(None) => return,
                    Ok(Some(frame)) => frame.map_err(io::Error::other),
                    Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the lines stood still")),
                };
                let is_last = frame.is_err();
                if sender.send(frame).await.is_err() || is_last {
                    return;
                }
            }
        };
        tokio::spawn(async move { ended.run_until_cancelled(receive).await });
        Input { frames, frame: Bytes::new(), failed: None }
    }
}

impl io::Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
            if self.frame.is_empty() {
                let next = match self.failed.take() {
                    Some(error) => Some(Err(error)),
                    None if filled == 0 => self.frames.blocking_recv(),
                    None => self.frames.try_recv().ok(),
                };
                match next {
                    Some(Ok(frame)) => self.frame = frame,
                    Some(Err(error)) if filled == 0 => return Err(error),
                    Some(Err(error)) => {
                        self.failed = Some(error);
                        break;
                    }
                    None => break,
                }
            }
            let part = self.frame.split_to(room.len().min(self.frame.len()));
            if let Some(room) = room.get_mut(..part.len()) {
                room.copy_from_slice(&part);
            }
            filled += part.len();
        }
        Ok(filled)
    }
}

fn write_line(out: &mut Vec<u8>, value: &impl Serialize) {
    // Neither the values nor the buffer can fail.
    let _ = serde_json::to_writer(&mut *out, value);
    out.push(b'\n');
}

/// Why a stream ended before its last line.
fn early_end(error: &bulk::Error) -> Problem {
    match error {
        bulk::Error::Header { .. } => Problem::bad_request(error.to_string()),
        bulk::Error::Input { after, source } => {
            Problem::bad_request(format!("{error}: {source}. {SEND_AGAIN}")).with("line", after)
        }
        bulk::Error::Ledger { through, source } => Problem::from(&**source).with("line", through),
        bulk::Error::Output { .. } => Problem::internal(error),
    }
}

/// The last line of a stream of which only the rejected lines were wanted.
#[derive(Serialize)]
struct Counts {
    status: &'static str,
    lines: u64,
    posted: u64,
    held: u64,
    released: u64,
    replayed: u64,
    rejected: BTreeMap<&'static str, u64>,
}

impl From<Summary> for Counts {
    fn from(summary: Summary) -> Counts {
        let lines = summary.lines();
        let Summary { posted, held, released, replayed, rejected, .. } = summary;
        Counts { status: "done", lines, posted, held, released, replayed, rejected }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    async fn read(body: Body) -> (Vec<u8>, bool) {
        let (mut text, mut whole) = (Vec::new(), true);
        let mut pieces = body.into_data_stream();
        while let Some(piece) = pieces.next().await {
            match piece {
                Ok(piece) => text.extend(piece),
                Err(_) => whole = false,
            }
        }
        (text, whole)
    }

    async fn two(sender: mpsc::Sender<Bytes>) -> io::Result<()> {
        send(sender.clone(), b"1\n".to_vec()).await?;
        send(sender, b"2\n".to_vec()).await
    }

    #[tokio::test(start_paused = true)]
    async fn replies_that_are_not_all_sent_do_not_look_whole() {
        let body = |work: &dyn Fn(mpsc::Sender<Bytes>) -> JoinHandle<io::Result<()>>| {
            let (sender, pieces) = mpsc::channel(1);
            body_of(pieces, work(sender))
        };
        assert_eq!(read(body(&|sender| tokio::spawn(two(sender)))).await, (b"1\n2\n".to_vec(), true));
        let slow = body(&|sender| tokio::spawn(two(sender)));
        tokio::time::sleep(2 * LONGEST_PAUSE).await;
        assert_eq!(read(slow).await, (b"1\n".to_vec(), false));
        let broken = body(&|sender| tokio::spawn(async move { panic!("{}", sender.capacity()) }));
        assert_eq!(read(broken).await, (Vec::new(), false));
    }
}
