//! What is run by both ways.

use cattle_harness::Output;

/// One run of a client.
pub(crate) struct Step {
    /// Its arguments, separated by blanks.
    pub(crate) line: &'static str,
    /// Its standard input.
    pub(crate) stdin: Option<&'static str>,
    /// How it must end by the direct way, so that no step passes by failing twice.
    pub(crate) exit: i32,
    /// Its output has ages or the like, which tick.
    pub(crate) ages: bool,
    /// kubectl 1.20 has no such command, or ends otherwise, or (`--raw`) loses the path of its kubeconfig's server.
    pub(crate) new_only: bool,
}

impl Step {
    pub(crate) fn words(&self) -> Vec<&'static str> {
        self.line.split_whitespace().collect()
    }

    pub(crate) fn runs_with(&self, program: &str) -> bool {
        !(self.new_only && program == "kubectl-1.20")
    }

    pub(crate) fn check_exit(&self, output: &Output) -> Result<(), String> {
        if output.status.code() == Some(self.exit) {
            return Ok(());
        }
        Err(format!("both ended with {} instead of {}:\n{}{}", output.status, self.exit, output.text(), output.error()))
    }

    const fn reads(mut self, text: &'static str) -> Self {
        self.stdin = Some(text);
        self
    }

    const fn exits(mut self, code: i32) -> Self {
        self.exit = code;
        self
    }

    const fn ages(mut self) -> Self {
        self.ages = true;
        self
    }

    const fn new_only(mut self) -> Self {
        self.new_only = true;
        self
    }
}

const fn run(line: &'static str) -> Step {
    Step { line, stdin: None, exit: 0, ages: false, new_only: false }
}

/// What the reads find.
pub(crate) const OBJECTS: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: { name: a, labels: { tier: web } }
data: { key: value, utf8: "grüße ✓" }
---
apiVersion: v1
kind: ConfigMap
metadata: { name: b, labels: { tier: web } }
binaryData: { bytes: AAEC/w== }
---
apiVersion: v1
kind: ConfigMap
metadata: { name: c, labels: { tier: db } }
---
apiVersion: v1
kind: ConfigMap
metadata: { name: d, labels: { tier: db } }
data: { utf8: "grüße ✓" }
---
apiVersion: v1
kind: Secret
metadata: { name: s }
stringData: { password: quiet }
---
apiVersion: v1
kind: Service
metadata: { name: web }
spec: { selector: { app: web }, ports: [{ port: 80 }] }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: web }
spec:
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec: { containers: [{ name: web, image: "example.com/web:1" }] }
"#;

const CHANGED_A: &str =
    "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: a, labels: { tier: web } }\ndata: { key: other }\n";

