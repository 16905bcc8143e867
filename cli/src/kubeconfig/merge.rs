//! Putting one kubeconfig into another. Pure: text in, text out.
//!
//! What is in the existing file stays, also what we know nothing about, in its order and with its comments. An entry of
//! ours is replaced only when it leads to the same server as before: a context that somebody else made under the same name
//! is never overwritten.

#[cfg(test)]
mod tests;

use super::document::Node;
use super::edit::Text;

/// The result of a merge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// The whole file.
    pub text: String,
    /// The context to use.
    pub context: String,
}

/// Why two kubeconfigs cannot be merged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// The existing file is not a kubeconfig. It is left alone.
    #[error("the existing file is not a kubeconfig that can be merged into")]
    Existing,
    /// The server's is not one.
    #[error("the server's answer is not a kubeconfig")]
    Incoming,
    /// An entry of this name leads somewhere else.
    #[error("there is another {kind} {name:?} in the file already")]
    Taken {
        /// `cluster`, `user` or `context`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
}

impl MergeError {
    /// What the person can do now.
    #[must_use]
    pub fn next_step(&self) -> Option<String> {
        match self {
            Self::Taken { .. } => Some("choose another name with --context NAME; nothing was changed".to_owned()),
            Self::Existing => Some("nothing was changed; write to another file with --file FILE".to_owned()),
            Self::Incoming => None,
        }
    }
}

/// What a file that is not there yet begins with.
const EMPTY: &str = "apiVersion: v1\nkind: Config\n";

/// The lists of a kubeconfig, and the key of an entry's content.
const LISTS: [(&str, &str); 3] = [("clusters", "cluster"), ("users", "user"), ("contexts", "context")];

/// Puts `incoming` into `existing`. The current context changes only when there is none, or when `make_current`.
///
/// # Errors
/// See [`MergeError`].
pub fn merge(existing: Option<&str>, incoming: &str, make_current: bool) -> Result<Merged, MergeError> {
    let incoming = parse(incoming).ok_or(MergeError::Incoming)?;
    let context = incoming.get("current-context").and_then(Node::as_text).ok_or(MergeError::Incoming)?.to_owned();
    let existing = existing.filter(|text| !text.trim().is_empty()).unwrap_or(EMPTY);
    let before = parse_existing(existing)?;
    for (list, kind) in LISTS {
        check_free(&before, &incoming, list, kind)?;
    }
    let after = merge_data(before, &incoming, make_current.then_some(&*context));
    let edited = edit(existing, &after, &incoming).filter(|text| parse(text).as_ref() == Some(&after));
    let text = match edited {
        Some(text) => text,
        // In a layout that nobody writes by hand the data count for more than the comments.
        None => serde_saphyr::to_string(&after).map_err(|_| MergeError::Incoming)?,
    };
    Ok(Merged { text, context })
}

/// What another file of `KUBECONFIG` has to do with what is to be merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// Nothing.
    None,
    /// The entries themselves, of an earlier time.
    Ours,
}

/// Looks whether a file has the entries of `incoming` already.
///
/// # Errors
/// [`MergeError::Taken`] when one of the names leads somewhere else there; of two files with one name kubectl hides one.
pub(super) fn holds(file: &str, incoming: &str) -> Result<Holds, MergeError> {
    let incoming = parse(incoming).ok_or(MergeError::Incoming)?;
    let file = parse_existing(if file.trim().is_empty() { EMPTY } else { file })?;
    let mut holds = Holds::None;
    for (list, kind) in LISTS {
        check_free(&file, &incoming, list, kind)?;
        let mut entries = incoming.get(list).map_or(&[][..], Node::items).iter().filter_map(name_of);
        if entries.any(|name| find(&file, list, name).is_some()) {
            holds = Holds::Ours;
        }
    }
    Ok(holds)
}

fn parse_existing(text: &str) -> Result<Node, MergeError> {
    parse(text).filter(is_kubeconfig).ok_or(MergeError::Existing)
}

fn merge_data(mut merged: Node, incoming: &Node, current: Option<&str>) -> Node {
    for (list, kind) in LISTS {
        let mut entries = merged.get(list).map(|entries| entries.items().to_vec()).unwrap_or_default();
        for entry in incoming.get(list).map_or(&[][..], Node::items) {
            put(&mut entries, entry, kind);
        }
        merged.set(list, Node::List(entries));
    }
    let has_current = merged.get("current-context").and_then(Node::as_text).is_some_and(|name| !name.is_empty());
    let theirs = incoming.get("current-context").and_then(Node::as_text);
    if let Some(context) = current.or_else(|| theirs.filter(|_| !has_current)) {
        merged.set("current-context", Node::text(context));
    }
    merged
}

