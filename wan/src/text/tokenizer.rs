//! Prompt to token ids, by the model's own `tokenizer.json`.

use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// The end of every prompt, and what an empty prompt consists of.
const END: &str = "</s>";

/// A tokenizer of the T5 family.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    end: u32,
    path: PathBuf,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("path", &self.path).finish()
    }
}

impl Tokenizer {
    /// Reads a `tokenizer.json` (of `google/umt5-xxl` for Wan 2.1).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        // Read apart from being parsed, so that a missing file is told from a damaged one.
        let text = std::fs::read(path).map_err(|error| Error::io(path, error))?;
        let damaged = |reason: String| Error::file(path, format!("not a tokenizer: {reason}"));
        let mut inner = tokenizers::Tokenizer::from_bytes(text).map_err(|error| damaged(error.to_string()))?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| damaged(error.to_string()))?;
        let end = inner.token_to_id(END).ok_or_else(|| damaged(format!("it has no token {END}")))?;
        Ok(Tokenizer { inner, end, path: path.to_owned() })
    }

    /// The ids of a cleaned prompt, closed by `</s>` and cut to `max_length` with it kept.
    pub fn encode(&self, text: &str, max_length: usize) -> Result<Vec<i64>> {
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|error| Error::file(&self.path, format!("cannot tokenize the prompt: {error}")))?;
        let ids = encoding.get_ids();
        let kept = ids.len().min(max_length.saturating_sub(1));
        let closed = ids[..kept].iter().chain([&self.end]);
        Ok(closed.map(|&id| i64::from(id)).collect())
    }
}
