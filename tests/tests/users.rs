//! Who sees what: an administrator, an owner, a member and a stranger, at the server's own API and in a cluster; what is left
//! of somebody whose access ends; and the impersonators, downstream, as they are documented.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test is the point")]

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use cattle_harness::wait_for;
use cattle_matrix::Matrix;
use cattle_tests::{Member, Server, User};
use futures_util::future::join_all;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);
const IMPERSONATORS: &str = "cattle-impersonation-system";
const REVIEW: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

/// A cluster, the record of another one, and four people.
struct Cast {
    server: Server,
    member: Member,
    other: String,
    owner: User,
    viewer: User,
    stranger: User,
}

/// How access ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    MembershipRemoved,
    TokenRevoked,
    UserDisabled,
    UserDeleted,
}

/// What a client printed: exit code, standard output, standard error.
type Printed = (i32, String, String);

impl Cast {
    async fn gather() -> anyhow::Result<Self> {
        let server = Server::start().await?;
        let member = Member::join(&server, "prod").await?;
        let other = server.add_cluster("other").await?;
        let owner = server.add_user("owner").await?;
        let viewer = server.add_user("viewer").await?;
        let stranger = server.add_user("stranger").await?;
        server.add_member(&member.id, &owner, "cluster-owner").await?;
        server.add_member(&member.id, &viewer, "cluster-member").await?;
        let cast = Self { server, member, other, owner, viewer, stranger };
        for user in [&cast.owner, &cast.viewer] {
            cast.wait_role(user).await?;
        }
        Ok(cast)
    }

    /// Until the cluster knows what the user may do, and its API server has seen it.
    async fn wait_role(&self, user: &User) -> anyhow::Result<()> {
        wait_for("the role downstream", SOON, async || {
            let answer = self.downstream("/api/v1/nodes", user).await?;
            ensure!(answer.status() == 200, "{}", answer.text().await?);
            Ok(())
        })
        .await
    }

    async fn downstream(&self, path: &str, user: &User) -> anyhow::Result<reqwest::Response> {
        self.server.get(&self.member.path(path), user).await
    }

    /// kubectl on the server itself.
    async fn own(&self, user: &User, line: &str) -> anyhow::Result<Printed> {
        printed(&self.server.kubectl(user, line.split(' ')).await?).await
    }

    /// kubectl in the cluster.
    async fn inside(&self, user: &User, line: &str) -> anyhow::Result<Printed> {
        printed(&self.server.kubectl_in(&self.member.id, user, line.split(' ')).await?).await
    }

    /// The names that a list shows, without their kind.
    async fn names(&self, user: &User, line: &str) -> anyhow::Result<BTreeSet<String>> {
        let (code, out, error) = self.own(user, &format!("get {line} -o name")).await?;
        ensure!(code == 0, "{line}: {error}");
        Ok(out.lines().filter_map(|line| line.split_once('/')).map(|(_, name)| name.to_owned()).collect())
    }