/// The change in the text of the file. It may have gone wrong: the caller compares.
fn edit(existing: &str, after: &Node, incoming: &Node) -> Option<String> {
    let before = parse(existing)?;
    let mut text = Text::new(existing);
    for (list, _) in LISTS {
        let known = before.get(list).map_or(&[][..], Node::items);
        for name in incoming.get(list)?.items().iter().filter_map(name_of) {
            let at = known.iter().position(|entry| name_of(entry) == Some(name));
            let entry = find(after, list, name)?;
            if at.is_none_or(|at| known[at] != *entry) {
                text.put(list, at, entry)?;
            }
        }
    }
    let current = after.get("current-context").and_then(Node::as_text);
    if let Some(current) = current.filter(|_| before.get("current-context") != after.get("current-context")) {
        text.set("current-context", current)?;
    }
    Some(text.finish())
}

/// Gives the one cluster, user and context of a kubeconfig another name.
///
/// # Errors
/// [`MergeError::Incoming`] when there is not exactly one of each.
pub(super) fn rename(kubeconfig: &str, name: &str) -> Result<String, MergeError> {
    let mut config = parse(kubeconfig).ok_or(MergeError::Incoming)?;
    for (list, kind) in LISTS {
        let Some(Node::List(entries)) = config.get_mut(list) else { return Err(MergeError::Incoming) };
        let [entry] = entries.as_mut_slice() else { return Err(MergeError::Incoming) };
        entry.set("name", Node::text(name));
        if kind == "context" {
            let context = entry.get_mut("context").ok_or(MergeError::Incoming)?;
            context.set("cluster", Node::text(name));
            context.set("user", Node::text(name));
        }
    }
    config.set("current-context", Node::text(name));
    serde_saphyr::to_string(&config).map_err(|_| MergeError::Incoming)
}

/// `yes`, `no` and `y` stay the words that they are, and numbers with leading zeros the text: what is only carried through
/// must not change its meaning.
fn parse(text: &str) -> Option<Node> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
    };
    serde_saphyr::from_str_with_options(text, options).ok().filter(|node| matches!(node, Node::Map(_)))
}

fn is_kubeconfig(node: &Node) -> bool {
    let kind = node.get("kind").is_none_or(|kind| kind.as_text() == Some("Config"));
    kind && LISTS.iter().all(|(list, _)| matches!(node.get(list), None | Some(Node::Null | Node::List(_))))
}

/// Every entry that would be replaced leads to the same server already.
fn check_free(existing: &Node, incoming: &Node, list: &str, kind: &'static str) -> Result<(), MergeError> {
    for entry in incoming.get(list).map_or(&[][..], Node::items) {
        let name = name_of(entry).ok_or(MergeError::Incoming)?;
        let Some(known) = find(existing, list, name) else { continue };
        let ours = match kind {
            "cluster" => content(known, "cluster", "server") == content(entry, "cluster", "server"),
            "context" => content(known, "context", "cluster") == content(entry, "context", "cluster"),
            // A user of this name is ours when the context of this name uses it and its cluster is the same.
            _ => {
                let context = find(existing, "contexts", name);
                context.is_some_and(|context| content(context, "context", "user") == Some(name))
                    && find(existing, "clusters", name).is_some()
            }
        };
        if !ours {
            return Err(MergeError::Taken { kind, name: name.to_owned() });
        }
    }
    Ok(())
}

fn put(entries: &mut Vec<Node>, entry: &Node, kind: &str) {
    let Some(known) = entries.iter_mut().find(|known| name_of(known) == name_of(entry)) else {
        entries.push(entry.clone());
        return;
    };
    let new = entry.get(kind).cloned().unwrap_or(Node::Null);
    match (known.get_mut(kind), new) {
        // Other credentials of the same user would be mixed with ours; what else is in the entry stays.
        (Some(old), new) if kind == "user" => *old = new,
        (Some(old @ Node::Map(_)), Node::Map(fields)) => {
            for (key, value) in fields {
                old.set(&key, value);
            }
        }
        (_, new) => known.set(kind, new),
    }
}

fn find<'a>(config: &'a Node, list: &str, name: &str) -> Option<&'a Node> {
    config.get(list)?.items().iter().find(|entry| name_of(entry) == Some(name))
}

fn name_of(entry: &Node) -> Option<&str> {
    entry.get("name").and_then(Node::as_text)
}

fn content<'a>(entry: &'a Node, kind: &str, field: &str) -> Option<&'a str> {
    entry.get(kind)?.get(field)?.as_text()
}
