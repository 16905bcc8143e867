//! Any bytes as a frame of `OpenReply`: no panic, and what is accepted survives the way back.
#![no_main]

use cattle_proto::codec;
use cattle_proto::stream::OpenReply;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some((message, _))) = codec::decode_frame::<OpenReply>(bytes) {
        let body = codec::encode(&message).expect("an accepted message can be sent");
        assert!(codec::decode::<OpenReply>(&body).expect("and is accepted again") == message);
    }
});
