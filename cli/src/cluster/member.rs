//! `cattle cluster member …`

use jiff::Timestamp;
use serde_json::{Value, json};

use super::find_cluster;
use crate::api::{Client, segment};
use crate::args::MemberCommand;
use crate::console::{Console, clean};
use crate::error::CliError;
use crate::output::{self, age, text};
use crate::user::{UserNames, find_user};

pub(super) async fn run(client: &Client, command: &MemberCommand, console: &mut Console) -> Result<(), CliError> {
    match command {
        MemberCommand::Add { cluster, user, role } => add(client, cluster, user, role, console).await,
        MemberCommand::Remove { cluster, user, role } => remove(client, cluster, user, role.as_deref(), console).await,
        MemberCommand::List { cluster, output } => {
            let found = find_cluster(client, cluster).await?;
            let items = bindings(client, &found.id).await?;
            let names = UserNames::read(client).await;
            let now = Timestamp::now();
            let who = |object: &Value| subject(object, &names);
            let role = |object: &Value| text(object, "/roleTemplateName");
            let id = |object: &Value| text(object, "/metadata/name");
            let old = move |object: &Value| age(object, now);
            let columns: [output::Column<'_>; 4] = [("MEMBER", &who), ("ROLE", &role), ("BINDING", &id), ("AGE", &old)];
            output::list(console, output.output, &items, &columns)
        }
    }
}

async fn add(client: &Client, cluster: &str, user: &str, role: &str, console: &mut Console) -> Result<(), CliError> {
    let found = find_cluster(client, cluster).await?;
    let user_id = find_user(client, user).await?;
    let template = template(role);
    let existing = bindings(client, &found.id).await?;
    let shown = format!("{} in {:?}", clean(user), clean(&found.name));
    if existing.iter().any(|binding| is_of(binding, &user_id, Some(template))) {
        console.say(&format!("{shown} is {template} already"));
        return Ok(());
    }
    let request = json!({
        "apiVersion": "management.cattle.io/v3",
        "kind": "ClusterRoleTemplateBinding",
        "metadata": { "generateName": "crtb-", "namespace": found.id },
        "clusterName": found.id,
        "userName": user_id,
        "roleTemplateName": template,
    });
    client.post(&path(&found.id), &request).await?;
    console.say(&format!("{shown} is {template} now"));
    Ok(())
}

async fn remove(
    client: &Client,
    cluster: &str,
    user: &str,
    role: Option<&str>,
    console: &mut Console,
) -> Result<(), CliError> {
    let found = find_cluster(client, cluster).await?;
    let user_id = find_user(client, user).await?;
    let template = role.map(template);
    let all = bindings(client, &found.id).await?;
    let theirs: Vec<&Value> = all.iter().filter(|binding| is_of(binding, &user_id, template)).collect();
    if theirs.is_empty() {
        return Err(CliError::NotFound { kind: "such member", name: clean(user) });
    }
    for binding in theirs {
        let name = binding["metadata"]["name"].as_str().unwrap_or_default();
        match client.delete(&format!("{}/{}", path(&found.id), segment(name))).await {
            Err(error) if !error.is_not_found() => return Err(error.into()),
            Ok(_) | Err(_) => {}
        }
        let role = text(binding, "/roleTemplateName");
        console.say(&format!("{} in {:?} is not {role} any more", clean(user), clean(&found.name)));
    }
    Ok(())
}

async fn bindings(client: &Client, cluster: &str) -> Result<Vec<Value>, CliError> {
    let list = client.get(&path(cluster)).await?;
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}

fn path(cluster: &str) -> String {
    format!("/apis/management.cattle.io/v3/namespaces/{}/clusterroletemplatebindings", segment(cluster))
}

fn template(role: &str) -> &str {
    match role {
        "owner" => "cluster-owner",
        "member" => "cluster-member",
        other => other,
    }
}

fn is_of(binding: &Value, user: &str, template: Option<&str>) -> bool {
    let principal = binding["userPrincipalName"].as_str().and_then(|principal| principal.strip_prefix("local://"));
    (binding["userName"] == user || principal == Some(user))
        && template.is_none_or(|template| binding["roleTemplateName"] == template)
}

fn subject(binding: &Value, names: &UserNames) -> String {
    let user = text(binding, "/userName");
    if !user.is_empty() {
        return names.of(&user);
    }
    let group = [text(binding, "/groupPrincipalName"), text(binding, "/groupName")];
    group.into_iter().find(|group| !group.is_empty()).map_or_else(String::new, |group| format!("group {group}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_is_of_its_user_by_name_or_principal_and_of_nobody_else() {
        let by_name = json!({ "userName": "u-aaaaa", "roleTemplateName": "cluster-owner" });
        let by_principal = json!({ "userPrincipalName": "local://u-aaaaa", "roleTemplateName": "cluster-owner" });
        let group = json!({ "groupName": "u-aaaaa", "roleTemplateName": "cluster-owner" });
        assert!(is_of(&by_name, "u-aaaaa", None) && is_of(&by_principal, "u-aaaaa", Some("cluster-owner")));
        assert!(!is_of(&by_name, "u-aaaaa", Some("cluster-member")));
        assert!(!is_of(&by_name, "u-aaaa", None) && !is_of(&group, "u-aaaaa", None));
    }
}
