//! The text literals of a Rust source: the tables of tests are the best corpus there is.

/// Every string literal of `source`, escapes resolved; what only looks like one may be among them.
pub(crate) fn of(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = source;
    while let Some(at) = rest.find(['"', '\'', '/']) {
        let (before, from) = rest.split_at(at);
        rest = if from.starts_with("//") {
            from.find('\n').map_or("", |end| &from[end..])
        } else if let Some(after) = from.strip_prefix("'\"'").or_else(|| from.strip_prefix("'\\\"'")) {
            after
        } else if let Some(opened) = from.strip_prefix('"') {
            let (text, after) = literal(before, opened);
            found.push(text);
            after
        } else {
            &from[1..]
        };
    }
    found
}

/// The literal whose opening quote stands between `before` and `text`, and what follows it.
fn literal<'s>(before: &str, text: &'s str) -> (String, &'s str) {
    let hashes = before.len() - before.trim_end_matches('#').len();
    if before[..before.len() - hashes].ends_with('r') {
        let end = format!("\"{}", "#".repeat(hashes));
        let (raw, after) = text.split_once(end.as_str()).unwrap_or((text, ""));
        return (raw.to_owned(), after);
    }
    let mut read = String::new();
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match char {
            '"' => return (read, chars.as_str()),
            '\\' => match chars.next() {
                Some('n') => read.push('\n'),
                Some('r') => read.push('\r'),
                Some('t') => read.push('\t'),
                Some('0') => read.push('\0'),
                // A line that goes on: its break and indentation are no part of the text.
                Some('\n') => chars = chars.as_str().trim_start().chars(),
                Some(escaped @ ('\\' | '"' | '\'')) => read.push(escaped),
                // `\u{…}` and `\x..` stay as they are written: seeds need not be exact.
                Some(other) => read.extend(['\\', other]),
                None => {}
            },
            other => read.push(other),
        }
    }
    (read, "")
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn every_kind_of_literal_is_found() {
        let source = r###"
            let a = "one\n\"two\" \
                     three"; // "not this"
            let b = ('"', '\'', '"', b"bytes", r#"raw "\n" text"#, r"\d");
            let c: &'static str = "";
        "###;
        assert_eq!(of(source), ["one\n\"two\" three", "bytes", "raw \"\\n\" text", "\\d", ""]);
    }
}
