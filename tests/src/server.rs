//! A `cattle-server` process and the people who use it.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, ensure};
use cattle_harness::{Assets, Client, Process, Program, Run, Scope, binary, wait_for};
use serde_json::{Value, json};

/// What the administrator's password is after [`Server::start`].
pub const ADMIN_PASSWORD: &str = "seven-quiet-cows-under-an-elm";

const READY: Duration = Duration::from_secs(60);

/// A running server; dropped, it and its data are gone.
pub struct Server {
    scope: Scope,
    program: Program,
    process: Process,
    data_dir: PathBuf,
    url: String,
    admin_url: String,
    ca_pem: String,
    http: reqwest::Client,
    admin: Option<User>,
}

/// What a server is started with that is not the usual.
#[derive(Clone, Debug, Default)]
pub struct Launch {
    /// Further flags.
    pub flags: Vec<String>,
    /// `info,cattle=debug` when absent.
    pub log_level: Option<String>,
    /// A directory of its own when absent.
    pub data_dir: Option<PathBuf>,
    /// A free port of loopback when absent.
    pub listen: Option<String>,
    /// Soft and hard limit of open files; those of the test when absent.
    pub open_files: Option<(u64, u64)>,
    /// Its environment besides the test's.
    pub environment: Vec<(String, String)>,
}

/// Somebody who has signed in.
#[derive(Clone)]
pub struct User {
    /// `u-xxxxx`.
    pub name: String,
    /// `name:secret`.
    pub token: String,
}

