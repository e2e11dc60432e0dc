//! Prompt cleaning, as the training prompts were: text repaired, entities decoded, blanks united.

use super::entities::unescape_html;

/// Repairs a prompt's encoding and punctuation (ftfy's defaults), decodes HTML entities twice, and
/// makes each run of white space one space with none at the ends.
pub fn clean_prompt(prompt: &str) -> String {
    let repaired = repair(&without_terminal_escapes(prompt));
    let plain = unescape_html(&unescape_html(&repaired));
    let words: Vec<&str> = plain.split(is_blank).filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

/// `ftfy.fix_text`. Where there is a `<`, ftfy takes `&` for what it is and leaves entities to whoever
/// reads the markup; `plsfix` would decode them, so they are hidden from it.
fn repair(text: &str) -> String {
    const HIDDEN: &str = "\u{f8ff}";
    // Never in pieces: `plsfix` would cut between any two bytes.
    let config = plsfix::TextFixerConfig { max_decode_length: i32::MAX, ..Default::default() };
    if text.contains('<') && !text.contains(HIDDEN) {
        plsfix::fix_text(&text.replace('&', HIDDEN), Some(&config)).replace(HIDDEN, "&")
    } else {
        plsfix::fix_text(text, Some(&config))
    }
}

/// The text without ANSI colour and cursor sequences, a step of ftfy that `plsfix` 0.1.8 misses.
fn without_terminal_escapes(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\u{1b}[") {
        let sequence = &rest[at + 2..];
        let parameters = sequence.find(|c: char| !c.is_ascii_digit() && c != ';').unwrap_or(sequence.len());
        let ends = sequence[parameters..].starts_with(|c: char| c.is_ascii_alphabetic());
        let kept = if ends { at } else { at + 2 };
        plain.push_str(&rest[..kept]);
        rest = if ends { &sequence[parameters + 1..] } else { sequence };
    }
    plain.push_str(rest);
    plain
}

/// White space as Python's `re` has it: Unicode's, and the four separators of ASCII.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::clean_prompt;

    #[test]
    fn an_empty_prompt_stays_empty() {
        assert_eq!(clean_prompt(""), "");
        assert_eq!(clean_prompt(" \u{3000}\t\n"), "");
    }

    #[test]
    fn terminal_colours_are_no_part_of_a_prompt() {
        assert_eq!(clean_prompt("\u{1b}[1;31mred\u{1b}[0m fox \u{1b}[2x"), "red fox");
        assert_eq!(clean_prompt("a \u{1b}[? b"), "a [? b");
    }

    #[test]
    fn entities_are_decoded_to_the_end_but_twice_beside_a_tag() {
        // ftfy decodes all it finds, unless a `<` says that the text is markup.
        assert_eq!(clean_prompt("&amp;amp;amp; &amp;copy;"), "& ©");
        assert_eq!(clean_prompt("a < b &amp;amp;amp;"), "a < b &amp;");
    }

    #[test]
    fn entities_beside_markup_are_not_repaired() {
        assert_eq!(clean_prompt("&ldquo;a&rdquo;"), "\"a\"");
        assert_eq!(clean_prompt("&ldquo;a&rdquo; <"), "\u{201c}a\u{201d} <");
    }

    #[test]
    fn cleaning_twice_changes_nothing_more() {
        for prompt in ["a  cat", "“quotes” — ﬁne", "schÃ¶n", "x < y & z > 2"] {
            let once = clean_prompt(prompt);
            assert_eq!(clean_prompt(&once), once);
        }
    }
}
