//! Any bytes as a frame of `StreamHeader`: no panic, and what is accepted survives the way back.
#![no_main]

use cattle_proto::codec;
use cattle_proto::stream::StreamHeader;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some((message, _))) = codec::decode_frame::<StreamHeader>(bytes) {
        let body = codec::encode(&message).expect("an accepted message can be sent");
        assert!(codec::decode::<StreamHeader>(&body).expect("and is accepted again") == message);
    }
});
