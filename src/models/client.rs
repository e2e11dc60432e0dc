//! What is asked of the hub over HTTP: what a file is, and its bytes from an offset on.
//!
//! A file of repository `o/n` is at `{endpoint}/o/n/resolve/{revision}/{file}`. The hub answers for large files with a
//! redirect to a store on another host, and names sha256, size and commit in headers of its own.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use ureq::http::{Response, StatusCode, Uri};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

use super::cache::{is_commit, is_etag};
use super::environment::{Environment, Token};
use super::manifest::Origin;
use crate::error::{Error, Result};

const MOST_REDIRECTS: usize = 5;

/// Why a request did not give what was asked for.
#[derive(Debug)]
pub(super) enum Fault {
    /// Trying again may help; the server may have said after how long.
    Passing {
        why: String,
        after: Option<Duration>,
    },
    /// The hub has no such file for this user.
    Absent(String),
    Final(Error),
}

/// What the hub says of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    /// For a large file its sha256, for a small one a git object's name.
    pub(super) etag: String,
    pub(super) commit: String,
    pub(super) size: u64,
}

/// Speaks with one endpoint.
pub(super) struct Client {
    agent: Agent,
    endpoint: String,
    token: Option<Token>,
}

impl Client {
    pub(super) fn new(environment: &Environment) -> Result<Self> {
        let endpoint = environment.endpoint.clone();
        let uri: Option<Uri> = endpoint.parse().ok();
        if uri.is_none_or(|u| !matches!(u.scheme_str(), Some("http" | "https")) || u.host().is_none()) {
            return Err(Error::Usage(format!(
                "HF_ENDPOINT is '{endpoint}', which is not an address such as https://host"
            )));
        }
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            // Redirects are followed here, to see the hub's own headers and to keep the token from other hosts.
            .max_redirects(0)
            .user_agent(concat!("krea/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_connect(Some(environment.timeout))
            .timeout_recv_response(Some(environment.timeout))
            .timeout_per_read(Some(environment.timeout))
            .tls_config(TlsConfig::builder().root_certs(root_certificates()?).build())
            .build()
            .new_agent();
        Ok(Self { agent, endpoint, token: environment.token.clone() })
    }

    /// Asks what the file is, without its bytes.
    pub(super) fn head(&self, origin: &Origin, revision: &str) -> Result<Meta, Fault> {
        let response = self.follow(Method::Head, &self.address(origin, revision), |r| {
            header(r, "x-linked-etag").is_some() && header(r, "x-repo-commit").is_some()
        })?;
        let strange =
            |what: &str| Fault::Final(Error::Model(format!("{}: the hub's answer {what}", origin.repository)));
        let etag = header(&response, "x-linked-etag").or_else(|| header(&response, "etag"));
        let etag = etag.ok_or_else(|| strange("has no etag"))?;
        let etag = etag.trim_start_matches("W/").trim_matches('"').to_owned();
        let commit =
            header(&response, "x-repo-commit").ok_or_else(|| strange("names no commit; is this a hub?"))?.to_owned();
        if !is_etag(&etag) || !is_commit(&commit) {
            return Err(strange("has an etag or a commit that cannot be file names"));
        }
        let own_length = || header(&response, "content-length").filter(|_| response.status().is_success());
        let size = header(&response, "x-linked-size").or_else(own_length).and_then(|s| s.parse().ok());
        let size = size.ok_or_else(|| strange("does not say how large the file is"))?;
        Ok(Meta { etag, commit, size })
    }

    /// The bytes from `from` on, of a file of `size` bytes; returns where they really begin: 0 if the server knows no
    /// ranges.
    pub(super) fn get(&self, origin: &Origin, revision: &str, from: u64, size: u64) -> Result<(u64, impl Read), Fault> {
        let response = self.follow(Method::Get(from), &self.address(origin, revision), |_| false)?;
        let wrong = |said: &str| {
            let why = format!("{}: {said}, where {size} bytes were announced", origin.file);
            Fault::Final(Error::Model(why))
        };
        let start = if response.status() == StatusCode::PARTIAL_CONTENT {
            let range = header(&response, "content-range").unwrap_or_default();
            let (start, total) = content_range(range).ok_or_else(|| wrong("the server sends an unreadable range"))?;
            if start != from || total.is_some_and(|t| t != size) {
                return Err(wrong(&format!("the server sends the range '{}'", range.escape_debug())));
            }
            start
        } else {
            0
        };
        let length: Option<u64> = header(&response, "content-length").and_then(|l| l.parse().ok());
        if length.is_some_and(|l| l != size - start) {
            return Err(wrong(&format!("the server sends {} bytes from {start} on", length.unwrap_or_default())));
        }
        Ok((start, response.into_body().into_reader()))
    }

    fn address(&self, origin: &Origin, revision: &str) -> String {
        format!("{}/{}/resolve/{revision}/{}", self.endpoint, origin.repository, percent_encoded(&origin.file))
    }

    /// Sends the request, and again to wherever it is redirected unless `enough` is content with the redirect itself.
    fn follow(
        &self,
        method: Method,
        url: &str,
        enough: impl Fn(&Response<Body>) -> bool,
    ) -> Result<Response<Body>, Fault> {
        let mut uri: Uri = url.parse().map_err(|_| Fault::Final(Error::Model(format!("'{url}' is not an address"))))?;
        let home = uri.clone();
        for _ in 0..=MOST_REDIRECTS {
            let mut request = match method {
                Method::Head => self.agent.head(&uri),
                Method::Get(_) => self.agent.get(&uri),
            };
            if let Method::Get(from @ 1..) = method {
                request = request.header("range", format!("bytes={from}-"));
            }
            if let Some(token) = self.token.as_ref().filter(|_| same_origin(&home, &uri)) {
                request = request.header("authorization", token.bearer());
            }
            let response = request.call().map_err(|e| broken(&uri, &e))?;
            if !response.status().is_redirection() || enough(&response) {
                return checked(response, &uri);
            }
            let location = header(&response, "location").unwrap_or_default();
            uri = redirected(&uri, location).map_err(|why| Fault::Final(Error::Model(format!("{url}: {why}"))))?;
        }
        Err(Fault::Final(Error::Model(format!("{url}: redirected more than {MOST_REDIRECTS} times"))))
    }
}

#[derive(Clone, Copy)]
enum Method {
    Head,
    /// The first byte that is wanted.
    Get(u64),
}

/// Sorts the answers that are not what was asked for.
fn checked(response: Response<Body>, uri: &Uri) -> Result<Response<Body>, Fault> {
    let status = response.status();
    if status.is_success() || status.is_redirection() {
        return Ok(response);
    }
    let host = uri.host().unwrap_or_default();
    // The hub's own words; without control characters, which could speak to the terminal.
    let said: String = header(&response, "x-error-message").unwrap_or_default().chars().take(300).collect();
    let said = if said.is_empty() { String::new() } else { format!(": {}", said.escape_debug()) };
    let why = match status.as_u16() {
        401 => format!("{host} wants a token, or there is no such repository (401{said}). A token goes into HF_TOKEN"),
        403 => format!("{host} refuses (403{said}). Agree to the model's conditions on its page, then set HF_TOKEN"),
        404 => format!("{host} has no such file (404{said})"),
        code => format!("{host} answers {code}{said}"),
    };
    Err(match status.as_u16() {
        401 | 403 | 404 | 410 => Fault::Absent(why),
        408 | 416 | 429 | 500..=599 => {
            let seconds = header(&response, "retry-after").and_then(|s| s.trim().parse().ok());
            Fault::Passing { why, after: seconds.map(Duration::from_secs) }
        }
        _ => Fault::Final(Error::Model(why)),
    })
}

/// A request that got no answer.
fn broken(uri: &Uri, error: &ureq::Error) -> Fault {
    let why = format!("{}: {error}", uri.host().unwrap_or_default());
    match error {
        // A certificate does not become valid by trying again.
        ureq::Error::Io(e) if e.kind() == std::io::ErrorKind::InvalidData => Fault::Final(Error::Model(why)),
        ureq::Error::Io(_)
        | ureq::Error::Timeout(_)
        | ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::Protocol(_) => Fault::Passing { why, after: None },
        _ => Fault::Final(Error::Model(why)),
    }
}

/// Mozilla's list, or the certificates in the file that `SSL_CERT_FILE` names, as behind a company's proxy.
fn root_certificates() -> Result<RootCerts> {
    let Some(path) = std::env::var_os("SSL_CERT_FILE").filter(|p| !p.is_empty()) else { return Ok(RootCerts::WebPki) };
    let wrong = |why: &dyn std::fmt::Display| Error::Usage(format!("SSL_CERT_FILE, {}: {why}", path.display()));
    let pem = std::fs::read(&path).map_err(|e| wrong(&e))?;
    let items = parse_pem(&pem).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    let certificates: Vec<Certificate<'static>> = items.collect();
    if certificates.is_empty() {
        return Err(wrong(&"no certificate in it"));
    }
    Ok(RootCerts::Specific(Arc::new(certificates)))
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

/// `bytes 100-199/200` -> (100, Some(200)); the total may be `*`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let start = range.split_once('-')?.0.parse().ok()?;
    Some((start, if total == "*" { None } else { Some(total.parse().ok()?) }))
}

/// Where a redirect leads: to an address, or to a path on the same host; never from https back to http.
fn redirected(from: &Uri, location: &str) -> Result<Uri, String> {
    let location = location.split('#').next().unwrap_or_default();
    let scheme = from.scheme_str().unwrap_or_default();
    let host = from.authority().map(ToString::to_string).unwrap_or_default();
    let absolute = if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{host}{location}")
    } else if location.contains("://") {
        location.to_owned()
    } else {
        let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{host}{folder}/{location}")
    };
    let uri: Uri =
        absolute.parse().map_err(|_| format!("redirected to '{}', which is no address", location.escape_debug()))?;
    match (scheme, uri.scheme_str()) {
        ("https", Some("https")) | ("http", Some("http" | "https")) => Ok(uri),
        _ => Err(format!("redirected from {scheme} to '{}'", absolute.escape_debug())),
    }
}

fn same_origin(a: &Uri, b: &Uri) -> bool {
    let port = |u: &Uri| u.port_u16().unwrap_or(if u.scheme_str() == Some("https") { 443 } else { 80 });
    let host = |u: &Uri| u.host().unwrap_or_default().to_ascii_lowercase();
    a.scheme_str() == b.scheme_str() && host(a) == host(b) && port(a) == port(b)
}

fn percent_encoded(path: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~/".contains(&b);
    path.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().unwrap()
    }

