//! Secrets out of URIs.

const IMPORT: &str = "/v3/import/";
const REDACTED: &str = "REDACTED";

/// Query parameters whose values are credentials, lower case.
const SECRET_PARAMETERS: [&str; 8] =
    ["token", "access_token", "id_token", "refresh_token", "password", "secret", "client_secret", "code"];

/// The URI with the registration token of an import path and the values of credential parameters replaced. What comes
/// after the token (`_<cluster>.yaml`) stays, so that a reader sees which cluster it was.
#[must_use]
pub fn redacted_uri(uri: &str) -> String {
    let (path, query) = match uri.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (uri, None),
    };
    let mut out = redacted_path(path);
    if let Some(query) = query {
        out.push('?');
        for (position, pair) in query.split('&').enumerate() {
            if position > 0 {
                out.push('&');
            }
            push_pair(&mut out, pair);
        }
    }
    out
}

fn redacted_path(path: &str) -> String {
    // Searched for anywhere and in any case: a path that our router refuses is logged as well.
    let Some(start) = path.to_ascii_lowercase().find(IMPORT) else {
        return path.to_owned();
    };
    let start = start + IMPORT.len();
    let rest = &path[start..];
    let cluster = rest.rfind('_').map_or("", |at| &rest[at..]);
    format!("{}{REDACTED}{cluster}", &path[..start])
}

fn push_pair(out: &mut String, pair: &str) {
    let Some((key, _)) = pair.split_once('=') else {
        return out.push_str(pair);
    };
    out.push_str(key);
    // An encoded key may spell a credential parameter in a way that this list does not see.
    if key.contains('%') || SECRET_PARAMETERS.contains(&key.to_ascii_lowercase().as_str()) {
        out.push('=');
        out.push_str(REDACTED);
    } else {
        out.push_str(&pair[key.len()..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_go_and_the_rest_stays() {
        let table = [
            ("/api/v1/pods?limit=500&watch=true", "/api/v1/pods?limit=500&watch=true"),
            ("/v3/import/abc_c-xyz12.yaml", "/v3/import/REDACTED_c-xyz12.yaml"),
            ("/v3/import/a_b_c-xyz12.yaml?x=1", "/v3/import/REDACTED_c-xyz12.yaml?x=1"),
            ("/V3/Import/abc_c-xyz12.yaml", "/V3/Import/REDACTED_c-xyz12.yaml"),
            ("/x/v3/import/abc", "/x/v3/import/REDACTED"),
            ("/v3/import/", "/v3/import/REDACTED"),
            ("/x?token=s3cret&a=b", "/x?token=REDACTED&a=b"),
            ("/x?Access_Token=s3cret", "/x?Access_Token=REDACTED"),
            ("/x?%74oken=s3cret", "/x?%74oken=REDACTED"),
            ("/x?flag", "/x?flag"),
            ("/x?", "/x?"),
        ];
        for (uri, expected) in table {
            assert_eq!(redacted_uri(uri), expected);
        }
    }
}
