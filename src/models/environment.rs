//! Where files lie and how the hub is reached, as the environment says: huggingface_hub's variables, XDG's and krea's.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

const ENDPOINT: &str = "https://huggingface.co";
/// A connection that says nothing for so long is broken.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What the environment says, read once.
#[derive(Clone, Debug)]
pub struct Environment {
    /// `HF_ENDPOINT`, without a slash at its end.
    pub endpoint: String,
    pub token: Option<Token>,
    /// `HF_HUB_OFFLINE`: nothing is asked of the network.
    pub offline: bool,
    /// `HF_HUB_DOWNLOAD_TIMEOUT`: longest silence of a connection.
    pub timeout: Duration,
    /// The Hugging Face cache that is shared with other tools.
    pub hub: Option<PathBuf>,
    /// `KREA_MODELS_DIR`, or krea's own folder for data: plain files under their own names.
    pub models: Option<PathBuf>,
    /// The folder of the lock file.
    pub state: Option<PathBuf>,
}

/// A secret: it is sent to the endpoint's own host and shown nowhere.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// `None` if nothing is left that could be a token.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty() && text.chars().all(|c| c.is_ascii_graphic())).then(|| Self(text.to_owned()))
    }

    pub(super) fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Environment {
    pub fn from_env() -> Self {
        Self::from_lookup(|name| std::env::var_os(name))
    }

    /// `var` gives the value of an environment variable; empty counts as not set.
    pub fn from_lookup(var: impl Fn(&str) -> Option<OsString>) -> Self {
        let var = |name: &str| var(name).filter(|v| !v.is_empty());
        let text = |name: &str| var(name).and_then(|v| v.into_string().ok());
        let home = var("HOME").or_else(|| var("USERPROFILE")).map(PathBuf::from);
        let path = |name: &str| var(name).map(|v| expand(PathBuf::from(v), home.as_ref()));
        let xdg = |name: &str, below_home: &str| path(name).or_else(|| home.as_ref().map(|h| h.join(below_home)));

        let hf_home = path("HF_HOME").or_else(|| xdg("XDG_CACHE_HOME", ".cache").map(|p| p.join("huggingface")));
        let hub = path("HF_HUB_CACHE")
            .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| hf_home.as_ref().map(|p| p.join("hub")));
        let token_file = path("HF_TOKEN_PATH").or_else(|| hf_home.as_ref().map(|p| p.join("token")));
        let token = text("HF_TOKEN")
            .or_else(|| text("HUGGING_FACE_HUB_TOKEN"))
            .or_else(|| std::fs::read_to_string(token_file?).ok())
            .and_then(|t| Token::new(&t));
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        let seconds = text("HF_HUB_DOWNLOAD_TIMEOUT").and_then(|t| t.parse().ok()).filter(|s| *s > 0.0);
        Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token,
            offline: ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]
                .into_iter()
                .any(|n| text(n).is_some_and(|v| is_true(&v))),
            timeout: seconds.and_then(|s| Duration::try_from_secs_f64(s).ok()).unwrap_or(TIMEOUT),
            hub,
            models: path("KREA_MODELS_DIR")
                .or_else(|| xdg("XDG_DATA_HOME", ".local/share").map(|p| p.join("krea/models"))),
            state: xdg("XDG_STATE_HOME", ".local/state").map(|p| p.join("krea")),
        }
    }
}

/// `~/x` is a folder below home, as huggingface_hub reads its variables.
fn expand(path: PathBuf, home: Option<&PathBuf>) -> PathBuf {
    match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path,
    }
}

/// What huggingface_hub takes for true.
fn is_true(value: &str) -> bool {
    ["1", "on", "yes", "true"].iter().any(|t| value.eq_ignore_ascii_case(t))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn given(set: &[(&str, &str)]) -> Environment {
        Environment::from_lookup(|n| set.iter().find(|(k, _)| *k == n).map(|(_, v)| OsString::from(v)))
    }

    #[test]
    fn the_cache_is_where_huggingface_hub_says() {
        let hub = |set: &[(&str, &str)]| given(set).hub.unwrap();
        assert_eq!(hub(&[("HOME", "/h")]), Path::new("/h/.cache/huggingface/hub"));
        assert_eq!(hub(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), Path::new("/x/huggingface/hub"));
        assert_eq!(hub(&[("HF_HOME", "/f"), ("XDG_CACHE_HOME", "/x")]), Path::new("/f/hub"));
        assert_eq!(hub(&[("HF_HUB_CACHE", "/c"), ("HF_HOME", "/f")]), Path::new("/c"));
        assert_eq!(hub(&[("HF_HUB_CACHE", "~/c"), ("HOME", "/h")]), Path::new("/h/c"));
        assert_eq!(hub(&[("HF_HUB_CACHE", ""), ("HOME", "/h")]), Path::new("/h/.cache/huggingface/hub"));
        assert_eq!(given(&[]).hub, None);
    }

    #[test]
    fn plain_files_and_the_lock_lie_in_the_folders_that_xdg_names() {
        let set = given(&[("HOME", "/h")]);
        assert_eq!(set.models.unwrap(), Path::new("/h/.local/share/krea/models"));
        assert_eq!(set.state.unwrap(), Path::new("/h/.local/state/krea"));
        let set = given(&[("HOME", "/h"), ("KREA_MODELS_DIR", "/m"), ("XDG_STATE_HOME", "/s")]);
        assert_eq!((set.models.unwrap(), set.state.unwrap()), ("/m".into(), "/s/krea".into()));
    }

    #[test]
    fn a_token_comes_from_the_variable_or_the_file_and_is_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("token"), "hf_file\n").unwrap();
        let home = dir.path().to_str().unwrap();
        let bearer = |set: &[(&str, &str)]| given(set).token.map(|t| t.bearer());
        assert_eq!(bearer(&[("HF_HOME", home)]).unwrap(), "Bearer hf_file");
        assert_eq!(bearer(&[("HF_HOME", home), ("HF_TOKEN", "hf_set")]).unwrap(), "Bearer hf_set");
        assert_eq!(bearer(&[("HF_TOKEN_PATH", &format!("{home}/token"))]).unwrap(), "Bearer hf_file");
        assert_eq!(bearer(&[("HF_TOKEN", "a\nHost: b")]), None, "no header can be smuggled in");
        assert!(!format!("{:?}", given(&[("HF_TOKEN", "hf_set")])).contains("hf_set"));
    }

    #[test]
    fn offline_is_what_huggingface_hub_takes_for_true() {
        for (value, offline) in [("1", true), ("ON", true), ("true", true), ("0", false), ("no", false)] {
            assert_eq!(given(&[("HF_HUB_OFFLINE", value)]).offline, offline, "{value}");
        }
        assert_eq!(given(&[("HF_ENDPOINT", "http://mirror/")]).endpoint, "http://mirror");
    }
}
