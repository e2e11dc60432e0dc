//! Prompt cleaning, as the training prompts were: text repaired, entities decoded, blanks united.

use super::entities::unescape_html;

/// Repairs a prompt's encoding and punctuation (ftfy's defaults), decodes HTML entities twice, and
/// makes each run of white space one space with none at the ends.
pub fn clean_prompt(prompt: &str) -> String {
    let repaired = plsfix::fix_text(prompt, None);
    let plain = unescape_html(&unescape_html(&repaired));
    let words: Vec<&str> = plain.split(is_blank).filter(|word| !word.is_empty()).collect();
    words.join(" ")
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
    fn entities_are_decoded_to_the_end_but_twice_beside_a_tag() {
        // ftfy decodes all it finds, unless a `<` says that the text is markup.
        assert_eq!(clean_prompt("&amp;amp;amp; &amp;copy;"), "& ©");
        assert_eq!(clean_prompt("a < b &amp;amp;amp;"), "a < b &amp;");
    }

    #[test]
    fn cleaning_twice_changes_nothing_more() {
        for prompt in ["a  cat", "“quotes” — ﬁne", "schÃ¶n", "x < y & z > 2"] {
            let once = clean_prompt(prompt);
            assert_eq!(clean_prompt(&once), once);
        }
    }
}
