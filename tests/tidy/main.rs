//! The rules of ARCHITECTURE.md that a machine can check: layers, lengths, names, dependencies, papers.
//!
//! Each check fails if it looked at nothing, and each is shown to find a violation that was planted for it.

#![allow(unreachable_pub)] // the modules below are private to this test

mod circles;
mod citations;
mod figures;
mod generated;
mod imports;
mod lock;
mod papers;
mod paths;
mod shape;
mod source;
mod transports;

use source::{Report, Source, all_sources, blank, root, sources};

#[test]
fn modules_import_only_what_lies_below_them() {
    imports::check(&sources()).assert_clean();
}

#[test]
fn files_import_each_other_in_one_direction() {
    circles::check(&sources()).assert_clean();
}

#[test]
fn functions_and_files_are_short() {
    shape::check_lengths(&sources()).assert_clean();
}

#[test]
fn files_are_named_after_what_is_inside() {
    shape::check_names(&sources()).assert_clean();
}

#[test]
fn product_code_holds_nothing_banned() {
    shape::check_banned(&sources()).assert_clean();
}

#[test]
fn doc_comments_state() {
    shape::check_doc_comments(&all_sources()).assert_clean();
}

#[test]
fn locked_versions_are_above_known_advisories() {
    lock::check_floors(&lock::lock_file()).assert_clean();
    lock::check_floors(&paper("fuzz/Cargo.lock")).assert_clean();
}

#[test]
fn banned_crates_are_not_compiled_in() {
    lock::check_banned(&lock::compiled_crates()).assert_clean();
}

#[test]
fn papers_show_only_commands_that_exist() {
    papers::check_commands(&papers::papers(), &papers::subcommands()).assert_clean();
}

#[test]
fn links_in_papers_lead_somewhere() {
    papers::check_links(&papers::papers(), |path| root().join(path).exists()).assert_clean();
}

/// Longest README, lines.
const README_LINES: usize = 150;

#[test]
fn the_readme_is_short_and_the_same_in_both_languages() {
    let (english, chinese) = (paper("README.md"), paper("README.zh-CN.md"));
    for text in [&english, &chinese] {
        assert!(text.lines().count() <= README_LINES, "{} lines", text.lines().count());
    }
    let commands = papers::command_lines(&english);
    assert!(!commands.is_empty());
    assert_eq!(commands, papers::command_lines(&chinese));
    let sections = |text: &str| papers::anchors(text).len();
    assert_eq!(sections(&english), sections(&chinese));
}

/// Types of the product, and of tests, that may share their name with another: a ratchet, never raised.
const SHARED_TYPE_NAMES: usize = 12;
const SHARED_TYPE_NAMES_IN_TESTS: usize = 14;

#[test]
fn figures_stay_within_their_limits() {
    let figures = figures::Figures::new(&all_sources(), &sources(), &paper("README.md"));
    println!("{figures}");
    let of_gateway = figures.size("gateway proper").expect("it was counted");
    assert!(of_gateway.files > 100 && of_gateway.code_lines > 10_000, "{of_gateway:?}");
    let (product, tests) = (figures.shared_product_types(), figures.shared_test_types());
    assert!(product <= SHARED_TYPE_NAMES, "{product} types share a name");
    assert!(tests <= SHARED_TYPE_NAMES_IN_TESTS, "{tests} types of tests share a name");
}

#[test]
fn figures_count_code_comments_and_names_that_are_shared() {
    let text = "//! Doc.\n\n/// Doc.\npub(crate) struct A; // why\n\n// why\nenum B<T> {}\nfn a() -> &'static str {\n    \
                \"a // b\"\n}\n#[cfg(test)]\nmod tests {\n    // why\n    struct A;\n    trait C {}\n}\n";
    let files =
        [("src/cli/a.rs", text), ("src/cli/b.rs", "pub trait B {}\n"), ("tests/it/c.rs", "enum C {}\n")]
            .map(|(path, text)| (path.to_owned(), text.to_owned()));
    let product = [Source::new("src/cli/a.rs", text), Source::new("src/cli/b.rs", &files[1].1)];
    let figures = figures::Figures::new(&files, &product, "one\ntwo\n");
    assert_eq!(figures.size("src/cli"), Some(&figures::Size { files: 2, code_lines: 6, comments: 2 }));
    assert_eq!((figures.shared_product_types(), figures.shared_test_types()), (2, 2));
    let table = figures.to_string();
    for line in
        ["README.md has 2 lines", "  B 2: src/cli/a.rs src/cli/b.rs", "tests: 3 types, 2 share a name"]
    {
        assert!(table.lines().any(|held| held == line), "{table}");
    }
}

