//! The server: a hub at 127.0.0.1 and the store that it redirects to at 127.0.0.2.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::machine::sha256;

pub(crate) const COMMIT: &str = "1111111111111111111111111111111111111111";

/// A file that the hub has.
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) repository: String,
    pub(crate) file: String,
    pub(crate) commit: String,
    /// Large files are named by sha256 and lie in the store; small ones by a git object's name, at the hub itself.
    pub(crate) large: bool,
    pub(crate) bytes: Arc<Vec<u8>>,
    /// What the hub says the etag is.
    pub(crate) etag: String,
}

impl Served {
    pub(crate) fn large(repository: &str, file: &str, bytes: Vec<u8>) -> Self {
        let etag = sha256(&bytes);
        let (repository, file) = (repository.to_owned(), file.to_owned());
        Self { repository, file, commit: COMMIT.to_owned(), large: true, bytes: Arc::new(bytes), etag }
    }

    pub(crate) fn small(repository: &str, file: &str, bytes: Vec<u8>) -> Self {
        Self { large: false, etag: "2".repeat(40), ..Self::large(repository, file, bytes) }
    }
}

/// A request that has come in.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) at_store: bool,
    pub(crate) method: String,
    pub(crate) path: String,
    /// The first byte that was asked for.
    pub(crate) from: u64,
    pub(crate) token: Option<String>,
    /// Bytes of the file that were sent.
    pub(crate) sent: u64,
}

/// What to do with a request.
pub(crate) enum Answer {
    Normal,
    /// This status line and these headers, without the file.
    Status(u16, &'static str),
    /// Close the connection after so many bytes of the body.
    CutAfter(u64),
    /// Send so many bytes, then nothing more, and keep the connection.
    StallAfter(u64),
    /// A few bytes at a time.
    Slowly,
    /// Everything from the start, whatever was asked for.
    WithoutRanges,
    /// Other bytes than the hub has promised.
    Garbled,
    /// Call this when so many bytes have been sent.
    CallAt(u64, Box<dyn FnOnce() + Send>),
}

type Rule = Box<dyn FnMut(&Seen) -> Answer + Send>;

/// The running server; its threads end with the process.
pub(crate) struct Hub {
    pub(crate) url: String,
    inner: Arc<Inner>,
}

struct Inner {
    store: String,
    files: Mutex<Vec<Served>>,
    rule: Mutex<Rule>,
    seen: Mutex<Vec<Seen>>,
}

impl Hub {
    pub(crate) fn new(files: Vec<Served>) -> Self {
        let hub = TcpListener::bind("127.0.0.1:0").unwrap();
        let store = TcpListener::bind("127.0.0.2:0").unwrap();
        let inner = Arc::new(Inner {
            store: format!("http://{}", store.local_addr().unwrap()),
            files: Mutex::new(files),
            rule: Mutex::new(Box::new(|_| Answer::Normal)),
            seen: Mutex::new(Vec::new()),
        });
        let url = format!("http://{}", hub.local_addr().unwrap());
        for (listener, at_store) in [(hub, false), (store, true)] {
            let inner = inner.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let inner = inner.clone();
                    // A client that is gone is not the server's business.
                    std::thread::spawn(move || inner.serve(stream, at_store).ok());
                }
            });
        }
        Self { url, inner }
    }

    /// From now on this decides what becomes of requests.
    pub(crate) fn answer(&self, rule: impl FnMut(&Seen) -> Answer + Send + 'static) {
        *self.inner.rule.lock().unwrap() = Box::new(rule);
    }

    /// The same as `answer`, for requests for bytes only.
    pub(crate) fn answer_store(&self, mut rule: impl FnMut(&Seen) -> Answer + Send + 'static) {
        self.answer(move |seen| if seen.at_store { rule(seen) } else { Answer::Normal });
    }

    pub(crate) fn serve(&self, files: Vec<Served>) {
        *self.inner.files.lock().unwrap() = files;
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.inner.seen.lock().unwrap().clone()
    }

    pub(crate) fn forget(&self) {
        self.inner.seen.lock().unwrap().clear();
    }

    /// Bytes of files that have left the server.
    pub(crate) fn sent(&self) -> u64 {
        self.seen().iter().map(|s| s.sent).sum()
    }
}

