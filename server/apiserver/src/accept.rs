//! Content negotiation: which shape and which encoding a client asks for.

use crate::status::StatusError;

/// Media types that this API writes.
const SERVED: [&str; 2] = ["application/json", "application/yaml"];

/// How the answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Yaml,
}

/// What the answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The object or list itself.
    Object,
    /// `meta.k8s.io/v1 Table`
    Table,
    /// `meta.k8s.io/v1 PartialObjectMetadata`
    Metadata,
    /// `meta.k8s.io/v1 PartialObjectMetadataList`
    MetadataList,
    /// `apidiscovery.k8s.io APIGroupDiscoveryList` in this version
    Discovery(&'static str),
    /// `com.github.proto-openapi.spec.v2@v1.0+protobuf`, which kubectl before 1.27 reads
    OpenApiV2Protobuf,
}

/// One acceptable answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) encoding: Encoding,
    pub(crate) shape: Shape,
}

impl Encoding {
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Json => SERVED[0],
            Self::Yaml => SERVED[1],
        }
    }
}

/// The answers a client accepts, best first, without those that this API cannot write.
///
/// # Errors
/// 406 when nothing is left. An absent header accepts JSON.
pub(crate) fn parse(header: Option<&str>) -> Result<Vec<Accepted>, StatusError> {
    let Some(header) = header.filter(|header| !header.trim().is_empty()) else {
        return Ok(vec![Accepted { encoding: Encoding::Json, shape: Shape::Object }]);
    };
    let mut ranges: Vec<(u16, Accepted)> = header.split(',').take(32).filter_map(range).collect();
    // A stable sort: of equal weight, what the client names first.
    ranges.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
    if ranges.is_empty() {
        return Err(StatusError::not_acceptable(&SERVED));
    }
    Ok(ranges.into_iter().map(|(_, accepted)| accepted).collect())
}

/// The first accepted answer of one of `shapes`.
///
/// # Errors
/// 406 when the client accepts none of them.
pub(crate) fn choose(accepted: &[Accepted], shapes: &[Shape]) -> Result<Accepted, StatusError> {
    accepted.iter().find(|one| shapes.contains(&one.shape)).copied().ok_or_else(|| StatusError::not_acceptable(&SERVED))
}

fn range(text: &str) -> Option<(u16, Accepted)> {
    let mut parts = text.split(';').map(str::trim);
    let media = parts.next()?.to_ascii_lowercase();
    let (mut kind, mut version, mut group, mut weight) = (None, None, None, 1000);
    for part in parts {
        let (key, value) = part.split_once('=')?;
        match key.trim() {
            "as" => kind = Some(value),
            "v" => version = Some(value),
            "g" => group = Some(value),
            "q" => weight = (value.parse::<f32>().ok()?.clamp(0.0, 1.0) * 1000.0) as u16,
            _ => {}
        }
    }
    if weight == 0 {
        return None;
    }
    let encoding = match media.as_str() {
        "application/json" | "*/*" | "application/*" => Encoding::Json,
        "application/yaml" => Encoding::Yaml,
        "application/com.github.proto-openapi.spec.v2@v1.0+protobuf" => {
            let shape = Shape::OpenApiV2Protobuf;
            return Some((weight, Accepted { encoding: Encoding::Json, shape }));
        }
        _ => return None,
    };
    let shape = match (kind, group, version) {
        (None, _, _) => Shape::Object,
        (Some("Table"), Some("meta.k8s.io"), Some("v1")) => Shape::Table,
        (Some("PartialObjectMetadata"), Some("meta.k8s.io"), Some("v1")) => Shape::Metadata,
        (Some("PartialObjectMetadataList"), Some("meta.k8s.io"), Some("v1")) => Shape::MetadataList,
        (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some("v2")) => Shape::Discovery("v2"),
        (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some("v2beta1")) => Shape::Discovery("v2beta1"),
        _ => return None,
    };
    Some((weight, Accepted { encoding, shape }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(header: &str) -> Option<(Encoding, Shape)> {
        let accepted = parse(Some(header)).ok()?;
        accepted.first().map(|one| (one.encoding, one.shape))
    }

    #[test]
    fn clients_get_the_shape_they_prefer() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        for (header, wanted) in [
            (table, Some((Encoding::Json, Shape::Table))),
            ("application/json", Some((Encoding::Json, Shape::Object))),
            ("*/*", Some((Encoding::Json, Shape::Object))),
            ("application/yaml", Some((Encoding::Yaml, Shape::Object))),
            ("application/vnd.kubernetes.protobuf,application/json", Some((Encoding::Json, Shape::Object))),
            ("application/json;q=0.5,application/yaml", Some((Encoding::Yaml, Shape::Object))),
            (
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json",
                Some((Encoding::Json, Shape::Discovery("v2"))),
            ),
            ("application/json;as=Table;v=v2;g=meta.k8s.io", None),
            ("application/vnd.kubernetes.protobuf", None),
            ("text/html", None),
            ("application/json;q=0", None),
        ] {
            assert_eq!(first(header), wanted, "{header}");
        }
        assert_eq!(parse(None).unwrap()[0].shape, Shape::Object);
        assert_eq!(parse(Some("text/plain")).unwrap_err().code(), 406);
    }

    #[test]
    fn a_shape_that_is_not_offered_falls_through() {
        let accepted = parse(Some("application/json;as=Table;v=v1;g=meta.k8s.io,application/json")).unwrap();
        assert_eq!(choose(&accepted, &[Shape::Object]).unwrap().shape, Shape::Object);
        let only = parse(Some("application/json;as=Table;v=v1;g=meta.k8s.io")).unwrap();
        assert_eq!(choose(&only, &[Shape::Object]).unwrap_err().code(), 406);
    }
}
