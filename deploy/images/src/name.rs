use std::fmt;
use std::str::FromStr;

/// An image reference with its registry and tag: `registry/path:tag`.
///
/// Short names are completed the way container runtimes do it, because a runtime finds an imported image only under
/// its full name: `cattle/agent` becomes `docker.io/cattle/agent:latest`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    repository: String,
    tag: String,
}

/// The text is no image reference with an optional tag.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no image name: registry/path:tag in lower case, without a digest")]
pub struct InvalidName(String);

impl Name {
    /// Everything before the tag.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The part after the last colon.
    pub fn tag(&self) -> &str {
        &self.tag
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let invalid = || InvalidName(text.to_owned());
        let (path, tag) = match text.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, tag),
            Some(_) | None => (text, "latest"),
        };
        let repository = complete(path);
        let (registry, rest) = repository.split_once('/').ok_or_else(invalid)?;
        let valid = is_registry(registry) && rest.split('/').all(is_component) && is_tag(tag);
        if valid { Ok(Self { repository, tag: tag.to_owned() }) } else { Err(invalid()) }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.repository, self.tag)
    }
}

fn complete(path: &str) -> String {
    match path.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => path.to_owned(),
        Some(_) => format!("docker.io/{path}"),
        None => format!("docker.io/library/{path}"),
    }
}

fn is_registry(text: &str) -> bool {
    let host = text.split_once(':').map_or(text, |(host, port)| if port.parse::<u16>().is_ok() { host } else { "" });
    !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte))
}

fn is_component(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    !text.is_empty()
        && text.bytes().all(|byte| inner(byte) || b"._-".contains(&byte))
        && text.bytes().next().is_some_and(inner)
        && text.bytes().last().is_some_and(inner)
}

fn is_tag(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        && !text.starts_with(['.', '-'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_completed_like_runtimes_do() {
        for (given, full) in [
            ("pause", "docker.io/library/pause:latest"),
            ("cattle/agent:v1", "docker.io/cattle/agent:v1"),
            ("registry.k8s.io/kube-proxy:v1.34.4", "registry.k8s.io/kube-proxy:v1.34.4"),
            ("localhost:5000/agent", "localhost:5000/agent:latest"),
            ("10.1.2.3:5000/a/b:c", "10.1.2.3:5000/a/b:c"),
        ] {
            assert_eq!(given.parse::<Name>().unwrap().to_string(), full);
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for wrong in
            ["", "Agent", "a//b", "a/../b", "agent:", "agent:.x", "host:port/agent", "a@sha256:00", "a b", "/agent"]
        {
            assert_eq!(wrong.parse::<Name>(), Err(InvalidName(wrong.to_owned())), "{wrong}");
        }
    }
}
