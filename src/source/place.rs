//! Where an input lies, and how messages call it.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where the input lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    File(PathBuf),
    Stdin,
    Url(String),
    /// Numbered pictures (`%05d`) or a glob (`*.jpg`).
    Pictures {
        pattern: String,
        glob: bool,
    },
    /// A graph of FFmpeg's filters that makes its own pictures, such as `testsrc2,realtime`.
    Lavfi(String),
    /// There is no input: the prompt alone decides.
    Nothing,
    /// A camera by its number, its device or a part of its name; the first if this is empty.
    Camera(String),
}

impl Place {
    /// `-` is stdin, `lavfi:` a filter graph, `scheme://` a URL, `%05d` and `*` many pictures, all else a file.
    /// A file that exists under the whole name is always that file.
    pub fn parse(text: &str) -> Self {
        if text == "-" {
            return Self::Stdin;
        }
        if let Some(graph) = text.strip_prefix("lavfi:") {
            return Self::Lavfi(graph.to_owned());
        }
        if scheme(text).is_some() {
            return Self::Url(text.to_owned());
        }
        let glob = text.contains(['*', '?', '[']);
        if (glob || crate::stream::is_numbered(text)) && !Path::new(text).exists() {
            return Self::Pictures { pattern: text.to_owned(), glob: !crate::stream::is_numbered(text) };
        }
        Self::File(PathBuf::from(text))
    }

    /// The protocol of a URL, in lower case.
    pub fn scheme(&self) -> Option<String> {
        match self {
            Self::Url(url) => scheme(url).map(str::to_lowercase),
            _ => None,
        }
    }

    /// Whether the pictures come at their own pace, so that a consumer that is behind cannot make them wait.
    pub fn has_own_pace(&self) -> bool {
        match self {
            Self::Url(_) | Self::Camera(_) => true,
            Self::Lavfi(graph) => graph.contains("realtime"),
            _ => false,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Stdin => write!(f, "standard input"),
            Self::Nothing => write!(f, "prompt"),
            Self::Url(url) => write!(f, "{}", crate::address::without_secrets(url)),
            Self::Pictures { pattern, .. } => write!(f, "{pattern}"),
            Self::Lavfi(graph) => write!(f, "lavfi:{graph}"),
            Self::Camera(wanted) if wanted.is_empty() => write!(f, "camera"),
            Self::Camera(wanted) => write!(f, "camera {wanted}"),
        }
    }
}

fn scheme(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once("://")?;
    let valid = !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    valid.then_some(scheme)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_a_file_unless_it_says_otherwise() {
        assert_eq!(Place::parse("-"), Place::Stdin);
        assert_eq!(Place::parse("rtsp://cam/1"), Place::Url("rtsp://cam/1".into()));
        assert_eq!(Place::parse("a:b.mp4"), Place::File("a:b.mp4".into()));
        assert_eq!(Place::parse("://x"), Place::File("://x".into()));
        assert_eq!(Place::parse("lavfi:testsrc2"), Place::Lavfi("testsrc2".into()));
        let pictures = |pattern: &str, glob| Place::Pictures { pattern: pattern.into(), glob };
        assert_eq!(Place::parse("f/%05d.png"), pictures("f/%05d.png", false));
        assert_eq!(Place::parse("f/*.jpg"), pictures("f/*.jpg", true));
        assert_eq!(Place::parse("100%.mp4"), Place::File("100%.mp4".into()));
    }

    #[test]
    fn passwords_are_never_shown() {
        let shown = |url: &str| Place::parse(url).to_string();
        assert_eq!(shown("rtsp://me:s3cret@cam:554/live?x=1"), "rtsp://me:***@cam:554/live?x=1");
        assert_eq!(shown("rtsp://me:p@ss@cam"), "rtsp://me:***@cam");
        assert_eq!(shown("http://host/a@b"), "http://host/a@b");
        assert_eq!(shown("srt://h:1?mode=caller&passphrase=abc&x=1"), "srt://h:1?mode=caller&passphrase=***&x=1");
        assert_eq!(shown("http://h/day=1"), "http://h/day=1");
    }
}
