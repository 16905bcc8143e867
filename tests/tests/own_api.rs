//! The server's own API by real kubectl, of today and of 1.20, as an administrator works with it.

use anyhow::{Context as _, ensure};
use cattle_harness::Output;
use cattle_tests::{Member, Server};

#[tokio::test]
async fn kubectl_works_on_the_servers_own_objects() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let member = Member::join(&server, "prod").await?;
    for program in ["kubectl", "kubectl-1.20"] {
        let kubectl = Kubectl { server: &server, program, cluster: format!("c-{}", program.replace('.', "-")) };
        let work = async {
            kubectl.reads(&member).await?;
            kubectl.changes().await?;
            kubectl.refusals().await?;
            kubectl.waits_and_deletes(&member).await
        };
        work.await.context(program)?;
    }
    let whoami = server.kubectl(server.admin(), ["auth", "whoami", "-o", "json"]).await?.ok().await?;
    ensure!(whoami.contains(&server.admin().name), "{whoami}");
    let all = server.kubectl(server.admin(), ["explain", "cluster", "--recursive"]).await?.ok().await?;
    ensure!(all.contains("displayName"), "{all}");
    Ok(())
}

/// One kubectl and the cluster record that it makes.
struct Kubectl<'a> {
    server: &'a Server,
    program: &'static str,
    cluster: String,
}

