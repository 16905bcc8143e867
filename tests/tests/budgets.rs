//! What keeps the sources readable: files about one noun, functions of one screen, names that say something, no `unsafe`.

#[path = "budgets/source.rs"]
mod source;

use source::{Source, sources};

/// Lines of a file of production code, without its unit tests.
const FILE: usize = 400;
/// Lines of a function of production code, from `fn` to its last brace.
const FUNCTION: usize = 60;
/// The same for tests and what only tests use: a scenario may be told in one piece.
const TEST_FILE: usize = 800;
const TEST_FUNCTION: usize = 120;

/// Functions that are longer, and why each is better read in one piece.
const LONG: &[(&str, &str, &str)] = &[
    ("deploy/manifest/src/access.rs", "server_cluster_role", "a table: one rule after the other, each with its reason"),
    ("server/proxy/src/service.rs", "answer", "the order of its steps is what keeps identities apart"),
    ("tests/tests/identity.rs", "framing", "a table of requests and what must come of each"),
];

/// Names that gather what belongs together by nothing but having no place.
const NAMELESS: &[&str] = &["util", "utils", "common", "helper", "helpers", "misc"];

/// Files that may say `unsafe`, and why each cannot do without. `unsafe_code = "deny"` in `Cargo.toml` makes each of them
/// ask for it; this list makes a person read it.
const UNSAFE: &[(&str, &str)] = &[];

#[test]
fn files_are_about_one_noun() {
    let mut found = Vec::new();
    for source in sources() {
        let (lines, limit) = (source.production_lines(), if source.is_test() { TEST_FILE } else { FILE });
        if lines > limit {
            found.push(format!(
                "{}: {lines} lines, at most {limit}. Move one noun of it, with its tests, to {}/NOUN.rs",
                source.path,
                source.path.trim_end_matches(".rs")
            ));
        }
    }
    report(&found);
}

#[test]
fn functions_fit_on_a_screen() {
    let mut found = Vec::new();
    for source in sources() {
        for function in source.functions() {
            let listed = LONG.iter().any(|(path, name, _)| *path == source.path && *name == function.name);
            let limit = if source.is_test() || function.in_tests { TEST_FUNCTION } else { FUNCTION };
            if listed && function.lines <= limit {
                found.push(format!("{}: fn {} is short enough. Take it off LONG", source.path, function.name));
            }
            if !listed && function.lines > limit {
                found.push(format!(
                    "{}:{}: fn {} has {} lines, at most {limit}. Name a part of it and move that out",
                    source.path, function.line, function.name, function.lines
                ));
            }
        }
    }
    report(&found);
}

#[test]
fn names_say_what_is_there() {
    let mut found = Vec::new();
    for source in sources() {
        let stem = source.stem();
        if stem == "mod" {
            found.push(format!("{}: modules are `foo.rs` beside `foo/bar.rs`. Name it after its folder", source.path));
        } else if NAMELESS.contains(&stem) {
            found.push(format!("{}: the name says nothing. Name it for the noun that is in it", source.path));
        }
    }
    report(&found);
}

#[test]
fn unsafe_code_is_on_the_list() {
    let mut found = Vec::new();
    for source in sources() {
        let listed = UNSAFE.iter().any(|(path, _)| *path == source.path);
        match (source.unsafe_lines().first(), listed) {
            (Some(line), false) => found.push(format!(
                "{}:{line}: `unsafe`. Use a crate that has done it; if there is none, add the file to UNSAFE here with \
                 the reason, and a proof to each block",
                source.path
            )),
            (None, true) => found.push(format!("{}: nothing is unsafe any more. Take it off UNSAFE", source.path)),
            _ => {}
        }
    }
    for (path, why) in UNSAFE {
        assert!(!why.is_empty() && sources().iter().any(|source| source.path == *path), "UNSAFE names {path}");
    }
    report(&found);
}

#[test]
fn what_breaks_a_budget_would_be_found() {
    let text = "//! Doc.
fn short() {}

impl X {
    /// Not counted.
    #[inline]
    fn long(
        &self,
    ) {
        let text = \"unsafe\"; // unsafe
        inner(unsafe { 1 });
    }
}

#[cfg(test)]
mod tests {
    fn inside() {
    }
}
";
    let source = Source::new("server/x/src/mod.rs", text);
    let functions: Vec<_> =
        source.functions().into_iter().map(|found| (found.name, found.line, found.lines, found.in_tests)).collect();
    let function = |name: &str, line, lines, in_tests| (name.to_owned(), line, lines, in_tests);
    let wanted = [function("short", 2, 1, false), function("long", 7, 6, false), function("inside", 17, 2, true)];
    assert_eq!(functions, wanted);
    assert_eq!(source.production_lines(), 14);
    assert_eq!(source.unsafe_lines(), [11]);
    assert_eq!((source.stem(), source.is_test()), ("mod", false));
    for path in ["tests/src/x.rs", "server/x/tests/it/y.rs", "server/x/src/y/tests.rs", "server/x/src/testing.rs"] {
        assert!(Source::new(path, "").is_test(), "{path}");
    }
}

#[track_caller]
fn report(found: &[String]) {
    assert!(found.is_empty(), "\n  {}\n", found.join("\n  "));
}
