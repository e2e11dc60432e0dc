//! HTML5 character references, decoded as browsers and Python's `html.unescape` do: numbers with or
//! without a semicolon, names with one, and the old names that never needed one.

/// The names that HTML5 accepts without a semicolon (WHATWG HTML, section 13.5).
const WITHOUT_SEMICOLON: [&str; 106] = [
    "AElig", "AMP", "Aacute", "Acirc", "Agrave", "Aring", "Atilde", "Auml", "COPY", "Ccedil", "ETH", "Eacute", "Ecirc",
    "Egrave", "Euml", "GT", "Iacute", "Icirc", "Igrave", "Iuml", "LT", "Ntilde", "Oacute", "Ocirc", "Ograve", "Oslash",
    "Otilde", "Ouml", "QUOT", "REG", "THORN", "Uacute", "Ucirc", "Ugrave", "Uuml", "Yacute", "aacute", "acirc",
    "acute", "aelig", "agrave", "amp", "aring", "atilde", "auml", "brvbar", "ccedil", "cedil", "cent", "copy",
    "curren", "deg", "divide", "eacute", "ecirc", "egrave", "eth", "euml", "frac12", "frac14", "frac34", "gt",
    "iacute", "icirc", "iexcl", "igrave", "iquest", "iuml", "laquo", "lt", "macr", "micro", "middot", "nbsp", "not",
    "ntilde", "oacute", "ocirc", "ograve", "ordf", "ordm", "oslash", "otilde", "ouml", "para", "plusmn", "pound",
    "quot", "raquo", "reg", "sect", "shy", "sup1", "sup2", "sup3", "szlig", "thorn", "times", "uacute", "ucirc",
    "ugrave", "uml", "uuml", "yacute", "yen", "yuml",
];

/// What the numbers 128 to 159 mean in documents: Windows-1252, where it has a character.
const WINDOWS_1252: [u32; 32] = [
    0x20ac, 0x0081, 0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6, 0x2030, 0x0160, 0x2039, 0x0152, 0x008d,
    0x017d, 0x008f, 0x0090, 0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014, 0x02dc, 0x2122, 0x0161, 0x203a,
    0x0153, 0x009d, 0x017e, 0x0178,
];

/// Names that stand for two characters, by the second of them; `html_escape` gives only the first.
const SECOND_CHARACTERS: [(char, &[&str]); 8] = [
    ('j', &["fjlig"]),
    ('\u{0331}', &["race"]),
    ('\u{0333}', &["acE"]),
    (
        '\u{0338}',
        &[
            "NotEqualTilde",
            "NotGreaterFullEqual",
            "NotGreaterGreater",
            "NotGreaterSlantEqual",
            "NotHumpDownHump",
            "NotHumpEqual",
            "NotLeftTriangleBar",
            "NotLessLess",
            "NotLessSlantEqual",
            "NotNestedGreaterGreater",
            "NotNestedLessLess",
            "NotPrecedesEqual",
            "NotRightTriangleBar",
            "NotSquareSubset",
            "NotSquareSuperset",
            "NotSucceedsEqual",
            "NotSucceedsTilde",
            "nGg",
            "nGtv",
            "nLl",
            "nLtv",
            "napE",
            "napid",
            "nbump",
            "nbumpe",
            "ncongdot",
            "nedot",
            "nesim",
            "ngE",
            "ngeqq",
            "ngeqslant",
            "nges",
            "nlE",
            "nleqq",
            "nleqslant",
            "nles",
            "notinE",
            "notindot",
            "npart",
            "npre",
            "npreceq",
            "nrarrc",
            "nrarrw",
            "nsce",
            "nsubE",
            "nsubseteqq",
            "nsucceq",
            "nsupE",
            "nsupseteqq",
        ],
    ),
    ('\u{200a}', &["ThickSpace"]),
    (
        '\u{20d2}',
        &[
            "NotSubset",
            "NotSuperset",
            "nGt",
            "nLt",
            "nang",
            "nsubset",
            "nsupset",
            "nvap",
            "nvge",
            "nvgt",
            "nvle",
            "nvlt",
            "nvltrie",
            "nvrtrie",
            "nvsim",
            "vnsub",
            "vnsup",
        ],
    ),
    ('\u{20e5}', &["bne", "bnequiv", "nparsl"]),
    (
        '\u{fe00}',
        &[
            "caps",
            "cups",
            "gesl",
            "gvertneqq",
            "gvnE",
            "lates",
            "lesg",
            "lvertneqq",
            "lvnE",
            "smtes",
            "sqcaps",
            "sqcups",
            "varsubsetneq",
            "varsubsetneqq",
            "varsupsetneq",
            "varsupsetneqq",
            "vsubnE",
            "vsubne",
            "vsupnE",
            "vsupne",
        ],
    ),
];

