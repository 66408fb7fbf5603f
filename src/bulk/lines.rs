//! Reads an input as lines of UTF-8, in bounded memory.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use encoding_rs::{Decoder, DecoderResult, Encoding, UTF_8};
use memchr::{memchr, memchr2};

/// The longest line, in bytes: several times the longest that can be posted.
pub const MAX_LINE: usize = 1 << 20;

/// Bytes to read at a time: about a group of postings.
const READ_AHEAD: usize = 256 << 10;

/// Bytes to decode at a time.
const DECODE_AHEAD: usize = 1 << 16;

/// Stands for what cannot be decoded. It is never part of UTF-8, so it spoils its own line.
const UNDECODABLE: u8 = 0xFF;

/// The byte order mark that some programs put first.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// The lines of an input.
pub struct Lines<R> {
    input: BufReader<R>,
    /// The encoding, if it is not UTF-8.
    pub encoding: Option<&'static Encoding>,
    /// Whether a carriage return ends a line, as in a CSV file of an old Mac. In JSON it is white space.
    cr_ends: bool,
    /// A carriage return was the last byte of the buffer; a line feed right behind it belongs to the same line end.
    skip_line_feed: bool,
    bytes: Vec<u8>,
    /// The last piece was the beginning of a line that is too long.
    within: bool,
    /// The number of the last line.
    pub number: u64,
}

/// A line without its end; or a part of a line that is longer than [`MAX_LINE`].
pub struct Piece<'a> {
    pub bytes: &'a [u8],
    /// The number of its line, from 1.
    pub number: u64,
    /// Whether it has a line end. If not, the input ends, or the line goes on.
    pub ended: bool,
    /// Whether the line is too long and may go on.
    pub long: bool,
    /// Whether it goes on with a line that is too long.
    pub continued: bool,
}

impl<'a> Lines<Box<dyn Read + 'a>> {
    /// Reads UTF-8, or what a byte order mark or `encoding` says.
    pub fn new(
        mut input: impl Read + 'a,
        encoding: Option<&'static Encoding>,
        cr_ends: bool,
    ) -> io::Result<Lines<Box<dyn Read + 'a>>> {
        // The mark of UTF-16 has two bytes. Others are not waited for: the first line may be short.
        let mut mark = Vec::new();
        input.by_ref().take(1).read_to_end(&mut mark)?;
        if matches!(mark.as_slice(), [0xFE | 0xFF]) {
            input.by_ref().take(1).read_to_end(&mut mark)?;
        }
        let marked = Encoding::for_bom(&mark).map(|(encoding, _)| encoding);
        let encoding = marked.or(encoding).filter(|encoding| *encoding != UTF_8);
        let input = Cursor::new(mark).chain(input);
        let input: Box<dyn Read + 'a> = match encoding {
            None => Box::new(input),
            Some(encoding) => Box::new(Decoded {
                input,
                decoder: encoding.new_decoder(),
                raw: vec![0; DECODE_AHEAD],
                left: 0..0,
                end: End::NotYet,
            }),
        };
        let input = BufReader::with_capacity(READ_AHEAD, input);
        let (bytes, number) = (Vec::new(), 0);
        Ok(Lines { input, encoding, cr_ends, skip_line_feed: false, bytes, within: false, number })
    }
}

impl<R: Read> Lines<R> {
    /// The next line or part of a line; none at the end of the input.
    pub fn next(&mut self) -> io::Result<Option<Piece<'_>>> {
        self.bytes.clear();
        let mut ended = false;
        while !ended && self.bytes.len() <= MAX_LINE {
            let buffer = match self.input.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                buffer => buffer?,
            };
            if std::mem::take(&mut self.skip_line_feed) && buffer.starts_with(b"\n") {
                self.input.consume(1);
                continue;
            }
            if buffer.is_empty() {
                break;
            }
            let most = MAX_LINE + 1 - self.bytes.len();
            let seen = buffer.get(..most).unwrap_or(buffer);
            let (line, end) = match find_end(seen, self.cr_ends) {
                Some(at) => seen.split_at(at),
                None => (seen, &[][..]),
            };
            self.bytes.extend_from_slice(line);
            ended = !end.is_empty();
            let cr = end.starts_with(b"\r");
            let read = line.len() + usize::from(ended);
            self.input.consume(read);
            if cr {
                // At once, so that what is left in the buffer are lines.
                match self.input.buffer() {
                    [b'\n', ..] => self.input.consume(1),
                    rest => self.skip_line_feed = rest.is_empty(),
                }
            }
        }
        if self.bytes.is_empty() && !ended {
            return Ok(None);
        }
        let long = self.bytes.len() > MAX_LINE;
        let continued = std::mem::replace(&mut self.within, long);
        if !continued {
            self.number += 1;
        }
        let mut bytes = self.bytes.as_slice();
        if self.number == 1 {
            bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
        }
        Ok(Some(Piece { bytes, number: self.number, ended, long, continued }))
    }

    /// Whether another line is in memory. If not, the next call may wait for the producer.
    pub fn has_next(&self) -> bool {
        find_end(self.input.buffer(), self.cr_ends).is_some()
    }
}

fn find_end(bytes: &[u8], cr_ends: bool) -> Option<usize> {
    if cr_ends { memchr2(b'\n', b'\r', bytes) } else { memchr(b'\n', bytes) }
}

/// Says why a line is no text, if so.
pub fn not_text(line: &[u8], encoding: Option<&'static Encoding>) -> Option<String> {
    let valid = std::str::from_utf8(line).err()?.valid_up_to();
    Some(match encoding {
        None => format!(
            "byte {} is not valid UTF-8; if the input has another encoding, name it, such as --encoding gbk",
            valid + 1
        ),
        Some(encoding) => {
            let before = line.get(..valid).and_then(|line| std::str::from_utf8(line).ok()).unwrap_or_default();
            let number = before.chars().count() + 1;
            format!("character {number} is not valid {}; is --encoding right?", encoding.name())
        }
    })
}

/// Decodes an input to UTF-8.
struct Decoded<R> {
    input: R,
    decoder: Decoder,
    raw: Vec<u8>,
    /// What of `raw` is not decoded yet.
    left: std::ops::Range<usize>,
    end: End,
}

#[derive(PartialEq)]
enum End {
    NotYet,
    OfInput,
    /// The decoder must not be called again.
    OfDecoder,
}

impl<R: Read> Read for Decoded<R> {
    /// `to` is the buffer of a `BufReader` and so has space for a character.
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let Some((_, space)) = to.split_last_mut() else { return Ok(0) };
        loop {
            if self.end == End::OfDecoder {
                return Ok(0);
            }
            if self.left.is_empty() && self.end == End::NotYet {
                let read = self.input.read(&mut self.raw)?;
                self.left = 0..read;
                self.end = if read == 0 { End::OfInput } else { End::NotYet };
            }
            let left = self.raw.get(self.left.clone()).unwrap_or_default();
            let last = self.end == End::OfInput;
            let (result, read, written) = self.decoder.decode_to_utf8_without_replacement(left, space, last);
            self.left.start += read;
            match result {
                DecoderResult::Malformed(..) => {
                    if let Some(byte) = to.get_mut(written) {
                        *byte = UNDECODABLE;
                    }
                    return Ok(written + 1);
                }
                DecoderResult::InputEmpty if last => self.end = End::OfDecoder,
                DecoderResult::InputEmpty | DecoderResult::OutputFull => {}
            }
            if written > 0 {
                return Ok(written);
            }
        }
    }
}
