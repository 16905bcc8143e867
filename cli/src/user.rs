//! `cattle user …`

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::api::{ApiError, Client, segment};
use crate::args::{Format, OutputArgs, UserCommand};
use crate::console::{Console, clean};
use crate::error::CliError;
use crate::login::{CHANGE_PASSWORD_PATH, ask_new_password};
use crate::output::{self, age, text};

const USERS: &str = "/apis/management.cattle.io/v3/users";
const GLOBAL_ROLE_BINDINGS: &str = "/apis/management.cattle.io/v3/globalrolebindings";

/// Runs the command.
///
/// # Errors
/// See [`CliError`].
pub async fn run(client: &Client, command: &UserCommand, console: &mut Console) -> Result<(), CliError> {
    match command {
        UserCommand::Create { username, display_name, admin, password_stdin, keep_password, output } => {
            let password = new_password(*password_stdin, console)?;
            let wanted = NewUser { username, display_name, password, admin: *admin, keep_password: *keep_password };
            create(client, wanted, *output, console).await
        }
        UserCommand::Passwd { user, password_stdin } => passwd(client, user.as_deref(), *password_stdin, console).await,
        UserCommand::Disable { user } => set_enabled(client, user, false, console).await,
        UserCommand::Enable { user } => set_enabled(client, user, true, console).await,
        UserCommand::List(output) => list(client, *output, console).await,
        UserCommand::Delete { user, yes } => delete(client, user, *yes, console).await,
    }
}

/// The id of a user who is named by id or by sign-in name. An id is taken as it is, since only administrators may look
/// up others.
///
/// # Errors
/// [`CliError::NotFound`], or what the server says.
pub(crate) async fn find_user(client: &Client, name: &str) -> Result<String, CliError> {
    let wanted = name.to_lowercase();
    let users = match client.get(USERS).await {
        Ok(users) => users["items"].as_array().cloned().unwrap_or_default(),
        Err(ApiError::Status { status: 403, .. }) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let id = |user: &Value| user["metadata"]["name"].as_str().map(str::to_owned);
    let by_id = users.iter().find(|user| user["metadata"]["name"] == name);
    let by_login = || {
        users.iter().find(|user| user["username"].as_str().map(str::to_lowercase).as_deref() == Some(wanted.as_str()))
    };
    match by_id.or_else(by_login).and_then(id) {
        Some(id) => Ok(id),
        None if name.starts_with("u-") => Ok(name.to_owned()),
        None => Err(CliError::NotFound { kind: "user", name: clean(name) }),
    }
}

/// Sign-in names by id, as far as the caller may know them.
pub(crate) struct UserNames(BTreeMap<String, String>);

impl UserNames {
    /// Whoever may not list users gets no names, and sees ids.
    pub(crate) async fn read(client: &Client) -> Self {
        let users = client.get(USERS).await.unwrap_or_default();
        let users = users["items"].as_array().cloned().unwrap_or_default();
        Self(users.iter().map(|user| (text(user, "/metadata/name"), text(user, "/username"))).collect())
    }

    /// `ann (u-abcde)`, or the id alone.
    pub(crate) fn of(&self, id: &str) -> String {
        match self.0.get(id).filter(|name| !name.is_empty()) {
            Some(name) => format!("{name} ({id})"),
            None => id.to_owned(),
        }
    }
}

struct NewUser<'a> {
    username: &'a str,
    display_name: &'a str,
    password: Zeroizing<String>,
    admin: bool,
    keep_password: bool,
}

