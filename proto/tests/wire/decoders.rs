//! Mutated frames for every decoder; the same checks run as fuzz targets in `proto/fuzz`.

use std::collections::BTreeSet;
use std::path::Path;

use cattle_proto::codec::PREFIX;
use cattle_proto::testing::DECODERS;

#[test]
fn any_bytes_are_a_message_or_an_error() {
    for decoder in DECODERS {
        // The message, its bytes on the way back and the message again; whatever length the input announces.
        let memory = 8 * decoder.limit;
        cattle_matrix::Decoder::new(decoder.name, (decoder.samples)())
            .memory(memory)
            .repair(|random, input| {
                // Most get past the length, else only that would be tested.
                if random.u8(..4) > 0 && input.len() >= PREFIX {
                    let length = u32::try_from(input.len() - PREFIX).unwrap();
                    input[..PREFIX].copy_from_slice(&length.to_be_bytes());
                }
            })
            .hammer(decoder.check);
    }
}

#[test]
fn every_message_has_a_decoder_and_every_decoder_a_fuzz_target() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names = |folder: &str| -> Vec<_> {
        let entries = std::fs::read_dir(root.join(folder)).unwrap();
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "rs")).collect()
    };
    let mut messages = BTreeSet::new();
    for path in names("src") {
        let text = std::fs::read_to_string(path).unwrap();
        let types = text.lines().filter_map(|line| line.strip_prefix("impl Message for ")?.split(' ').next());
        messages.extend(types.map(str::to_owned));
    }
    assert_eq!(messages, DECODERS.iter().map(|decoder| decoder.message.to_owned()).collect(), "testing::DECODERS");

    let stem = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    let targets: BTreeSet<_> = names("fuzz/fuzz_targets").iter().map(|path| stem(path)).collect();
    assert_eq!(targets, DECODERS.iter().map(|decoder| decoder.name.to_owned()).collect(), "proto/fuzz/fuzz_targets");
    let manifest = std::fs::read_to_string(root.join("fuzz/Cargo.toml")).unwrap();
    for target in targets {
        assert!(manifest.contains(&format!("name = \"{target}\"")), "{target} is not in proto/fuzz/Cargo.toml");
        let text = std::fs::read_to_string(root.join(format!("fuzz/fuzz_targets/{target}.rs"))).unwrap();
        assert!(text.contains("cattle_proto::testing::check"), "{target} has a body of its own");
    }
}
