//! One Rust file as tidy sees it: the text split into code and comments, tokens, and the paths it
//! names. This is a lexer, not a compiler: it knows strings, comments, lifetimes, nested `use`
//! trees, inline modules and `#[cfg(test)]`, and nothing about macros' expansions.

use std::collections::BTreeSet;

/// A word or a piece of punctuation of the code, with the line (from 1) on which it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub text: String,
    pub line: usize,
}

/// A path that the code names, resolved against the module in which it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Segments from the crate root, without `crate`.
    pub path: Vec<String>,
    pub line: usize,
}

/// A file, split.
pub struct Source {
    /// From the root of the checkout, with `/`.
    pub path: String,
    pub tokens: Vec<Token>,
    /// Code of each line, literals' contents and comments blanked out.
    pub code: Vec<String>,
    /// Comment of each line, everything else blanked out.
    pub comments: Vec<String>,
    /// Lines (from 1) that belong to `#[cfg(test)]` items.
    pub test_lines: BTreeSet<usize>,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Source {
        let (code, comments) = split(text);
        let tokens = tokenize(&code);
        let test_lines = test_lines(&tokens);
        let lines = |text: &str| text.lines().map(str::to_owned).collect();
        Source {
            path: path.to_owned(),
            tokens,
            code: lines(&code),
            comments: lines(&comments),
            test_lines,
        }
    }

    /// Lines that hold code and are not test code.
    pub fn code_lines(&self) -> usize {
        (1..=self.code.len())
            .filter(|line| !self.test_lines.contains(line) && self.has_code(*line))
            .count()
    }

    pub fn has_code(&self, line: usize) -> bool {
        self.code.get(line - 1).is_some_and(|code| !code.trim().is_empty())
    }

    pub fn comment(&self, line: usize) -> &str {
        self.comments.get(line.wrapping_sub(1)).map_or("", |comment| comment.trim())
    }

    /// The module that the file is: `src/io/buf.rs` is `["io", "buf"]`, `src/lib.rs` is `[]`.
    pub fn module(&self) -> Vec<String> {
        let inner = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let inner = inner.strip_suffix(".rs").unwrap_or(inner);
        let mut module: Vec<String> = inner.split('/').map(str::to_owned).collect();
        if matches!(module.last().map(String::as_str), Some("mod" | "lib" | "main")) {
            module.pop();
        }
        module
    }

    /// Modules that the file declares without a body: name and whether only for tests.
    pub fn child_files(&self) -> Vec<(String, bool)> {
        self.tokens
            .windows(3)
            .filter(|w| w[0].text == "mod" && w[2].text == ";")
            .map(|w| (w[1].text.clone(), self.test_lines.contains(&w[0].line)))
            .collect()
    }

    /// Every path of this crate that the file names, with `crate`, `self`, `super` and the names
    /// of child modules resolved.
    pub fn named(&self) -> Vec<Named> {
        let mut found = Vec::new();
        let mut modules = vec![(self.module(), usize::MAX)];
        let mut depth = 0;
        let mut at = 0;
        while at < self.tokens.len() {
            let text = self.tokens[at].text.as_str();
            match text {
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    if modules.last().is_some_and(|(_, opened)| *opened == depth) {
                        modules.pop();
                    }
                }
                "mod" if self.text(at + 2) == "{" => {
                    let mut path = modules.last().expect("the file's own module").0.clone();
                    path.push(self.text(at + 1).to_owned());
                    modules.push((path, depth));
                    depth += 1;
                    at += 2;
                }
                "use" if self.text(at + 1) != "<" => {
                    let module = &modules.last().expect("the file's own module").0;
                    at = self.use_tree(at + 1, &mut Vec::new(), module, &mut found);
                    continue;
                }
                "crate" | "self" | "super"
                    if self.text(at + 1) == "::" && self.text(at.wrapping_sub(1)) != "::" =>
                {
                    let module = &modules.last().expect("the file's own module").0;
                    let line = self.tokens[at].line;
                    let mut path = vec![text.to_owned()];
                    while self.text(at + 1) == "::" && is_word(self.text(at + 2)) {
                        path.push(self.text(at + 2).to_owned());
                        at += 2;
                    }
                    found.extend(self.resolve(&path, module).map(|path| Named { path, line }));
                }
                _ => {}
            }
            at += 1;
        }
        found
    }

    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| token.text.as_str())
    }

    /// Reads one `use` tree from token `at`, after `prefix`; returns the index behind it.
    fn use_tree(
        &self,
        mut at: usize,
        prefix: &mut Vec<String>,
        module: &[String],
        found: &mut Vec<Named>,
    ) -> usize {
        let kept = prefix.len();
        loop {
            let line = self.tokens.get(at).map_or(0, |token| token.line);
            match self.text(at) {
                "{" => {
                    at += 1;
                    while !matches!(self.text(at), "}" | "") {
                        at = self.use_tree(at, prefix, module, found);
                        if self.text(at) == "," {
                            at += 1;
                        }
                    }
                    at += 1;
                    break;
                }
                "::" => at += 1,
                word if is_word(word) || word == "*" => {
                    prefix.push(word.to_owned());
                    at += 1;
                    if self.text(at) == "as" {
                        at += 2;
                    }
                    if self.text(at) != "::" {
                        found.extend(self.resolve(prefix, module).map(|path| Named { path, line }));
                        break;
                    }
                }
                _ => break,
            }
        }
        prefix.truncate(kept);
        at
    }

    /// The path from the crate root, or nothing if it leads out of the crate.
    fn resolve(&self, path: &[String], module: &[String]) -> Option<Vec<String>> {
        let mut base = module.to_vec();
        let mut rest = path;
        match path.first().map(String::as_str) {
            Some("crate") => base.clear(),
            Some("self") => {}
            Some("super") => {
                while rest.first().is_some_and(|word| word == "super") {
                    base.pop();
                    rest = &rest[1..];
                }
            }
            Some(first) if self.child_files().iter().any(|(child, _)| child == first) => {}
            _ => return None,
        }
        // What is left of `self` and `crate` names a module: `use a::{self}` names `a`.
        base.extend(rest.iter().filter(|word| *word != "self" && *word != "crate").cloned());
        Some(base)
    }
}

