//! Any bytes as a frame of `Hello`: no panic, and what is accepted survives the way back.
#![no_main]

use cattle_proto::codec;
use cattle_proto::handshake::Hello;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some((message, _))) = codec::decode_frame::<Hello>(bytes) {
        let body = codec::encode(&message).expect("an accepted message can be sent");
        assert!(codec::decode::<Hello>(&body).expect("and is accepted again") == message);
    }
});
