//! Changing the text of a kubeconfig without touching the rest of it: comments, quotes, blank lines and order stay.
//!
//! It knows the one layout that kubectl and people write: block style, the lists at the margin. Whatever else YAML allows
//! is not looked for here. So a result counts only when it reads as the very data that were wanted; the caller checks
//! that, and writes the data when it does not hold.

use super::document::Node;

/// The lines of a file.
pub(super) struct Text {
    lines: Vec<String>,
}

/// Lines `from..to` of one item of a list, with its `- ` at `indent`.
struct Item {
    from: usize,
    to: usize,
    indent: usize,
}

impl Text {
    pub(super) fn new(text: &str) -> Self {
        let text = text.strip_suffix('\n').unwrap_or(text);
        Self { lines: text.split('\n').map(str::to_owned).collect() }
    }

    pub(super) fn finish(self) -> String {
        let mut text = self.lines.join("\n");
        text.push('\n');
        text
    }

    /// Puts an entry in the place of item `at` of a list, or behind the last one.
    pub(super) fn put(&mut self, list: &str, at: Option<usize>, entry: &Node) -> Option<()> {
        let items = self.items(list);
        let (range, indent) = match (at, items.last()) {
            (Some(at), _) => items.get(at).map(|item| (item.from..item.to, item.indent))?,
            (None, Some(last)) => (last.to..last.to, last.indent),
            (None, None) => {
                let start = self.empty_list(list);
                (start..start, 0)
            }
        };
        let rendered = serde_saphyr::to_string(&Node::List(vec![entry.clone()])).ok()?;
        let margin = " ".repeat(indent);
        self.lines.splice(range, rendered.lines().map(|line| format!("{margin}{line}")));
        Some(())
    }

    /// Sets a word at the margin.
    pub(super) fn set(&mut self, key: &str, value: &str) -> Option<()> {
        let line = serde_saphyr::to_string(&Node::Map(vec![(key.to_owned(), Node::text(value))])).ok()?;
        let line = line.trim_end().to_owned();
        match self.key(key) {
            Some(at) => self.lines[at] = line,
            None => self.lines.push(line),
        }
        Some(())
    }

    /// The line `key:` at the margin.
    fn key(&self, key: &str) -> Option<usize> {
        self.lines.iter().position(|line| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(':')))
    }

    /// Where the first item of a list without items goes; its key is written plainly.
    fn empty_list(&mut self, list: &str) -> usize {
        let plain = format!("{list}:");
        if let Some(at) = self.key(list) {
            self.lines[at] = plain;
            return at + 1;
        }
        self.lines.push(plain);
        self.lines.len()
    }

    /// The items of a list. What follows the last line of an item, comments and blank lines, is not part of it.
    fn items(&self, list: &str) -> Vec<Item> {
        let Some(key) = self.key(list) else { return Vec::new() };
        let body = self.lines[key + 1..].iter().take_while(|line| !starts_key(line)).count();
        let end = key + 1 + body;
        let Some(indent) = self.lines[key + 1..end].iter().find(|line| !is_remark(line)).map(|line| indent_of(line))
        else {
            return Vec::new();
        };
        let starts: Vec<usize> = (key + 1..end)
            .filter(|at| indent_of(&self.lines[*at]) == indent && self.lines[*at][indent..].starts_with('-'))
            .collect();
        let ends = starts.iter().skip(1).copied().chain([end]);
        let item = |(from, limit): (&usize, usize)| {
            let last = (*from..limit).rev().find(|at| !is_remark(&self.lines[*at])).unwrap_or(*from);
            Item { from: *from, to: last + 1, indent }
        };
        starts.iter().zip(ends).map(item).collect()
    }
}

/// A line that begins something new at the margin.
fn starts_key(line: &str) -> bool {
    !is_remark(line) && !line.starts_with([' ', '-'])
}

fn is_remark(line: &str) -> bool {
    let line = line.trim_start();
    line.is_empty() || line.starts_with('#')
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}