    /// Namespaces and names in a list of all namespaces.
    async fn places(&self, user: &User, kind: &str) -> anyhow::Result<BTreeSet<String>> {
        let columns = "custom-columns=N:.metadata.namespace,M:.metadata.name";
        let (code, out, error) = self.own(user, &format!("get {kind} -A --no-headers -o {columns}")).await?;
        ensure!(code == 0, "{kind}: {error}");
        Ok(out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join("/")).collect())
    }

    async fn review(&self, user: &User) -> anyhow::Result<Value> {
        let body = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview" });
        let url = format!("{}{}", self.server.url(), self.member.path(REVIEW));
        let answer = self.server.http().post(url).bearer_auth(&user.token).json(&body).send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status == 201, "{status}: {text}");
        let review: Value = serde_json::from_str(&text)?;
        Ok(review["status"]["userInfo"].clone())
    }

    async fn direct(&self, line: &str) -> anyhow::Result<Value> {
        self.member.control_plane.kubectl(line.split(' ')).json().await
    }

    /// Names of the four that a user has downstream.
    async fn impersonator_of(&self, user: &User) -> anyhow::Result<Vec<String>> {
        let kinds = "clusterroles,clusterrolebindings,serviceaccounts,secrets";
        let label = "authz.cluster.cattle.io/impersonator=true";
        let list = self.member.control_plane.kubectl(["get", kinds, "-A", "-l", label, "-o", "name"]).ok().await?;
        let name = format!("cattle-impersonation-{}", user.name);
        Ok(list.lines().filter(|line| line.contains(&name)).map(str::to_owned).collect())
    }

    /// The Secret's name and the token in it.
    async fn impersonator_token(&self, user: &User) -> anyhow::Result<(Value, String)> {
        let account = format!("cattle-impersonation-{}", user.name);
        let list = self.direct(&format!("get secrets -n {IMPERSONATORS}")).await?;
        let secrets = list["items"].as_array().context("no list")?;
        let of_user = |secret: &&Value| {
            secret["metadata"]["annotations"]["kubernetes.io/service-account.name"] == account.as_str()
        };
        let secret = secrets.iter().find(of_user).context("no secret of the impersonator")?.clone();
        let data = secret["data"]["token"].as_str().context("the secret has no token yet")?;
        let token = String::from_utf8(base64::engine::general_purpose::STANDARD.decode(data)?)?;
        Ok((secret, token))
    }

    /// A client that lets a stream run for as long as the server does.
    fn patient(&self) -> anyhow::Result<reqwest::Client> {
        let ca = reqwest::Certificate::from_pem(self.server.ca_pem().as_bytes())?;
        Ok(reqwest::Client::builder().tls_certs_only([ca]).build()?)
    }
}

async fn printed(client: &cattle_harness::Client) -> anyhow::Result<Printed> {
    let output = client.output().await?;
    Ok((output.status.code().context("killed")?, output.text(), output.error()))
}

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_sees_and_does_what_they_may() -> anyhow::Result<()> {
    let cast = Cast::gather().await?;
    lists_are_filtered(&cast).await.context("lists")?;
    rights_at_the_server(&cast).await.context("rights at the server")?;
    rights_downstream(&cast).await.context("rights downstream")?;
    identities(&cast).await.context("identities")?;
    fifty_first_requests(&cast).await.context("fifty first requests")?;
    impersonators_are_as_documented(&cast).await.context("impersonators")?;
    impersonators_come_back(&cast).await.context("repairs")?;
    an_impersonator_alone_may_do_nothing(&cast).await.context("an impersonator alone")?;
    let all = [End::MembershipRemoved, End::TokenRevoked, End::UserDisabled, End::UserDeleted];
    for ended in join_all(all.map(|end| access_ends(&cast, end))).await.into_iter().zip(all) {
        ended.0.with_context(|| format!("{:?}", ended.1))?;
    }
    Ok(())
}