async fn create(client: &Client, user: NewUser<'_>, output: OutputArgs, console: &mut Console) -> Result<(), CliError> {
    let request = json!({
        "apiVersion": "management.cattle.io/v3",
        "kind": "User",
        "metadata": { "generateName": "u-" },
        "username": user.username,
        "displayName": user.display_name,
        "password": *user.password,
        "mustChangePassword": !user.keep_password,
        "enabled": true,
    });
    let made = client.post(USERS, &request).await?;
    let id = made["metadata"]["name"].as_str().ok_or(CliError::Answer("name"))?;
    if user.admin {
        let binding = json!({
            "apiVersion": "management.cattle.io/v3",
            "kind": "GlobalRoleBinding",
            "metadata": { "generateName": "grb-" },
            "globalRoleName": "admin",
            "userName": id,
        });
        client.post(GLOBAL_ROLE_BINDINGS, &binding).await?;
    }
    if output.output == Format::Table {
        let kind = if user.admin { "administrator" } else { "user" };
        console.say(&format!("{kind} {:?} ({}) was made", clean(user.username), clean(id)));
        return Ok(());
    }
    output::one(console, output.output, &made, |_| Ok(()))
}

async fn passwd(client: &Client, user: Option<&str>, stdin: bool, console: &mut Console) -> Result<(), CliError> {
    let missing = || CliError::Usage("two lines are needed: the current and the new password".to_owned());
    let Some(user) = user else {
        let current = if stdin {
            console.read_secret()?.ok_or_else(missing)?
        } else {
            console.ask_secret("Current password: ", "a password is needed: use --password-stdin")?
        };
        let new = if stdin { console.read_secret()?.ok_or_else(missing)? } else { ask_new_password(console)? };
        let body = json!({ "currentPassword": *current, "newPassword": *new });
        client.post(CHANGE_PASSWORD_PATH, &body).await?;
        console.say("your password was changed; your other sessions have ended");
        return Ok(());
    };
    let id = find_user(client, user).await?;
    let new = new_password(stdin, console)?;
    let path = format!("/v3/users/{}?action=setpassword", segment(&id));
    client.post(&path, &json!({ "newPassword": *new })).await?;
    console.say(&format!("the password of {} was set and must be changed at the next sign-in", clean(user)));
    Ok(())
}

fn new_password(stdin: bool, console: &mut Console) -> Result<Zeroizing<String>, CliError> {
    if !stdin {
        return ask_new_password(console);
    }
    console.read_secret()?.ok_or_else(|| CliError::Usage("no password on standard input".to_owned()))
}

async fn set_enabled(client: &Client, user: &str, enabled: bool, console: &mut Console) -> Result<(), CliError> {
    let id = find_user(client, user).await?;
    client.patch(&format!("{USERS}/{}", segment(&id)), &json!({ "enabled": enabled })).await?;
    let state = if enabled { "enabled" } else { "disabled: sign-ins and tokens are refused, running streams end" };
    console.say(&format!("user {} is {state}", clean(user)));
    Ok(())
}

async fn list(client: &Client, output: OutputArgs, console: &mut Console) -> Result<(), CliError> {
    let users = client.get(USERS).await?;
    let items = users["items"].as_array().cloned().unwrap_or_default();
    let now = Timestamp::now();
    let username = |object: &Value| text(object, "/username");
    let id = |object: &Value| text(object, "/metadata/name");
    let name = |object: &Value| text(object, "/displayName");
    let enabled = |object: &Value| (object["enabled"] != false).to_string();
    let old = move |object: &Value| age(object, now);
    output::list(
        console,
        output.output,
        &items,
        &[("USERNAME", &username), ("ID", &id), ("NAME", &name), ("ENABLED", &enabled), ("AGE", &old)],
    )
}

async fn delete(client: &Client, user: &str, yes: bool, console: &mut Console) -> Result<(), CliError> {
    let id = find_user(client, user).await?;
    if !yes {
        let question =
            format!("Delete user {} ({}) with all tokens and memberships? (yes/no) ", clean(user), clean(&id));
        if console.ask(&question, "deleting needs --yes")? != "yes" {
            return Err(CliError::NotConfirmed);
        }
    }
    client.delete(&format!("{USERS}/{}", segment(&id))).await?;
    console.say(&format!("user {} was deleted", clean(user)));
    Ok(())
}
