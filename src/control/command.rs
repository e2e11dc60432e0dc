//! What can be asked of a run, and how it is written.

use serde_json::{Map, Value};

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// A new prompt, blended in over so many blocks.
    Prompt {
        text: String,
        blend: Option<u32>,
    },
    /// How far the result may go from the input, 0 to 1.
    Strength(f64),
    Seed(u64),
    /// The generator forgets what came before.
    Reset,
    /// What `--bg` takes, or `off`.
    Background(String),
    Pause(bool),
    Quit,
    Status,
}

/// The names that an object may have, for messages.
const NAMES: &str = "prompt (with blend), strength, seed, reset, background, pause, quit, status";

impl Command {
    /// Reads a JSON object with one command.
    pub fn from_json(line: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(line).map_err(|e| format!("this is no JSON: {e}"))?;
        let Value::Object(object) = value else {
            return Err(format!("a command is an object such as {{\"status\": true}}; it may hold: {NAMES}"));
        };
        Self::from_object(object)
    }

    fn from_object(mut object: Map<String, Value>) -> Result<Self, String> {
        let blend = match object.remove("blend") {
            None => None,
            Some(value) if object.contains_key("prompt") => {
                let blocks = value.as_u64().and_then(|n| u32::try_from(n).ok());
                Some(blocks.ok_or("blend: a whole number of blocks, from 0 on")?)
            }
            Some(_) => return Err("blend belongs to a prompt".to_owned()),
        };
        let mut fields = object.into_iter();
        let (Some((name, value)), None) = (fields.next(), fields.next()) else {
            return Err(format!("one command at a time; an object may hold: {NAMES}"));
        };
        let wrong = |what: &str| Err(format!("{name}: {what}"));
        match (name.as_str(), value) {
            ("prompt", Value::String(text)) => prompt(&text, blend),
            ("strength", value) => match value.as_f64() {
                Some(strength) if (0.0..=1.0).contains(&strength) => Ok(Self::Strength(strength)),
                _ => wrong("a number from 0 to 1"),
            },
            ("seed", value) => value.as_u64().map_or_else(|| wrong("a whole number, from 0 on"), |n| Ok(Self::Seed(n))),
            ("reset", Value::Bool(true)) => Ok(Self::Reset),
            ("background", Value::String(what)) => Ok(Self::Background(what)),
            ("pause", Value::Bool(on)) => Ok(Self::Pause(on)),
            ("quit", Value::Bool(true)) => Ok(Self::Quit),
            ("status", Value::Bool(true)) => Ok(Self::Status),
            ("prompt" | "background", _) => wrong("a text"),
            ("pause", _) => wrong("true or false"),
            ("reset" | "quit" | "status", _) => wrong("true"),
            _ => Err(format!("'{name}' is no command; an object may hold: {NAMES}")),
        }
    }

    /// Reads a line as a person types it: a prompt, or a slash and a command.
    pub fn from_words(line: &str) -> Result<Self, String> {
        let line = line.trim();
        let Some(words) = line.strip_prefix('/') else { return prompt(line, None) };
        let (name, rest) = words.split_once(char::is_whitespace).unwrap_or((words, ""));
        let rest = rest.trim();
        let bare = |command: Self| if rest.is_empty() { Ok(command) } else { Err(format!("/{name} stands alone")) };
        match name {
            "prompt" => prompt(rest, None),
            "strength" => match rest.parse() {
                Ok(strength) if (0.0..=1.0).contains(&strength) => Ok(Self::Strength(strength)),
                _ => Err("/strength takes a number from 0 to 1".to_owned()),
            },
            "seed" => rest.parse().map(Self::Seed).map_err(|_| "/seed takes a whole number, from 0 on".to_owned()),
            "reset" => bare(Self::Reset),
            "bg" | "background" if rest.is_empty() => Err("/bg takes what --bg takes, or off".to_owned()),
            "bg" | "background" => Ok(Self::Background(rest.to_owned())),
            "pause" => bare(Self::Pause(true)),
            "go" | "resume" => bare(Self::Pause(false)),
            "quit" | "q" => bare(Self::Quit),
            "status" => bare(Self::Status),
            _ => Err(format!(
                "/{name} is no command; there are /strength, /seed, /reset, /bg, /pause, /resume, /status, /quit, and any line without a slash is a prompt"
            )),
        }
    }
}

fn prompt(text: &str, blend: Option<u32>) -> Result<Command, String> {
    match text.trim() {
        "" => Err("prompt: the text is empty".to_owned()),
        text => Ok(Command::Prompt { text: text.to_owned(), blend }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_can_be_written_in_both_ways() {
        let prompt = |blend| Command::Prompt { text: "a robot".to_owned(), blend };
        let both = [
            (r#"{"prompt": "a robot"}"#, "a robot", prompt(None)),
            (r#"{"strength": 0.5}"#, "/strength 0.5", Command::Strength(0.5)),
            (r#"{"strength": 1}"#, "/strength 1", Command::Strength(1.0)),
            (r#"{"seed": 7}"#, "/seed 7", Command::Seed(7)),
            (r#"{"reset": true}"#, "/reset", Command::Reset),
            (r##"{"background": "#00ff00"}"##, "/bg #00ff00", Command::Background("#00ff00".to_owned())),
            (r#"{"pause": true}"#, "/pause", Command::Pause(true)),
            (r#"{"pause": false}"#, "/resume", Command::Pause(false)),
            (r#"{"quit": true}"#, "/quit", Command::Quit),
            (r#"{"status": true}"#, "/status", Command::Status),
        ];
        for (json, words, command) in both {
            assert_eq!(Command::from_json(json), Ok(command.clone()), "{json}");
            assert_eq!(Command::from_words(words), Ok(command), "{words}");
        }
        assert_eq!(Command::from_json(r#"{"blend": 8, "prompt": " a robot "}"#), Ok(prompt(Some(8))));
    }

    #[test]
    fn what_is_no_command_is_told_why() {
        let json = [
            ("", "no JSON"),
            ("{", "no JSON"),
            ("[]", "object"),
            ("7", "object"),
            ("{}", "one command"),
            (r#"{"pause": true, "quit": true}"#, "one command"),
            (r#"{"stop": true}"#, "'stop' is no command"),
            (r#"{"prompt": 7}"#, "a text"),
            (r#"{"prompt": "  "}"#, "empty"),
            (r#"{"blend": 8}"#, "belongs to a prompt"),
            (r#"{"prompt": "a", "blend": -1}"#, "whole number"),
            (r#"{"strength": 2}"#, "0 to 1"),
            (r#"{"seed": 1.5}"#, "whole number"),
            (r#"{"quit": false}"#, "true"),
            (r#"{"pause": "yes"}"#, "true or false"),
        ];
        for (line, why) in json {
            let error = Command::from_json(line).unwrap_err();
            assert!(error.contains(why), "{line}: {error}");
        }
        for (line, why) in
            [("", "empty"), ("/strength", "0 to 1"), ("/bg", "--bg"), ("/quit now", "alone"), ("/x", "no command")]
        {
            let error = Command::from_words(line).unwrap_err();
            assert!(error.contains(why), "{line}: {error}");
        }
    }
}
