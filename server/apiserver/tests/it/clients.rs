//! kube-rs against the server: typed objects, its watcher with both list strategies, server-side apply.

use cattle_api::management::{Cluster, ClusterSpec};
use futures_util::StreamExt as _;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

use crate::support::{ADMIN, DEADLINE, World, person};

fn client(world: &World) -> Client {
    let api = world.api.clone();
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let api = api.clone();
        async move { Ok::<_, std::convert::Infallible>(api.serve(request.map(axum::body::Body::new), person(ADMIN)).await) }
    });
    Client::new(service, "default")
}

fn cluster(name: &str) -> Cluster {
    Cluster::new(name, ClusterSpec { display_name: format!("display {name}"), ..ClusterSpec::default() })
}

#[tokio::test]
async fn typed_objects_make_the_round_trip() {
    let world = World::new().await;
    let clusters: Api<Cluster> = Api::all(client(&world));
    let mut made = clusters.create(&PostParams::default(), &cluster("c-aaaaa")).await.unwrap();
    made.spec.description = "words".into();
    let replaced = clusters.replace("c-aaaaa", &PostParams::default(), &made).await.unwrap();
    assert_eq!(replaced.spec.description, "words");
    let stale = clusters.replace("c-aaaaa", &PostParams::default(), &made).await.unwrap_err();
    assert!(matches!(stale, kube::Error::Api(status) if status.is_conflict()));
    let apply = Patch::Apply(json!({
        "apiVersion": "management.cattle.io/v3", "kind": "Cluster", "metadata": {"labels": {"env": "prod"}},
    }));
    let applied = clusters.patch("c-aaaaa", &PatchParams::apply("test"), &apply).await.unwrap();
    assert_eq!(applied.labels()["env"], "prod");
    let listed = clusters.list(&ListParams::default().labels("env=prod")).await.unwrap();
    assert_eq!(listed.items.len(), 1);
    let metadata = clusters.list_metadata(&ListParams::default()).await.unwrap();
    assert_eq!(metadata.items[0].name_any(), "c-aaaaa");
    clusters.delete("c-aaaaa", &DeleteParams::default()).await.unwrap();
    assert!(clusters.get_opt("c-aaaaa").await.unwrap().is_none());
}

#[tokio::test]
async fn watchers_follow_with_either_strategy() {
    for config in [watcher::Config::default().page_size(2), watcher::Config::default().streaming_lists()] {
        let world = World::new().await;
        let clusters: Api<Cluster> = Api::all(client(&world));
        for name in ["c-aaaaa", "c-bbbbb", "c-ccccc"] {
            world.cluster(name).await;
        }
        let mut events = Box::pin(watcher::watcher(clusters.clone(), config));
        let mut next = async || tokio::time::timeout(DEADLINE, events.next()).await.unwrap().unwrap().unwrap();
        assert!(matches!(next().await, Event::Init));
        for name in ["c-aaaaa", "c-bbbbb", "c-ccccc"] {
            assert!(matches!(next().await, Event::InitApply(object) if object.name_any() == name));
        }
        assert!(matches!(next().await, Event::InitDone));
        world.cluster("c-ddddd").await;
        assert!(matches!(next().await, Event::Apply(object) if object.name_any() == "c-ddddd"));
        clusters.delete("c-aaaaa", &DeleteParams::default()).await.unwrap();
        assert!(matches!(next().await, Event::Delete(object) if object.name_any() == "c-aaaaa"));
    }
}
