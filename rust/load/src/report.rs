//! The result: one flat JSON object of words and numbers.

use std::fmt::Write;

#[derive(Default)]
pub struct Report {
    text: String,
}

impl Report {
    fn name(&mut self, name: &str) -> &mut String {
        self.text.push_str(if self.text.is_empty() { "{" } else { ", " });
        // Writing to a string cannot fail.
        let _ = write!(self.text, "\"{name}\": ");
        &mut self.text
    }

    /// `word` is one of ours: it holds nothing that JSON would want escaped.
    pub fn word(mut self, name: &str, word: &str) -> Report {
        let _ = write!(self.name(name), "\"{word}\"");
        self
    }

    pub fn count(mut self, name: &str, count: u64) -> Report {
        let _ = write!(self.name(name), "{count}");
        self
    }

    pub fn decimal(mut self, name: &str, value: f64) -> Report {
        let value = if value.is_finite() { value } else { 0.0 };
        let _ = write!(self.name(name), "{value:.6}");
        self
    }

    pub fn text(mut self) -> String {
        self.text.push_str(if self.text.is_empty() { "{}" } else { "}" });
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_one_json_object() {
        assert_eq!(Report::default().text(), "{}");
        let report =
            Report::default().word("kind", "x").count("sent", 3).decimal("rate", 0.5).decimal("none", f64::NAN);
        assert_eq!(report.text(), r#"{"kind": "x", "sent": 3, "rate": 0.500000, "none": 0.000000}"#);
    }
}
