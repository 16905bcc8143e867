//! `cattle login`, `logout` and `whoami`.

use serde_json::{Value, json};
use url::Url;
use zeroize::Zeroizing;

use crate::api::{ApiError, Client};
use crate::args::{LoginArgs, OutputArgs};
use crate::config::{ConfigFile, Server};
use crate::console::{Console, clean};
use crate::error::CliError;
use crate::output;
use crate::skew;
use crate::trust::{Trust, TrustError, client_config, first_contact};

const LOGIN_PATH: &str = "/v3-public/localProviders/local?action=login";
const LOGOUT_PATH: &str = "/v3/tokens?action=logout";
pub(crate) const CHANGE_PASSWORD_PATH: &str = "/v3/users?action=changepassword";
const SELF_PATH: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

/// What a sign-in gave.
struct Session {
    token: Zeroizing<String>,
    expires_at: Option<String>,
}

/// Which server commands go to afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Current {
    /// The one of this sign-in.
    This,
    /// The one that it was, if there was one.
    Keep,
}

/// Signs in and remembers it. Nothing secret is sent before the server is trusted.
///
/// # Errors
/// See [`CliError`].
pub async fn login(file: &ConfigFile, args: &LoginArgs, console: &mut Console) -> Result<(), CliError> {
    let url = server_url(&args.url)?;
    let config = file.load()?;
    let known = config.server_at(&url);
    let other = args.name.as_deref().and_then(|name| config.servers.iter().find(|server| server.name == name));
    if let Some(other) = other.filter(|other| other.url != url) {
        return Err(CliError::NameTaken { name: clean(&other.name), url: other.url.to_string() });
    }
    let trust = trust(&url, args, known, console).await?;
    let server = establish(file, &url, args, trust, Current::This, console).await?;
    let username = server.user.as_deref().unwrap_or_default();
    console.say(&format!("signed in at {} as {username}", clean(&server.name)));
    Ok(())
}

/// Signs in at a server that is trusted, and remembers it.
///
/// # Errors
/// See [`CliError`].
pub(crate) async fn establish(
    file: &ConfigFile,
    url: &Url,
    args: &LoginArgs,
    trust: Trust,
    current: Current,
    console: &mut Console,
) -> Result<Server, CliError> {
    // A session that nobody can remember would go on at the server.
    file.check_writable()?;
    let client = Client::anonymous(url.clone(), client_config(&trust)?)?;
    let session = if args.token_stdin {
        let token = console.read_secret()?.ok_or_else(|| CliError::Usage("no token on standard input".to_owned()))?;
        Session { token, expires_at: None }
    } else {
        sign_in(&client, args, console).await?
    };
    let client = client.with_token(&session.token)?;
    let user = username(&who(&client).await?);
    file.change(|config| {
        let known = config.server_at(url).map(|server| server.name.clone());
        let server = Server {
            name: args.name.clone().or(known).unwrap_or_else(|| host(url)),
            url: url.clone(),
            ca: match trust {
                Trust::System => None,
                Trust::Pinned(pem) => Some(pem),
            },
            user: Some(user),
            token: Some(session.token.to_string()),
            expires_at: session.expires_at,
        };
        // One address has one entry: a new name renames it.
        config.servers.retain(|other| other.url != server.url || other.name == server.name);
        if current == Current::This || config.current.is_none() {
            config.current = Some(server.name.clone());
        }
        config.put(server.clone());
        server
    })
    .map_err(CliError::from)
}

/// Ends the session at the server and forgets its token, also when the server cannot be reached.
///
/// # Errors
/// See [`CliError`].
pub async fn logout(file: &ConfigFile, server: &Server, console: &mut Console) -> Result<(), CliError> {
    let ended = match crate::connect(server) {
        Ok(client) => client.post(LOGOUT_PATH, &json!({})).await.map(drop).map_err(CliError::from),
        Err(error) => Err(error),
    };
    file.change(|config| {
        for known in config.servers.iter_mut().filter(|known| known.name == server.name) {
            known.token = None;
            known.expires_at = None;
        }
    })?;
    match ended {
        Ok(()) | Err(CliError::NotSignedIn(_) | CliError::Api(ApiError::Status { status: 401, .. })) => {
            console.say(&format!("signed out at {}", clean(&server.name)));
            Ok(())
        }
        Err(error) => {
            console.say("the token is forgotten here, but it was not ended at the server:");
            Err(error)
        }
    }
}