async fn lists_are_filtered(cast: &Cast) -> anyhow::Result<()> {
    let (a, b) = (cast.member.id.as_str(), cast.other.as_str());
    let admin = cast.server.admin();
    assert_eq!(cast.names(admin, "clusters").await?, set([a, b]));
    assert_eq!(cast.names(&cast.owner, "clusters").await?, set([a]));
    assert_eq!(cast.names(&cast.viewer, "clusters").await?, set([a]));
    assert_eq!(cast.names(&cast.stranger, "clusters").await?, set([]));

    let users = [&cast.owner, &cast.viewer, &cast.stranger];
    let seen = cast.names(admin, "users").await?;
    assert!(users.iter().all(|user| seen.contains(&user.name)) && seen.contains(&admin.name), "{seen:?}");
    for user in users {
        assert_eq!(cast.names(user, "users").await?, set([&user.name]));
        let tokens = cast.names(user, "tokens.ext.cattle.io").await?;
        let own = user.token.split(':').next().unwrap();
        assert!(tokens.contains(own), "{tokens:?}");
        let all = cast.names(admin, "tokens.ext.cattle.io").await?;
        assert!(tokens.is_subset(&all) && tokens.len() < all.len(), "{tokens:?}");
    }

    // Administrators see all; who owns or enters a cluster, all of that cluster; a stranger nothing.
    let bindings = cast.places(admin, "clusterroletemplatebindings").await?;
    assert!(bindings.iter().any(|place| place.starts_with(b)), "{bindings:?}");
    let of_a: BTreeSet<String> = bindings.into_iter().filter(|place| place.starts_with(a)).collect();
    assert!(of_a.len() >= 2, "{of_a:?}");
    assert_eq!(cast.places(&cast.owner, "clusterroletemplatebindings").await?, of_a);
    assert_eq!(cast.places(&cast.viewer, "clusterroletemplatebindings").await?, of_a);
    assert_eq!(cast.places(&cast.stranger, "clusterroletemplatebindings").await?, set([]));
    cast.server.add_registration_token(b).await?;
    let registrations = cast.places(admin, "clusterregistrationtokens").await?;
    assert_eq!(registrations.len(), 2);
    let of_a: BTreeSet<String> = registrations.into_iter().filter(|place| place.starts_with(a)).collect();
    assert_eq!(cast.places(&cast.owner, "clusterregistrationtokens").await?, of_a);
    assert_eq!(cast.places(&cast.viewer, "clusterregistrationtokens").await?, set([]));

    // A watch is filtered as a list is.
    let (code, out, error) = cast.own(&cast.owner, "get clusters -w -o name --request-timeout=3s").await?;
    assert!(out.contains(a) && !out.contains(b), "{code} {out} {error}");
    Ok(())
}

async fn rights_at_the_server(cast: &Cast) -> anyhow::Result<()> {
    let (a, b) = (&cast.member.id, &cast.other);
    // What one may not see does not exist: word for word.
    for (user, cluster) in [(&cast.owner, b), (&cast.viewer, b), (&cast.stranger, a), (&cast.stranger, b)] {
        let (code, _, hidden) = cast.own(user, &format!("get cluster {cluster}")).await?;
        let (_, _, absent) = cast.own(user, "get cluster c-nope0").await?;
        assert_eq!((code, hidden.replace(cluster, "c-nope0")), (1, absent));
    }
    for (user, line) in [
        (&cast.viewer, format!("delete cluster {a}")),
        (&cast.stranger, format!("delete cluster {a}")),
        (&cast.owner, format!("delete cluster {b}")),
        (&cast.viewer, format!("delete clusterroletemplatebindings --all -n {a}")),
        (&cast.stranger, format!("get clusterroletemplatebindings -n {a}")),
        (&cast.owner, format!("delete user {}", cast.viewer.name)),
        (&cast.owner, format!("get user {}", cast.viewer.name)),
        (&cast.owner, "get globalrolebindings".to_owned()),
        (&cast.owner, "delete setting server-url".to_owned()),
    ] {
        let (code, out, error) = cast.own(user, &line).await?;
        assert!(code == 1 && out.is_empty(), "{line}: {out}{error}");
        assert!(error.contains("NotFound") || error.contains("Forbidden"), "{line}: {error}");
    }
    // Who owns a cluster says who else may enter it; nobody else does.
    for (user, cluster, allowed) in
        [(&cast.owner, a, true), (&cast.viewer, a, false), (&cast.owner, b, false), (&cast.stranger, a, false)]
    {
        let binding = json!({
            "apiVersion": "management.cattle.io/v3", "kind": "ClusterRoleTemplateBinding",
            "metadata": { "name": "crtb-made-by-test", "namespace": cluster },
            "clusterName": cluster, "userName": cast.stranger.name, "roleTemplateName": "cluster-member",
        });
        let path = format!("/apis/management.cattle.io/v3/namespaces/{cluster}/clusterroletemplatebindings");
        let url = format!("{}{path}", cast.server.url());
        let answer = cast.server.http().post(&url).bearer_auth(&user.token).json(&binding).send().await?;
        let status = answer.status().as_u16();
        assert!(
            if allowed { status == 201 } else { matches!(status, 403 | 404) },
            "{cluster}: {status} {}",
            answer.text().await?
        );
        if allowed {
            let gone =
                cast.server.http().delete(format!("{url}/crtb-made-by-test")).bearer_auth(&user.token).send().await?;
            assert_eq!(gone.status(), 200);
        }
    }
    Ok(())
}

