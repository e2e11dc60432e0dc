//! One TOML file: the table `[run]`, whose keys are the long names of flags.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::flags::{Flags, Given};
use super::{COMMAND, Origin, Setting, setting};
use crate::error::{Error, Result};

/// Reads the settings in `text`; every error names the file and the line.
pub(super) fn parse(text: &str, path: &Path, flags: &Flags) -> Result<Vec<Setting>> {
    let at = |span: Range<usize>| {
        let before = text.get(..span.start).unwrap_or_default();
        Origin::File { path: path.to_owned(), line: 1 + before.matches('\n').count() }
    };
    let document = DeTable::parse(text).map_err(|e| {
        let origin = at(e.span().unwrap_or_default());
        Error::Usage(format!("{origin}: {}", e.message().replace('\n', ", ")))
    })?;
    let mut settings = Vec::new();
    for (key, value) in document.get_ref() {
        let origin = at(key.span());
        let DeValue::Table(table) = value.get_ref() else {
            return Err(Error::Usage(format!("{origin}: '{}' must stand below the line [{COMMAND}]", key.get_ref())));
        };
        if key.get_ref() != COMMAND {
            return Err(Error::Usage(format!("{origin}: there is no table [{}], only [{COMMAND}]", key.get_ref())));
        }
        for (key, value) in table {
            let origin = at(key.span());
            let flag = flags.find(key.get_ref(), &origin)?;
            let given = given(value.get_ref()).ok_or_else(|| {
                Error::Usage(format!("{origin}: {}: a value is expected, not {}", flag.name, kind(value)))
            })?;
            settings.push(setting(flag, given, origin)?);
        }
    }
    Ok(settings)
}

fn kind(value: &Spanned<DeValue<'_>>) -> String {
    match value.get_ref() {
        DeValue::Array(_) => "a list of such".to_owned(),
        other => format!("a {}", other.type_str()),
    }
}

fn given(value: &DeValue<'_>) -> Option<Given> {
    Some(match value {
        DeValue::Boolean(on) => Given::Bool(*on),
        DeValue::Array(list) => {
            Given::Many(list.iter().map(|v| Some(word(v.get_ref())?.into())).collect::<Option<_>>()?)
        }
        other => Given::One(word(other)?.into()),
    })
}

/// A value as it would be typed.
fn word(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Some(number.to_string()),
            Err(_) => Some(number.as_str().to_owned()),
        },
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        // `start = 00:01:30` is a time of day to TOML.
        DeValue::Datetime(time) => Some(time.to_string()),
        _ => None,
    }
}