/// Longest name without its ampersand, in characters, as Python looks for it.
const LONGEST_NAME: usize = 32;

/// The text with every character reference replaced by what it stands for.
pub fn unescape_html(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        plain.push_str(&rest[..at]);
        let reference = &rest[at + 1..];
        match reference.strip_prefix('#') {
            Some(number) => rest = decode_number(number, &mut plain),
            None => rest = decode_name(reference, &mut plain),
        }
    }
    plain.push_str(rest);
    plain
}

/// Decodes what follows `&#` and returns what is left.
fn decode_number<'a>(text: &'a str, plain: &mut String) -> &'a str {
    let (digits, radix) = match text.strip_prefix(['x', 'X']) {
        Some(hex) => (hex, 16),
        None => (text, 10),
    };
    let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    if end == 0 {
        plain.push_str("&#");
        return text;
    }
    let rest = &digits[end..];
    // Too long for a number is beyond Unicode as well.
    let number = u32::from_str_radix(&digits[..end], radix).unwrap_or(u32::MAX);
    plain.extend(character(number));
    rest.strip_prefix(';').unwrap_or(rest)
}

/// The character of a numeric reference; none for code points that no document may hold.
fn character(number: u32) -> Option<char> {
    match number {
        0 => Some('\u{fffd}'),
        0x0d => Some('\r'),
        0x80..=0x9f => char::from_u32(WINDOWS_1252[number as usize - 0x80]),
        0x01..=0x08 | 0x0b | 0x0e..=0x1f | 0x7f | 0xfdd0..=0xfdef => None,
        _ if number <= 0x0010_ffff && number & 0xfffe == 0xfffe => None,
        _ => Some(char::from_u32(number).unwrap_or('\u{fffd}')),
    }
}

/// Decodes the name after `&`, or the longest old name that it begins with, and returns what is
/// left.
fn decode_name<'a>(text: &'a str, plain: &mut String) -> &'a str {
    let ends = |c: char| matches!(c, '\t' | '\n' | '\x0c' | ' ' | '<' | '&' | '#' | ';');
    let name = match text.char_indices().take(LONGEST_NAME + 1).find(|&(_, c)| ends(c)) {
        Some((end, _)) => &text[..end],
        None => match text.char_indices().nth(LONGEST_NAME) {
            Some((end, _)) => &text[..end],
            None => text,
        },
    };
    if text[name.len()..].starts_with(';')
        && let Some(value) = named(name)
    {
        plain.push_str(&value);
        return &text[name.len() + 1..];
    }
    let old = WITHOUT_SEMICOLON.into_iter().filter(|old| name.starts_with(old)).max_by_key(|old| old.len());
    match old.and_then(|old| Some((old, named(old)?))) {
        Some((old, value)) => {
            plain.push_str(&value);
            &text[old.len()..]
        }
        None => {
            plain.push('&');
            text
        }
    }
}

/// What `&name;` stands for.
fn named(name: &str) -> Option<String> {
    let reference = format!("&{name};");
    let mut value = html_escape::decode_html_entities(&reference).into_owned();
    if value == reference {
        return None;
    }
    value.extend(SECOND_CHARACTERS.iter().filter(|(_, names)| names.contains(&name)).map(|(second, _)| second));
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_old_name_has_a_value() {
        for name in WITHOUT_SEMICOLON {
            assert!(named(name).is_some(), "{name}");
            assert_eq!(unescape_html(&format!("&{name} ")), format!("{} ", named(name).unwrap()));
        }
    }

    #[test]
    fn the_longest_old_name_wins() {
        assert_eq!(unescape_html("&notit; &notin; &not; &no"), "¬it; ∉ ¬ &no");
        assert_eq!(unescape_html("&ampamp; &amplt"), "&amp; &lt");
    }

    #[test]
    fn some_names_are_two_characters() {
        assert_eq!(unescape_html("&fjlig; &NotEqualTilde; &caps;"), "fj \u{2242}\u{338} \u{2229}\u{fe00}");
    }

    #[test]
    fn numbers_follow_html5() {
        assert_eq!(unescape_html("&#65&#x42;&#X43 &#128; &#0;"), "ABC € \u{fffd}");
        assert_eq!(unescape_html("&#xd800; &#x110000; &#99999999999;"), "\u{fffd} \u{fffd} \u{fffd}");
        assert_eq!(unescape_html("a&#1;b &# &#x; &#xg;"), "ab &# &#x; &#xg;");
    }

    #[test]
    fn what_is_no_reference_stays() {
        for text in ["a & b", "&", "&;", "&unknown;", "fish&chips", "&é;"] {
            assert_eq!(unescape_html(text), text);
        }
    }
}