impl Inner {
    fn serve(&self, mut stream: TcpStream, at_store: bool) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let mut words = line.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (method, path) = (method.to_owned(), path.to_owned());
        let mut seen = Seen { at_store, method, path, from: 0, token: None, sent: 0 };
        let mut ranged = false;
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
                break;
            }
            let (name, value) = header.trim().split_once(": ").unwrap_or_default();
            match name.to_ascii_lowercase().as_str() {
                "range" => {
                    ranged = true;
                    seen.from = value.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap();
                }
                "authorization" => seen.token = Some(value.to_owned()),
                _ => {}
            }
        }
        let index = {
            let mut all = self.seen.lock().unwrap();
            all.push(seen.clone());
            all.len() - 1
        };
        let answer = (self.rule.lock().unwrap())(&seen);
        if let Answer::Status(code, headers) = answer {
            return write!(stream, "HTTP/1.1 {code} X\r\n{headers}Content-Length: 0\r\nConnection: close\r\n\r\n");
        }
        let Some(file) = self.find(&seen) else {
            return write!(stream, "HTTP/1.1 404 X\r\nX-Error-Message: Entry not found\r\nContent-Length: 0\r\n\r\n");
        };
        if file.large && !at_store {
            return write!(
                stream,
                "HTTP/1.1 302 Found\r\nLocation: {}/{}?signature=s\r\nX-Linked-ETag: \"{}\"\r\nX-Linked-Size: {}\r\n\
                 X-Repo-Commit: {}\r\nETag: \"other\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                self.store,
                file.etag,
                file.etag,
                file.bytes.len(),
                file.commit
            );
        }
        self.send(stream, &seen, ranged, &file, answer, index)
    }

    fn find(&self, seen: &Seen) -> Option<Served> {
        let path = seen.path.trim_start_matches('/').split('?').next()?;
        let files = self.files.lock().unwrap();
        let asked = |f: &&Served| {
            let named = |revision: &str| path == format!("{}/resolve/{revision}/{}", f.repository, f.file);
            if seen.at_store { path == f.etag } else { named("main") || named(&f.commit) }
        };
        files.iter().find(asked).cloned()
    }

    fn send(
        &self,
        mut stream: TcpStream,
        seen: &Seen,
        ranged: bool,
        file: &Served,
        answer: Answer,
        index: usize,
    ) -> std::io::Result<()> {
        let size = file.bytes.len();
        let ranged = ranged && !matches!(answer, Answer::WithoutRanges);
        let from = if ranged { seen.from as usize } else { 0 };
        let (status, range) = match ranged {
            true => ("206 Partial Content", format!("Content-Range: bytes {from}-{}/{size}\r\n", size - 1)),
            false => ("200 OK", String::new()),
        };
        write!(
            stream,
            "HTTP/1.1 {status}\r\nETag: \"{}\"\r\nX-Repo-Commit: {}\r\n{range}Content-Length: {}\r\nConnection: close\r\n\r\n",
            file.etag,
            file.commit,
            size - from
        )?;
        if seen.method == "HEAD" {
            return Ok(());
        }
        let mut body = file.bytes[from..].to_vec();
        if matches!(answer, Answer::Garbled) {
            body.iter_mut().for_each(|b| *b ^= 1);
        }
        let mut send = |bytes: &[u8]| -> std::io::Result<()> {
            stream.write_all(bytes)?;
            self.seen.lock().unwrap()[index].sent += bytes.len() as u64;
            Ok(())
        };
        let cut = |n: u64| &body[..(n as usize).min(body.len())];
        match answer {
            Answer::CutAfter(n) => send(cut(n)),
            Answer::StallAfter(n) => {
                send(cut(n))?;
                std::thread::sleep(Duration::from_secs(60));
                Ok(())
            }
            Answer::Slowly => body.chunks(body.len().div_ceil(20).max(1)).try_for_each(|piece| {
                std::thread::sleep(Duration::from_millis(20));
                send(piece)
            }),
            Answer::CallAt(n, call) => {
                send(cut(n))?;
                call();
                send(&body[cut(n).len()..])
            }
            _ => send(&body),
        }
    }
}