async fn rights_downstream(cast: &Cast) -> anyhow::Result<()> {
    let namespace = "default";
    for user in [cast.server.admin(), &cast.owner] {
        let made = cast.inside(user, &format!("create secret generic of-{} -n {namespace}", user.name)).await?;
        assert_eq!((made.0, made.2.as_str()), (0, ""));
        assert_eq!(cast.inside(user, "auth can-i * * --all-namespaces").await?.1, "yes\n");
    }
    let (code, _, error) = cast.inside(&cast.viewer, "get secrets -n default").await?;
    let wanted = format!(
        "Error from server (Forbidden): secrets is forbidden: User \"{}\" cannot list resource \"secrets\" in API group \"\" in the namespace \"default\"\n",
        cast.viewer.name
    );
    assert_eq!((code, error), (1, wanted));
    assert_eq!(cast.inside(&cast.viewer, "auth can-i create pods").await?.1, "no\n");
    assert_eq!(cast.inside(&cast.viewer, "get nodes").await?.0, 0);

    // To a stranger the cluster is as absent as one that never was.
    let answer = cast.downstream("/api/v1/nodes", &cast.stranger).await?;
    assert_eq!(answer.status(), 404);
    let hidden = answer.text().await?;
    let absent = cast.server.get("/k8s/clusters/c-nope0/api/v1/nodes", &cast.stranger).await?.text().await?;
    assert_eq!(hidden.replace(&cast.member.id, "c-nope0"), absent);
    assert!(cast.impersonator_of(&cast.stranger).await?.is_empty());
    let (code, _, error) = cast.inside(&cast.owner, "get pods --as=system:admin").await?;
    assert!(code == 1 && error.contains("impersonate-user"), "{error}");
    Ok(())
}

/// Exactly the documented user, groups and extras: nothing more.
async fn identities(cast: &Cast) -> anyhow::Result<()> {
    for (user, login) in [(cast.server.admin(), "admin"), (&cast.owner, "owner"), (&cast.viewer, "viewer")] {
        let wanted = json!({
            "username": user.name,
            "groups": ["system:authenticated", "system:cattle:authenticated"],
            "extra": { "principalid": [format!("local://{}", user.name)], "username": [login] },
        });
        assert_eq!(cast.review(user).await?, wanted);
        let (_, out, _) = cast.inside(user, "auth whoami -o json").await?;
        let shown: Value = serde_json::from_str(&out)?;
        assert_eq!(shown["status"]["userInfo"], wanted);
    }
    Ok(())
}

async fn fifty_first_requests(cast: &Cast) -> anyhow::Result<()> {
    for round in Matrix::of_this_run("first requests of a new user").slice(10, 2) {
        let login = format!("newcomer{round}");
        let user = cast.server.add_user(&login).await?;
        cast.server.add_member(&cast.member.id, &user, "cluster-member").await?;
        // The server knows of the membership; the cluster has not seen the user yet.
        wait_for("the membership", SOON, async || {
            ensure!(cast.names(&user, "clusters").await?.contains(&cast.member.id));
            Ok(())
        })
        .await?;
        let answers = join_all((0..50).map(async |_| {
            let answer = cast.downstream("/apis", &user).await?;
            let (status, text) = (answer.status(), answer.text().await?);
            anyhow::Ok(if status == 200 { "200".to_owned() } else { format!("{status} {text}") })
        }));
        let answers = answers.await.into_iter().collect::<anyhow::Result<BTreeSet<_>>>()?;
        assert_eq!(answers, set(["200"]), "round {round}");
        assert_eq!(cast.review(&user).await?["username"], user.name.as_str());
    }
    Ok(())
}

