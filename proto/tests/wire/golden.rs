//! Every message of version 1 against its file. `UPDATE_GOLDEN=1` writes the files of new messages; a file of a released
//! version never changes.

use std::fmt::Write as _;
use std::path::PathBuf;

use cattle_proto::codec::{self, Message};
use cattle_proto::testing::samples::{self, Named};

#[test]
fn bytes_of_version_1_never_change() {
    let mut names = Vec::new();
    check(samples::hellos(), &mut names);
    check(samples::hello_replies(), &mut names);
    check(samples::stream_headers(), &mut names);
    check(samples::open_replies(), &mut names);
    check(samples::agent_messages(), &mut names);
    check(samples::server_messages(), &mut names);
    names.sort();
    let mut files: Vec<String> = std::fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(files, names, "each file belongs to a message");
}

fn check<M: Message + PartialEq>(messages: Named<M>, names: &mut Vec<String>) {
    for (name, message) in messages {
        let file = format!("{name}.hex");
        let path = directory().join(&file);
        let frame = codec::encode_frame(&message).unwrap();
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, to_hex(&frame)).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!(to_hex(&frame), golden, "{name} has other bytes");
        let (read, used) = codec::decode_frame::<M>(&from_hex(&golden)).unwrap().unwrap();
        assert!(read == message && used == frame.len(), "{name} is read as another message");
        names.push(file);
    }
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")
}

/// Sixteen bytes a line.
fn to_hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for line in bytes.chunks(16) {
        for byte in line {
            write!(text, "{byte:02x}").unwrap();
        }
        text.push('\n');
    }
    text
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}
