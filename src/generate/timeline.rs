//! What the prompt is at which time of the source.

use std::path::Path;

use crate::error::{Error, Result};
use crate::settings::parse;

/// Prompts in the order of their times. The first one holds from the beginning.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timeline {
    entries: Vec<Entry>,
}

/// One line of a prompt file.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Seconds of the source.
    pub at: f64,
    pub prompt: String,
    /// Seconds over which it takes the place of the one before.
    pub fade: Option<f64>,
}

impl Timeline {
    /// One prompt for all times.
    pub fn constant(prompt: &str) -> Self {
        Self { entries: vec![Entry { at: 0.0, prompt: prompt.to_owned(), fade: None }] }
    }

    /// Reads lines such as `00:12 oil painting, fade 1s`. Empty lines and those that begin with `#` are left out.
    pub fn read(path: &Path) -> Result<Self> {
        let wrong = |e: String| Error::Usage(format!("{}: {e}", path.display()));
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::Input(format!("{}: the prompts cannot be read: {e}", path.display())))?;
        text.parse().map_err(wrong)
    }

    /// The number of the entry that holds at `seconds`, and the entry.
    pub fn at(&self, seconds: f64) -> Option<(usize, &Entry)> {
        let later = self.entries.partition_point(|e| e.at <= seconds);
        let index = later.saturating_sub(1);
        self.entries.get(index).map(|entry| (index, entry))
    }

    pub fn first(&self) -> &str {
        self.entries.first().map_or("", |e| &e.prompt)
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The prompt that holds until the first of the file's.
    pub fn preceded_by(mut self, prompt: &str) -> Self {
        if self.entries.first().is_none_or(|first| first.at > 0.0) {
            self.entries.insert(0, Entry { at: 0.0, prompt: prompt.to_owned(), fade: None });
        }
        self
    }
}

impl std::str::FromStr for Timeline {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut entries: Vec<Entry> = Vec::new();
        for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let entry = entry(line).map_err(|e| format!("line {}: {e}", number + 1))?;
            if entries.last().is_some_and(|last| last.at >= entry.at) {
                return Err(format!("line {}: its time is not later than that of the line before", number + 1));
            }
            entries.push(entry);
        }
        if entries.is_empty() {
            return Err("there is no prompt in it; write lines such as 00:12 oil painting, fade 1s".to_owned());
        }
        Ok(Self { entries })
    }
}

fn entry(line: &str) -> Result<Entry, String> {
    let (time, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let at = parse::time(time)?;
    let (prompt, fade) = match rest.rsplit_once(", fade ") {
        Some((prompt, fade)) => (prompt, Some(fade_of(fade)?)),
        None => (rest, None),
    };
    let prompt = prompt.trim();
    if prompt.is_empty() {
        return Err(format!("there is no prompt after {time}"));
    }
    Ok(Entry { at, prompt: prompt.to_owned(), fade })
}

fn fade_of(text: &str) -> Result<f64, String> {
    let number = text.trim().strip_suffix('s').unwrap_or(text.trim()).trim_end();
    number
        .parse()
        .ok()
        .filter(|s: &f64| (0.0..=3600.0).contains(s))
        .ok_or_else(|| format!("'fade {text}' is no time; write fade 1.5s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "\u{feff}# looks\n0 pencil drawing\n\n00:12 oil painting, thick strokes, fade 1s\n1:02:03.5 night";

    #[test]
    fn lines_have_a_time_a_prompt_and_perhaps_a_fade() {
        let t: Timeline = TEXT.parse().unwrap();
        let wanted = Entry { at: 12.0, prompt: "oil painting, thick strokes".into(), fade: Some(1.0) };
        assert_eq!(t.at(12.0), Some((1, &wanted)));
        assert_eq!(t.at(11.99).unwrap().1.prompt, "pencil drawing");
        assert_eq!(t.at(99999.0).unwrap().1.at, 3723.5);
    }

    #[test]
    fn the_first_prompt_holds_from_the_beginning() {
        let t: Timeline = "5 later".parse().unwrap();
        assert_eq!(t.at(0.0).unwrap().1.prompt, "later");
        let t = t.preceded_by("before");
        assert_eq!((t.at(0.0).unwrap().1.prompt.as_str(), t.at(6.0).unwrap().0), ("before", 1));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, word) in [
            ("0 a\nx b", "line 2"),
            ("0 a\n0 b", "line 2"),
            ("0", "no prompt"),
            ("# nothing", "no prompt"),
            ("0 a, fade soon", "fade"),
        ] {
            let error = text.parse::<Timeline>().unwrap_err();
            assert!(error.contains(word), "{text:?}: {error}");
        }
    }
}
