//! What is written is read back: by our own reader, and in the places where container runtimes look.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::sync::Arc;

use cattle_images::{
    Architecture, ArchiveError, Compression, Digest, Image, LayerBuilder, NONROOT, Process, ReadError, Release,
    read_archive, write_archive,
};

fn archive(images: &[Image]) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_archive(images, &mut bytes).unwrap();
    bytes
}

fn image(name: &str, architecture: Architecture, content: &[u8], compression: Compression) -> Image {
    let layer = LayerBuilder::new()
        .bytes("usr/bin/program", 0o755, content)
        .unwrap()
        .link("bin", "usr/bin")
        .unwrap()
        .directory("tmp", 0o1777)
        .unwrap()
        .finish(compression)
        .unwrap();
    Image {
        names: vec![name.parse().unwrap()],
        architecture,
        layers: vec![Arc::new(layer)],
        process: Process {
            entrypoint: vec!["/bin/program".to_owned()],
            user: NONROOT.to_owned(),
            ..Process::default()
        },
        labels: BTreeMap::from([("key".to_owned(), "value".to_owned())]),
    }
}

#[test]
fn an_image_reads_back_as_it_was_described() {
    for compression in [Compression::None, Compression::Gzip] {
        let written = archive(&[image("example.test/agent:v1", Architecture::Amd64, b"code", compression)]);
        let images = read_archive(written.as_slice()).unwrap();
        let [read] = images.as_slice() else { panic!("one image expected: {images:?}") };
        assert_eq!(read.name, "example.test/agent:v1");
        assert_eq!(read.architecture, "amd64");
        assert_eq!(read.user, "65532:65532");
        assert_eq!(read.entrypoint, ["/bin/program"]);
        assert_eq!(read.labels["key"], "value");
        let program = &read.files["usr/bin/program"];
        assert_eq!((program.mode, program.uid, program.modified), (0o755, 0, 0));
        assert_eq!(program.digest, Digest::of(b"code"));
        assert_eq!(read.files["bin"].target.as_deref(), Some("usr/bin"));
        assert_eq!(read.files["tmp/"].mode, 0o1777);
        assert_eq!(read.files["usr/"].mode, 0o755, "parents come by themselves");
    }
}

#[test]
fn the_same_images_give_the_same_bytes() {
    let one = || archive(&[image("a:1", Architecture::Amd64, b"x", Compression::Gzip)]);
    assert_eq!(one(), one());
    assert_ne!(one(), archive(&[image("a:1", Architecture::Amd64, b"y", Compression::Gzip)]));
}

#[test]
fn platforms_of_one_name_become_one_index() {
    let images = [
        image("agent:v1", Architecture::Amd64, b"amd", Compression::Gzip),
        image("agent:v1", Architecture::Arm64, b"arm", Compression::Gzip),
    ];
    let written = archive(&images);
    let read = read_archive(written.as_slice()).unwrap();
    let found: Vec<_> = read.iter().map(|image| (image.name.as_str(), image.architecture.as_str())).collect();
    assert_eq!(found, [("docker.io/library/agent:v1", "amd64"), ("docker.io/library/agent:v1", "arm64")]);
    let twice = [images[0].clone(), images[0].clone()];
    assert!(matches!(write_archive(&twice, Vec::new()), Err(ArchiveError::Duplicate(..))));
}

#[test]
fn a_shared_layer_is_stored_once() {
    let mut first = image("a:1", Architecture::Amd64, &[7; 100_000], Compression::None);
    let single = archive(std::slice::from_ref(&first)).len();
    let mut second = first.clone();
    second.names = vec!["b:1".parse().unwrap()];
    second.process.entrypoint = vec!["/bin/other".to_owned()];
    first.names.push("c:1".parse().unwrap());
    let written = archive(&[first, second]);
    assert!(written.len() < single + 20_000, "{} after {single}", written.len());
    let names: Vec<String> = read_archive(written.as_slice()).unwrap().into_iter().map(|image| image.name).collect();
    assert_eq!(names, ["docker.io/library/a:1", "docker.io/library/b:1", "docker.io/library/c:1"]);
}

#[test]
fn docker_finds_its_manifest_over_the_same_blobs() {
    let written = archive(&[image("agent:v1", Architecture::Amd64, b"code", Compression::None)]);
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(written.as_slice()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_string_lossy().into_owned();
        let mut content = Vec::new();
        std::io::copy(&mut entry, &mut content).unwrap();
        files.insert(path, content);
    }
    let manifest: serde_json::Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
    assert_eq!(manifest[0]["RepoTags"][0], "docker.io/library/agent:v1");
    assert!(files.contains_key(manifest[0]["Config"].as_str().unwrap()));
    assert!(files.contains_key(manifest[0]["Layers"][0].as_str().unwrap()));
}

#[test]
fn a_changed_byte_anywhere_is_noticed() {
    let written = archive(&[image("agent:v1", Architecture::Amd64, b"some program code", Compression::None)]);
    let at = written.windows(17).position(|window| window == b"some program code").unwrap();
    let mut changed = written.clone();
    changed[at] ^= 1;
    assert!(matches!(read_archive(changed.as_slice()), Err(ReadError::Digest(_))));
    assert!(read_archive(&written[..written.len() / 2]).is_err());
}

#[test]
fn a_release_image_holds_one_program_and_the_roots_it_may_need_and_root_does_not_run_it() {
    let program = std::env::current_exe().unwrap();
    let roots = tempfile::NamedTempFile::new().unwrap();
    let release = Release {
        binaries: vec![program.clone()],
        names: vec!["cattle/cattle-cluster-agent:v0.1.0".parse().unwrap()],
        version: "v0.1.0".to_owned(),
        revision: "abc".to_owned(),
        roots: Some(roots.path().to_owned()),
        compression: Compression::None,
    };
    let written = archive(&release.images().unwrap());
    let images = read_archive(written.as_slice()).unwrap();
    let file_name = program.file_name().unwrap().to_str().unwrap();
    let files = images[0].files.keys().map(String::as_str).filter(|path| !path.ends_with('/'));
    let files: std::collections::BTreeSet<_> = files.collect();
    assert_eq!(files, [file_name, "etc/ssl/certs/ca-certificates.crt"].into());
    assert_eq!(images[0].entrypoint, [format!("/{file_name}")]);
    assert_eq!(images[0].user, NONROOT);
    assert_eq!(images[0].labels["org.opencontainers.image.revision"], "abc");
    let expected = Digest::of(&std::fs::read(&program).unwrap());
    assert_eq!(images[0].files[file_name].digest, expected);
}

#[test]
fn a_script_is_no_program_for_an_empty_image() {
    let script = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(script.path(), "#!/bin/sh\n").unwrap();
    let release = Release {
        binaries: vec![script.path().to_owned()],
        names: vec!["x:1".parse().unwrap()],
        version: String::new(),
        revision: String::new(),
        roots: None,
        compression: Compression::None,
    };
    assert!(release.images().is_err());
}