fn documented_rules(user: &User, login: &str) -> Value {
    let rule = |group: &str, resource: &str, names: Value| json!({ "apiGroups": [group], "resources": [resource], "resourceNames": names, "verbs": ["impersonate"] });
    json!([
        rule("", "users", json!([user.name])),
        rule("", "groups", json!(["system:authenticated", "system:cattle:authenticated"])),
        rule("authentication.k8s.io", "userextras/principalid", json!([format!("local://{}", user.name)])),
        rule("authentication.k8s.io", "userextras/username", json!([login])),
    ])
}

async fn impersonators_are_as_documented(cast: &Cast) -> anyhow::Result<()> {
    for (user, login) in [(cast.server.admin(), "admin"), (&cast.owner, "owner"), (&cast.viewer, "viewer")] {
        let name = format!("cattle-impersonation-{}", user.name);
        let namespace = cast.direct(&format!("get namespace {IMPERSONATORS}")).await?;
        let role = cast.direct(&format!("get clusterrole {name}")).await?;
        let binding = cast.direct(&format!("get clusterrolebinding {name}")).await?;
        let account = cast.direct(&format!("get serviceaccount -n {IMPERSONATORS} {name}")).await?;
        let (secret, _) = cast.impersonator_token(user).await?;
        for object in [&namespace, &role, &binding, &account, &secret] {
            let labels = &object["metadata"]["labels"];
            assert_eq!(labels["authz.cluster.cattle.io/impersonator"], "true", "{object}");
            assert_eq!(labels["cattle.io/creator"], "norman", "{object}");
        }
        assert_eq!(role["rules"], documented_rules(user, login));
        assert_eq!(binding["roleRef"]["name"], name.as_str());
        let subject = json!([{ "kind": "ServiceAccount", "name": name, "namespace": IMPERSONATORS }]);
        assert_eq!(binding["subjects"], subject);
        for owned in [&binding, &account] {
            let owner = &owned["metadata"]["ownerReferences"][0];
            assert_eq!((&owner["kind"], &owner["uid"]), (&json!("ClusterRole"), &role["metadata"]["uid"]));
        }
        let owner = &secret["metadata"]["ownerReferences"][0];
        assert_eq!((&owner["kind"], &owner["uid"]), (&json!("ServiceAccount"), &account["metadata"]["uid"]));
        let secret_name = secret["metadata"]["name"].as_str().unwrap();
        assert!(secret_name.starts_with(&format!("{name}-token-")), "{secret_name}");
        assert_eq!(secret["type"], "kubernetes.io/service-account-token");
        assert_eq!(secret["metadata"]["labels"]["cattle.io/service-account.name"], name.as_str());
        assert_eq!(cast.impersonator_of(user).await?.len(), 4);
    }
    Ok(())
}

