//! Reports as one HTML file that needs nothing else: no network, no script; its font, its style and
//! its charts (SVG) are in it, and a Content-Security-Policy forbids the rest.
//!
//! Not here: drawing (`chart`), choosing charts (`pictures`). [`Page`] escapes all text.
//! Callers: `run`, `saturate`, `compare`.

mod run;

use std::fmt::Write;

use base64::Engine;

pub use run::{of_run, of_search};

use crate::chart::{Chart, ChartError, FONTS};

/// Nothing from anywhere but the file itself.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; font-src data:; img-src data:";

/// A page that is being written.
pub struct Page {
    title: String,
    body: String,
}

/// A cell of a table.
pub enum Cell {
    /// Words, to the left.
    Words(String),
    /// A figure, to the right.
    Figure(String),
}

impl Cell {
    /// A figure.
    pub fn figure(text: impl Into<String>) -> Cell {
        Cell::Figure(text.into())
    }

    /// Words.
    pub fn words(text: impl Into<String>) -> Cell {
        Cell::Words(text.into())
    }

    fn write(&self, tag: &str, out: &mut String) {
        let (class, text) = match self {
            Cell::Words(text) => ("", text),
            Cell::Figure(text) => (" class=\"number\"", text),
        };
        // Writing to a String does not fail, here and below.
        let _ = write!(out, "<{tag}{class}>{}</{tag}>", escape(text));
    }
}

impl Page {
    /// A page called `title`.
    #[must_use]
    pub fn new(title: &str) -> Page {
        let title = title.to_owned();
        Page { body: format!("<h1>{}</h1>\n", escape(&title)), title }
    }

    /// A heading.
    pub fn heading(&mut self, text: &str) {
        let _ = writeln!(self.body, "<h2>{}</h2>", escape(text));
    }

    /// A paragraph of a class of the style sheet.
    pub fn paragraph(&mut self, class: &str, text: &str) {
        let _ = writeln!(self.body, "<p class=\"{class}\">{}</p>", escape(text));
    }

    /// The figures that a reader looks for first: value and what it is.
    pub fn figures(&mut self, figures: &[(String, String)]) {
        self.body.push_str("<div class=\"figures\">\n");
        for (value, what) in figures {
            let (value, what) = (escape(value), escape(what));
            let _ = writeln!(
                self.body,
                "<div class=\"figure\"><b>{value}</b><span>{what}</span></div>"
            );
        }
        self.body.push_str("</div>\n");
    }

    /// What makes the figures doubtful; nothing if there is nothing.
    pub fn warnings(&mut self, warnings: &[String]) {
        if warnings.is_empty() {
            return;
        }
        self.body
            .push_str("<div class=\"warnings\"><b>Read the figures with these in mind:</b><ul>\n");
        for warning in warnings {
            let _ = writeln!(self.body, "<li>{}</li>", escape(warning));
        }
        self.body.push_str("</ul></div>\n");
    }

    /// Charts, one below the other.
    ///
    /// # Errors
    /// One that cannot be drawn.
    pub fn charts(&mut self, charts: &[Chart]) -> Result<(), ChartError> {
        for chart in charts {
            let _ = writeln!(self.body, "<figure>{}</figure>", chart.svg()?);
        }
        Ok(())
    }

    /// A table: its head, then its rows.
    pub fn table(&mut self, head: &[Cell], rows: &[Vec<Cell>]) {
        self.body.push_str("<div class=\"scroll\"><table><thead><tr>");
        head.iter().for_each(|cell| cell.write("th", &mut self.body));
        self.body.push_str("</tr></thead><tbody>\n");
        for row in rows {
            self.body.push_str("<tr>");
            row.iter().for_each(|cell| cell.write("td", &mut self.body));
            self.body.push_str("</tr>\n");
        }
        self.body.push_str("</tbody></table></div>\n");
    }

    /// A table of names and values; values that are empty are left out.
    pub fn pairs(&mut self, rows: &[(String, String)]) {
        self.body.push_str("<table><tbody>\n");
        for (name, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
            let (name, value) = (escape(name), escape(value));
            let _ = writeln!(self.body, "<tr><th>{name}</th><td>{value}</td></tr>");
        }
        self.body.push_str("</tbody></table>\n");
    }

    /// The whole document.
    #[must_use]
    pub fn finish(self) -> String {
        let mut fonts = String::new();
        for (weight, font) in FONTS {
            let font = base64::engine::general_purpose::STANDARD.encode(font);
            let _ = writeln!(
                fonts,
                "@font-face {{ font-family: Inter; font-weight: {weight}; \
                 src: url(data:font/ttf;base64,{font}) format(\"truetype\"); }}"
            );
        }
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{}</title>\n<style>\n{fonts}{}</style>\n</head>\n<body>\n{}\
             <footer>thalweg-bench {} {}</footer>\n</body>\n</html>\n",
            escape(&self.title),
            include_str!("style.css"),
            self.body,
            env!("CARGO_PKG_VERSION"),
            env!("THALWEG_BENCH_COMMIT"),
        )
    }
}

/// Text as it stands in HTML.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for symbol in text.chars() {
        match symbol {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_label_says_is_text_and_never_markup() {
        let mut page = Page::new("<script>alert(1)</script>");
        page.paragraph("terms", "a < b & \"c\"");
        page.table(&[Cell::words("<i>")], &[vec![Cell::figure("1 > 0")]]);
        page.warnings(&["<b>".to_owned()]);
        page.pairs(&[("<u>".to_owned(), "<s>".to_owned()), ("nothing".to_owned(), String::new())]);
        let html = page.finish();
        for markup in ["<script", "<i>", "<b><", "<u>", "<s>", "nothing"] {
            assert!(!html.contains(markup), "{markup}");
        }
        assert!(html.contains("a &lt; b &amp; &quot;c&quot;"));
    }

    #[test]
    fn a_page_asks_for_nothing_from_elsewhere() {
        let html = Page::new("x").finish();
        assert!(html.contains("default-src 'none'"));
        assert!(!html.contains("http://") && !html.contains("https://"));
    }
}
