//! JSON as the program and its API print it: a reader of values, and quoted text for a writer.
//!
//! Own code and no crate, so that the fast checks start within seconds on a fresh clone. It reads
//! what `soma` wrote: a number is kept as its text, and nothing is checked beyond the form.

use std::collections::BTreeMap;

/// Deeper than any answer of the API.
const DEPTH_MAX: u32 = 64;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    /// A number or a text, as its characters: the API writes large integers as text.
    Text(String),
    List(Vec<Json>),
    Object(BTreeMap<String, Json>),
}

impl Json {
    /// The value that `text` is, all of it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut reader = Reader { text, at: 0 };
        let value = reader.value(0)?;
        reader.space();
        if reader.at == text.len() { Ok(value) } else { Err(reader.fault("ends too late")) }
    }

    /// A field of an object; null if there is none.
    pub(crate) fn get(&self, name: &str) -> &Self {
        const NULL: &Json = &Json::Null;
        match self {
            Self::Object(fields) => fields.get(name).unwrap_or(NULL),
            _ => NULL,
        }
    }

    /// The values of a list; none of anything else.
    pub(crate) fn list(&self) -> &[Self] {
        match self {
            Self::List(values) => values,
            _ => &[],
        }
    }

    /// The characters of a text or a number; empty for anything else.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            _ => "",
        }
    }

    /// An integer that is not negative.
    pub(crate) fn integer(&self) -> Option<u64> {
        self.text().parse().ok()
    }

    pub(crate) fn is_true(&self) -> bool {
        *self == Self::Bool(true)
    }
}

/// A text in quotes.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c < ' ' => quoted += &format!("\\u{:04x}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn fault(&self, what: &str) -> String {
        format!("malformed JSON at byte {}: {what}", self.at)
    }

    fn next(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn space(&mut self) {
        while self.next().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    /// Takes `token` if it comes next.
    fn takes(&mut self, token: &str) -> bool {
        self.space();
        let takes = self.text[self.at..].starts_with(token);
        if takes {
            self.at += token.len();
        }
        takes
    }

    fn expects(&mut self, token: &str) -> Result<(), String> {
        if self.takes(token) { Ok(()) } else { Err(self.fault(&format!("expected {token}"))) }
    }

    fn value(&mut self, depth: u32) -> Result<Json, String> {
        if depth > DEPTH_MAX {
            return Err(self.fault("is too deep"));
        }
        if self.takes("{") {
            return self.object(depth);
        }
        if self.takes("[") {
            return self.items(depth);
        }
        if self.takes("\"") {
            return Ok(Json::Text(self.quoted()?));
        }
        for (word, value) in
            [("null", Json::Null), ("true", Json::Bool(true)), ("false", Json::Bool(false))]
        {
            if self.takes(word) {
                return Ok(value);
            }
        }
        let rest = &self.text[self.at..];
        let length = rest.find(|c: char| !c.is_ascii_digit() && !"+-.eE".contains(c));
        let number = &rest[..length.unwrap_or(rest.len())];
        if number.is_empty() {
            return Err(self.fault("expected a value"));
        }
        self.at += number.len();
        Ok(Json::Text(number.to_owned()))
    }

    fn object(&mut self, depth: u32) -> Result<Json, String> {
        let mut fields = BTreeMap::new();
        while !self.takes("}") {
            if !fields.is_empty() {
                self.expects(",")?;
            }
            self.expects("\"")?;
            let name = self.quoted()?;
            self.expects(":")?;
            fields.insert(name, self.value(depth + 1)?);
        }
        Ok(Json::Object(fields))
    }

    fn items(&mut self, depth: u32) -> Result<Json, String> {
        let mut items = Vec::new();
        while !self.takes("]") {
            if !items.is_empty() {
                self.expects(",")?;
            }
            items.push(self.value(depth + 1)?);
        }
        Ok(Json::List(items))
    }

    /// The rest of a text after its first quote.
    fn quoted(&mut self) -> Result<String, String> {
        let mut text = String::new();
        while let Some(c) = self.next() {
            self.at += c.len_utf8();
            match c {
                '"' => return Ok(text),
                '\\' => text.push(self.escaped()?),
                c => text.push(c),
            }
        }
        Err(self.fault("a text does not end"))
    }

    /// The character that is written after a backslash. A pair of surrogates becomes two
    /// replacement characters: no name or message here has one.
    fn escaped(&mut self) -> Result<char, String> {
        let c = self.next().ok_or_else(|| self.fault("a text does not end"))?;
        self.at += c.len_utf8();
        Ok(match c {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'u' => {
                let digits = self.text.get(self.at..self.at + 4);
                let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
                let code = code.ok_or_else(|| self.fault("expected four hex digits"))?;
                self.at += 4;
                char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            c => c,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Json, quoted};

    #[test]
    fn an_answer_of_the_api_is_read_by_names_and_malformed_text_is_an_error() {
        let text = r#" {"height":"12","peers":3,"ready":true,"url":null,
            "troubles":[{"code":"disk_full","message":"a \"b\"\nA"}], "empty":{}, "none":[] } "#;
        let json = Json::parse(text).unwrap();
        assert_eq!(json.get("height").integer(), Some(12));
        assert_eq!(json.get("peers").integer(), Some(3));
        assert!(json.get("ready").is_true());
        assert_eq!(json.get("url"), &Json::Null);
        assert_eq!(json.get("absent"), &Json::Null);
        let [trouble] = json.get("troubles").list() else { panic!("{json:?}") };
        assert_eq!(trouble.get("message").text(), "a \"b\"\nA");
        for malformed in ["", "{", "[1 2]", "{\"a\" 1}", "\"a", "1 2", "{\"a\":}", &"[".repeat(99)]
        {
            assert!(Json::parse(malformed).is_err(), "{malformed}");
        }
    }

    #[test]
    fn a_quoted_text_reads_as_it_was() {
        let text = "tab\tquote\" back\\ line\n";
        assert_eq!(Json::parse(&quoted(text)), Ok(Json::Text(text.to_owned())));
    }
}
