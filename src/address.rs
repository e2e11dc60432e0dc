//! Addresses as they may be shown: without passwords, passphrases and stream keys.

/// Hides what stands between `user:` and `@`, RTMP's stream key, and values whose name says that they are secrets,
/// wherever they stand: cameras take `user=admin&password=...` as a path too.
pub(crate) fn without_secrets(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return without_values(url) };
    let (authority, path) = rest.split_at(end_of_authority(rest));
    let authority = match authority.rsplit_once('@') {
        Some((user, host)) => format!("{}:***@{host}", user.split(':').next().unwrap_or_default()),
        None => authority.to_owned(),
    };
    let (path, query) = path.split_at(path.find('?').unwrap_or(path.len()));
    let path = match path.rsplit_once('/') {
        // rtmp://host/application/key
        Some((application, key))
            if scheme.to_ascii_lowercase().starts_with("rtmp") && !application.is_empty() && !key.is_empty() =>
        {
            format!("{application}/***")
        }
        _ => without_values(path),
    };
    format!("{scheme}://{authority}{path}{}", without_values(query))
}

/// Up to the path. A password may hold what ends the host, though it should be escaped: then no port stands after the
/// colon.
fn end_of_authority(rest: &str) -> usize {
    let ends = |text: &str| text.find(['/', '?', '#']).unwrap_or(text.len());
    let end = ends(rest);
    let authority = &rest[..end];
    let is_port = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    let whole = authority.contains('@') || authority.ends_with(']');
    let odd = !whole && authority.rsplit_once(':').is_some_and(|(_, port)| !is_port(port));
    match rest.rfind('@') {
        Some(at) if odd && at > end => at + ends(&rest[at..]),
        _ => end,
    }
}

/// `name=value` without the value where the name is a secret's.
fn without_values(text: &str) -> String {
    let ends = ['&', '?', ';', '#'];
    let hidden = |option: &str| {
        let bare = option.trim_end_matches(ends);
        match bare.split_once('=') {
            Some((name, value)) if !value.is_empty() && is_secret(name.rsplit('/').next().unwrap_or(name)) => {
                format!("{name}=***{}", &option[bare.len()..])
            }
            _ => option.to_owned(),
        }
    };
    text.split_inclusive(ends).map(hidden).collect()
}

/// The same for every address in a text, such as a line of FFmpeg's log.
pub(crate) fn without_secrets_within(text: &str) -> String {
    let ends = |c: char| c.is_whitespace() || "'\"<>".contains(c);
    let mut shown = String::new();
    let mut rest = text;
    while let Some(end) = rest.find(ends) {
        shown += &without_secrets(&rest[..end]);
        let next = end + rest[end..].chars().next().map_or(0, char::len_utf8);
        shown += &rest[end..next];
        rest = &rest[next..];
    }
    shown + &without_secrets(rest)
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let parts = ["pass", "pwd", "token", "key", "secret", "streamid", "auth", "sign", "credential", "session"];
    parts.iter().any(|word| name.contains(word)) || ["pw", "sig", "sid"].contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use super::{without_secrets, without_secrets_within};

    #[test]
    fn secrets_are_hidden_and_the_rest_is_not() {
        for (url, shown) in [
            ("rtsp://me:pw@host:554/a/b", "rtsp://me:***@host:554/a/b"),
            ("srt://h:9?passphrase=abc&latency=200", "srt://h:9?passphrase=***&latency=200"),
            ("rtmp://live.example/app/KEY", "rtmp://live.example/app/***"),
            ("RTMPS://live.example/app/KEY", "RTMPS://live.example/app/***"),
            ("rtmp://127.0.0.1:1935/live", "rtmp://127.0.0.1:1935/live"),
            ("udp://127.0.0.1:5000", "udp://127.0.0.1:5000"),
            (
                "rtsp://cam:554/user=admin&password=pw&channel=1.sdp?x",
                "rtsp://cam:554/user=admin&password=***&channel=1.sdp?x",
            ),
            ("http://cam/v.cgi?user=admin&pwd=pw", "http://cam/v.cgi?user=admin&pwd=***"),
            (
                "https://h/v.mp4?X-Amz-Credential=a/b&X-Amz-Signature=c",
                "https://h/v.mp4?X-Amz-Credential=***&X-Amz-Signature=***",
            ),
            ("https://h/v#token=pw", "https://h/v#token=***"),
            ("https://h/v;jsessionid=pw", "https://h/v;jsessionid=***"),
            ("rtsp://me:p/w?x@host:554/a", "rtsp://me:***@host:554/a"),
            ("rtsp://[::1]:554/a@b", "rtsp://[::1]:554/a@b"),
        ] {
            assert_eq!(without_secrets(url), shown);
        }
        let line = "[hls] Opening 'http://a:b@h/x' for reading";
        assert_eq!(without_secrets_within("GET /v?pwd=pw HTTP/1.1"), "GET /v?pwd=*** HTTP/1.1");
        assert_eq!(without_secrets_within(line), "[hls] Opening 'http://a:***@h/x' for reading");
    }
}
