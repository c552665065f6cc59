//! Texts that want to hurt their reader: each is refused with a reason, in bounded memory.

use forewarm_manifest::{
    read_scalers,
    yaml::{MAX_TEXT_BYTES, parse},
};

#[test]
fn hostile_texts_are_refused_with_a_reason() {
    let laughs = {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let alias = format!("*a{}", level - 1);
            text += &format!("a{level}: &a{level} [{}]\n", vec![alias; 10].join(", "));
        }
        text
    };
    let chain = {
        let mut text = String::from("a0: &a0 [x]\n");
        for level in 1..1000 {
            text += &format!("a{level}: &a{level} [*a{}]\n", level - 1);
        }
        text
    };
    let block = (0..10_000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect::<String>();
    // Each anchor keeps what is in it: ten thousand nodes, sixty times.
    let anchors = (0..60).map(|depth| format!("&a{depth} [")).collect::<String>()
        + &"x, ".repeat(10_000)
        + &"]".repeat(60);
    let cases = [
        ("anchors in anchors", anchors, "nodes"),
        ("alias bomb", laughs, "aliases expanded"),
        ("chain of aliases", chain, "deeper than"),
        ("deep flow lists", "[".repeat(10_000), ""),
        ("deep flow mappings", "{a: ".repeat(10_000), ""),
        ("deep block mappings", block, ""),
        ("deep block lists", "- ".repeat(10_000), ""),
        ("large", " ".repeat(100_000_000), "bytes, at most"),
        ("many nodes", "- x\n".repeat(400_000), "nodes"),
        ("alias in its anchor", "a: &a [*a]".into(), "alias"),
        ("alias without anchor", "a: *nobody".into(), ""),
        ("anchor of the document before", "a: &x 1\n---\nb: *x".into(), ""),
        ("key twice", "a: 1\na: 2".into(), "twice"),
        ("key that is a list", "? [a]\n: 1".into(), "key must be a scalar"),
        ("tab", "a:\n\tb: 1".into(), ""),
        ("control character", "a: \u{0}".into(), ""),
        ("merge of a scalar", "a: {<<: 1}".into(), "merges a mapping"),
    ];
    for (name, text, message) in cases {
        let error = parse(&text).expect_err(name);
        assert!(error.to_string().contains(message), "{name}: {error}");
        assert!(read_scalers("f", &text).is_err(), "{name}");
    }
}

#[test]
fn as_many_keys_as_may_be_are_read_one_by_one() {
    // Half of the nodes are keys. What compares each with each would be noticed here.
    let keys: String = (0..140_000).map(|index| format!("k{index}: x\n")).collect();
    let documents = parse(&keys).expect("yaml");
    assert_eq!(documents[0].entries().len(), 140_000);
    assert!(parse(&format!("{keys}k0: again\n")).is_err());
    let scaler = format!("apiVersion: forewarm.dev/v1alpha1\nkind: InferenceScaler\n{keys}");
    let problems = read_scalers("f", &scaler).expect_err("unknown fields");
    assert!(problems.list.len() > 140_000);
}

#[test]
fn the_limit_of_the_text_is_exact() {
    assert!(parse(&" ".repeat(MAX_TEXT_BYTES)).is_ok());
    assert!(parse(&" ".repeat(MAX_TEXT_BYTES + 1)).is_err());
}

#[test]
fn anchors_merges_and_lists_are_read_as_written() {
    let text = "base: &base {a: 1, b: 2}\nown: {<<: *base, b: 3}\nsame: *base\n";
    let documents = parse(text).expect("yaml");
    let own = documents[0].get("own").expect("own");
    assert_eq!(own.get("a").and_then(|a| a.integer()), Some(1));
    assert_eq!(own.get("b").and_then(|b| b.integer()), Some(3));
    assert_eq!(documents[0].at(&["same", "b"]).and_then(|b| b.integer()), Some(2));
}

#[test]
fn every_node_knows_its_place() {
    let text = "# ä comment\na:\n  - b: \"x\"\n    c: 5 # five\n";
    let documents = parse(text).expect("yaml");
    let item = &documents[0].get("a").expect("a").items()[0];
    for (key, shown, line, column) in [("b", "\"x\"", 3, 8), ("c", "5", 4, 8)] {
        let span = item.get(key).expect(key).span;
        assert_eq!(&text[span.start..span.end], shown);
        assert_eq!((span.line, span.column), (line, column), "{key}");
    }
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[ \\n\\ta-c0-9:{}\\[\\]\\-&*#\"'<>|?!%@,]{0,200}") {
        // Whatever it is, it ends, and every place lies within the text.
        if let Ok(documents) = parse(&text) {
            for document in documents {
                proptest::prop_assert!(document.span.start <= document.span.end);
                proptest::prop_assert!(document.span.end <= text.len());
            }
        }
    }
}
