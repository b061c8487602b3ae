//! Text from elsewhere on a terminal: names, messages and data come from the chain, from nodes and
//! from files, and a terminal obeys what is hidden in them. Nothing but this program's own styles
//! may control it.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::LazyLock;

use anstyle::Style;

/// Begins a style that this program has set. Nobody else can write it: it is different in every
/// process.
static MARK: LazyLock<String> = LazyLock::new(|| {
    let secret = RandomState::new().build_hasher().finish();
    format!("\u{fdd0}{secret:016x}")
});

/// The end of a style, after the mark.
const END: char = '.';

/// Text in a style, which [`render`] turns into what a terminal understands. `number` is the
/// style's in the list that `render` gets.
pub(crate) fn styled(number: u8, text: &str) -> String {
    let mark = MARK.as_str();
    format!("{mark}{}{text}{mark}{END}", char::from(b'a'.saturating_add(number)))
}

/// Whether a character can control a terminal, or make a line read differently from what it says:
/// controls other than newline and tab, and those that change the direction of text.
fn is_harmful(c: char) -> bool {
    let is_direction = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}');
    (c.is_control() && c != '\n' && c != '\t')
        || is_direction
        || matches!(c, '\u{2028}' | '\u{2029}')
}

/// The text with every harmful character written out, as in `\u{1b}`.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_harmful(c) {
            safe.extend(c.escape_unicode());
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

/// A name or a message as part of a line: line breaks in it, which could feign other lines, are
/// written out.
pub(crate) fn one_line(text: impl std::fmt::Display) -> String {
    text.to_string().replace('\n', "\\u{a}")
}

/// The text for a terminal: harmless, and with the styles that [`styled`] has set.
pub(crate) fn render(text: &str, styles: &[Style]) -> String {
    let safe = harmless(text);
    let mut parts = safe.split(MARK.as_str());
    let mut rendered = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut rest = part.chars();
        match rest.next() {
            Some(END) => rendered += "\u{1b}[0m",
            Some(letter) => {
                let number = u32::from(letter).wrapping_sub(u32::from('a'));
                let style = usize::try_from(number).ok().and_then(|number| styles.get(number));
                if let Some(style) = style {
                    // Writing to a string cannot fail.
                    let _ = write!(rendered, "{style}");
                }
            }
            None => {}
        }
        rendered += rest.as_str();
    }
    rendered
}

/// A line of JSON that means the same and is harmless: such characters stand in strings alone,
/// where JSON has a way to write them.
pub(crate) fn harmless_json(line: String) -> String {
    if !line.contains(is_harmful) {
        return line;
    }
    let mut safe = String::with_capacity(line.len() + 16);
    for c in line.chars() {
        if is_harmful(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(safe, "\\u{unit:04x}");
            }
        } else {
            safe.push(c);
        }
    }
    safe
}

/// Bytes that arrive one by one, as text for a terminal: whole characters as soon as they are
/// complete, and nothing harmful.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    pending: Vec<u8>,
}

impl Decoder {
    /// What can be shown after these bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let mut shown = String::new();
        let mut rest = self.pending.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    shown += text;
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    shown += &String::from_utf8_lossy(valid);
                    let Some(length) = error.error_len() else {
                        rest = after;
                        break;
                    };
                    shown.push(char::REPLACEMENT_CHARACTER);
                    rest = after.get(length..).unwrap_or_default();
                }
            }
        }
        self.pending = rest.to_vec();
        harmless(&shown).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use anstyle::{AnsiColor, Style};

    use super::{Decoder, END, MARK, harmless, harmless_json, one_line, render, styled};

    const STYLES: [Style; 2] = [Style::new().bold(), AnsiColor::Red.on_default()];

    #[test]
    fn nothing_from_elsewhere_controls_the_terminal() {
        let name = "v2\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}1m\u{202e}txt";
        let shown = harmless(name);
        assert_eq!(shown, "v2\\u{1b}[2J\\u{1b}]0;owned\\u{7}\\u{9b}1m\\u{202e}txt");
        assert_eq!(harmless("plain \u{fc}nicode\n\tand lines"), "plain \u{fc}nicode\n\tand lines");
        assert_eq!(harmless("a\rb\u{8}c\u{7f}"), "a\\u{d}b\\u{8}c\\u{7f}");
    }

    #[test]
    fn only_this_program_sets_styles() {
        let text = format!("{} and {}", styled(0, "bold\u{1b}[8m"), styled(1, "red"));
        let shown = render(&text, &STYLES);
        assert_eq!(shown, "\u{1b}[1mbold\\u{1b}[8m\u{1b}[0m and \u{1b}[31mred\u{1b}[0m");
        let forged = format!("\u{fdd0}0123456789abcdefa bold {END} \u{1b}[31m");
        assert!(!render(&forged, &STYLES).contains('\u{1b}'));
        assert!(MARK.len() > 16);
    }

    #[test]
    fn a_name_never_feigns_another_line() {
        assert_eq!(one_line("a\nbest  loss 0"), "a\\u{a}best  loss 0");
    }

    #[test]
    fn json_stays_the_same_document() {
        let value = serde_json::json!({"name": "a\u{9b}b\u{202e}c\u{7f}\n"});
        let line = harmless_json(value.to_string());
        assert!(line.is_ascii());
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap(), value);
    }

    #[test]
    fn bytes_become_text_as_they_arrive() {
        let mut decoder = Decoder::default();
        let shown: Vec<String> =
            b"a\xc3\xbc\xff\x1b[2J".iter().map(|byte| decoder.push(&[*byte])).collect();
        assert_eq!(shown.concat(), "a\u{fc}\u{fffd}\\u{1b}[2J");
        assert_eq!((shown[1].as_str(), shown[2].as_str()), ("", "\u{fc}"));
    }
}