/// Shows who the server says we are.
///
/// # Errors
/// See [`CliError`].
pub async fn whoami(client: &Client, args: OutputArgs, console: &mut Console) -> Result<(), CliError> {
    let version = skew::server_version(client).await;
    if let Some(note) = version.as_deref().and_then(skew::note) {
        console.say(&note);
    }
    let me = who(client).await?;
    output::one(console, args.output, &me, |console| {
        let info = &me["status"]["userInfo"];
        let groups: Vec<String> =
            info["groups"].as_array().into_iter().flatten().map(|g| output::text(g, "")).collect();
        console.line(&format!("username: {}", username(&me)))?;
        console.line(&format!("id:       {}", output::text(info, "/username")))?;
        console.line(&format!("groups:   {}", groups.join(", ")))?;
        let version = version.map(|version| format!(" (cattle-server {version})")).unwrap_or_default();
        console.line(&format!("server:   {}{version}", client.server().origin().ascii_serialization()))?;
        Ok(())
    })
}

/// A new password, typed twice.
///
/// # Errors
/// See [`CliError`].
pub(crate) fn ask_new_password(console: &mut Console) -> Result<Zeroizing<String>, CliError> {
    const OTHERWISE: &str = "a new password is needed: give it with --password-stdin";
    let first = console.ask_secret("New password: ", OTHERWISE)?;
    let second = console.ask_secret("Again: ", OTHERWISE)?;
    if *first == *second { Ok(first) } else { Err(CliError::PasswordsDiffer) }
}

/// `host`, `host:port` or `https://host[:port][/]` as a URL. Nothing but https, and nothing after the host.
///
/// # Errors
/// [`CliError::Usage`].
pub fn server_url(text: &str) -> Result<Url, CliError> {
    let wrong = |why: &str| CliError::Usage(format!("{:?} is no server URL: {why}", clean(text)));
    let full = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let url = Url::parse(&full).map_err(|_| wrong("write https://HOST[:PORT]"))?;
    if url.scheme() != "https" {
        return Err(wrong("only https is spoken"));
    }
    let plain = url.username().is_empty() && url.password().is_none();
    if !plain || url.host_str().is_none_or(str::is_empty) {
        return Err(wrong("write https://HOST[:PORT], without a user"));
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("nothing may follow the host"));
    }
    Ok(url)
}

/// Decides what to trust: what was pinned, what was given, the system, or what the person confirms, in this order.
pub(crate) async fn trust(
    url: &Url,
    args: &LoginArgs,
    known: Option<&Server>,
    console: &mut Console,
) -> Result<Trust, CliError> {
    if let Some(expected) = args.ca_checksum {
        let candidate = first_contact(url).await?;
        if candidate.checksum != expected {
            return Err(TrustError::Checksum { expected, found: candidate.checksum }.into());
        }
        return Ok(Trust::Pinned(candidate.pem));
    }
    // What was pinned once is not asked about again, and is not weakened by asking the system instead.
    if let Some(pinned) = known.and_then(|server| server.ca.clone()) {
        return Ok(Trust::Pinned(pinned));
    }
    if is_trusted_by_system(url).await? {
        return Ok(Trust::System);
    }
    let candidate = first_contact(url).await?;
    if !console.is_interactive() {
        return Err(TrustError::Unknown { found: candidate.checksum }.into());
    }
    console.say(&format!("The certificate of {url} is not signed by an authority that this machine trusts."));
    console.say("The server's own CA has the SHA-256 checksum\n");
    console.say(&format!("  {}\n", candidate.checksum));
    console.say("Compare it with what whoever runs the server tells you.");
    let answer = console.ask("Trust this CA for this server, and no other? (yes/no) ", "use --ca-checksum")?;
    if answer == "yes" { Ok(Trust::Pinned(candidate.pem)) } else { Err(TrustError::NotConfirmed.into()) }
}

