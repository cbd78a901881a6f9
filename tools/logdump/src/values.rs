//! Keys, values and headers as text: what can be read is shown so, the rest in hexadecimal, and no
//! more than the reader asked for.

use serde_json::{Value, json};

/// Bytes of a record, shown up to a limit.
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    bytes: &'a [u8],
    shown: &'a [u8],
}

impl<'a> Shown<'a> {
    /// At most `limit` of `bytes`.
    pub fn new(bytes: &'a [u8], limit: usize) -> Shown<'a> {
        let mut end = bytes.len().min(limit);
        // Not in the middle of a character.
        if std::str::from_utf8(bytes).is_ok() {
            while end < bytes.len() && end > 0 && bytes[end] & 0xC0 == 0x80 {
                end -= 1;
            }
        }
        Shown { bytes, shown: &bytes[..end] }
    }

    fn as_text(&self) -> Option<&'a str> {
        std::str::from_utf8(self.shown).ok()
    }

    fn hex(&self) -> String {
        self.shown.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// On one line.
    pub fn text(&self) -> String {
        let mut out = match self.as_text() {
            // Newlines and control characters would break the line, or the terminal.
            Some(text) => text.chars().fold(String::new(), |mut out, c| {
                match c {
                    '\\' => out.push_str("\\\\"),
                    c if c.is_control() => out.extend(c.escape_default()),
                    c => out.push(c),
                }
                out
            }),
            None => format!("0x{}", self.hex()),
        };
        let left = self.bytes.len() - self.shown.len();
        if left > 0 {
            out.push_str(&format!("… ({left} bytes more)"));
        }
        out
    }

    /// With its whole length.
    pub fn json(&self) -> Value {
        let bytes = self.bytes.len();
        let is_cut = self.shown.len() < bytes;
        match self.as_text() {
            Some(text) => json!({"bytes": bytes, "is_cut": is_cut, "text": text}),
            None => json!({"bytes": bytes, "is_cut": is_cut, "hex": self.hex()}),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_on_one_line_and_within_their_limit() {
        assert_eq!(Shown::new(b"hello", 9).text(), "hello");
        assert_eq!(Shown::new(b"a\nb\x1b[2J\\", 9).text(), "a\\nb\\u{1b}[2J\\\\");
        assert_eq!(Shown::new(&[0xFF, 1], 9).text(), "0xff01");
        assert_eq!(Shown::new(b"hello", 2).text(), "he… (3 bytes more)");
        assert_eq!(Shown::new("né".as_bytes(), 2).text(), "n… (2 bytes more)");
        assert_eq!(Shown::new(b"", 0).text(), "");
        assert_eq!(Shown::new(b"hello", 2).json()["bytes"], 5);
        assert_eq!(Shown::new(&[0xFF], 2).json()["hex"], "ff");
    }
}
