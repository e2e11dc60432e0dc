//! Addresses as they may be shown: without passwords, passphrases and stream keys.

/// Hides what stands between `user:` and `@`, secrets among the options after `?`, and RTMP's stream key.
pub(crate) fn without_secrets(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (address, query) = rest.split_once('?').map_or((rest, None), |(a, q)| (a, Some(q)));
    let (authority, path) = address.split_at(address.find('/').unwrap_or(address.len()));
    let authority = match authority.rsplit_once('@') {
        Some((user, host)) => format!("{}:***@{host}", user.split(':').next().unwrap_or_default()),
        None => authority.to_owned(),
    };
    let path = match path.rsplit_once('/') {
        // rtmp://host/application/key
        Some((application, key)) if scheme.starts_with("rtmp") && !application.is_empty() && !key.is_empty() => {
            format!("{application}/***")
        }
        _ => path.to_owned(),
    };
    let hidden = |option: &str| match option.split_once('=') {
        Some((name, _)) if is_secret(name) => format!("{name}=***"),
        _ => option.to_owned(),
    };
    let query = query.map_or(String::new(), |q| format!("?{}", q.split('&').map(hidden).collect::<Vec<_>>().join("&")));
    format!("{scheme}://{authority}{path}{query}")
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
    ["pass", "token", "key", "secret", "streamid"].iter().any(|word| name.contains(word))
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
            ("rtmp://127.0.0.1:1935/live", "rtmp://127.0.0.1:1935/live"),
            ("udp://127.0.0.1:5000", "udp://127.0.0.1:5000"),
        ] {
            assert_eq!(without_secrets(url), shown);
        }
        let line = "[hls] Opening 'http://a:b@h/x' for reading";
        assert_eq!(without_secrets_within(line), "[hls] Opening 'http://a:***@h/x' for reading");
    }
}