async fn is_trusted_by_system(url: &Url) -> Result<bool, CliError> {
    let config = match client_config(&Trust::System) {
        Ok(config) => config,
        Err(TrustError::NoRoots) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    match Client::anonymous(url.clone(), config)?.text("/ping").await {
        Ok(_) => Ok(true),
        Err(ApiError::Certificate { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn sign_in(client: &Client, args: &LoginArgs, console: &mut Console) -> Result<Session, CliError> {
    let username = match &args.username {
        Some(username) => username.clone(),
        None => console.ask("Username: ", "who are you? use --username")?,
    };
    let password = if args.password_stdin {
        console.read_secret()?.ok_or_else(|| CliError::Usage("no password on standard input".to_owned()))?
    } else {
        console.ask_secret("Password: ", "a password is needed: use --password-stdin")?
    };
    let request = json!({
        "username": username, "password": *password, "responseType": "json", "description": "cattle command line",
    });
    let answer = client.post(LOGIN_PATH, &request).await.map_err(|error| match error {
        // What to do about a 401 elsewhere, to sign in, is what fails here.
        ApiError::Status { status: 401 | 403, ref message, .. } => CliError::SignInRefused(message.clone()),
        ApiError::Certificate { .. }
        | ApiError::Unreachable { .. }
        | ApiError::Timeout { .. }
        | ApiError::Status { .. }
        | ApiError::Answer { .. }
        | ApiError::Setup => error.into(),
    })?;
    let token = answer["token"].as_str().filter(|token| !token.is_empty()).ok_or(CliError::Answer("token"))?;
    let session = Session {
        token: Zeroizing::new(token.to_owned()),
        expires_at: answer["expiresAt"].as_str().filter(|text| !text.is_empty()).map(clean),
    };
    if answer["mustChangePassword"] == true {
        change_first_password(client, args, console, &session, &password).await?;
    }
    Ok(session)
}

async fn change_first_password(
    client: &Client,
    args: &LoginArgs,
    console: &mut Console,
    session: &Session,
    current: &str,
) -> Result<(), CliError> {
    let new = if args.password_stdin {
        console.read_secret()?.ok_or(CliError::PasswordChangeRequired)?
    } else {
        console.say("The password must be changed now.");
        ask_new_password(console)?
    };
    let body = json!({ "currentPassword": current, "newPassword": *new });
    client.post_with_token(CHANGE_PASSWORD_PATH, &body, &session.token).await?;
    console.say("the password was changed");
    Ok(())
}

pub(crate) async fn who(client: &Client) -> Result<Value, CliError> {
    let review = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview" });
    Ok(client.post(SELF_PATH, &review).await?)
}

pub(crate) fn username(review: &Value) -> String {
    let info = &review["status"]["userInfo"];
    let login = output::text(info, "/extra/username/0");
    if login.is_empty() { output::text(info, "/username") } else { login }
}

fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_named_by_https_urls_only() {
        let url = |text| server_url(text).map(|url| url.to_string()).ok();
        assert_eq!(url("cattle.example"), Some("https://cattle.example/".to_owned()));
        assert_eq!(url("https://cattle.example:8443/"), Some("https://cattle.example:8443/".to_owned()));
        assert_eq!(url("127.0.0.1:8443"), Some("https://127.0.0.1:8443/".to_owned()));
        assert_eq!(url("https://[::1]:8443"), Some("https://[::1]:8443/".to_owned()));
        let bad = [
            "",
            "http://cattle.example",
            "ftp://x",
            "https://",
            "https://u:p@cattle.example",
            "https://cattle.example/path",
            "https://cattle.example?x",
            "https://cattle.example#x",
            "https://cattle example",
        ];
        for text in bad {
            assert_eq!(url(text), None, "{text}");
        }
    }
}
