//! Any bytes as a frame of `AgentMessage`: no panic, and what is accepted survives the way back.
#![no_main]

use cattle_proto::codec;
use cattle_proto::control::AgentMessage;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some((message, _))) = codec::decode_frame::<AgentMessage>(bytes) {
        let body = codec::encode(&message).expect("an accepted message can be sent");
        assert!(codec::decode::<AgentMessage>(&body).expect("and is accepted again") == message);
    }
});
