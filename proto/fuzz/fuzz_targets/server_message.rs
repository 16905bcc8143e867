//! Any bytes as a frame of `ServerMessage`: no panic, and what is accepted survives the way back.
#![no_main]

use cattle_proto::codec;
use cattle_proto::control::ServerMessage;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some((message, _))) = codec::decode_frame::<ServerMessage>(bytes) {
        let body = codec::encode(&message).expect("an accepted message can be sent");
        assert!(codec::decode::<ServerMessage>(&body).expect("and is accepted again") == message);
    }
});