    #[test]
    fn redirects_lead_where_rfc_3986_says_and_never_to_plain_http() {
        let from = uri("https://hub.co/a/b/resolve/main/f");
        let to = |location| redirected(&from, location).map(|u| u.to_string());
        assert_eq!(to("/x/y?z=1").unwrap(), "https://hub.co/x/y?z=1");
        assert_eq!(to("//cdn.co/k").unwrap(), "https://cdn.co/k");
        assert_eq!(to("https://cdn.co/k#part").unwrap(), "https://cdn.co/k");
        assert_eq!(to("g").unwrap(), "https://hub.co/a/b/resolve/main/g");
        assert!(to("http://cdn.co/k").is_err());
        assert!(to("file:///etc/passwd").is_err());
        assert!(to("https://cdn.co/a b").is_err());
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let home = uri("https://hub.co/a");
        assert!(same_origin(&home, &uri("https://HUB.co:443/b")));
        for other in ["http://hub.co/a", "https://hub.co:8443/a", "https://cdn.hub.co/a", "https://hub.co.evil.org/a"] {
            assert!(!same_origin(&home, &uri(other)), "{other}");
        }
    }

    #[test]
    fn ranges_and_paths() {
        assert_eq!(content_range("bytes 100-199/200"), Some((100, Some(200))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        assert_eq!(content_range("bytes */200"), None);
        assert_eq!(percent_encoded("d/a b+c%.onnx"), "d/a%20b%2Bc%25.onnx");
    }
}