impl Kubectl<'_> {
    async fn run(&self, line: &[&str], stdin: &str) -> anyhow::Result<Output> {
        let client = self.server.client(self.program, self.server.admin(), "", line).await?;
        client.env("KUBE_EDITOR", "sed -i s/edit-me/edited/").stdin(stdin).output().await
    }

    /// What it prints, which has `wanted` in it.
    async fn says(&self, line: &[&str], stdin: &str, wanted: &str) -> anyhow::Result<String> {
        let output = self.run(line, stdin).await?;
        let said = output.status.success() && output.text().contains(wanted);
        ensure!(said, "{line:?}: {}, no {wanted:?} in\n{}\n{}", output.status, output.text(), output.error());
        Ok(output.text())
    }

    async fn fails(&self, line: &[&str], stdin: &str, wanted: &str) -> anyhow::Result<()> {
        let output = self.run(line, stdin).await?;
        let failed = !output.status.success() && output.error().contains(wanted);
        ensure!(failed, "{line:?}: {}, no {wanted:?} in\n{}\n{}", output.status, output.text(), output.error());
        Ok(())
    }

    async fn reads(&self, member: &Member) -> anyhow::Result<()> {
        let id = member.id.as_str();
        self.says(&["api-resources"], "", "clusterregistrationtokens").await?;
        self.says(&["api-versions"], "", "management.cattle.io/v3").await?;
        let table = self.says(&["get", "clusters"], "", "prod").await?;
        ensure!(table.starts_with("NAME") && table.contains("DISPLAY NAME") && table.contains("AGE"), "{table}");
        self.says(&["get", "clusters", "-o", "wide"], "", "REASON").await?;
        self.says(&["get", "cluster", id, "-o", "yaml"], "", "displayName: prod").await?;
        self.says(&["get", "cluster", id, "-o", "jsonpath={.spec.displayName}"], "", "prod").await?;
        self.says(&["get", "crtb", "-A"], "", id).await?;
        self.says(&["get", "cattle", "-A"], "", &format!("cluster.management.cattle.io/{id}")).await?;
        self.says(&["get", "users", "--chunk-size=1"], "", &self.server.admin().name).await?;
        self.says(&["describe", "cluster", id], "", "Display Name:").await?;
        self.says(&["describe", "cluster", id], "", "Conditions:").await?;
        self.says(&["explain", "cluster.spec.displayName"], "", "The name that people see").await?;
        self.says(&["explain", "user.metadata.labels"], "", "selectors").await?;
        self.says(&["auth", "can-i", "create", "clusters"], "", "yes").await?;
        self.says(&["auth", "can-i", "--list"], "", "clusters.management.cattle.io").await.map(drop)
    }

    async fn changes(&self) -> anyhow::Result<()> {
        let id = self.cluster.as_str();
        let manifest = self.manifest("displayName: applied");
        let (alone, _) = manifest.split_once("---").context("one object")?;
        let made = format!(
            "apiVersion: management.cattle.io/v3\nkind: Cluster\nmetadata:\n  generateName: c-\nspec:\n  displayName: made by {id}\n"
        );
        self.says(&["create", "-f", "-"], &made, "created").await?;
        self.says(&["apply", "--dry-run=server", "-f", "-"], alone, "server dry run").await?;
        self.fails(&["get", "cluster", id], "", "not found").await?;
        let token = "clusterregistrationtoken.management.cattle.io/default created";
        self.says(&["apply", "-f", "-"], &manifest, token).await?;
        let again = self.says(&["apply", "-f", "-"], &manifest, "unchanged").await?;
        ensure!(again.matches("unchanged").count() == 2, "{again}");
        let changed = self.manifest("displayName: applied\n  description: edit-me");
        self.says(&["apply", "-f", "-"], &changed, &format!("{id} configured")).await?;
        self.says(&["diff", "-f", "-"], &changed, "").await?;
        self.says(&["edit", "cluster", id], "", "edited").await?;
        let description = ["get", "cluster", id, "-o", "jsonpath={.spec.description}"];
        self.says(&description, "", "edited").await?;
        self.says(&["label", "cluster", id, "env=prod"], "", "labeled").await?;
        self.says(&["annotate", "cluster", id, "note=yes"], "", "annotate").await?;
        self.says(&["get", "clusters", "-l", "env=prod", "-o", "name"], "", id).await?;
        let patch = ["patch", "cluster", id, "--type=merge", "-p", r#"{"spec":{"description":"merged"}}"#];
        self.says(&patch, "", "patched").await?;
        let json = r#"[{"op":"replace","path":"/spec/description","value":"json"}]"#;
        self.says(&["patch", "cluster", id, "--type=json", "-p", json], "", "patched").await?;
        self.says(&description, "", "json").await?;
        let server_side = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
        self.says(&server_side, &changed, "serverside-applied").await.map(drop)
    }

    async fn refusals(&self) -> anyhow::Result<()> {
        self.fails(&["get", "cluster", "c-none0"], "", "clusters.management.cattle.io \"c-none0\" not found").await?;
        self.fails(&["get", "nothings"], "", "the server doesn't have a resource type").await?;
        let object = |spec: &str| {
            format!("apiVersion: management.cattle.io/v3\nkind: Cluster\nmetadata:\n  name: c-wrong\nspec:\n  {spec}\n")
        };
        self.fails(&["apply", "-f", "-"], &object("displayNam: x"), "displayNam").await?;
        self.fails(&["create", "-f", "-"], &object("displayName: ''"), "spec.displayName: Required value").await
    }

    async fn waits_and_deletes(&self, member: &Member) -> anyhow::Result<()> {
        let (id, registered) = (self.cluster.as_str(), format!("cluster/{}", member.id));
        self.says(&["wait", "--for=condition=Ready", &registered, "--timeout=60s"], "", "condition met").await?;
        let never = ["wait", "--for=condition=Ready", &format!("cluster/{id}"), "--timeout=1s"];
        self.fails(&never, "", "timed out").await?;
        self.says(&["delete", "crt", "default", "-n", id], "", "deleted").await?;
        self.says(&["delete", "cluster", id], "", "deleted").await?;
        self.fails(&["get", "cluster", id], "", "not found").await
    }

    fn manifest(&self, spec: &str) -> String {
        let id = &self.cluster;
        format!(
            "apiVersion: management.cattle.io/v3\nkind: Cluster\nmetadata:\n  name: {id}\nspec:\n  {spec}\n---\n\
             apiVersion: management.cattle.io/v3\nkind: ClusterRegistrationToken\nmetadata:\n  name: default\n  \
             namespace: {id}\nspec:\n  clusterName: {id}\n"
        )
    }
}