/// As an owner of the cluster.
pub(crate) const READS: &[Step] = &[
    run("get configmaps").ages(),
    run("get configmaps -o wide").ages(),
    run("get configmaps -o yaml"),
    run("get configmaps -o json"),
    run("get configmaps -o name"),
    run("get configmap a -o yaml"),
    run("get configmap a -o jsonpath={.data}"),
    run("get configmaps -o jsonpath={range.items[*]}{.metadata.name}{\"\\n\"}{end}"),
    run("get configmaps -o custom-columns=N:.metadata.name,T:.metadata.labels.tier"),
    run("get configmaps -o go-template={{range.items}}{{.metadata.name}};{{end}}"),
    run("get configmaps -o jsonpath-as-json={.items[*].metadata.name}"),
    run("get configmaps -o go-template-file=/dev/stdin").reads("{{range .items}}{{.metadata.name}};{{end}}"),
    run("get configmaps -o jsonpath-file=/dev/stdin").reads("{.items[*].metadata.name}"),
    run("get configmaps -o custom-columns-file=/dev/stdin").reads("NAME TIER\n.metadata.name .metadata.labels.tier\n"),
    run("get configmaps --show-labels -L tier").ages(),
    run("get configmaps --no-headers --sort-by=.metadata.name").ages(),
    run("get configmaps -l tier=web -o name"),
    run("get configmaps -l tier!=web").ages(),
    run("get configmaps --field-selector metadata.name=a -o name"),
    run("get configmaps --field-selector data.x=y").exits(1),
    run("get configmaps --chunk-size=1 -o name"),
    run("get configmaps -A -o name --chunk-size=2"),
    run("get --raw /api/v1/namespaces/shop/configmaps?limit=1&labelSelector=tier=web").ages().new_only(),
    run("get --raw /api/v1/namespaces/shop/configmaps/a?pretty=true").new_only(),
    run("get --raw /version").new_only(),
    run("get --raw /readyz").new_only(),
    run("get --raw /openapi/v2").ages().new_only(),
    run("get --raw /nope").exits(1).new_only(),
    run("get configmap nope").exits(1),
    run("get configmap a nope -o name").exits(1),
    run("get configmap nope --ignore-not-found"),
    run("get nosuchkinds").exits(1),
    run("get configmaps -n nosuchnamespace"),
    run("get deployments,services -o wide").ages(),
    run("get deployment web -o yaml"),
    run("get all").ages(),
    run("get pods -o wide").ages(),
    run("get namespaces").ages(),
    run("get namespace shop -o json"),
    run("get nodes"),
    run("get secret s -o jsonpath={.data.password}"),
    run("get clusterroles -o name"),
    // One key: kubectl 1.20 describes several in any order.
    run("describe configmap d"),
    run("describe service web").ages(),
    run("describe deployment web").ages(),
    run("describe namespace shop"),
    run("describe configmap nope").exits(1),
    run("explain configmap"),
    run("explain deployment.spec.template.spec --recursive"),
    run("explain nosuchkind").exits(1),
    run("api-resources"),
    run("api-resources -o wide --namespaced=true"),
    run("api-versions"),
    run("version"),
    run("version -o json"),
    run("auth can-i create pods"),
    run("auth can-i impersonate users --all-namespaces"),
    run("auth can-i --list"),
    run("auth whoami").new_only(),
    run("auth whoami -o yaml").new_only().ages(),
    run("rollout history deployment/web"),
    run("rollout status deployment/web --timeout=1s").exits(1),
    run("wait --for=condition=Available deployment/web --timeout=1s").exits(1),
    run("wait --for=jsonpath={.data.key}=value configmap/a --timeout=5s").new_only(),
    run("wait --for=delete configmap/nope --timeout=5s").new_only(),
    run("diff -f -").reads(CHANGED_A).exits(1),
    run("apply -f - --dry-run=server -o name").reads(CHANGED_A),
    run("logs deployment/nope").exits(1),
];

/// As a member, who may see nodes and little else.
pub(crate) const MEMBER_READS: &[Step] = &[
    run("get nodes"),
    run("get configmaps").exits(1),
    run("get configmap a -o yaml").exits(1),
    run("get secrets -A").exits(1),
    run("describe configmap a").exits(1),
    run("create configmap no").exits(1),
    run("delete configmap a").exits(1),
    run("patch configmap a -p {}").exits(1),
    run("apply -f -").reads(CHANGED_A).exits(1),
    run("auth can-i create pods").exits(1),
    run("auth can-i list nodes"),
    run("auth can-i --list"),
    run("auth whoami").new_only(),
    run("get storageclasses"),
    run("get persistentvolumes -o yaml"),
];

const TWO: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: two }\ndata: { a: before }\n";
const TWO_CHANGED: &str =
    "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: two, labels: { x: z } }\ndata: { a: before, b: c }\n";
const TWO_REPLACED: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: two }\ndata: { r: before }\n";
const TWO_STALE: &str =
    "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: two, resourceVersion: \"1\" }\ndata: { r: s }\n";
const ONE: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: one }\ndata: { a: \"2\" }\n";
const THREE: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: three }\ndata: { a: b }\n";
const THREE_OTHER: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: three }\ndata: { a: c }\n";
const GENERATED: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: { generateName: gen-, labels: { gen: \"yes\" } }\n";
const BAD_NAME: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: BAD_NAME }\n";
const BAD_FIELD: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: bad }\ndta: { a: b }\n";
const BAD_SERVICE: &str =
    "apiVersion: v1\nkind: Service\nmetadata: { name: bad }\nspec: { ports: [{ port: 99999 }] }\n";