async fn impersonators_come_back(cast: &Cast) -> anyhow::Result<()> {
    let user = &cast.owner;
    let name = format!("cattle-impersonation-{}", user.name);
    let wider = r#"--patch=[{"op":"add","path":"/rules/0/resourceNames/-","value":"system:admin"}]"#;
    let other = r#"--patch=[{"op":"replace","path":"/subjects/0/name","value":"default"}]"#;
    for damage in [
        format!("delete clusterrole {name}"),
        format!("delete clusterrolebinding {name}"),
        format!("delete serviceaccount -n {IMPERSONATORS} {name}"),
        format!("delete secret -n {IMPERSONATORS} -l cattle.io/service-account.name={name}"),
        format!("patch clusterrole {name} --type=json {wider}"),
        format!("patch clusterrolebinding {name} --type=json {other}"),
        format!("label clusterrole {name} authz.cluster.cattle.io/impersonator-"),
    ] {
        cast.member.control_plane.kubectl(damage.split(' ')).ok().await?;
        let repaired = wait_for("the repair", SOON, async || {
            let role = cast.direct(&format!("get clusterrole {name}")).await?;
            ensure!(role["rules"] == documented_rules(user, "owner"), "{}", role["rules"]);
            let binding = cast.direct(&format!("get clusterrolebinding {name}")).await?;
            ensure!(binding["subjects"][0]["name"] == name.as_str(), "{}", binding["subjects"]);
            let four = cast.impersonator_of(user).await?;
            ensure!(four.len() == 4, "{four:?}");
            cast.impersonator_token(user).await?;
            ensure!(cast.review(user).await?["username"] == user.name.as_str());
            Ok(())
        });
        repaired.await.with_context(|| format!("after {damage}"))?;
    }
    Ok(())
}

/// Whoever reads a user's Secret downstream has that user there and nobody else, and by the token alone nothing.
async fn an_impersonator_alone_may_do_nothing(cast: &Cast) -> anyhow::Result<()> {
    let (_, token) = cast.impersonator_token(&cast.owner).await?;
    let ca = reqwest::Certificate::from_pem(cast.member.control_plane.ca_pem().as_bytes())?;
    let http = reqwest::Client::builder().tls_certs_only([ca]).build()?;
    let url = |path: &str| format!("{}{path}", cast.member.control_plane.url());
    let account = format!("system:serviceaccount:{IMPERSONATORS}:cattle-impersonation-{}", cast.owner.name);
    let review = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview" });
    let answer = http.post(url(REVIEW)).bearer_auth(&token).json(&review).send().await?;
    let own: Value = answer.json().await?;
    assert_eq!(own["status"]["userInfo"]["username"], account.as_str());
    for path in [
        "/api/v1/nodes".to_owned(),
        "/api/v1/secrets".to_owned(),
        "/api/v1/namespaces/default/configmaps".to_owned(),
        format!("/api/v1/namespaces/{IMPERSONATORS}/secrets"),
        "/apis/rbac.authorization.k8s.io/v1/clusterroles".to_owned(),
        "/metrics".to_owned(),
    ] {
        assert_eq!(http.get(url(&path)).bearer_auth(&token).send().await?.status(), 403, "{path}");
    }
    let rules = json!({ "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": { "namespace": IMPERSONATORS } });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let rules: Value = http.post(url(path)).bearer_auth(&token).json(&rules).send().await?.json().await?;
    for rule in rules["status"]["resourceRules"].as_array().context("no rules")? {
        let group = &rule["apiGroups"][0];
        let reviews =
            (group == "authorization.k8s.io" || group == "authentication.k8s.io") && rule["verbs"] == json!(["create"]);
        assert!(reviews || rule["verbs"] == json!(["impersonate"]), "{rule}");
    }
    for headers in [
        vec![("Impersonate-User", cast.viewer.name.as_str())],
        vec![("Impersonate-User", "system:admin")],
        vec![("Impersonate-User", &cast.owner.name), ("Impersonate-Group", "system:masters")],
        vec![("Impersonate-User", &cast.owner.name), ("Impersonate-Uid", "1")],
        vec![("Impersonate-User", &cast.owner.name), ("Impersonate-Extra-Username", "admin")],
        vec![("Impersonate-User", &cast.owner.name), ("Impersonate-Extra-Scopes", "x")],
        vec![("Impersonate-User", "system:serviceaccount:cattle-system:cattle")],
    ] {
        let request = http.get(url("/api/v1/nodes")).bearer_auth(&token);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        assert_eq!(request.send().await?.status(), 403, "{headers:?}");
    }
    Ok(())
}