pub fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

/// Splits a file into code and comments, both with the line breaks of the text. The contents of
/// string and character literals are blanked in the code.
fn split(text: &str) -> (String, String) {
    let bytes = text.as_bytes();
    let blank = |byte: &u8| if *byte == b'\n' { b'\n' } else { b' ' };
    let mut code: Vec<u8> = bytes.iter().map(blank).collect();
    let mut comments = code.clone();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let len = if rest.starts_with(b"//") {
            let len = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            comments[at..at + len].copy_from_slice(&rest[..len]);
            len
        } else if rest.starts_with(b"/*") {
            let len = block_comment_len(rest);
            comments[at..at + len].copy_from_slice(&rest[..len]);
            len
        } else if let Some(len) = literal_len(bytes, at) {
            code[at] = b'"';
            len
        } else {
            code[at] = if rest[0].is_ascii() { rest[0] } else { b' ' };
            1
        };
        at += len;
    }
    let text_of = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (text_of(code), text_of(comments))
}

fn block_comment_len(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// The length of the string or character literal that starts at `at`, with its prefix.
fn literal_len(bytes: &[u8], at: usize) -> Option<usize> {
    let in_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    let rest = &bytes[at..];
    let prefix = match rest {
        [b'b' | b'c', b'r', ..] if !in_word => 2,
        [b'b' | b'c' | b'r', ..] if !in_word => 1,
        _ => 0,
    };
    let raw = prefix > 0 && rest[prefix - 1] == b'r';
    let hashes = rest[prefix..].iter().take_while(|byte| raw && **byte == b'#').count();
    let open = prefix + hashes;
    match rest.get(open) {
        Some(b'"') if raw => {
            let mut end = vec![b'"'];
            end.resize(1 + hashes, b'#');
            let body = &rest[open + 1..];
            let close = body.windows(end.len()).position(|window| window == end);
            Some(open + 1 + close.map_or(body.len(), |close| close + end.len()))
        }
        Some(b'"') => Some(quoted_len(rest, open, b'"')),
        // A lifetime is a quote and a word without a closing quote.
        Some(b'\'') if prefix == 0 || (rest[0] == b'b' && prefix == 1) => {
            let next = rest.get(open + 1)?;
            let closes = rest.get(open + 2) == Some(&b'\'');
            let character = *next == b'\\' || closes || !next.is_ascii();
            character.then(|| quoted_len(rest, open, b'\''))
        }
        _ => None,
    }
}

fn quoted_len(rest: &[u8], open: usize, quote: u8) -> usize {
    let mut at = open + 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn tokenize(code: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let mut rest = line;
        while let Some(first) = rest.chars().next() {
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let len = if word(first) {
                rest.find(|c| !word(c)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                1
            };
            if !first.is_whitespace() {
                tokens.push(Token { text: rest[..len].to_owned(), line: index + 1 });
            }
            rest = &rest[len..];
        }
    }
    tokens
}

/// The lines of every item under `#[cfg(test)]`, from the attribute to the end of the item.
fn test_lines(tokens: &[Token]) -> BTreeSet<usize> {
    let mut lines = BTreeSet::new();
    for start in 0..tokens.len() {
        let words = ["#", "[", "cfg", "(", "test", ")", "]"];
        let here = tokens[start..].iter().map(|token| token.text.as_str());
        if !here.take(words.len()).eq(words) {
            continue;
        }
        let end = item_end(tokens, start + words.len());
        lines.extend(tokens[start].line..=tokens[end].line);
    }
    lines
}

/// The index of the last token of the item that starts at `at`.
pub fn item_end(tokens: &[Token], at: usize) -> usize {
    let mut depth = 0usize;
    for (index, token) in tokens.iter().enumerate().skip(at) {
        match token.text.as_str() {
            "{" | "(" | "[" => depth += 1,
            ")" | "]" => depth = depth.saturating_sub(1),
            "}" => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return index;
                }
            }
            ";" if depth == 0 => return index,
            _ => {}
        }
    }
    tokens.len().saturating_sub(1)
}