#[test]
fn tables_over_transports_name_all_of_them() {
    transports::check(&all_sources()).assert_clean();
    let table =
        "fn a(\n    #[values(Kind::Tcp, Kind::Tls, Kind::Ws, Kind::QuicOne, Kind::QuicMany)] kind: Kind,\n";
    let report = transports::check(&[("tests/it/a.rs".to_owned(), table.to_owned())]);
    assert_eq!(only(&report), "tests/it/a.rs:2: the table leaves out Wss");
    let of_some = "#[values(Tcp, Tls)] a: Kind,\n#[values(QuicOne)] b: Kind,\n";
    assert_eq!(transports::check(&[("tests/it/a.rs".to_owned(), of_some.to_owned())]).examined, 0);
}

#[test]
fn the_index_names_every_document() {
    papers::check_index(&papers::papers(), &paper("docs/README.md")).assert_clean();
    let document = [("docs/a.md".to_owned(), String::new())];
    assert_eq!(only(&papers::check_index(&document, "[b](b.md)")), "docs/README.md does not name a.md");
}

#[test]
fn the_recipes_are_the_commands_of_contributing() {
    papers::check_recipes(&paper("CONTRIBUTING.md"), &paper("justfile")).assert_clean();
    let one = "```sh\nmake a\nmake b\n```\n";
    assert_eq!(only(&papers::check_recipes(one, "a:\n    make a\n")), "`make b` is not in the justfile");
    let report = papers::check_recipes("```sh\nmake a\n```\n", "a:\n    make a\n    make c\n");
    assert_eq!(only(&report), "`make c` is not in CONTRIBUTING.md");
}