/// A running watch ends, the next request is refused, and downstream nothing of the user stays.
async fn access_ends(cast: &Cast, end: End) -> anyhow::Result<()> {
    let login = format!("leaver-{end:?}").to_lowercase();
    let user = cast.server.add_user(&login).await?;
    let binding = cast.server.add_member(&cast.member.id, &user, "cluster-member").await?;
    cast.wait_role(&user).await?;
    let http = cast.patient()?;
    let watch = async |path: String| -> anyhow::Result<reqwest::Response> {
        wait_for("a watch to begin", SOON, async || {
            let answer = http.get(format!("{}{path}", cast.server.url())).bearer_auth(&user.token).send().await?;
            ensure!(answer.status() == 200, "{path}: {}", answer.status());
            Ok(answer)
        })
        .await
    };
    let mut watches = vec![watch(cast.member.path("/api/v1/nodes?watch=true&timeoutSeconds=3000")).await?];
    if end != End::MembershipRemoved {
        watches.push(watch("/apis/management.cattle.io/v3/clusters?watch=true&timeoutSeconds=3000".to_owned()).await?);
    }
    let bystander = wait_for("somebody else's watch", SOON, async || {
        let answer = cast.downstream("/api/v1/nodes?watch=true&timeoutSeconds=20", &cast.viewer).await?;
        ensure!(answer.status() == 200, "{}", answer.text().await?);
        Ok(answer)
    })
    .await?;

    let token = user.token.split(':').next().unwrap();
    let line = match end {
        End::MembershipRemoved => format!("delete clusterroletemplatebinding -n {} {binding}", cast.member.id),
        End::TokenRevoked => format!("delete tokens.ext.cattle.io {token}"),
        End::UserDisabled => format!("patch user {} --type=merge --patch={{\"enabled\":false}}", user.name),
        End::UserDeleted => format!("delete user {} --wait=false", user.name),
    };
    let (code, _, error) = cast.own(cast.server.admin(), &line).await?;
    ensure!(code == 0, "{line}: {error}");
    for (number, mut watch) in watches.into_iter().enumerate() {
        let ended = async { while let Ok(Some(_)) = watch.chunk().await {} };
        tokio::time::timeout(SOON, ended).await.with_context(|| format!("watch {number} runs on"))?;
    }
    let refusal = if end == End::MembershipRemoved { 404 } else { 401 };
    let mut paths = vec![cast.member.path("/api/v1/nodes"), cast.member.path("/version")];
    if refusal == 401 {
        paths.push("/apis/management.cattle.io/v3/clusters".to_owned());
    }
    for path in paths {
        // A request that somebody else's end overtakes is to be sent again; none succeeds.
        let answer = wait_for("the refusal", SOON, async || {
            let answer = cast.server.get(&path, &user).await?;
            ensure!(answer.status() != 503, "{}", answer.text().await?);
            Ok(answer)
        });
        let answer = answer.await?;
        ensure!(answer.status() == refusal, "{path}: {} {}", answer.status(), answer.text().await?);
    }
    // Nobody else's streams end with it: this one ends by itself, in order.
    bystander.bytes().await.context("somebody else's watch broke")?;
    if end != End::TokenRevoked {
        wait_for("the user's four to go", SOON, async || {
            let four = cast.impersonator_of(&user).await?;
            ensure!(four.is_empty(), "{four:?}");
            // Somebody disabled keeps their memberships, and roles downstream that nobody can use.
            let bindings = cast.direct("get clusterrolebindings").await?["items"].to_string();
            let bound = bindings.contains(&format!("\"{}\"", user.name));
            ensure!(end == End::UserDisabled || !bound, "a binding of the user stays");
            Ok(())
        })
        .await?;
    }
    Ok(())
}
