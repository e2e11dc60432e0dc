//! The central directory of a zip archive whose entries are stored, not compressed.

use std::collections::HashMap;
use std::ops::Range;

/// Names of entries and where their bytes lie in the file.
pub(super) struct Archive {
    entries: HashMap<String, Range<usize>>,
}

const END: u32 = 0x0605_4b50;
const END64: u32 = 0x0606_4b50;
const LOCATOR64: u32 = 0x0706_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const LOCAL: u32 = 0x0403_4b50;

fn number<const N: usize>(file: &[u8], at: usize) -> Option<u64> {
    let bytes = file.get(at..at.checked_add(N)?)?;
    Some(bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
}

impl Archive {
    /// Reads the directory (PKWARE APPNOTE 4.3, with the zip64 records of 4.3.14).
    pub(super) fn read(file: &[u8]) -> Result<Self, String> {
        Self::parse(file).ok_or_else(|| "is not a whole zip archive: download it again".to_owned())?
    }

    fn parse(file: &[u8]) -> Option<Result<Self, String>> {
        let newest = file.len().checked_sub(22)?;
        let end =
            (newest.saturating_sub(65_535)..=newest).rev().find(|&at| number::<4>(file, at) == Some(END.into()))?;
        let (mut count, mut at) = (number::<2>(file, end + 10)?, number::<4>(file, end + 16)?);
        let locator = end.checked_sub(20).filter(|&at| number::<4>(file, at) == Some(LOCATOR64.into()));
        if let Some(locator) = locator {
            let end64 = usize::try_from(number::<8>(file, locator + 8)?).ok()?;
            if number::<4>(file, end64)? != u64::from(END64) {
                return None;
            }
            (count, at) = (number::<8>(file, end64.checked_add(32)?)?, number::<8>(file, end64.checked_add(48)?)?);
        }
        let mut at = usize::try_from(at).ok()?;
        let mut entries = HashMap::new();
        for _ in 0..count {
            if number::<4>(file, at)? != u64::from(CENTRAL) {
                return None;
            }
            let method = number::<2>(file, at + 10)?;
            let mut stored = number::<4>(file, at + 20)?;
            let mut size = number::<4>(file, at + 24)?;
            let name_len = number::<2>(file, at + 28)? as usize;
            let extra_len = number::<2>(file, at + 30)? as usize;
            let comment_len = number::<2>(file, at + 32)? as usize;
            let mut local = number::<4>(file, at + 42)?;
            let name = String::from_utf8_lossy(file.get(at + 46..at + 46 + name_len)?).into_owned();
            let extra = file.get(at + 46 + name_len..at + 46 + name_len + extra_len)?;
            zip64(extra, [&mut size, &mut stored, &mut local])?;
            at += 46 + name_len + extra_len + comment_len;
            if method != 0 || stored != size {
                return Some(Err(format!("the entry {name} is compressed, which torch never does")));
            }
            let local = usize::try_from(local).ok()?;
            if number::<4>(file, local)? != u64::from(LOCAL) {
                return None;
            }
            let skip = 30 + number::<2>(file, local + 26)? + number::<2>(file, local + 28)?;
            let start = local.checked_add(skip as usize)?;
            let range = start..start.checked_add(usize::try_from(size).ok()?)?;
            file.get(range.clone())?;
            entries.insert(name, range);
        }
        Some(Ok(Archive { entries }))
    }

    /// The folder (with its slash) that holds `data.pkl`, and where that lies.
    pub(super) fn pickle(&self) -> Option<(String, Range<usize>)> {
        self.entries.iter().find_map(|(name, range)| Some((name.strip_suffix("data.pkl")?.to_owned(), range.clone())))
    }

    pub(super) fn get(&self, name: &str) -> Option<Range<usize>> {
        self.entries.get(name).cloned()
    }
}

/// The 64-bit values of the extra field take the place of those that are all ones, in this order.
fn zip64(mut extra: &[u8], values: [&mut u64; 3]) -> Option<()> {
    while extra.len() >= 4 {
        let (id, len) = (number::<2>(extra, 0)?, number::<2>(extra, 2)? as usize);
        let field = extra.get(4..4 + len)?;
        if id == 1 {
            let mut at = 0;
            for value in values {
                if *value == u64::from(u32::MAX) {
                    *value = number::<8>(field, at)?;
                    at += 8;
                }
            }
            return Some(());
        }
        extra = &extra[4 + len..];
    }
    Some(())
}