fn paper(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_table_of_modules_is_that_of_the_layers() {
    let tables = [("crates", imports::crate_table()), ("modules", imports::table())];
    generated::check("ARCHITECTURE.md", &tables.map(|(name, table)| (name.to_owned(), table))).assert_clean();
}

#[test]
fn the_tests_of_each_threat_are_those_that_are_there() {
    let mut rows = citations::rows(&paper("docs/threats.md"));
    assert_eq!(rows.len(), 144);
    rows.extend(citations::promises(&paper("docs/protocol.md")));
    let lists = generated::lists(&rows, &generated::tests(&all_sources()));
    generated::check("docs/threats.md", &lists).assert_clean();
}

#[test]
fn citations_lead_somewhere() {
    citations::check(&all_sources(), &cited_papers()).assert_clean();
}

fn cited_papers() -> citations::Papers {
    citations::Papers::new(&paper("ARCHITECTURE.md"), &paper("docs/protocol.md"), &paper("docs/threats.md"))
}

#[test]
fn a_planted_citation_is_found() {
    let papers = cited_papers();
    let section = "§";
    for (text, wrong) in [
        ("//! Row A20.".to_owned(), "A20"),
        ("x(); // rows A1, G10".to_owned(), "G10"),
        (format!("/// (protocol {section}4.10)"), "protocol §4.10"),
        (format!("/// (protocol {section}4.1, {section}4.99)"), "protocol §4.99"),
        (format!("/// reliability {section}2"), "reliability §2"),
        (format!("/// ARCHITECTURE {section}99"), "ARCHITECTURE §99"),
        (format!("/// threats {section}10"), "threats §10"),
        ("/// RFC 1".to_owned(), "RFC 1"),
        ("/// invariant 14".to_owned(), "ARCHITECTURE §4.14"),
        ("async fn h25_something() {}".to_owned(), "H25"),
    ] {
        let report = citations::check(&[("src/a.rs".to_owned(), text)], &papers);
        assert_eq!(only(&report), format!("src/a.rs:1: {wrong} is nowhere"));
    }
    let good = "/// Rows A1, H24 and G9 (protocol §4.6–§4.8), RFC 9000 section 8, invariant 5.\nlet a = \"row A99\";\n";
    let report = citations::check(&[("src/a.rs".to_owned(), good.to_owned())], &papers);
    assert!(report.violations.is_empty() && report.examined == 7, "{report:?}");
}

#[test]
fn a_block_that_is_behind_is_replaced_and_nothing_else() {
    let paper = "a\n<!-- generated: x -->\nold\n<!-- end -->\nb\n";
    let wanted = "a\n<!-- generated: x -->\n\nnew\n\n<!-- end -->\nb\n";
    assert_eq!(generated::with_block(paper, "x", "new\n").as_deref(), Some(wanted));
    assert_eq!(generated::with_block(wanted, "x", "new\n").as_deref(), Some(wanted));
    assert_eq!(generated::with_block(paper, "y", "new\n"), None);
    assert_eq!(generated::rows_of("c8_d4_a_slow_reader_2"), ["C8", "D4"]);
    assert!(generated::rows_of("a_test").is_empty());
}

/// The one violation a report holds.
#[track_caller]
fn only(report: &Report) -> &str {
    assert_eq!(report.violations.len(), 1, "{:?}", report.violations);
    &report.violations[0]
}

fn planted(path: &str, text: &str) -> [Source; 1] {
    [Source::new(path, text)]
}

#[test]
#[should_panic(expected = "examined nothing")]
fn an_empty_examination_fails() {
    imports::check(&[]).assert_clean();
}

#[test]
fn a_planted_import_is_found_in_every_spelling() {
    for (path, text) in [
        ("src/limits/mod.rs", "use crate::config::Config;"),
        ("src/session/channel.rs", "use crate::{\n    limits::Limits,\n    dispatch::{link},\n};"),
        ("src/session/channel.rs", "fn f() { crate::handler::accept(); }"),
        ("src/session/mod.rs", "use super::server::tcp;"),
        ("src/session/channel.rs", "use super::super::worker::Worker;"),
        ("crates/wire/src/frame.rs", "use tokio::{io::AsyncRead as Read};"),
        ("src/auth/mod.rs", "fn f() { let _ = std::time::Instant::now(); }"),
        ("src/handler/mod.rs", "use tokio::net::TcpStream;"),
        ("src/dispatch/selector.rs", "use super::link::Link;"),
        ("src/server/tcp.rs", "use super::quic;"),
        ("src/server/quic/endpoint.rs", "use crate::dispatch::Dispatch;"),
        ("src/gateway/mod.rs", "use anyhow::Context;"),
        ("src/gateway/mod.rs", "fn f() { std::process::exit(1) }"),
        ("crates/net/src/resolve/names.rs", "fn f() { let _ = std::time::Instant::now(); }"),
        ("crates/novel/src/lib.rs", ""),
        ("src/novel/mod.rs", ""),
    ] {
        let report = imports::check(&planted(path, text));
        assert!(only(&report).starts_with(path), "{report:?}");
    }
}

#[test]
fn an_import_that_is_allowed_or_only_mentioned_is_no_violation() {
    let text = "//! See crate::handler.\nuse crate::{limits::Limits, wire::{close, frame::{self, Frame}}};\n\
                const A: &str = \"crate::server\";\nfn f<'a>(x: &'a str) -> impl Sized + use<'a> { super::wake(x) }\n\
                #[cfg(test)]\nmod tests {\n    use crate::server::tcp;\n}\n";
    let report = imports::check(&planted("src/session/channel.rs", text));
    assert!(report.violations.is_empty(), "{report:?}");
    assert!(report.examined >= 5, "{report:?}");
}

#[test]
fn a_planted_circle_is_found_with_the_imports_that_make_it() {
    let sources = |files: &[(&str, &str)]| -> Vec<Source> {
        files.iter().map(|(path, text)| Source::new(path, text)).collect()
    };
    let handed_on = "mod b;\nmod c;\npub use self::{b::B, c::*};\n";
    for (files, found) in [
        (
            &[("src/a.rs", "use crate::b::B;"), ("src/b.rs", "struct B;\nfn f() { crate::a::g() }")][..],
            "2 files import each other: src/a.rs, src/b.rs\n    src/a.rs -> src/b.rs: crate::b::B\n    \
             src/b.rs -> src/a.rs: crate::a::g",
        ),
        (
            &[("src/a/mod.rs", "mod b;\nstruct A(b::B);"), ("src/a/b.rs", "use super::A;\nstruct B;")],
            "2 files import each other: src/a/b.rs, src/a/mod.rs\n    src/a/b.rs -> src/a/mod.rs: crate::a::A\n    \
             src/a/mod.rs -> src/a/b.rs: b::B",
        ),
        (
            &[
                ("src/a/mod.rs", handed_on),
                ("src/a/b.rs", "use super::C;\nstruct B;"),
                ("src/a/c.rs", "use crate::a as parent;\nstruct C(parent::B);"),
            ],
            "2 files import each other: src/a/b.rs, src/a/c.rs\n    src/a/b.rs -> src/a/c.rs: crate::a::C\n    \
             src/a/c.rs -> src/a/b.rs: parent::B",
        ),
    ] {
        let mut sources = sources(files);
        sources.sort_by(|one, other| one.path.cmp(&other.path));
        assert_eq!(only(&circles::check(&sources)), found);
    }
    let report = circles::check(&sources(&[
        ("src/a/mod.rs", handed_on),
        (
            "src/a/b.rs",
            "struct B;\n#[cfg(test)]\nuse crate::a::C;\n#[cfg(test)]\nmod tests {\n    use crate::a::C;\n}\n",
        ),
        ("src/a/c.rs", "use super::B;\nstruct C;"),
    ]));
    assert!(report.violations.is_empty() && report.examined == 1, "{report:?}");
}

#[test]
fn a_planted_long_function_and_file_are_found() {
    let body = "    let a = '{';\n".repeat(shape::MAX_FUNCTION - 1);
    let report =
        shape::check_lengths(&planted("src/a.rs", &format!("impl A {{\n  fn long() {{\n{body}  }}\n}}\n")));
    assert_eq!(only(&report), "src/a.rs:2: fn long has 71 lines, 70 are allowed");
    let report =
        shape::check_lengths(&planted("src/a.rs", &"const A: u8 = 1;\n".repeat(shape::MAX_FILE + 1)));
    assert!(only(&report).contains("401 lines"));
    let tests = format!("fn f() {{}}\n#[cfg(test)]\nmod tests {{\n{}}}\n", "    // a\n".repeat(500));
    assert!(shape::check_lengths(&planted("src/a.rs", &tests)).violations.is_empty());
    let report = shape::check_lengths(&planted("src/a.rs", &format!("{tests}\nfn hidden() {{}}\n")));
    assert!(only(&report).contains("code behind the tests"));
}

#[test]
fn functions_are_measured_to_their_own_closing_brace() {
    let code = blank(
        "trait T {\n  fn declared(a: [u8; 2]);\n  fn one() -> u8 { 1 }\n}\nfn two(\n  f: fn(u8) -> u8,\n) {\n  \"}\";\n}\n",
    );
    let measured: Vec<_> = shape::functions(&code).into_iter().map(|f| (f.name, f.line, f.lines)).collect();
    assert_eq!(measured, [("one".to_owned(), 3, 1), ("two".to_owned(), 5, 5)]);
}

#[test]
fn only_modules_declared_for_tests_are_left_out() {
    let text = "mod a;\n#[cfg(test)]\nmod b;\n#[cfg(test)]\n#[path = \"x\"]\nmod c;\nmod d;\n";
    assert_eq!(source::test_modules("src/dispatch/mod.rs", text), ["src/dispatch/b", "src/dispatch/c"]);
    assert_eq!(source::test_modules("src/auth/mod.rs", "#[cfg(test)]\nmod tests;\n"), ["src/auth/tests"]);
}

#[test]
fn a_planted_name_is_found() {
    let report = shape::check_names(&planted("src/session/utils.rs", ""));
    assert!(only(&report).contains("utils"));
    assert!(!shape::check_names(&planted("src/common/mod.rs", "")).violations.is_empty());
}

#[test]
fn planted_banned_text_is_found_in_code_only() {
    for text in ["x.unwrap();", "todo!()", "dbg!(x);", "mpsc::unbounded_channel();", "println!();"] {
        let report = shape::check_banned(&planted("src/a.rs", text));
        assert!(only(&report).starts_with("src/a.rs:1: "), "{report:?}");
    }
    let harmless = "// x.unwrap()\n/* todo!() /* dbg!() */ */\nlet s = r#\"\"x.unwrap()\"#;\nlet c = '\"'; let d = b\"todo!\";\n";
    let report = shape::check_banned(&planted("src/a.rs", harmless));
    assert!(report.violations.is_empty(), "{report:?}");
    assert!(shape::check_banned(&planted("src/cli/chat.rs", "println!();")).violations.is_empty());
}

#[test]
fn a_planted_question_is_found_in_doc_comments_only() {
    let check = |text: &str| shape::check_doc_comments(&[("src/a.rs".to_owned(), text.to_owned())]);
    for text in ["fn a() {}\n    /// Is it full?", "//! Full.\n/// Is it (`full`)? Then not."] {
        assert_eq!(only(&check(text)), "src/a.rs:2: a doc comment asks");
    }
    let report = check("/// `+` or `?`, `a? b`.\n//! Asks `x`.\n// Why?\nlet a = b?;\n");
    assert!(report.violations.is_empty() && report.examined == 2, "{report:?}");
}

#[test]
fn a_planted_old_version_is_found() {
    let lock = lock::lock_file();
    let old = |name: &str, version: &str| {
        format!("{lock}\n[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n")
    };
    assert!(only(&lock::check_floors(&old("quinn-proto", "0.11.14"))).contains("RUSTSEC-2026-0185"));
    assert!(only(&lock::check_floors(&old("rand", "0.8.5"))).contains("0.8.6 / 0.9.3"));
    assert!(only(&lock::check_floors(&old("tokio", "1.9.0-rc.1"))).contains("1.44.2"));
    assert!(lock::check_floors(&old("rand", "0.9.3")).violations.is_empty());
    assert!(lock::check_floors(&old("rand", "1.0.0")).violations.is_empty());
    let other = "[[package]]\nname = \"serde\"\nversion = \"1.0.0\"\n";
    assert!(lock::check_floors(other).violations.iter().any(|line| line.contains("not in Cargo.lock")));
}

#[test]
fn a_planted_banned_crate_is_found() {
    let report = lock::check_banned(&["serde".to_owned(), "ring".to_owned()]);
    assert!(only(&report).contains("aws-lc-rs"));
    let report = lock::check_banned(&[]);
    assert_eq!(report.examined, 0);
}

#[test]
fn planted_lies_of_papers_are_found() {
    let paper = |text: &str| [("docs/a.md".to_owned(), text.to_owned())];
    let known = ["dev".to_owned(), "chat".to_owned()];
    let report = papers::check_commands(&paper("`gateway dev` and\ncargo run --release -- serve\n"), &known);
    assert_eq!(only(&report), "docs/a.md: there is no `gateway serve`");
    let block =
        "```sh\ngateway chat   # gateway is meant\nexec gateway gateway tap\n```\ngateway is a word here\n";
    let report = papers::check_commands(&paper(block), &known);
    assert_eq!((only(&report), report.examined), ("docs/a.md: there is no `gateway tap`", 2));
}

#[test]
fn planted_bad_links_are_found() {
    let check = |text: &str| {
        let papers = [
            ("docs/a.md".to_owned(), text.to_owned()),
            ("README.md".to_owned(), "# One\n## Two, *three*\n## One\n```sh\n# four\n```\n".to_owned()),
        ];
        papers::check_links(&papers, |path| path.ends_with("README.md"))
    };
    for (text, wrong) in [
        ("[b](gone.md#part)", "gone.md is not there"),
        ("[b](../../README.md)", "../../README.md leads out of the repository"),
        ("[b](../README.md#gone)", "README.md has no heading #gone"),
        ("[b](../README.md#four)", "README.md has no heading #four"),
        ("# Here\n[b](#there)", "docs/a.md has no heading #there"),
        ("[b](https:/example.org)", "https:/example.org is no URL"),
        ("[b](https://example)", "https://example is no URL"),
        ("[b](https://exam ple.org/)", "https://exam ple.org/ is no URL"),
    ] {
        let report = check(text);
        assert_eq!(only(&report), format!("docs/a.md: {wrong}"));
    }
    let good = "# Here\n[a](../README.md) [b](../README.md#two-three) [c](../README.md#one-1) [d](#here) \
                [e](https://example.org/x?y#z)\n```text\n[f](gone.md)\n```\n";
    let report = check(good);
    assert!(report.violations.is_empty() && report.examined == 5, "{report:?}");
}