/// As an owner: begins and ends with nothing of its own in the namespace.
pub(crate) const CHANGES: &[Step] = &[
    run("create configmap one --from-literal=a=1 -o yaml"),
    run("create configmap one --from-literal=a=1").exits(1),
    run("apply -f -").reads(ONE),
    run("apply -f - -o json").reads(TWO),
    run("apply -f -").reads(TWO_CHANGED),
    run("apply -f -").reads(TWO_CHANGED),
    run("apply --server-side -f - -o yaml").reads(THREE),
    run("apply --server-side --field-manager=other -f -").reads(THREE_OTHER).exits(1),
    run("apply --server-side --field-manager=other --force-conflicts -f -").reads(THREE_OTHER),
    run("apply --server-side --dry-run=server -f -").reads(TWO),
    run("get configmap three -o jsonpath={.data}"),
    run("patch configmap two -p {\"data\":{\"x\":\"y\"}}"),
    run("patch configmap two -p {\"data\":{\"x\":\"y\"}}"),
    run("patch configmap two --type=merge -p {\"data\":{\"x\":null}}"),
    run("patch configmap two --type=json -p [{\"op\":\"add\",\"path\":\"/data/z\",\"value\":\"1\"}]"),
    run("patch configmap two --type=json -p [{\"op\":\"test\",\"path\":\"/data/z\",\"value\":\"2\"}]").exits(1),
    run("patch configmap nope -p {}").exits(1),
    run("get configmap two -o jsonpath={.data}{.metadata.labels}"),
    run("replace -f -").reads(TWO_REPLACED),
    run("replace -f -").reads(TWO_STALE).exits(1),
    run("edit configmap two"),
    run("get configmap two -o jsonpath={.data}"),
    run("create -f -").reads(GENERATED),
    run("create -f - -o yaml").reads(GENERATED),
    run("create -f -").reads(BAD_NAME).exits(1),
    run("create -f -").reads(BAD_FIELD).exits(1),
    run("create -f -").reads(BAD_SERVICE).exits(1),
    run("create configmap x -n nosuchnamespace").exits(1),
    run("label configmap one tier=web"),
    run("label configmap one tier=db").exits(1),
    run("label configmap one tier=db --overwrite"),
    run("label configmap one tier-"),
    run("label configmap one bad/label/name=x").exits(1),
    run("annotate configmap one note=text"),
    run("annotate configmap one note-"),
    run("create deployment d --image=example.com/d:1"),
    run("scale deployment/d --replicas=2"),
    run("set image deployment/d d=example.com/d:2"),
    run("rollout restart deployment/d"),
    run("autoscale deployment/d --max=3"),
    run("run p --image=example.com/p:1 --restart=Never -o yaml"),
    run("create secret generic t --from-literal=a=b"),
    run("create serviceaccount bot"),
    run("create token bot --duration=1h").new_only(),
    run("create token nope").new_only().exits(1),
    run("create role r --verb=get --resource=pods"),
    run("create rolebinding r --role=r --serviceaccount=shop:bot"),
    run("create job j --image=example.com/j:1"),
    run("delete configmap one two three --wait=false"),
    run("delete configmap one").exits(1),
    run("delete configmap one --ignore-not-found"),
    run("delete configmap -l gen=yes"),
    run("delete deployment/d hpa/d secret/t serviceaccount/bot role/r rolebinding/r job/j"),
    run("delete pod p --now"),
    run("delete -f -").reads(TWO).exits(1),
];

/// As an owner; `tiny` is a chart beside the kubeconfig.
pub(crate) const HELM: &[Step] = &[
    run("install tiny ~/tiny"),
    run("install tiny ~/tiny").exits(1),
    run("list -o yaml"),
    run("get manifest tiny"),
    run("upgrade tiny ~/tiny --set text=two"),
    run("upgrade nope ~/tiny").exits(1),
    run("history tiny -o yaml"),
    run("get values tiny -o yaml"),
    run("rollback tiny 1"),
    run("status tiny"),
    run("uninstall tiny"),
    run("status tiny").exits(1),
    run("list -q"),
];
