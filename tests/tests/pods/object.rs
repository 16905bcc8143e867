//! The pods of the tests.

use cattle_harness::TOOLBOX_IMAGE;
use serde_json::{Value, json};

use crate::rig::WORKER;

/// A pod on the worker, whatever is cordoned, that runs a script once. It ends at once when it is deleted.
pub(crate) fn pod(name: &str, script: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "labels": { "app": name } },
        "spec": {
            "nodeName": WORKER, "restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
            "containers": [container(script)],
        },
    })
}

/// A pod that waits to be told what to do.
pub(crate) fn idle(name: &str) -> Value {
    pod(name, "exec sleep 1000000")
}

/// A pod with a web server on port 8080.
pub(crate) fn web(name: &str) -> Value {
    let mut web = pod(name, "");
    let container = &mut web["spec"]["containers"][0];
    container["command"] = json!(["agnhost", "netexec", "--http-port=8080"]);
    container["readinessProbe"] = json!({ "httpGet": { "path": "/healthz", "port": 8080 }, "periodSeconds": 1 });
    web
}

/// The container of such pods.
pub(crate) fn container(script: &str) -> Value {
    json!({ "name": "main", "image": TOOLBOX_IMAGE, "imagePullPolicy": "Never", "command": ["sh", "-c", script] })
}

/// Ready as soon as somebody has made `/tmp/go` in it.
pub(crate) fn ready_when_told(mut container: Value) -> Value {
    container["readinessProbe"] = json!({ "exec": { "command": ["sh", "-c", "[ -e /tmp/go ]"] }, "periodSeconds": 1 });
    container
}