impl Server {
    /// Starts a server on loopback, with an administrator whose password was changed to [`ADMIN_PASSWORD`].
    ///
    /// # Errors
    /// When it does not get ready; the message has the end of its log.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(Launch::default()).await
    }

    /// The same, started with something that is not the usual.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn start_with(launch: Launch) -> anyhow::Result<Self> {
        let mut server = Self::launch(launch).await?;
        let password = std::fs::read_to_string(server.data_dir().join("bootstrap-password"))?;
        let first = password.lines().nth(1).context("no password in the file")?.to_owned();
        let user = server.sign_in("admin", &first).await?;
        let change = json!({ "currentPassword": first, "newPassword": ADMIN_PASSWORD });
        let answer = server.post("/v3/users?action=changepassword", Some(&user), &change).await?;
        ensure!(answer.status().is_success(), "the password was not changed: {}", answer.text().await?);
        server.sign_in_admin().await?;
        Ok(server)
    }

    /// Signs the administrator in with [`ADMIN_PASSWORD`], for a server whose password was changed before.
    ///
    /// # Errors
    /// With the server's answer when it refuses.
    pub async fn sign_in_admin(&mut self) -> anyhow::Result<()> {
        self.admin = Some(self.sign_in("admin", ADMIN_PASSWORD).await?);
        Ok(())
    }

    /// Starts a server with further flags, and signs nobody in.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn boot(flags: &[&str]) -> anyhow::Result<Self> {
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        Self::launch(Launch { flags, ..Launch::default() }).await
    }

    /// Starts a server as it is told, and signs nobody in.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn launch(launch: Launch) -> anyhow::Result<Self> {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let Launch { flags, log_level, data_dir, listen, open_files, environment } = launch;
        let scope = Run::of_this_process()?.scope("server")?;
        let data_dir = data_dir.unwrap_or_else(|| scope.directory().join("data"));
        let log_level = log_level.unwrap_or_else(|| "info,cattle=debug".to_owned());
        let program =
            environment.into_iter().fold(limited(open_files)?, |program, (name, value)| program.env(name, value));
        let program = program
            .args(["--admin-listen", "127.0.0.1:0", "--log-level", &log_level, "--data-dir"])
            .arg(&data_dir)
            .args(flags);
        let listen = listen.unwrap_or_else(|| "127.0.0.1:0".to_owned());
        let process = program.clone().args(["--listen", &listen]).start(&scope)?;
        let mut server = Self {
            scope,
            program,
            process,
            data_dir,
            url: String::new(),
            admin_url: String::new(),
            ca_pem: String::new(),
            http: reqwest::Client::new(),
            admin: None,
        };
        server.wait_ready(0).await?;
        Ok(server)
    }

    /// `https://127.0.0.1:port`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `http://127.0.0.1:port` of metrics and health.
    #[must_use]
    pub fn admin_url(&self) -> &str {
        &self.admin_url
    }

    /// The server's own authority.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Where its data is.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.data_dir.clone()
    }

    /// Where files of this server's tests may go.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// A client that trusts exactly the server's authority.
    #[must_use]
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// The process, for faults.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The administrator.
    ///
    /// # Panics
    /// For a server that [`Server::boot`] started.
    #[must_use]
    pub fn admin(&self) -> &User {
        self.admin.as_ref().expect("the administrator has signed in")
    }

    /// Starts it again on the same port and data; the process must have ended.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        let listen = self.url.trim_start_matches("https://").to_owned();
        let logged = self.process.log().len();
        self.process = self.program.clone().args(["--listen", &listen]).start(&self.scope)?;
        self.wait_ready(logged).await
    }

    /// Signs somebody in.
    ///
    /// # Errors
    /// With the server's answer when it refuses.
    pub async fn sign_in(&self, username: &str, password: &str) -> anyhow::Result<User> {
        let body = json!({ "username": username, "password": password });
        let answer = self.post("/v3-public/localProviders/local?action=login", None, &body).await?;
        ensure!(answer.status() == 201, "sign-in refused: {} {}", answer.status(), answer.text().await?);
        let token: Value = answer.json().await?;
        let text = |field: &str| token[field].as_str().map(str::to_owned).context("a field is missing");
        Ok(User { name: text("userId")?, token: text("token")? })
    }

    /// Makes a user who may sign in, and signs them in.
    ///
    /// # Errors
    /// With the server's answer when it refuses.
    pub async fn add_user(&self, username: &str) -> anyhow::Result<User> {
        let password = format!("{username}-and-a-long-password");
        let user = json!({
            "apiVersion": "management.cattle.io/v3", "kind": "User", "metadata": { "generateName": "u-" },
            "username": username, "password": password, "displayName": username,
        });
        self.create("/apis/management.cattle.io/v3/users", &user).await?;
        // Names are found from memory, which follows the store.
        wait_for("the new user to be able to sign in", READY, async || self.sign_in(username, &password).await).await
    }

    /// Makes an object as the administrator and answers with what the server made of it.
    ///
    /// # Errors
    /// With the server's answer when it refuses.
    pub async fn create(&self, path: &str, object: &Value) -> anyhow::Result<Value> {
        let answer = self.post(path, Some(self.admin()), object).await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status == 201, "{path} refused with {status}: {text}");
        Ok(serde_json::from_str(&text)?)
    }

    /// Makes the record of a cluster; answers with its id.
    ///
    /// # Errors
    /// With the server's answer when it refuses.
    pub async fn add_cluster(&self, display_name: &str) -> anyhow::Result<String> {
        let cluster = json!({
            "apiVersion": "management.cattle.io/v3", "kind": "Cluster", "metadata": { "generateName": "c-" },
            "spec": { "displayName": display_name },
        });
        let made = self.create("/apis/management.cattle.io/v3/clusters", &cluster).await?;
        made["metadata"]["name"].as_str().map(str::to_owned).context("the cluster has no name")
    }

    /// Makes a registration token of a cluster; answers with the token, which stands in this one answer only.
    ///
    /// # Errors
    /// With the server's answer when it refuses.
    pub async fn add_registration_token(&self, cluster: &str) -> anyhow::Result<String> {
        let token = json!({
            "apiVersion": "management.cattle.io/v3", "kind": "ClusterRegistrationToken",
            "metadata": { "generateName": "crt-", "namespace": cluster }, "spec": { "clusterName": cluster },
        });
        let path = format!("/apis/management.cattle.io/v3/namespaces/{cluster}/clusterregistrationtokens");
        let made = self.create(&path, &token).await?;
        made["status"]["token"].as_str().map(str::to_owned).context("the answer has no token")
    }

    /// Gives a user a role in a cluster.
    ///
    /// # Errors
    /// With the server's answer when it refuses.
    pub async fn add_member(&self, cluster: &str, user: &User, role: &str) -> anyhow::Result<String> {
        let binding = json!({
            "apiVersion": "management.cattle.io/v3", "kind": "ClusterRoleTemplateBinding",
            "metadata": { "generateName": "crtb-", "namespace": cluster },
            "clusterName": cluster, "userName": user.name, "roleTemplateName": role,
        });
        let path = format!("/apis/management.cattle.io/v3/namespaces/{cluster}/clusterroletemplatebindings");
        let made = self.create(&path, &binding).await?;
        made["metadata"]["name"].as_str().map(str::to_owned).context("the binding has no name")
    }

    /// The import manifest, fetched as a user would.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn manifest(&self, cluster: &str, token: &str) -> anyhow::Result<String> {
        let path = format!("{}/v3/import/{token}_{cluster}.yaml", self.url);
        let answer = self.http.get(path).send().await?;
        ensure!(answer.status() == 200, "no manifest: {}", answer.status());
        Ok(answer.text().await?)
    }

    /// A GET of the server's API or of a downstream one as somebody.
    ///
    /// # Errors
    /// When there is no HTTP answer.
    pub async fn get(&self, path: &str, user: &User) -> anyhow::Result<reqwest::Response> {
        Ok(self.http.get(format!("{}{path}", self.url)).bearer_auth(&user.token).send().await?)
    }

    /// kubectl on the server itself.
    ///
    /// # Errors
    /// When the programs are not there or the kubeconfig cannot be written.
    pub async fn kubectl<A: Into<std::ffi::OsString>>(
        &self,
        user: &User,
        arguments: impl IntoIterator<Item = A>,
    ) -> anyhow::Result<Client> {
        self.client("kubectl", user, "", arguments).await
    }

    /// kubectl on a downstream cluster, through the server.
    ///
    /// # Errors
    /// When the programs are not there or the kubeconfig cannot be written.
    pub async fn kubectl_in<A: Into<std::ffi::OsString>>(
        &self,
        cluster: &str,
        user: &User,
        arguments: impl IntoIterator<Item = A>,
    ) -> anyhow::Result<Client> {
        self.client("kubectl", user, &format!("/k8s/clusters/{cluster}"), arguments).await
    }

    /// Any program of the assets (`kubectl-1.20`, `helm`) with a kubeconfig for a path of the server.
    ///
    /// # Errors
    /// When the programs are not there or the kubeconfig cannot be written.
    pub async fn client<A: Into<std::ffi::OsString>>(
        &self,
        program: &str,
        user: &User,
        path: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> anyhow::Result<Client> {
        let kubeconfig = self.kubeconfig(user, path)?;
        Ok(Client::new(Assets::ready().await?.program(program), &kubeconfig).args(arguments))
    }

    /// A kubeconfig of somebody for a path of the server.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn kubeconfig(&self, user: &User, path: &str) -> anyhow::Result<PathBuf> {
        use base64::Engine as _;
        let ca = base64::engine::general_purpose::STANDARD.encode(&self.ca_pem);
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{ "name": "c", "cluster": { "server": format!("{}{path}", self.url), "certificate-authority-data": ca } }],
            "users": [{ "name": "u", "user": { "token": user.token } }],
            "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
        });
        let token = user.token.split(':').next().unwrap_or_default();
        let file = self.scope.directory().join(format!("{token}{}.kubeconfig", path.replace('/', "-")));
        std::fs::write(&file, config.to_string())?;
        Ok(file)
    }

    /// A merge patch as the administrator; answers with what the server made of the object.
    ///
    /// # Errors
    /// With the server's answer when it refuses.
    pub async fn patch(&self, path: &str, patch: &Value) -> anyhow::Result<Value> {
        let request = self.http.patch(format!("{}{path}", self.url)).bearer_auth(&self.admin().token);
        let request = request.header("content-type", "application/merge-patch+json").body(patch.to_string());
        let answer = request.send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status == 200, "{path} refused with {status}: {text}");
        Ok(serde_json::from_str(&text)?)
    }

    /// A POST as somebody, or as nobody.
    ///
    /// # Errors
    /// When there is no HTTP answer.
    pub async fn post(&self, path: &str, user: Option<&User>, body: &Value) -> anyhow::Result<reqwest::Response> {
        let mut request = self.http.post(format!("{}{path}", self.url)).json(body);
        if let Some(user) = user {
            request = request.bearer_auth(&user.token);
        }
        Ok(request.send().await?)
    }

    /// Reads from the log behind `logged` where it listens, then asks until it is ready.
    async fn wait_ready(&mut self, logged: usize) -> anyhow::Result<()> {
        let log = self.process.log_path().to_owned();
        let (url, admin) = self
            .process
            .wait_until("the server to listen", READY, async || {
                let log = std::fs::read(&log)?;
                let log = String::from_utf8_lossy(log.get(logged..).unwrap_or_default());
                let line = log.lines().rfind(|line| line.contains("cattle-server serves")).context("not yet")?;
                Ok((field(line, "url=")?, field(line, "admin=")?))
            })
            .await?;
        self.url = url;
        self.admin_url = format!("http://{admin}");
        let ready = format!("{}/readyz", self.admin_url);
        self.process
            .wait_until("the server to be ready", READY, async || {
                reqwest::get(&ready).await?.error_for_status()?;
                Ok(())
            })
            .await?;
        self.ca_pem = ca_of(&self.url).await?;
        let root = reqwest::Certificate::from_pem(self.ca_pem.as_bytes()).context("the server's CA")?;
        self.http = reqwest::Client::builder().tls_certs_only([root]).timeout(Duration::from_secs(60)).build()?;
        Ok(())
    }
}

/// The server's program, with limits of its own.
fn limited(open_files: Option<(u64, u64)>) -> anyhow::Result<Program> {
    let server = binary("cattle-server")?;
    let Some((soft, hard)) = open_files else { return Ok(Program::new("cattle-server", server)) };
    let shell = format!("ulimit -S -n {soft} && ulimit -H -n {hard} && exec \"$0\" \"$@\"");
    Ok(Program::new("cattle-server", "/bin/sh").args(["-c", &shell]).arg(server))
}

/// The first contact: the certificate is not known yet, and nothing secret is sent.
async fn ca_of(url: &str) -> anyhow::Result<String> {
    let client = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).build()?;
    let setting: Value = client.get(format!("{url}/v3/settings/cacerts")).send().await?.json().await?;
    setting["value"].as_str().map(str::to_owned).context("no cacerts")
}

fn field(line: &str, name: &str) -> anyhow::Result<String> {
    let rest = line.split_once(name).with_context(|| format!("no {name} in {line}"))?.1;
    Ok(rest.split_whitespace().next().unwrap_or_default().to_owned())
}
