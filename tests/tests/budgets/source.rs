//! Rust sources of the repository, with line numbers.

use std::path::{Path, PathBuf};

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};

/// One file.
pub(crate) struct Source {
    /// From the root of the repository.
    pub(crate) path: String,
    lines: usize,
    tokens: TokenStream,
    file: syn::File,
}

/// One function, method or default of a trait.
pub(crate) struct Function {
    pub(crate) name: String,
    /// Where it begins.
    pub(crate) line: usize,
    pub(crate) lines: usize,
    /// Whether it is part of its file's unit tests.
    pub(crate) in_tests: bool,
}

/// Every source file.
pub(crate) fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the root");
    let mut paths = Vec::new();
    walk(&root, &mut paths);
    assert!(paths.len() > 300, "only {} files are found", paths.len());
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).expect("readable");
        let name = path.strip_prefix(&root).expect("below the root");
        Source::new(name.to_str().expect("plain names"), &text)
    };
    paths.iter().map(read).collect()
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> =
        std::fs::read_dir(folder).expect("readable").map(|entry| entry.expect("readable").path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            walk(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let tokens: TokenStream = text.parse().unwrap_or_else(|error| panic!("{path}: {error}"));
        let file = syn::parse2(tokens.clone()).unwrap_or_else(|error| panic!("{path}: {error}"));
        Self { path: path.to_owned(), lines: text.lines().count(), tokens, file }
    }

    /// The file's name without its extension.
    pub(crate) fn stem(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs")
    }

    /// Whether only tests use it.
    pub(crate) fn is_test(&self) -> bool {
        let mut parts = self.path.split('/');
        parts.any(|part| matches!(part, "tests" | "tests.rs" | "testing" | "testing.rs" | "fuzz"))
    }

    /// Its lines without unit tests.
    pub(crate) fn production_lines(&self) -> usize {
        let mut tests = 0;
        for item in &self.file.items {
            if let syn::Item::Mod(module) = item
                && module.content.is_some()
                && is_for_tests(&module.attrs)
            {
                tests += lines(module.span());
            }
        }
        self.lines - tests
    }

    pub(crate) fn functions(&self) -> Vec<Function> {
        let mut functions = Functions { found: Vec::new(), in_tests: false };
        functions.visit_file(&self.file);
        functions.found
    }

    /// Lines with the keyword `unsafe`, in macros too; not those of comments and texts.
    pub(crate) fn unsafe_lines(&self) -> Vec<usize> {
        let mut found = Vec::new();
        keywords(self.tokens.clone(), &mut found);
        found
    }
}

struct Functions {
    found: Vec<Function>,
    in_tests: bool,
}

impl Functions {
    fn note(&mut self, signature: &syn::Signature, end: Span) {
        let line = signature.span().start().line;
        let (name, lines) = (signature.ident.to_string(), end.end().line + 1 - line);
        self.found.push(Function { name, line, lines, in_tests: self.in_tests });
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        let outside = self.in_tests;
        self.in_tests |= is_for_tests(&module.attrs);
        visit::visit_item_mod(self, module);
        self.in_tests = outside;
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.note(&function.sig, function.block.span());
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.note(&function.sig, function.block.span());
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.note(&function.sig, block.span());
        }
        visit::visit_trait_item_fn(self, function);
    }
}

/// `#[cfg(test)]`
fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Ident>().is_ok_and(|name| name == "test")
    })
}

fn lines(span: Span) -> usize {
    span.end().line + 1 - span.start().line
}

fn keywords(tokens: TokenStream, found: &mut Vec<usize>) {
    for token in tokens {
        match token {
            TokenTree::Ident(name) if name == "unsafe" => found.push(name.span().start().line),
            TokenTree::Group(group) => keywords(group.stream(), found),
            TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}
